//! `wash stop`: end an actor, a provider or a host, and wait until it has ended.

use std::time::Duration;

use trellis_protocol::EntityId;
use trellis_protocol::control::{HostInventory, ScaleComponent};

use crate::cli::{self, Stop, StopEntity};
use crate::command::start;
use crate::confirm::{Unattended, confirm_meanwhile};
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::{self, Awaited, judge_host_stopped, judge_provider_stopped};
use crate::output::Report;
use crate::placement::{self, Host};
use crate::settings::Settings;

/// The remedy where several hosts run it.
const EVERYWHERE: &str = "stop it everywhere with --all-hosts";

pub(super) async fn run(command: Stop, settings: &Settings) -> Result<Report, Failure> {
    match command {
        Stop::Component(args) => component(&args, settings).await,
        Stop::Provider(args) => provider(&args, settings).await,
        Stop::Host(args) => host(&args, settings).await,
    }
}

async fn component(args: &StopEntity, settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let reference_on = |inventory: &HostInventory| {
        inventory
            .components
            .iter()
            .find(|component| component.id == args.id.as_str())
            .map(|component| component.image_ref.clone())
    };
    let found = chosen(
        &lattice,
        &args.id,
        args.host_id.as_deref(),
        args.all_hosts,
        EVERYWHERE,
        |inventory| reference_on(inventory).is_some(),
    )
    .await?;
    agree(args, &found, settings).await?;
    for inventory in &found {
        let host = Host::of(inventory);
        let command = ScaleComponent {
            component_ref: reference_on(inventory).unwrap_or_default(),
            component_id: args.id.clone(),
            count: 0,
            annotations: None,
            host_id: host.id.clone(),
            config: Vec::new(),
            allow_update: false,
            component_limits: None,
        };
        start::scale(&lattice, &host, command, args.skip_wait, "stopping").await?;
    }
    Ok(report("component_id", args, &found))
}

async fn provider(args: &StopEntity, settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let runs = |inventory: &HostInventory| {
        let mut providers = inventory.providers.iter();
        providers.any(|provider| provider.id == args.id.as_str())
    };
    let found = chosen(
        &lattice,
        &args.id,
        args.host_id.as_deref(),
        args.all_hosts,
        EVERYWHERE,
        runs,
    )
    .await?;
    agree(args, &found, settings).await?;
    for inventory in &found {
        stop_provider(&lattice, &Host::of(inventory), &args.id, args.skip_wait).await?;
    }
    Ok(report("provider_id", args, &found))
}

/// Asks before something ends on several hosts at once.
async fn agree(
    args: &StopEntity,
    found: &[HostInventory],
    settings: &Settings,
) -> Result<(), Failure> {
    if found.len() < 2 {
        return Ok(());
    }
    let what = format!("stop {} on {} hosts", args.id, found.len());
    confirm_meanwhile(what, settings.yes, Unattended::Proceed).await
}

async fn stop_provider(
    lattice: &Lattice,
    host: &Host,
    id: &EntityId,
    skip_wait: bool,
) -> Result<(), Failure> {
    let what = format!("stopping {id}");
    let mut events = lattice.events().await?;
    // The answer comes after the shutdown, which may take its time.
    let message = lattice
        .patient_client()
        .stop_provider(&host.id, id)
        .await
        .map_err(|error| lattice.failure(&format!("{what} on host {host} failed"), &error))?;
    outcome::remark(&message);
    if skip_wait {
        return Ok(());
    }
    let awaited = Awaited::new(lattice, host, &what).or_in(|inventory| {
        let mut running = inventory.providers.iter();
        !running.any(|running| running.id == id.as_str())
    });
    outcome::wait_for(&mut events, &awaited, |event| {
        judge_provider_stopped(event, id.as_str())
    })
    .await
}

async fn host(args: &cli::StopHost, settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let host = placement::find(&lattice, &args.host).await?;
    let what = format!("stop host {host}, and everything that runs on it");
    confirm_meanwhile(what, settings.yes, Unattended::Proceed).await?;
    stop_host(
        &lattice,
        &host,
        args.host_timeout.map(Duration::from_millis),
        args.skip_wait,
    )
    .await?;
    let text = if args.skip_wait {
        format!("host {host} has the command to stop\n")
    } else {
        format!("host {host} stopped\n")
    };
    Ok(Report::new(text)
        .with("host_id", &host.id)
        .with("waited", !args.skip_wait))
}

/// Has a host drain and end, and waits for its last event.
pub(super) async fn stop_host(
    lattice: &Lattice,
    host: &Host,
    drain: Option<Duration>,
    skip_wait: bool,
) -> Result<(), Failure> {
    let mut events = lattice.events().await?;
    let message = lattice
        .patient_client()
        .stop_host(&host.id, drain)
        .await
        .map_err(|error| lattice.failure(&format!("stopping host {host} failed"), &error))?;
    outcome::remark(&message);
    if skip_wait {
        return Ok(());
    }
    outcome::wait(&mut events, lattice, host, "stopping", judge_host_stopped).await
}

/// The hosts that a command about something running is for: the one named, the only one that runs it, or all of them.
pub(super) async fn chosen(
    lattice: &Lattice,
    id: &EntityId,
    host_id: Option<&str>,
    all_hosts: bool,
    everywhere: &str,
    runs: impl Fn(&HostInventory) -> bool,
) -> Result<Vec<HostInventory>, Failure> {
    let mut found = placement::running(lattice, id.as_str(), runs).await?;
    if let Some(meant) = host_id {
        let host = placement::find(lattice, meant).await?;
        found.retain(|inventory| inventory.host_id == host.id);
        if found.is_empty() {
            return Err(Failure::refused(format!(
                "{id} does not run on host {host}; see `wash get inventory`"
            )));
        }
    } else if found.len() > 1 && !all_hosts {
        return Err(placement::several(
            id.as_str(),
            &found,
            &format!("name one with --host-id, or {everywhere}"),
        ));
    }
    Ok(found)
}

fn report(key: &str, args: &StopEntity, found: &[HostInventory]) -> Report {
    let (mut text, mut ids) = (String::new(), Vec::new());
    for inventory in found {
        let host = Host::of(inventory);
        text.push_str(&if args.skip_wait {
            format!("host {host} has the command to stop {}\n", args.id)
        } else {
            format!("{} stopped on host {host}\n", args.id)
        });
        ids.push(&inventory.host_id);
    }
    Report::new(text)
        .with(key, &args.id)
        .with("host_ids", ids)
        .with("waited", !args.skip_wait)
}
