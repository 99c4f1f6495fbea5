//! Reading another lattice: what its hosts answer, and what stands in its buckets.
//!
//! Everything here was written by others. What cannot be read is listed with its reason, and hides nothing else. Two
//! sources tell of links: hosts, and the bucket, where they stand under their source's key; both are read, since either
//! may be missing. Configurations can only be listed from their bucket.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use async_nats::Client;
use async_nats::jetstream::{self, kv};
use futures::{StreamExt as _, TryStreamExt as _};
use serde::Deserialize;
use trellis_lattice::client::ControlClient;
use trellis_lattice::connection::{LatticeOptions, connect_control};
use trellis_lattice::state::Bucket;
use trellis_protocol::control::{self, Envelope, HostDescription, HostInventory, Map};

use crate::exit::{Failure, FailureKind, chain};

/// Most keys that are read of a bucket. A lattice of wasmCloud has one for each component and configuration.
const KEYS_MAX: usize = 10_000;

/// Keys of one component's links, in the bucket of the lattice.
const COMPONENT_KEY: &str = "COMPONENT_";

/// Keys of references to secrets, among the configurations.
const SECRET_KEY: &str = "SECRET_";

/// A link as the other lattice has it, not checked.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(super) struct ForeignLink {
    pub(super) source_id: String,
    pub(super) target: String,
    #[serde(default = "default_name")]
    pub(super) name: String,
    pub(super) wit_namespace: String,
    pub(super) wit_package: String,
    #[serde(default)]
    pub(super) interfaces: Vec<String>,
    #[serde(default)]
    pub(super) source_config: Vec<String>,
    #[serde(default)]
    pub(super) target_config: Vec<String>,
}

fn default_name() -> String {
    "default".to_owned()
}

/// Where a secret of the other lattice is kept.
#[derive(Debug, Clone, Default, Deserialize)]
pub(super) struct SecretReference {
    #[serde(default)]
    pub(super) backend: String,
    #[serde(default)]
    pub(super) key: String,
}

/// What the bucket says of a component.
#[derive(Debug, Deserialize)]
struct ComponentSpec {
    #[serde(default)]
    links: Vec<serde_json::Value>,
}

/// Another lattice, as far as it could be read.
#[derive(Debug, Default)]
pub(super) struct Foreign {
    pub(super) hosts: Vec<HostDescription>,
    pub(super) inventories: Vec<HostInventory>,
    pub(super) links: BTreeSet<ForeignLink>,
    pub(super) configs: BTreeMap<String, Map>,
    pub(super) secrets: BTreeMap<String, SecretReference>,
    /// Public claims, by the key that they are of.
    pub(super) claims: Vec<Map>,
    /// What could not be read, and why.
    pub(super) unreadable: Vec<String>,
}

/// The annotation of what an application manager started.
const MANAGED_BY: &str = "wasmcloud.dev/managed-by";

impl Foreign {
    /// Who manages what runs there, if anything is managed.
    pub(super) fn manager(&self) -> Option<&str> {
        let of_components = self
            .inventories
            .iter()
            .flat_map(|host| &host.components)
            .map(|component| &component.annotations);
        let of_providers = self
            .inventories
            .iter()
            .flat_map(|host| &host.providers)
            .map(|provider| &provider.annotations);
        of_components
            .chain(of_providers)
            .flatten()
            .find_map(|annotations| annotations.get(MANAGED_BY))
            .map(String::as_str)
    }
}

/// Reads a lattice, and changes nothing in it.
pub(super) async fn read(options: &LatticeOptions, within: Duration) -> Result<Foreign, Failure> {
    let client = connect_control(options).await.map_err(|error| {
        Failure::new(
            FailureKind::Unreachable,
            format!("cannot reach the lattice to import from: {}", chain(&error)),
        )
    })?;
    let mut foreign = Foreign::default();
    ask_hosts(options, &client, within, &mut foreign).await;
    let mut context = match &options.js_domain {
        Some(domain) => jetstream::with_domain(client, domain),
        None => jetstream::new(client),
    };
    context.set_timeout(within);
    for (bucket, read) in [
        (Bucket::LatticeData, lattice_key as Take),
        (Bucket::ConfigData, config_key as Take),
    ] {
        let name = bucket.name(&options.lattice);
        if let Err(reason) = read_bucket(&context, &name, read, &mut foreign).await {
            foreign
                .unreadable
                .push(format!("the bucket {name}: {reason}"));
        }
    }
    if foreign.hosts.is_empty() && foreign.unreadable.len() >= 2 {
        return Err(Failure::new(
            FailureKind::Unreachable,
            format!(
                "there is no lattice {} to import from: no host answers, and its buckets cannot be read ({}); name it with --from-lattice and --from-nats-url",
                options.lattice,
                foreign.unreadable.join("; ")
            ),
        ));
    }
    Ok(foreign)
}

