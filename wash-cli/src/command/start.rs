//! `wash start`: have a host run an actor or a provider, and wait until it does.

use std::time::Duration;

use trellis_protocol::control::{ScaleComponent, StartProvider};

use crate::cli::{self, Placement, Start};
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::{self, Awaited, annotations, judge_provider_started, judge_scaled};
use crate::output::{Report, printable};
use crate::placement::{self, Host};
use crate::reference;
use crate::settings::Settings;

pub(super) async fn run(command: Start, settings: &Settings) -> Result<Report, Failure> {
    match command {
        Start::Component(args) => component(args, settings).await,
        Start::Provider(args) => provider(args, settings).await,
    }
}

async fn component(args: cli::StartComponent, settings: &Settings) -> Result<Report, Failure> {
    // A missing file is said before anybody is asked.
    let component_ref = reference::resolve(&args.reference)?;
    let lattice = connect(&args.placement, settings).await?;
    let host = place(&lattice, &args.placement).await?;
    let command = ScaleComponent {
        component_ref,
        component_id: args.id,
        count: args.max_instances,
        annotations: annotations(&args.given.annotation),
        host_id: host.id.clone(),
        config: args.given.config,
        allow_update: false,
        component_limits: annotations(&args.limits.limits),
    };
    scale(&lattice, &host, command, args.given.skip_wait, "starting").await
}

/// Sends the command that starts, scales and stops actors, and waits for its outcome.
pub(super) async fn scale(
    lattice: &Lattice,
    host: &Host,
    command: ScaleComponent,
    skip_wait: bool,
    doing: &str,
) -> Result<Report, Failure> {
    let what = format!("{doing} {}", command.component_id);
    let mut events = lattice.events().await?;
    let message = lattice
        .client()
        .scale(&host.id, &command)
        .await
        .map_err(|error| lattice.failure(&format!("{what} on host {host} failed"), &error))?;
    let remark = outcome::remark(&message);
    if !skip_wait {
        let (id, reference) = (command.component_id.as_str(), &command.component_ref);
        let awaited = Awaited::new(lattice, host, &what).or_in(|inventory| {
            let running = inventory.components.iter().find(|running| running.id == id);
            match running {
                Some(running) => {
                    running.image_ref == *reference && running.max_instances == command.count
                }
                None => command.count == 0,
            }
        });
        outcome::wait_for(&mut events, &awaited, |event| {
            judge_scaled(event, id, reference, command.count)
        })
        .await?;
    }
    let id = &command.component_id;
    let text = match (skip_wait, command.count) {
        (true, _) => format!("host {host} has the command for {id}\n"),
        (false, 0) => format!("{id} stopped on host {host}\n"),
        (false, count) => format!(
            "{id} runs on host {host}, at most {count} at once, from {}\n",
            printable(&command.component_ref)
        ),
    };
    Ok(Report::new(text)
        .with("host_id", &host.id)
        .with("component_id", id)
        .with("component_ref", &command.component_ref)
        .with("max_instances", command.count)
        .with("waited", !skip_wait)
        .with_some("message", remark))
}

async fn provider(args: cli::StartProvider, settings: &Settings) -> Result<Report, Failure> {
    let provider_ref = reference::resolve(&args.reference)?;
    let lattice = connect(&args.placement, settings).await?;
    let host = place(&lattice, &args.placement).await?;
    let command = StartProvider {
        provider_id: args.id,
        provider_ref,
        host_id: host.id.clone(),
        config: args.given.config,
        annotations: annotations(&args.given.annotation),
    };
    let id = &command.provider_id;
    let what = format!("starting {id}");
    let mut events = lattice.events().await?;
    let message = lattice
        .client()
        .start_provider(&host.id, &command)
        .await
        .map_err(|error| lattice.failure(&format!("{what} on host {host} failed"), &error))?;
    let remark = outcome::remark(&message);
    let skip_wait = args.given.skip_wait;
    if !skip_wait {
        let awaited = Awaited::new(&lattice, &host, &what).or_in(|inventory| {
            let mut running = inventory.providers.iter();
            running.any(|running| running.id == id.as_str())
        });
        outcome::wait_for(&mut events, &awaited, |event| {
            judge_provider_started(event, id.as_str())
        })
        .await?;
    }
    let text = if skip_wait {
        format!("host {host} has the command for {id}\n")
    } else {
        format!(
            "{id} serves on host {host}, from {}\n",
            printable(&command.provider_ref)
        )
    };
    Ok(Report::new(text)
        .with("host_id", &host.id)
        .with("provider_id", id)
        .with("provider_ref", &command.provider_ref)
        .with("waited", !skip_wait)
        .with_some("message", remark))
}

/// Connects, as patient with hosts as the command line says.
async fn connect(placement: &Placement, settings: &Settings) -> Result<Lattice, Failure> {
    let asked_for = placement.auction_timeout_ms.map(Duration::from_millis);
    Ok(Lattice::connect(settings).await?.asking_for(asked_for))
}

async fn place(lattice: &Lattice, placement: &Placement) -> Result<Host, Failure> {
    match &placement.host_id {
        Some(meant) => placement::find(lattice, meant).await,
        None => placement::least_loaded(lattice, &placement.constraint).await,
    }
}
