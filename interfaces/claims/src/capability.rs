//! [`Capability`]: what claims grant. A whole package (`wasi:keyvalue`) or one interface (`wasi:keyvalue/store`).
//!
//! Grants carry no version: an actor that may use key-value may use it after an update of the interface, too. There are
//! no wildcards. What is not covered is denied, and that the sandboxed parts of WASI need no grant at all is the host's
//! knowledge, not this module's.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::interface::InterfaceName;
use crate::label::{is_wit_label, is_wit_package_label};

/// Longest capability, in bytes.
pub const CAPABILITY_BYTES_MAX: usize = 256;

/// A package, or one interface of a package, that an actor may import or have called on it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Capability {
    namespace: String,
    package: String,
    interface: Option<String>,
}

/// Why a text is no capability.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CapabilityError {
    /// Longer than [`CAPABILITY_BYTES_MAX`].
    #[error("cannot read a capability of {len} bytes: at most {CAPABILITY_BYTES_MAX} are accepted")]
    TooLong {
        /// Length of the refused text, in bytes.
        len: usize,
    },
    /// A version is stated, which grants do not carry.
    #[error(
        "cannot read {text:?} as a capability: grants carry no version, leave out the `@` and what follows"
    )]
    Versioned {
        /// The refused text.
        text: String,
    },
    /// Not of the form `namespace:package` or `namespace:package/interface`.
    #[error(
        "cannot read {text:?} as a capability: write it `namespace:package` or `namespace:package/interface`, in WIT's kebab-case"
    )]
    Shape {
        /// The refused text.
        text: String,
    },
}

impl Capability {
    /// Whether this capability grants `interface`, whatever its version.
    #[must_use]
    pub fn covers(&self, interface: &InterfaceName) -> bool {
        self.namespace == interface.namespace()
            && self.package == interface.package()
            && self
                .interface
                .as_ref()
                .is_none_or(|granted| granted == interface.interface())
    }

    /// The narrowest capability that covers `interface`: what to write to grant just that.
    #[must_use]
    pub fn for_interface(interface: &InterfaceName) -> Self {
        Self {
            namespace: interface.namespace().to_owned(),
            package: interface.package().to_owned(),
            interface: Some(interface.interface().to_owned()),
        }
    }
}

impl FromStr for Capability {
    type Err = CapabilityError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > CAPABILITY_BYTES_MAX {
            return Err(CapabilityError::TooLong { len: text.len() });
        }
        if text.contains('@') {
            return Err(CapabilityError::Versioned {
                text: text.to_owned(),
            });
        }
        let shape = || CapabilityError::Shape {
            text: text.to_owned(),
        };
        let (path, interface) = match text.split_once('/') {
            Some((path, interface)) => (path, Some(interface)),
            None => (text, None),
        };
        let (namespace, package) = path.split_once(':').ok_or_else(shape)?;
        if !is_wit_package_label(namespace)
            || !is_wit_package_label(package)
            || !interface.is_none_or(is_wit_label)
        {
            return Err(shape());
        }
        Ok(Self {
            namespace: namespace.to_owned(),
            package: package.to_owned(),
            interface: interface.map(str::to_owned),
        })
    }
}

impl fmt::Display for Capability {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.namespace, self.package)?;
        match &self.interface {
            Some(interface) => write!(f, "/{interface}"),
            None => Ok(()),
        }
    }
}

impl Serialize for Capability {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Capability {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

/// Everything that one token grants, in order and without repetition.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities(BTreeSet<Capability>);

impl Capabilities {
    /// Whether any of them covers `interface`. Nothing is granted by an empty set.
    #[must_use]
    pub fn grants(&self, interface: &InterfaceName) -> bool {
        self.0.iter().any(|granted| granted.covers(interface))
    }

    /// Adds one. Returns whether it was not there yet.
    pub fn insert(&mut self, capability: Capability) -> bool {
        self.0.insert(capability)
    }

    /// Each of them, in order.
    pub fn iter(&self) -> impl Iterator<Item = &Capability> {
        self.0.iter()
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing is granted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl FromIterator<Capability> for Capabilities {
    fn from_iter<I: IntoIterator<Item = Capability>>(capabilities: I) -> Self {
        Self(capabilities.into_iter().collect())
    }
}

impl<'a> IntoIterator for &'a Capabilities {
    type Item = &'a Capability;
    type IntoIter = std::collections::btree_set::Iter<'a, Capability>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn capability(text: &str) -> Capability {
        text.parse().unwrap()
    }

    fn interface(text: &str) -> InterfaceName {
        text.parse().unwrap()
    }

    #[test]
    fn a_package_covers_each_of_its_interfaces_at_any_version() {
        let granted = capability("wasi:keyvalue");
        assert!(granted.covers(&interface("wasi:keyvalue/store@0.2.0-draft")));
        assert!(granted.covers(&interface("wasi:keyvalue/atomics")));
    }

    #[test]
    fn a_package_covers_no_other_package() {
        let granted = capability("wasi:keyvalue");
        assert!(!granted.covers(&interface("wasi:keyvalue-nats/store")));
        assert!(!granted.covers(&interface("wasi:key/store")));
        assert!(!granted.covers(&interface("evil:keyvalue/store")));
    }

    #[test]
    fn an_interface_covers_itself_alone() {
        let granted = capability("wasi:keyvalue/store");
        assert!(granted.covers(&interface("wasi:keyvalue/store@0.2.0-draft")));
        assert!(!granted.covers(&interface("wasi:keyvalue/atomics@0.2.0-draft")));
        assert!(!granted.covers(&interface("wasi:keyvalue/store-two")));
    }

    #[test]
    fn a_version_in_a_grant_is_refused_with_advice() {
        let error = "wasi:keyvalue@0.2.0".parse::<Capability>().unwrap_err();
        assert!(matches!(error, CapabilityError::Versioned { .. }));
        assert!(error.to_string().contains("leave out the `@`"));
    }

    #[test]
    fn a_text_that_is_no_capability_is_refused() {
        for bad in [
            "",
            "wasi",
            "*",
            "wasi:*",
            "wasi:http/*",
            "wasi:http/",
            "wasi:http/a/b",
            "a:wasi:http",
            "Wasi:http",
            "wasi: http",
        ] {
            assert!(
                matches!(
                    bad.parse::<Capability>(),
                    Err(CapabilityError::Shape { .. })
                ),
                "{bad}"
            );
        }
    }

    #[test]
    fn a_set_grants_what_any_of_its_members_covers() {
        let granted: Capabilities = [capability("wasi:http"), capability("wasi:keyvalue/store")]
            .into_iter()
            .collect();
        assert!(granted.grants(&interface("wasi:http/outgoing-handler@0.2.2")));
        assert!(granted.grants(&interface("wasi:keyvalue/store")));
        assert!(!granted.grants(&interface("wasi:keyvalue/batch")));
        assert!(!Capabilities::default().grants(&interface("wasi:http/types")));
    }

    #[test]
    fn the_narrowest_grant_for_an_interface_covers_it() {
        let wanted = interface("wasi:keyvalue/store@0.2.0-draft");
        let granted = Capability::for_interface(&wanted);
        assert_eq!(granted.to_string(), "wasi:keyvalue/store");
        assert!(granted.covers(&wanted));
    }
}
