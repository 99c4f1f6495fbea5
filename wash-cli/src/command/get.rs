//! `wash get`: what there is in the lattice.

use std::future::Future;

use trellis_protocol::control::{
    HostDescription, HostInventory, Map, ProviderDescription, ProviderState,
};

use crate::cli::{Get, GetInventory, Watch};
use crate::command::{ask_on, ask_shown, link};
use crate::connection::{Lattice, while_connected};
use crate::exit::Failure;
use crate::output::{self, Format, Report, printable, uptime};
use crate::placement;
use crate::settings::Settings;
use crate::watching;

pub(super) fn run(command: Get, settings: &Settings, format: Format) -> Result<Report, Failure> {
    match command {
        Get::Hosts(watch) => look(watch, format, || hosts(settings)),
        Get::Inventory(args) => look(args.watch, format, || inventory(&args, settings)),
        Get::Links(watch) => look(watch, format, || link::query(settings)),
        Get::Claims(watch) => look(watch, format, || claims(settings)),
    }
}

/// Looks once, or for as long as somebody watches.
pub(super) fn look<F: Future<Output = Result<Report, Failure>>>(
    watch: Watch,
    format: Format,
    look: impl Fn() -> F,
) -> Result<Report, Failure> {
    match watch.watch {
        None => ask_shown(look()),
        Some(every) => ask_on(watching::watch(every, format, || while_connected(look()))),
    }
}

async fn hosts(settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let hosts = placement::hosts(&lattice).await?;
    Ok(Report::new(describe_hosts(&hosts)).with("hosts", hosts))
}

fn describe_hosts(hosts: &[HostDescription]) -> String {
    output::table(
        &["host", "name", "version", "uptime", "labels"],
        hosts.iter().map(|host| {
            vec![
                host.id.clone(),
                host.friendly_name.clone(),
                host.version.clone().unwrap_or_default(),
                uptime(host.uptime_seconds),
                labels(&host.labels),
            ]
        }),
    )
}

async fn inventory(args: &GetInventory, settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let inventories = match &args.host {
        None => placement::inventories(&lattice).await?,
        Some(meant) => {
            let host = placement::find(&lattice, meant).await?;
            let asked = lattice.client().inventory(&host.id).await;
            vec![asked.map_err(|error| {
                lattice.failure(&format!("cannot ask host {host} what it runs"), &error)
            })?]
        }
    };
    let text: Vec<_> = inventories.iter().map(describe_inventory).collect();
    let unwell: Vec<_> = inventories.iter().flat_map(complaints).collect();
    let report = Report::new(text.join("\n")).with("inventories", inventories);
    Ok(if unwell.is_empty() {
        report
    } else {
        report.aside(unwell.join("\n"))
    })
}

/// All providers of a host, those that were given up last.
fn providers(inventory: &HostInventory) -> impl Iterator<Item = &ProviderDescription> {
    inventory
        .providers
        .iter()
        .chain(&inventory.failed_providers)
}

/// How a provider is, in a word. Nothing of one that is well, was not asked yet, or is of a host that does not say.
const fn unwell(provider: &ProviderDescription) -> Option<&'static str> {
    match &provider.health {
        None => None,
        Some(health) => match health.state {
            ProviderState::Failing => Some("failing"),
            ProviderState::Restarting => Some("restarting"),
            ProviderState::Failed => Some("failed"),
            _ => None,
        },
    }
}

/// A line for each provider that is not well and of which the host says why.
fn complaints(inventory: &HostInventory) -> impl Iterator<Item = String> {
    providers(inventory).filter_map(|provider| {
        let state = unwell(provider)?;
        let reason = provider.health.as_ref()?.reason.as_deref()?;
        Some(format!(
            "note: provider {} on {}, {state}: {}",
            printable(&provider.id),
            printable(&inventory.friendly_name),
            printable(reason)
        ))
    })
}

fn describe_inventory(inventory: &HostInventory) -> String {
    let mut text = format!(
        "host {} ({}), up {}{}\n",
        printable(&inventory.host_id),
        printable(&inventory.friendly_name),
        uptime(inventory.uptime_seconds),
        match labels(&inventory.labels).as_str() {
            "" => String::new(),
            labels => format!(", {}", printable(labels)),
        }
    );
    let actors = inventory.components.iter().map(|component| {
        vec![
            "actor".to_owned(),
            component.id.clone(),
            component.name.clone().unwrap_or_default(),
            component.max_instances.to_string(),
            component.image_ref.clone(),
        ]
    });
    let providers_rows = providers(inventory).map(|provider| {
        vec![
            match unwell(provider) {
                None => "provider".to_owned(),
                Some(state) => format!("provider, {state}"),
            },
            provider.id.clone(),
            provider.name.clone().unwrap_or_default(),
            String::new(),
            provider.image_ref.clone().unwrap_or_default(),
        ]
    });
    let rows: Vec<_> = actors.chain(providers_rows).collect();
    if rows.is_empty() {
        text.push_str("runs nothing\n");
    } else {
        let header = ["", "id", "name", "at once", "reference"];
        text.push_str(&output::table(&header, rows));
    }
    text
}

