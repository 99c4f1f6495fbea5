//! Reading one setting of a configuration, and what is said where it cannot be read.

use std::collections::BTreeMap;

use trellis_provider_sdk::{LinkError, StartError};

/// Why a configuration is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("configuration key `{key}`: {reason}")]
pub struct ConfigError {
    /// The key.
    pub key: String,
    /// What is wrong; never the value.
    pub reason: String,
}

impl ConfigError {
    /// Something wrong with the value of a key. The reason must not repeat the value, which may be a secret.
    pub fn new(key: &str, reason: impl Into<String>) -> Self {
        Self {
            key: key.to_owned(),
            reason: reason.into(),
        }
    }
}

impl From<ConfigError> for LinkError {
    fn from(ConfigError { key, reason }: ConfigError) -> Self {
        Self::Config { key, reason }
    }
}

impl From<ConfigError> for StartError {
    fn from(ConfigError { key, reason }: ConfigError) -> Self {
        Self::Config { key, reason }
    }
}

/// The value of a key; an empty one counts as none.
pub fn given<'a>(config: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    config
        .get(key)
        .map(|value| value.trim())
        .filter(|value| !value.is_empty())
}

/// Refuses a configuration with a key that is not among those allowed, and says which are.
///
/// # Errors
/// [`ConfigError`] for the first such key.
pub fn known(config: &BTreeMap<String, String>, allowed: &[&[&str]]) -> Result<(), ConfigError> {
    let allowed = allowed.concat();
    match config.keys().find(|key| !allowed.contains(&key.as_str())) {
        None => Ok(()),
        Some(key) => Err(ConfigError::new(
            key,
            format!("unknown; the keys are {}", allowed.join(", ")),
        )),
    }
}
