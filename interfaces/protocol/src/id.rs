//! Names that operators give: actors, providers, links and lattices.
//!
//! Each is one NATS token (`[A-Za-z0-9_-]{1,128}`), so that none can widen a subject. They are checked once, by the
//! constructor, and trusted afterwards. Cloning one is a reference count.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::limits::ID_BYTES_MAX;

/// Why a text is not an id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IdError {
    /// The text has no character, or more than [`ID_BYTES_MAX`] bytes.
    #[error("{kind} must have 1 to {ID_BYTES_MAX} characters, this one has {bytes}")]
    Length {
        /// What was being named.
        kind: &'static str,
        /// Length of the text in bytes.
        bytes: usize,
    },
    /// The text holds a character outside `[A-Za-z0-9_-]`.
    #[error("{kind} may hold letters, digits, `_` and `-` only, this one holds {character:?}")]
    Character {
        /// What was being named.
        kind: &'static str,
        /// The first character outside the allowed set.
        character: char,
    },
}

fn check(kind: &'static str, text: &str) -> Result<(), IdError> {
    if text.is_empty() || text.len() > ID_BYTES_MAX {
        return Err(IdError::Length {
            kind,
            bytes: text.len(),
        });
    }
    match text
        .chars()
        .find(|c| !(c.is_ascii_alphanumeric() || *c == '_' || *c == '-'))
    {
        Some(character) => Err(IdError::Character { kind, character }),
        None => Ok(()),
    }
}

macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $kind:literal) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks a text and keeps it.
            ///
            /// # Errors
            /// [`IdError`] where the text is not `[A-Za-z0-9_-]{1,128}`.
            pub fn new(text: &str) -> Result<Self, IdError> {
                check($kind, text)?;
                Ok(Self(Arc::from(text)))
            }

            /// The text itself.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:?}", &*self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = IdError;

            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                struct Visitor;
                impl serde::de::Visitor<'_> for Visitor {
                    type Value = $name;
                    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                        f.write_str($kind)
                    }
                    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<$name, E> {
                        $name::new(text).map_err(E::custom)
                    }
                }
                deserializer.deserialize_str(Visitor)
            }
        }
    };
}

id!(
    /// The id of an actor or of a provider: what an operator calls it in one lattice, and one end of a link.
    EntityId,
    "an id"
);
id!(
    /// The name of a link, by which an actor chooses between several targets for one interface.
    LinkName,
    "a link name"
);
id!(
    /// The name of a lattice: all hosts that share a NATS and this name.
    LatticeName,
    "a lattice name"
);

impl LinkName {
    /// The name that an actor uses where it chooses none.
    pub const DEFAULT: &'static str = "default";
}

impl Default for LinkName {
    fn default() -> Self {
        Self(Arc::from(Self::DEFAULT))
    }
}

impl Default for LatticeName {
    fn default() -> Self {
        Self(Arc::from("default"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_id_is_accepted_and_one_more_byte_is_refused() {
        assert!(EntityId::new(&"a".repeat(ID_BYTES_MAX)).is_ok());
        assert_eq!(
            EntityId::new(&"a".repeat(ID_BYTES_MAX + 1)),
            Err(IdError::Length {
                kind: "an id",
                bytes: ID_BYTES_MAX + 1
            })
        );
        assert!(EntityId::new("").is_err());
    }

    #[test]
    fn a_character_that_would_widen_a_subject_is_refused() {
        for text in ["a.b", "*", ">", "a b", "a\n", "ä", "a\0"] {
            assert!(matches!(
                EntityId::new(text),
                Err(IdError::Character { .. })
            ));
        }
    }

    #[test]
    fn deserialising_checks_too() {
        assert!(serde_json::from_str::<EntityId>("\"a.b\"").is_err());
        assert!(serde_json::from_str::<EntityId>("\"a-b_C9\"").is_ok());
    }
}
