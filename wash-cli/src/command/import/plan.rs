//! What becomes of each thing in the other lattice.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};
use trellis_artifacts::published;
use trellis_protocol::control::lattice::check_config_name;
use trellis_protocol::control::{Configuration, Map};
use trellis_protocol::{EntityId, Link};

use super::component;
use super::foreign::{Foreign, ForeignLink};
use super::shell::{check_no_flags, command_line};
use crate::output::printable;

/// Whether something carries over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it is.
    CarriesOver,
    /// A provider of ours serves the same.
    MapsToOurs,
    /// Once it is signed.
    NeedsSigning,
    /// Not by itself.
    NeedsHand,
}

impl Verdict {
    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::CarriesOver => "carries-over",
            Self::MapsToOurs => "maps-to-ours",
            Self::NeedsSigning => "needs-signing",
            Self::NeedsHand => "needs-hand",
        }
    }
}

/// What sort of thing it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Noun {
    Config,
    Secret,
    Provider,
    Link,
    Component,
}

impl Noun {
    pub(super) const ALL: [Self; 5] = [
        Self::Config,
        Self::Secret,
        Self::Provider,
        Self::Link,
        Self::Component,
    ];

    pub(super) const fn word(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Secret => "secret",
            Self::Provider => "provider",
            Self::Link => "link",
            Self::Component => "component",
        }
    }
}

/// What is done for it, where it can be done without asking.
#[derive(Debug, Clone)]
pub(super) enum Action {
    Nothing,
    Config(String, Configuration),
    Provider(EntityId, &'static str),
    Link(Link),
}

/// One thing of the other lattice.
#[derive(Debug, Clone)]
pub(super) struct Item {
    pub(super) noun: Noun,
    pub(super) name: String,
    pub(super) verdict: Verdict,
    /// What there is to say about it.
    pub(super) remark: String,
    /// Commands that bring it over.
    pub(super) commands: Vec<String>,
    pub(super) action: Action,
}

impl Item {
    pub(super) fn by_hand(noun: Noun, name: &str, remark: String) -> Self {
        Self {
            noun,
            name: name.to_owned(),
            verdict: Verdict::NeedsHand,
            remark,
            commands: Vec::new(),
            action: Action::Nothing,
        }
    }