async fn claims(settings: &Settings) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let mut claims = lattice
        .client()
        .claims()
        .await
        .map_err(|error| lattice.failure("cannot ask for claims", &error))?;
    claims.sort_by(|one, other| {
        (one.get("name"), one.get("sub")).cmp(&(other.get("name"), other.get("sub")))
    });
    Ok(Report::new(describe_claims(&claims)).with("claims", claims))
}

fn describe_claims(claims: &[Map]) -> String {
    let value = |map: &Map, names: [&str; 2]| {
        names
            .iter()
            .find_map(|name| map.get(*name))
            .cloned()
            .unwrap_or_default()
    };
    output::table(
        &["name", "version", "revision", "subject", "issuer", "tags"],
        claims.iter().map(|map| {
            vec![
                value(map, ["name", "name"]),
                value(map, ["version", "ver"]),
                value(map, ["revision", "rev"]),
                value(map, ["subject", "sub"]),
                value(map, ["issuer", "iss"]),
                value(map, ["tags", "tags"]),
            ]
        }),
    )
}

fn labels(labels: &Map) -> String {
    let pairs: Vec<_> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    pairs.join(" ")
}

#[cfg(test)]
mod tests {
    use trellis_protocol::control::{ComponentDescription, ProviderHealth};

    use super::*;

    #[test]
    fn an_inventory_lists_actors_then_providers() {
        let inventory = HostInventory {
            host_id: "NA".into(),
            friendly_name: "fern".into(),
            labels: [("zone".into(), "a".into())].into(),
            uptime_seconds: 61,
            components: vec![ComponentDescription {
                id: "hello".into(),
                image_ref: "file:///h.wasm".into(),
                max_instances: 100,
                ..ComponentDescription::default()
            }],
            providers: vec![ProviderDescription {
                id: "http".into(),
                image_ref: Some("http-server".into()),
                ..ProviderDescription::default()
            }],
            ..HostInventory::default()
        };
        assert_eq!(
            describe_inventory(&inventory),
            "host NA (fern), up 1m 1s, zone=a\n\
             \x20         ID     NAME  AT ONCE  REFERENCE\n\
             actor     hello        100      file:///h.wasm\n\
             provider  http                  http-server\n"
        );
    }

    #[test]
    fn a_provider_that_is_not_well_says_so_and_why_and_one_that_was_given_up_is_listed_too() {
        let provider = |id: &str, state, reason: Option<&str>| ProviderDescription {
            id: id.into(),
            health: Some(ProviderHealth {
                state,
                reason: reason.map(str::to_owned),
            }),
            ..ProviderDescription::default()
        };
        let inventory = HostInventory {
            host_id: "NA".into(),
            friendly_name: "fern".into(),
            providers: vec![
                provider("web", ProviderState::Healthy, None),
                provider("cache", ProviderState::Failing, Some("no answer")),
            ],
            failed_providers: vec![provider("files", ProviderState::Failed, Some("exit\u{1b}"))],
            ..HostInventory::default()
        };
        assert_eq!(
            describe_inventory(&inventory),
            "host NA (fern), up 0s\n\
             \x20                  ID     NAME  AT ONCE  REFERENCE\n\
             provider           web\n\
             provider, failing  cache\n\
             provider, failed   files\n"
        );
        assert_eq!(
            complaints(&inventory).collect::<Vec<_>>(),
            [
                "note: provider cache on fern, failing: no answer",
                "note: provider files on fern, failed: exit\\u{1b}",
            ]
        );
    }

    #[test]
    fn claims_are_read_by_either_name() {
        let map: Map = [
            ("iss".into(), "A".into()),
            ("sub".into(), "M".into()),
            ("name".into(), "x".into()),
        ]
        .into();
        assert_eq!(
            describe_claims(&[map]),
            "NAME  VERSION  REVISION  SUBJECT  ISSUER  TAGS\nx                        M        A\n"
        );
    }
}
