//! What a component asks for, held against what its claims grant.
//!
//! Three kinds of imports exist: WASI's own sandboxed world and a few interfaces that every host gives, which need no
//! grant; capabilities, which need one; and interfaces of types alone, which cannot do anything. What may be called *on*
//! the actor from outside (HTTP, messages) needs a grant as well. A component that lacks one does not start.

use trellis_claims::{Capabilities, InterfaceName};

/// How an import is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum ImportKind {
    /// Part of the sealed WASI world: clocks, randomness, streams, an empty file system, no network.
    Sandbox,
    /// Given by every host: logging, configuration, the choice of links.
    HostGiven,
    /// A capability that the host knows by type.
    Typed(TypedCapability),
    /// Anything else: goes over the lattice by its WIT type.
    Custom,
}

/// Capabilities that are bound with typed functions instead of dynamic values (D16).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum TypedCapability {
    /// `wasi:http/outgoing-handler`.
    OutgoingHttp,
    /// `wasi:keyvalue/{store,atomics,batch}`.
    KeyValue,
    /// `wasmcloud:messaging/consumer`.
    Messaging,
    /// `wasmcloud:postgres/{query,prepared}`.
    Postgres,
}

/// Interfaces that others call on an actor, and which a claim must grant.
const GRANTED_EXPORTS: &[(&str, &str, &str)] = &[
    ("wasi", "http", "incoming-handler"),
    ("wasi", "keyvalue", "watcher"),
    ("wasmcloud", "messaging", "handler"),
];

/// Decides how an import is served.
pub(crate) fn classify(interface: &InterfaceName) -> ImportKind {
    let names = (
        interface.namespace(),
        interface.package(),
        interface.interface(),
    );
    match names {
        ("wasi", "cli" | "clocks" | "io" | "random" | "filesystem" | "sockets", _)
        | ("wasi", "http", "types") => ImportKind::Sandbox,
        ("wasi", "logging", "logging")
        | ("wasi", "config", "store" | "runtime")
        | ("wasmcloud", "bus", "lattice") => ImportKind::HostGiven,
        ("wasi", "http", "outgoing-handler") => ImportKind::Typed(TypedCapability::OutgoingHttp),
        ("wasi", "keyvalue", "store" | "atomics" | "batch") => {
            ImportKind::Typed(TypedCapability::KeyValue)
        }
        ("wasmcloud", "messaging", "consumer") => ImportKind::Typed(TypedCapability::Messaging),
        ("wasmcloud", "postgres", "query" | "prepared") => {
            ImportKind::Typed(TypedCapability::Postgres)
        }
        _ => ImportKind::Custom,
    }
}

/// Whether a claim must grant what is called on an actor.
pub(crate) fn export_needs_grant(interface: &InterfaceName) -> bool {
    GRANTED_EXPORTS.contains(&(
        interface.namespace(),
        interface.package(),
        interface.interface(),
    ))
}

/// What a component asks for beyond its claims.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MissingGrants {
    /// Imports without a grant, as they stand in the component.
    pub imports: Vec<String>,
    /// Exports that outsiders would call, without a grant.
    pub exports: Vec<String>,
}

impl MissingGrants {
    /// Holds imports (those that do something) and exports against a set of capabilities.
    pub(crate) fn of<'a>(
        imports: impl Iterator<Item = &'a InterfaceName>,
        exports: impl Iterator<Item = &'a InterfaceName>,
        granted: &Capabilities,
    ) -> Option<Self> {
        let missing = Self {
            imports: imports
                .filter(|i| matches!(classify(i), ImportKind::Typed(_) | ImportKind::Custom))
                .filter(|i| !granted.grants(i))
                .map(ToString::to_string)
                .collect(),
            exports: exports
                .filter(|e| export_needs_grant(e))
                .filter(|e| !granted.grants(e))
                .map(ToString::to_string)
                .collect(),
        };
        (!missing.imports.is_empty() || !missing.exports.is_empty()).then_some(missing)
    }

    /// The capabilities that would allow all of it.
    fn remedy(&self) -> String {
        let mut capabilities: Vec<_> = self
            .imports
            .iter()
            .chain(&self.exports)
            .map(|name| name.split('@').next().unwrap_or(name).to_owned())
            .collect();
        capabilities.sort();
        capabilities.dedup();
        capabilities
            .iter()
            .map(|capability| format!("--cap {capability}"))
            .collect::<Vec<_>>()
            .join(" ")
    }
}

