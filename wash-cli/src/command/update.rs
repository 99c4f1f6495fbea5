//! `wash update`: replace a running actor by another version, without a gap.
//!
//! The host fetches, checks and warms the other version while the running one serves. What is bad changes nothing.

use trellis_protocol::control::host::SOFTWARE;
use trellis_protocol::control::{HostInventory, UpdateComponent};

use crate::cli::{self, Update};
use crate::command::stop;
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::outcome::{self, Awaited, annotations, judge_updated};
use crate::output::{Report, printable};
use crate::placement::Host;
use crate::reference;
use crate::settings::Settings;

pub(super) async fn run(command: Update, settings: &Settings) -> Result<Report, Failure> {
    let Update::Component(args) = command;
    let new_component_ref = reference::resolve(&args.reference)?;
    let lattice = Lattice::connect(settings).await?;
    let found = stop::chosen(
        &lattice,
        &args.id,
        args.host_id.as_deref(),
        args.all_hosts,
        "update it everywhere with --all-hosts",
        |inventory| running(inventory, &args).is_some(),
    )
    .await?;
    let (mut text, mut updates) = (String::new(), Vec::new());
    for inventory in &found {
        let old = running(inventory, &args).unwrap_or_default().to_owned();
        let told = one(&lattice, inventory, &args, &new_component_ref)
            .await
            .map_err(|failure| with_those_before(failure, &updates))?;
        text.push_str(&told);
        updates.push(serde_json::json!({
            "host_id": inventory.host_id,
            "old_component_ref": old,
        }));
    }
    Ok(Report::new(text)
        .with("component_id", &args.id)
        .with("component_ref", &new_component_ref)
        .with("hosts", updates)
        .with("waited", !args.skip_wait))
}

fn running<'a>(inventory: &'a HostInventory, args: &cli::UpdateComponent) -> Option<&'a str> {
    let mut components = inventory.components.iter();
    let component = components.find(|component| component.id == args.id.as_str())?;
    Some(&component.image_ref)
}

async fn one(
    lattice: &Lattice,
    inventory: &HostInventory,
    args: &cli::UpdateComponent,
    reference: &str,
) -> Result<String, Failure> {
    let (host, id) = (Host::of(inventory), &args.id);
    let what = format!("updating {id}");
    let command = UpdateComponent {
        component_id: id.clone(),
        new_component_ref: reference.to_owned(),
        host_id: host.id.clone(),
        annotations: annotations(&args.annotation),
    };
    let mut events = lattice.events().await?;
    let message = lattice
        .client()
        .update(&host.id, &command)
        .await
        .map_err(|error| lattice.failure(&format!("{what} on host {host} failed"), &error))?;
    outcome::remark(&message);
    // A host of ours looks whether the file behind the reference has changed; others do nothing, and say nothing more.
    let is_ours = inventory.software.as_deref() == Some(SOFTWARE);
    if !is_ours && running(inventory, args) == Some(reference) {
        return Ok(format!(
            "{id} runs {} on host {host} already\n",
            printable(reference)
        ));
    }
    if args.skip_wait {
        return Ok(format!("host {host} has the command for {id}\n"));
    }
    let awaited = Awaited::new(lattice, &host, &what).or_in(|inventory| {
        inventory
            .components
            .iter()
            .any(|component| component.id == id.as_str() && component.image_ref == reference)
    });
    outcome::wait_for(&mut events, &awaited, |event| {
        judge_updated(event, id.as_str(), reference)
    })
    .await?;
    Ok(format!(
        "{id} runs {} on host {host} now\n",
        printable(reference)
    ))
}

/// Where several hosts are asked one after the other, a failure says which have the other version by then.
fn with_those_before(failure: Failure, updates: &[serde_json::Value]) -> Failure {
    if updates.is_empty() {
        return failure;
    }
    let hosts: Vec<_> = updates
        .iter()
        .filter_map(|update| update["host_id"].as_str())
        .collect();
    Failure::new(
        failure.kind(),
        format!(
            "{failure}; updated before that: {}, and the others run what they ran",
            hosts.join(", ")
        ),
    )
}
