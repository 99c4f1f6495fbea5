//! Components of the other lattice: each has to be signed by somebody who answers for its grants.

use std::collections::{BTreeMap, BTreeSet};

use trellis_protocol::EntityId;
use trellis_protocol::control::Map;

use super::foreign::Foreign;
use super::plan::{Action, Item, Noun, Verdict, on_hosts, remark_on_configs};
use super::shell::{check_no_flags, command_line};
use crate::output::printable;

/// What becomes of every component that runs there.
pub(super) fn all(foreign: &Foreign, unnamed_configs: &[String]) -> Vec<Item> {
    running(foreign)
        .iter()
        .map(|(id, found)| of_component(id, found, foreign, unnamed_configs))
        .collect()
}

/// A component that runs somewhere.
struct Running {
    reference: String,
    max_instances: u32,
    limits: Map,
    hosts: usize,
    other_references: BTreeSet<String>,
}

fn running(foreign: &Foreign) -> BTreeMap<String, Running> {
    let mut found: BTreeMap<String, Running> = BTreeMap::new();
    for component in foreign.inventories.iter().flat_map(|host| &host.components) {
        let running = found
            .entry(component.id.clone())
            .or_insert_with(|| Running {
                reference: component.image_ref.clone(),
                max_instances: 0,
                limits: component.limits.clone().unwrap_or_default(),
                hosts: 0,
                other_references: BTreeSet::new(),
            });
        running.hosts += 1;
        running.max_instances = running.max_instances.max(component.max_instances);
        if component.image_ref != running.reference {
            running.other_references.insert(component.image_ref.clone());
        }
    }
    found
}

fn of_component(id: &str, found: &Running, foreign: &Foreign, unnamed: &[String]) -> Item {
    if let Err(error) = id.parse::<EntityId>() {
        return Item::by_hand(
            Noun::Component,
            id,
            format!("its id cannot be used: {error}"),
        );
    }
    let version = foreign
        .claims
        .iter()
        .find(|claims| claims.get("name").is_some_and(|name| name == id))
        .and_then(|claims| claims.get("version"))
        .filter(|version| !version.is_empty())
        .cloned()
        .unwrap_or_else(|| tag_of(&found.reference).unwrap_or("0.0.0").to_owned());
    let reference = &found.reference;
    let path = reference.strip_prefix("file://").unwrap_or(reference);
    if let Err(reason) = check_no_flags([id, path, &version]) {
        return Item::by_hand(Noun::Component, id, reason);
    }
    let file = format!("{id}.wasm");
    let (file, mut commands) = match found.reference.strip_prefix("file://") {
        Some(path) => (path.to_owned(), Vec::new()),
        None => {
            let pull = ["pull", &found.reference, "--destination", &file].map(str::to_owned);
            (file, vec![command_line(&pull)])
        }
    };
    let signed = format!("./{id}_s.wasm");
    let mut sign: Vec<String> = ["claims", "sign", &file, "--name", id, "--ver", &version]
        .map(str::to_owned)
        .to_vec();
    for capability in capabilities(id, foreign) {
        sign.extend(["--cap".to_owned(), capability]);
    }
    sign.extend(["--destination".to_owned(), signed.clone()]);
    commands.push(command_line(&sign));
    let count = found.max_instances.max(1).to_string();
    let mut start: Vec<String> = ["start", "component", &signed, id, "--max-instances", &count]
        .map(str::to_owned)
        .to_vec();
    for (key, value) in &found.limits {
        start.extend(["--limit".to_owned(), format!("{key}={value}")]);
    }
    commands.push(command_line(&start));
    let mut remark = format!(
        "`{}` starts once you have signed it; the grants are those that its links need, so look whether it should have them{}{}",
        printable(&found.reference),
        on_hosts(found.hosts),
        remark_on_configs(unnamed)
    );
    if !found.other_references.is_empty() {
        let others: Vec<_> = found
            .other_references
            .iter()
            .map(|text| printable(text))
            .collect();
        remark.push_str(&format!("; elsewhere it runs from {}", others.join(", ")));
    }
    Item {
        noun: Noun::Component,
        name: id.to_owned(),
        verdict: Verdict::NeedsSigning,
        remark,
        commands,
        action: Action::Nothing,
    }
}

/// What a component has to be granted for its links to work: what it calls, and what is called on it.
fn capabilities(id: &str, foreign: &Foreign) -> BTreeSet<String> {
    foreign
        .links
        .iter()
        .filter(|link| link.source_id == id || link.target == id)
        .flat_map(|link| {
            link.interfaces
                .iter()
                .map(|interface| format!("{}:{}/{interface}", link.wit_namespace, link.wit_package))
        })
        .collect()
}

/// The tag of a reference to a registry.
fn tag_of(reference: &str) -> Option<&str> {
    let (name, _) = reference.split_once('@').unwrap_or((reference, ""));
    let (_, last) = name.rsplit_once('/')?;
    last.split_once(':')
        .map(|(_, tag)| tag)
        .filter(|tag| !tag.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tag_is_told_from_a_port() {
        assert_eq!(tag_of("localhost:5000/a:1"), Some("1"));
        assert_eq!(tag_of("localhost:5000/a"), None);
        assert_eq!(tag_of("ghcr.io/a/b:2@sha256:00"), Some("2"));
        assert_eq!(tag_of("hello"), None);
    }
}