impl std::fmt::Display for MissingGrants {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let list = |names: &[String]| {
            names
                .iter()
                .map(|name| format!("`{name}`"))
                .collect::<Vec<_>>()
                .join(", ")
        };
        let mut parts = Vec::new();
        if !self.imports.is_empty() {
            parts.push(format!("imports {}", list(&self.imports)));
        }
        if !self.exports.is_empty() {
            parts.push(format!("lets others call {}", list(&self.exports)));
        }
        write!(
            f,
            "the component {} without a grant in its claims; `wash claims sign {}` (or `capabilities` in trellis.toml) grants it",
            parts.join(" and "),
            self.remedy()
        )
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn name(text: &str) -> InterfaceName {
        text.parse().unwrap()
    }

    fn granted(list: &[&str]) -> Capabilities {
        list.iter().map(|c| c.parse().unwrap()).collect()
    }

    #[test]
    fn the_sandboxed_world_needs_no_grant() {
        let imports = [
            name("wasi:clocks/wall-clock@0.2.6"),
            name("wasi:http/types@0.2.6"),
            name("wasi:logging/logging"),
            name("wasi:config/store@0.2.0-draft"),
        ];
        assert_eq!(
            MissingGrants::of(imports.iter(), [].iter(), &granted(&[])),
            None
        );
    }

    #[test]
    fn a_capability_without_a_grant_is_named_with_what_grants_it() {
        let imports = [
            name("wasi:keyvalue/store@0.2.0-draft"),
            name("my:own/thing@1.0.0"),
        ];
        let exports = [name("wasi:http/incoming-handler@0.2.0")];
        let missing = MissingGrants::of(imports.iter(), exports.iter(), &granted(&[])).unwrap();
        let text = missing.to_string();
        assert!(
            text.contains("`wasi:keyvalue/store@0.2.0-draft`, `my:own/thing@1.0.0`"),
            "{text}"
        );
        assert!(
            text.contains(
                "--cap my:own/thing --cap wasi:http/incoming-handler --cap wasi:keyvalue/store"
            ),
            "{text}"
        );
    }

    #[test]
    fn a_package_grants_each_of_its_interfaces_and_an_interface_only_itself() {
        let imports = [
            name("wasi:keyvalue/store@0.2.0-draft"),
            name("wasi:keyvalue/atomics@0.2.0-draft"),
        ];
        assert_eq!(
            MissingGrants::of(imports.iter(), [].iter(), &granted(&["wasi:keyvalue"])),
            None
        );
        let missing = MissingGrants::of(
            imports.iter(),
            [].iter(),
            &granted(&["wasi:keyvalue/store"]),
        )
        .unwrap();
        assert_eq!(missing.imports, ["wasi:keyvalue/atomics@0.2.0-draft"]);
    }

    #[test]
    fn sending_messages_and_being_sent_them_are_two_grants() {
        let imports = [name("wasmcloud:messaging/consumer@0.2.0")];
        let exports = [name("wasmcloud:messaging/handler@0.2.0")];
        let missing =
            |capability| MissingGrants::of(imports.iter(), exports.iter(), &granted(&[capability]));
        assert_eq!(missing("wasmcloud:messaging"), None);
        let sender = missing("wasmcloud:messaging/consumer").unwrap();
        assert_eq!((sender.imports.len(), sender.exports.len()), (0, 1));
        let receiver = missing("wasmcloud:messaging/handler").unwrap();
        assert_eq!((receiver.imports.len(), receiver.exports.len()), (1, 0));
    }

    #[test]
    fn http_in_and_http_out_are_two_grants() {
        let imports = [name("wasi:http/outgoing-handler@0.2.0")];
        assert!(
            MissingGrants::of(
                imports.iter(),
                [].iter(),
                &granted(&["wasi:http/incoming-handler"])
            )
            .is_some()
        );
    }
}