async fn ask_hosts(
    options: &LatticeOptions,
    client: &Client,
    within: Duration,
    foreign: &mut Foreign,
) {
    let subjects = options.subjects();
    let control = ControlClient::new(client.clone(), subjects.clone()).with_timeout(within);
    match control.ping(within).await {
        Ok(hosts) => foreign.hosts = hosts,
        Err(error) => foreign
            .unreadable
            .push(format!("its hosts: {}", chain(&error))),
    }
    for host in &foreign.hosts {
        match control.inventory(&host.id).await {
            Ok(inventory) => foreign.inventories.push(inventory),
            Err(error) => foreign.unreadable.push(format!(
                "what the host {} runs: {}",
                host.id,
                chain(&error)
            )),
        }
    }
    if foreign.hosts.is_empty() {
        return;
    }
    let links: Result<Vec<serde_json::Value>, _> =
        ask(client, subjects.control("link", "get"), within).await;
    match links {
        Ok(links) => take_links(links, "the answer about links", foreign),
        Err(reason) => foreign.unreadable.push(format!("its links: {reason}")),
    }
    match ask(client, subjects.control("claims", "get"), within).await {
        Ok(claims) => foreign.claims = claims,
        Err(reason) => foreign.unreadable.push(format!("its claims: {reason}")),
    }
}

/// A request whose answer is read without asking that it be as our own hosts write it.
async fn ask<T: for<'de> Deserialize<'de>>(
    client: &Client,
    subject: String,
    within: Duration,
) -> Result<T, String> {
    let answer = tokio::time::timeout(within, client.request(subject, "".into()))
        .await
        .map_err(|_| format!("no answer within {} ms", within.as_millis()))?
        .map_err(|error| error.to_string())?;
    let reply: Envelope<T> =
        control::parse_reply(&answer.payload).map_err(|error| error.to_string())?;
    match reply.response {
        Some(response) if reply.success => Ok(response),
        _ => Err(reply.message),
    }
}

fn take_links(links: Vec<serde_json::Value>, origin: &str, foreign: &mut Foreign) {
    for link in links {
        match serde_json::from_value(link) {
            Ok(link) => drop(foreign.links.insert(link)),
            Err(error) => foreign
                .unreadable
                .push(format!("a link in {origin}: {error}")),
        }
    }
}

/// Takes what stands under a key.
type Take = fn(&str, &[u8], &mut Foreign) -> Result<(), serde_json::Error>;

async fn read_bucket(
    context: &jetstream::Context,
    name: &str,
    take: Take,
    foreign: &mut Foreign,
) -> Result<(), String> {
    let bucket: kv::Store = context
        .get_key_value(name)
        .await
        .map_err(|error| chain(&error))?;
    let keys: Vec<String> = bucket
        .keys()
        .await
        .map_err(|error| chain(&error))?
        .take(KEYS_MAX + 1)
        .try_collect()
        .await
        .map_err(|error| chain(&error))?;
    if keys.len() > KEYS_MAX {
        foreign.unreadable.push(format!(
            "the bucket {name} has more than {KEYS_MAX} keys; the rest"
        ));
    }
    for key in keys.iter().take(KEYS_MAX) {
        match bucket.get(key).await {
            // Deleted since the keys were listed.
            Ok(None) => {}
            Ok(Some(value)) => {
                if let Err(error) = take(key, &value, foreign) {
                    foreign
                        .unreadable
                        .push(format!("`{key}` in the bucket {name}: {error}"));
                }
            }
            Err(error) => foreign
                .unreadable
                .push(format!("`{key}` in the bucket {name}: {}", chain(&error))),
        }
    }
    Ok(())
}

fn lattice_key(key: &str, value: &[u8], foreign: &mut Foreign) -> Result<(), serde_json::Error> {
    // Claims were asked of the hosts; older keys (`LINKDEF_`, `REFMAP_`) mean nothing to a 1.x lattice either.
    if key.starts_with(COMPONENT_KEY) {
        let spec: ComponentSpec = serde_json::from_slice(value)?;
        take_links(spec.links, &format!("`{key}`"), foreign);
    }
    Ok(())
}

fn config_key(key: &str, value: &[u8], foreign: &mut Foreign) -> Result<(), serde_json::Error> {
    if let Some(name) = key.strip_prefix(SECRET_KEY) {
        // Whatever stands there, its content is a reference and no configuration.
        let reference = serde_json::from_slice(value).unwrap_or_default();
        foreign.secrets.insert(name.to_owned(), reference);
        return Ok(());
    }
    let config = serde_json::from_slice(value)?;
    foreign.configs.insert(key.to_owned(), config);
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_links_of_a_component_are_taken_and_what_is_none_is_named() {
        let mut foreign = Foreign::default();
        let value = br#"{"url":"r","links":[
            {"source_id":"a","target":"b","wit_namespace":"wasi","wit_package":"http","interfaces":["incoming-handler"],"more":1},
            {"source_id":"a"}]}"#;
        lattice_key("COMPONENT_a", value, &mut foreign).unwrap();
        lattice_key("CLAIMS_x", b"not looked at", &mut foreign).unwrap();
        assert_eq!(foreign.links.len(), 1);
        assert_eq!(foreign.links.first().unwrap().name, "default");
        assert_eq!(foreign.unreadable.len(), 1);
        assert!(foreign.unreadable[0].contains("COMPONENT_a"));
    }

    #[test]
    fn a_secret_is_no_configuration() {
        let mut foreign = Foreign::default();
        let secret = br#"{"name":"db","type":"secret.wasmcloud.dev/v1alpha1","backend":"vault","key":"db/password"}"#;
        config_key("SECRET_db", secret, &mut foreign).unwrap();
        config_key("site", br#"{"a":"1"}"#, &mut foreign).unwrap();
        assert!(config_key("odd", br#"{"a":1}"#, &mut foreign).is_err());
        assert_eq!(foreign.secrets["db"].backend, "vault");
        assert_eq!(foreign.configs.len(), 1);
    }
}
