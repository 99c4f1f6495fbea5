//! Reading named configuration values: each key at most once, unknown keys are mistakes.

use std::collections::BTreeMap;

use trellis_provider_sdk::{LinkError, StartError};

/// A configuration value that cannot be used, by its key.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration key `{key}`: {reason}")]
pub(crate) struct KeyError {
    /// The key.
    pub(crate) key: String,
    /// What is wrong with it, and what it should be.
    pub(crate) reason: String,
}

impl KeyError {
    pub(crate) fn new(key: &str, reason: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

impl From<KeyError> for StartError {
    fn from(error: KeyError) -> Self {
        Self::Config {
            key: error.key,
            reason: error.reason,
        }
    }
}

impl From<KeyError> for LinkError {
    fn from(error: KeyError) -> Self {
        Self::Config {
            key: error.key,
            reason: error.reason,
        }
    }
}

/// Configuration values whose keys have been checked against the known ones.
pub(crate) struct Settings<'a> {
    values: &'a BTreeMap<String, String>,
}

impl<'a> Settings<'a> {
    /// Checks that every key is known.
    pub(crate) fn new(
        values: &'a BTreeMap<String, String>,
        known: &[&str],
    ) -> Result<Self, KeyError> {
        match values.keys().find(|key| !known.contains(&key.as_str())) {
            Some(key) => Err(KeyError::new(
                key,
                format!("unknown; the known keys are {}", known.join(", ")),
            )),
            None => Ok(Self { values }),
        }
    }

    /// The value with surrounding white space cut off; an empty one counts as absent.
    pub(crate) fn text(&self, key: &str) -> Option<&'a str> {
        self.values
            .get(key)
            .map(|value| value.trim())
            .filter(|value| !value.is_empty())
    }

    /// A whole number within bounds, or the default.
    pub(crate) fn number(
        &self,
        key: &str,
        bounds: std::ops::RangeInclusive<u64>,
        default: u64,
    ) -> Result<u64, KeyError> {
        let out_of_bounds = || {
            KeyError::new(
                key,
                format!(
                    "must be a whole number from {} to {}",
                    bounds.start(),
                    bounds.end()
                ),
            )
        };
        match self.text(key) {
            None => Ok(default),
            Some(text) => text
                .parse()
                .ok()
                .filter(|number| bounds.contains(number))
                .ok_or_else(out_of_bounds),
        }
    }

    /// The parts of a list separated by commas.
    pub(crate) fn list(&self, key: &str) -> impl Iterator<Item = &'a str> + use<'a> {
        self.text(key)
            .unwrap_or_default()
            .split(',')
            .map(str::trim)
            .filter(|part| !part.is_empty())
    }
}
