//! The lattice: its state, and the hosts that answer.

use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream;
use trellis_lattice::client::ControlClient;
use trellis_lattice::state::Bucket;

use super::finding::Findings;
use crate::exit::chain;
use crate::output::printable;
use crate::settings::Settings;

const STATE: &str = "lattice.state";
const HOSTS: &str = "lattice.hosts";

/// How long JetStream may take to describe a bucket.
const WITHIN: Duration = Duration::from_secs(2);

/// JetStream as the lattice uses it.
pub(super) fn context(settings: &Settings, client: &Client) -> jetstream::Context {
    let mut context = match settings.lattice_options().js_domain {
        Some(domain) => jetstream::with_domain(client.clone(), domain),
        None => jetstream::new(client.clone()),
    };
    context.set_timeout(WITHIN);
    context
}

pub(super) async fn look(settings: &Settings, client: Client, findings: &mut Findings) {
    state(settings, &client, findings).await;
    hosts(settings, client, findings).await;
}

async fn state(settings: &Settings, client: &Client, findings: &mut Findings) {
    let context = context(settings, client);
    let mut there = Vec::new();
    for bucket in Bucket::ALL {
        let name = bucket.name(&settings.lattice);
        if context.get_key_value(&name).await.is_ok() {
            there.push(name);
        }
    }
    let lattice = &settings.lattice;
    match there.as_slice() {
        [] => findings.ok(
            STATE,
            format!("the lattice {lattice} has no state yet; its first host makes it"),
        ),
        some if some.len() < Bucket::ALL.len() => findings.warning(
            STATE,
            format!(
                "of the lattice's buckets only {} are there",
                some.join(", ")
            ),
            "start a host: it makes what is missing",
        ),
        _ => findings.ok(STATE, format!("the lattice {lattice} has its state")),
    }
}

async fn hosts(settings: &Settings, client: Client, findings: &mut Findings) {
    let options = settings.lattice_options();
    let control = ControlClient::new(client, options.subjects());
    let lattice = &settings.lattice;
    match control.ping(settings.question_timeout().min(WITHIN)).await {
        Ok(hosts) if hosts.is_empty() => findings.warning(
            HOSTS,
            format!("no host of the lattice {lattice} answers"),
            "`wash up` starts one; --lattice names another lattice",
        ),
        Ok(hosts) => {
            let mut names: Vec<_> = hosts
                .iter()
                .map(|host| {
                    let version = host.version.as_deref().unwrap_or("of no version");
                    format!(
                        "{} ({})",
                        printable(&host.friendly_name),
                        printable(version)
                    )
                })
                .collect();
            names.sort();
            findings.ok(
                HOSTS,
                format!("{} answer: {}", names.len(), names.join(", ")),
            );
        }
        Err(error) => findings.broken(
            HOSTS,
            chain(&error),
            "look whether your credentials may publish and subscribe the control subjects",
        ),
    }
}
