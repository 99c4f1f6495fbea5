//! A link: the operator's statement that a source may call a target, for some interfaces of one package.
//!
//! The JSON form is the one of the control interface (`wasmbus.ctl.v1`), so that existing tools and manifests work.

use serde::{Deserialize, Serialize};
use trellis_claims::InterfaceName;

use crate::id::{EntityId, LinkName};

/// A link, as it is put, stored, listed and deleted.
///
/// At most one link exists for a source, a name, a package and an interface; several may share a [`LinkKey`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Link {
    /// The caller: an actor, or a provider that calls actors.
    pub source_id: EntityId,
    /// The callee.
    pub target: EntityId,
    /// The link's name; `default` where nobody chose one.
    #[serde(default)]
    pub name: LinkName,
    /// Namespace of the WIT package (`wasi`).
    pub wit_namespace: String,
    /// Name of the WIT package (`keyvalue`).
    pub wit_package: String,
    /// Interfaces of that package (`store`, `atomics`).
    pub interfaces: Vec<String>,
    /// Names of configurations for the source's end.
    #[serde(default)]
    pub source_config: Vec<String>,
    /// Names of configurations for the target's end.
    #[serde(default)]
    pub target_config: Vec<String>,
}

/// Most interfaces, and most configuration names at one end, of one link.
pub const LINK_LIST_MAX: usize = 64;

/// What links are found and deleted by.
///
/// Several links may share it where they lead to different targets for different interfaces; putting one to another
/// target for an interface that is covered already is refused. Deleting by it deletes all that share it.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct LinkKey {
    /// The caller.
    pub source_id: EntityId,
    /// The link's name.
    #[serde(default)]
    pub name: LinkName,
    /// Namespace of the WIT package.
    pub wit_namespace: String,
    /// Name of the WIT package.
    pub wit_package: String,
}

impl Link {
    /// The part by which it is found and deleted, which other links to other targets may share.
    pub fn key(&self) -> LinkKey {
        LinkKey {
            source_id: self.source_id.clone(),
            name: self.name.clone(),
            wit_namespace: self.wit_namespace.clone(),
            wit_package: self.wit_package.clone(),
        }
    }

    /// Whether it covers an interface, whatever the interface's version.
    pub fn covers(&self, interface: &InterfaceName) -> bool {
        self.wit_namespace == interface.namespace()
            && self.wit_package == interface.package()
            && self.interfaces.iter().any(|i| i == interface.interface())
    }

    /// The interfaces it covers, in full, without version.
    pub fn interface_names(&self) -> impl Iterator<Item = String> + '_ {
        self.interfaces
            .iter()
            .map(|i| format!("{}:{}/{i}", self.wit_namespace, self.wit_package))
    }

    /// Checks what an operator wrote: every part present, WIT's kebab case, bounded lists.
    ///
    /// # Errors
    /// A sentence that says what is wrong.
    pub fn check(&self) -> Result<(), String> {
        if self.interfaces.is_empty() {
            return Err("a link names at least one interface".into());
        }
        for (what, list) in [
            ("interfaces", &self.interfaces),
            ("source configurations", &self.source_config),
            ("target configurations", &self.target_config),
        ] {
            if list.len() > LINK_LIST_MAX {
                return Err(format!(
                    "a link names at most {LINK_LIST_MAX} {what}, this one {}",
                    list.len()
                ));
            }
        }
        for name in self.interface_names() {
            name.parse::<InterfaceName>()
                .map_err(|error| format!("`{name}` is not an interface: {error}"))?;
        }
        Ok(())
    }
}
