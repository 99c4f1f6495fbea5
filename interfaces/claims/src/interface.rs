//! [`InterfaceName`]: a WIT interface as a component imports or exports it, `wasi:keyvalue/store@0.2.0-draft`.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::label::{is_wit_label, is_wit_package_label};

/// Longest name of an interface, version included, in bytes. WIT's own names stay far below.
pub const INTERFACE_NAME_BYTES_MAX: usize = 256;

/// A WIT interface: `namespace:package/interface`, with the version where one is stated.
///
/// Equality and order include the version; a [`Capability`](crate::Capability) ignores it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InterfaceName {
    namespace: String,
    package: String,
    interface: String,
    version: Option<String>,
}

/// Why a text is no interface name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum InterfaceNameError {
    /// Longer than [`INTERFACE_NAME_BYTES_MAX`].
    #[error(
        "cannot read an interface name of {len} bytes: at most {INTERFACE_NAME_BYTES_MAX} are accepted"
    )]
    TooLong {
        /// Length of the refused text, in bytes.
        len: usize,
    },
    /// Not of the form `namespace:package/interface@version`.
    #[error(
        "cannot read {text:?} as an interface: write it `namespace:package/interface` or `namespace:package/interface@version`"
    )]
    Shape {
        /// The refused text.
        text: String,
    },
    /// A part that WIT does not allow as a name.
    #[error("cannot read {text:?} as an interface: {part:?} is not a name in WIT's kebab-case")]
    Label {
        /// The refused text.
        text: String,
        /// The part of it that is at fault.
        part: String,
    },
    /// What stands behind the `@` is not a version.
    #[error(
        "cannot read {text:?} as an interface: {version:?} is not a version such as `0.2.0` or `0.2.0-draft`"
    )]
    Version {
        /// The refused text.
        text: String,
        /// What stands where the version should be.
        version: String,
    },
}

impl InterfaceName {
    /// The namespace: `wasi` of `wasi:keyvalue/store@0.2.0-draft`.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The package's name without its namespace: `keyvalue` of `wasi:keyvalue/store@0.2.0-draft`.
    #[must_use]
    pub fn package(&self) -> &str {
        &self.package
    }

    /// The interface's own name: `store` of `wasi:keyvalue/store@0.2.0-draft`.
    #[must_use]
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The version if one is stated: `0.2.0-draft` of `wasi:keyvalue/store@0.2.0-draft`.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// Whether `other` is the same interface, whatever the versions.
    #[must_use]
    pub fn same_interface(&self, other: &Self) -> bool {
        (&self.namespace, &self.package, &self.interface)
            == (&other.namespace, &other.package, &other.interface)
    }

    /// The same interface with no version stated.
    #[must_use]
    pub fn without_version(&self) -> Self {
        Self {
            version: None,
            ..self.clone()
        }
    }
}

impl FromStr for InterfaceName {
    type Err = InterfaceNameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > INTERFACE_NAME_BYTES_MAX {
            return Err(InterfaceNameError::TooLong { len: text.len() });
        }
        let shape = || InterfaceNameError::Shape {
            text: text.to_owned(),
        };
        let (name, version) = match text.split_once('@') {
            Some((name, version)) => (name, Some(version)),
            None => (text, None),
        };
        let (path, interface) = name.split_once('/').ok_or_else(shape)?;
        let (namespace, package) = path.split_once(':').ok_or_else(shape)?;

        let label = |valid: bool, part: &str| {
            valid
                .then(|| part.to_owned())
                .ok_or_else(|| InterfaceNameError::Label {
                    text: text.to_owned(),
                    part: part.to_owned(),
                })
        };
        let version = match version {
            Some(version) if !is_version(version) => {
                return Err(InterfaceNameError::Version {
                    text: text.to_owned(),
                    version: version.to_owned(),
                });
            }
            version => version.map(str::to_owned),
        };
        Ok(Self {
            namespace: label(is_wit_package_label(namespace), namespace)?,
            package: label(is_wit_package_label(package), package)?,
            interface: label(is_wit_label(interface), interface)?,
            version,
        })
    }
}

/// Whether `version` looks like a semantic version, or the beginning of one (`0.2`).
///
/// Looser than the specification on purpose: versions choose among implementations and grant nothing, so all that
/// matters here is that the text is short, printable and begins with a number.
fn is_version(version: &str) -> bool {
    version.starts_with(|c: char| c.is_ascii_digit())
        && version
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'+'))
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            namespace,
            package,
            interface,
            version,
        } = self;
        write!(f, "{namespace}:{package}/{interface}")?;
        match version {
            Some(version) => write!(f, "@{version}"),
            None => Ok(()),
        }
    }
}

impl Serialize for InterfaceName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for InterfaceName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_read_as_it_is_written() {
        for text in [
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:http/incoming-handler@0.2.9",
            "wasi:http/types",
            "demo:shortlink/code-maker@1.0.0+build.7",
        ] {
            let name: InterfaceName = text.parse().unwrap();
            assert_eq!(name.to_string(), text);
        }
    }

    #[test]
    fn the_parts_can_be_asked_for() {
        let name: InterfaceName = "wasi:keyvalue/store@0.2.0-draft".parse().unwrap();
        assert_eq!(name.namespace(), "wasi");
        assert_eq!(name.package(), "keyvalue");
        assert_eq!(name.interface(), "store");
        assert_eq!(name.version(), Some("0.2.0-draft"));
        assert!(name.same_interface(&name.without_version()));
        assert_eq!(name.without_version().to_string(), "wasi:keyvalue/store");
    }

    #[test]
    fn a_text_that_is_no_interface_is_refused() {
        for bad in [
            "",
            "wasi",
            "wasi:http",
            "http/types",
            "wasi:http/types/more",
            "a:wasi:http/types",
            "wasi:http/",
            ":http/types",
            "wasi:/types",
            "WASI:http/types",
            "wasi:http/Types",
            "wasi:http/types@",
            "wasi:http/types@draft",
            "wasi:http/types@0.2.0@0.2.1",
            "wasi:http/types@0.2.0 ",
            "wasi:*/types",
        ] {
            assert!(bad.parse::<InterfaceName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn the_longest_name_is_accepted_and_one_byte_more_is_not() {
        let prefix = "wasi:http/";
        let longest = format!(
            "{prefix}{}",
            "a".repeat(INTERFACE_NAME_BYTES_MAX - prefix.len())
        );
        assert!(longest.parse::<InterfaceName>().is_ok());
        assert_eq!(
            format!("{longest}a").parse::<InterfaceName>(),
            Err(InterfaceNameError::TooLong {
                len: INTERFACE_NAME_BYTES_MAX + 1
            })
        );
    }
}