    pub(super) fn to_json(&self) -> Value {
        json!({
            "kind": self.noun.word(),
            "name": self.name,
            "verdict": self.verdict.word(),
            "remark": self.remark,
            "commands": self.commands,
        })
    }
}

/// Everything, in the order in which it has to be done.
pub(super) fn of(foreign: &Foreign) -> Vec<Item> {
    let mut items: Vec<_> = foreign
        .configs
        .iter()
        .map(|(name, config)| of_config(name, config))
        .collect();
    items.extend(foreign.secrets.iter().map(|(name, secret)| {
        Item::by_hand(
            Noun::Secret,
            name,
            format!(
                "a reference to `{}` in the backend `{}`: only the reference stands in the lattice; put the value into a configuration, or into a secret of your own",
                printable(&secret.key),
                printable(&secret.backend)
            ),
        )
    }));
    let unnamed = unnamed_configs(foreign);
    let providers = of_providers(foreign, &unnamed);
    let lost: BTreeSet<&str> = providers
        .iter()
        .filter(|item| item.verdict == Verdict::NeedsHand)
        .map(|item| item.name.as_str())
        .collect();
    let links: Vec<_> = foreign
        .links
        .iter()
        .map(|link| of_link(link, foreign, &lost))
        .collect();
    let actors = component::all(foreign, &unnamed);
    items.extend(providers);
    items.extend(links);
    items.extend(actors);
    items
}

fn of_config(name: &str, config: &Map) -> Item {
    if let Err(reason) = check_config_name(name) {
        return Item::by_hand(
            Noun::Config,
            name,
            format!("its name cannot be used: it {reason}"),
        );
    }
    let keys = config.keys().map(String::as_str);
    if let Err(reason) = check_no_flags(keys.chain([name])) {
        return Item::by_hand(Noun::Config, name, reason);
    }
    let mut words = vec!["config".to_owned(), "put".to_owned(), name.to_owned()];
    words.extend(config.iter().map(|(key, value)| format!("{key}={value}")));
    if config.is_empty() {
        return Item::by_hand(Noun::Config, name, "it is empty".to_owned());
    }
    Item {
        noun: Noun::Config,
        name: name.to_owned(),
        verdict: Verdict::CarriesOver,
        remark: String::new(),
        commands: vec![command_line(&words)],
        action: Action::Config(name.to_owned(), Configuration(config.clone())),
    }
}

/// Configurations that no link names: those of components and providers, which the other lattice does not tell.
fn unnamed_configs(foreign: &Foreign) -> Vec<String> {
    let named: BTreeSet<&String> = foreign
        .links
        .iter()
        .flat_map(|link| link.source_config.iter().chain(&link.target_config))
        .collect();
    foreign
        .configs
        .keys()
        .filter(|name| !named.contains(name))
        .cloned()
        .collect()
}

pub(super) fn remark_on_configs(unnamed: &[String]) -> String {
    match unnamed {
        [] => String::new(),
        names => format!(
            "; which configurations it was given is not told: add --config for its own among {}",
            names.join(", ")
        ),
    }
}

fn of_providers(foreign: &Foreign, unnamed: &[String]) -> Vec<Item> {
    let mut found: BTreeMap<&str, (&str, usize)> = BTreeMap::new();
    for inventory in &foreign.inventories {
        for provider in &inventory.providers {
            let reference = provider.image_ref.as_deref().unwrap_or_default();
            found.entry(&provider.id).or_insert((reference, 0)).1 += 1;
        }
    }
    found
        .into_iter()
        .map(|(id, (reference, hosts))| {
            let Some(ours) = published::ours(reference) else {
                return Item::by_hand(
                    Noun::Provider,
                    id,
                    format!(
                        "no provider of ours serves what `{}` does; its executable speaks another protocol than our hosts",
                        printable(reference)
                    ),
                );
            };
            let entity: EntityId = match id.parse() {
                Ok(entity) => entity,
                Err(error) => {
                    return Item::by_hand(Noun::Provider, id, format!("its id cannot be used: {error}"));
                }
            };
            if let Err(reason) = check_no_flags([id]) {
                return Item::by_hand(Noun::Provider, id, reason);
            }
            let words = ["start", "provider", ours, id].map(str::to_owned);
            Item {
                noun: Noun::Provider,
                name: id.to_owned(),
                verdict: Verdict::MapsToOurs,
                remark: format!(
                    "`{}` is our {ours}{}{}",
                    printable(reference),
                    on_hosts(hosts),
                    remark_on_configs(unnamed)
                ),
                commands: vec![command_line(&words)],
                action: Action::Provider(entity, ours),
            }
        })
        .collect()
}

pub(super) fn on_hosts(count: usize) -> String {
    match count {
        0 | 1 => String::new(),
        more => format!(", and runs on {more} hosts: start it on as many with --host-id"),
    }
}

fn of_link(link: &ForeignLink, foreign: &Foreign, lost: &BTreeSet<&str>) -> Item {
    let name = format!(
        "{} -> {} ({}:{}, {})",
        link.source_id, link.target, link.wit_namespace, link.wit_package, link.name
    );
    let ours = match check_link(link) {
        Ok(ours) => ours,
        Err(reason) => {
            return Item::by_hand(Noun::Link, &name, format!("it cannot be used: {reason}"));
        }
    };
    for config in link.source_config.iter().chain(&link.target_config) {
        if !foreign.configs.contains_key(config) {
            let remark = if foreign.secrets.contains_key(config) {
                format!(
                    "it is given the secret `{}`, which does not carry over",
                    printable(config)
                )
            } else {
                format!(
                    "it is given the configuration `{}`, which is not there",
                    printable(config)
                )
            };
            return Item::by_hand(Noun::Link, &name, remark);
        }
    }
    let mut words: Vec<String> = ["link", "put"].map(str::to_owned).to_vec();
    words.extend([
        link.source_id.clone(),
        link.target.clone(),
        link.wit_namespace.clone(),
        link.wit_package.clone(),
    ]);
    let mut flag = |flag: &str, value: &str| words.extend([flag.to_owned(), value.to_owned()]);
    for interface in &link.interfaces {
        flag("--interface", interface);
    }
    for config in &link.source_config {
        flag("--source-config", config);
    }
    for config in &link.target_config {
        flag("--target-config", config);
    }
    if link.name != "default" {
        flag("--link-name", &link.name);
    }
    let missing = [&link.source_id, &link.target]
        .into_iter()
        .find(|end| lost.contains(end.as_str()));
    Item {
        noun: Noun::Link,
        name,
        verdict: Verdict::CarriesOver,
        remark: missing.map_or_else(String::new, |end| {
            format!("useless until something serves as `{}`", printable(end))
        }),
        commands: vec![command_line(&words)],
        action: Action::Link(ours),
    }
}

fn check_link(link: &ForeignLink) -> Result<Link, String> {
    let ours = Link {
        source_id: link.source_id.parse().map_err(|error| format!("{error}"))?,
        target: link.target.parse().map_err(|error| format!("{error}"))?,
        name: link.name.parse().map_err(|error| format!("{error}"))?,
        wit_namespace: link.wit_namespace.clone(),
        wit_package: link.wit_package.clone(),
        interfaces: link.interfaces.clone(),
        source_config: link.source_config.clone(),
        target_config: link.target_config.clone(),
    };
    ours.check()?;
    let lists = [&link.interfaces, &link.source_config, &link.target_config];
    let listed = lists.into_iter().flatten();
    let single = [
        &link.source_id,
        &link.target,
        &link.name,
        &link.wit_namespace,
        &link.wit_package,
    ];
    check_no_flags(listed.chain(single).map(String::as_str))?;
    Ok(ours)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use trellis_protocol::control::{ComponentDescription, HostInventory, ProviderDescription};

    fn link(source: &str, target: &str, interface: &str) -> ForeignLink {
        ForeignLink {
            source_id: source.into(),
            target: target.into(),
            name: "default".into(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
            interfaces: vec![interface.into()],
            source_config: Vec::new(),
            target_config: Vec::new(),
        }
    }

    fn foreign() -> Foreign {
        let provider = |id: &str, reference: &str| ProviderDescription {
            id: id.into(),
            image_ref: Some(reference.into()),
            ..ProviderDescription::default()
        };
        Foreign {
            inventories: vec![HostInventory {
                components: vec![ComponentDescription {
                    id: "hello".into(),
                    image_ref: "ghcr.io/me/hello:1.2.0".into(),
                    max_instances: 5,
                    limits: Some(Map::from([("max_memory_limit".into(), "1048576".into())])),
                    ..ComponentDescription::default()
                }],
                providers: vec![
                    provider("kv", "ghcr.io/wasmcloud/keyvalue-redis:0.28.0"),
                    provider("blobs", "ghcr.io/wasmcloud/blobstore-fs:0.11.0"),
                ],
                ..HostInventory::default()
            }],
            ..Foreign::default()
        }
    }

    /// The item of this name, or else the link that begins with it.
    fn item<'a>(items: &'a [Item], name: &str) -> &'a Item {
        let named = |item: &&Item| item.name == name;
        let begins = |item: &&Item| item.name.starts_with(name);
        items
            .iter()
            .find(named)
            .or_else(|| items.iter().find(begins))
            .unwrap()
    }

    #[test]
    fn a_component_is_signed_with_what_its_links_need() {
        let mut foreign = foreign();
        foreign.links.insert(link("hello", "kv", "store"));
        foreign.links.insert(link("elsewhere", "kv", "atomics"));
        let items = of(&foreign);
        let hello = item(&items, "hello");
        assert_eq!(hello.verdict, Verdict::NeedsSigning);
        assert_eq!(
            hello.commands,
            [
                "wash pull ghcr.io/me/hello:1.2.0 --destination hello.wasm",
                "wash claims sign hello.wasm --name hello --ver 1.2.0 --cap wasi:keyvalue/store --destination ./hello_s.wasm",
                "wash start component ./hello_s.wasm hello --max-instances 5 --limit max_memory_limit=1048576",
            ]
        );
    }

    #[test]
    fn published_providers_are_ours_and_others_are_said() {
        let items = of(&foreign());
        assert_eq!(item(&items, "kv").verdict, Verdict::MapsToOurs);
        assert_eq!(
            item(&items, "kv").commands,
            ["wash start provider keyvalue-redis kv"]
        );
        assert_eq!(item(&items, "blobs").verdict, Verdict::NeedsHand);
    }

    #[test]
    fn a_link_to_what_does_not_carry_over_says_so() {
        let mut foreign = foreign();
        foreign.links.insert(link("hello", "blobs", "store"));
        let mut secret = link("hello", "kv", "store");
        secret.target_config = vec!["db".into()];
        foreign.links.insert(secret);
        foreign.secrets.insert("db".into(), Default::default());
        let items = of(&foreign);
        assert!(item(&items, "hello -> blobs").remark.contains("`blobs`"));
        assert_eq!(item(&items, "hello -> kv").verdict, Verdict::NeedsHand);
    }

    #[test]
    fn nothing_of_another_lattice_is_a_flag_of_a_command() {
        let mut foreign = foreign();
        let config = |key: &str| Map::from([(key.to_owned(), "x".to_owned())]);
        foreign.configs.insert("plain".into(), config("--creds"));
        foreign.configs.insert("-y".into(), config("key"));
        foreign.links.insert(link("--yes", "kv", "store"));
        let running = &mut foreign.inventories[0];
        running.components[0].image_ref = "file://--issuer=/tmp/seed".into();
        running.providers[0].id = "--yes".into();
        let items = of(&foreign);
        for name in ["plain", "-y", "--yes -> kv", "--yes", "hello"] {
            let item = item(&items, name);
            assert_eq!(item.verdict, Verdict::NeedsHand, "{name}");
            assert!(item.commands.is_empty(), "{name}");
            assert!(item.remark.contains("flag"), "{}", item.remark);
        }
    }

    #[test]
    fn what_no_id_of_ours_could_be_is_left_to_people() {
        let mut foreign = foreign();
        foreign.links.insert(link("he.llo", "kv", "store"));
        let items = of(&foreign);
        assert_eq!(item(&items, "he.llo").verdict, Verdict::NeedsHand);
    }
}
