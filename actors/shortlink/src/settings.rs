//! The actor's named configuration.
//!
//! | key | meaning | without it |
//! | --- | --- | --- |
//! | `base_url` | where clients reach this actor; short URLs begin with it | no `short_url`, `Location` is relative |
//! | `code_length` | symbols in a new code | the code maker's default |

use crate::url::HttpUrl;
use crate::world::World;

const BASE_URL: &str = "base_url";
const CODE_LENGTH: &str = "code_length";

/// What the operator configured, read anew for each request.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Prefix of short URLs, without a slash at its end.
    pub(crate) base_url: Option<String>,
    /// Symbols in a new code.
    pub(crate) code_length: Option<u8>,
}

/// Why there are no settings.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SettingsError {
    /// The configuration could not be read.
    #[error("could not read the configuration `{key}`: {reason}")]
    Unavailable {
        /// The key that was asked for.
        key: &'static str,
        /// Why, in the words of the host.
        reason: String,
    },
    /// A value makes no sense.
    #[error("the configuration `{key}` is not {expected}")]
    Invalid {
        /// The key with that value.
        key: &'static str,
        /// What it should be.
        expected: &'static str,
    },
}

impl Settings {
    /// Reads both keys. An empty value counts as none.
    ///
    /// # Errors
    ///
    /// See [`SettingsError`].
    pub(crate) fn read(world: &impl World) -> Result<Self, SettingsError> {
        let value = |key| {
            world
                .config(key)
                .map(|value| value.filter(|value| !value.is_empty()))
                .map_err(|reason| SettingsError::Unavailable { key, reason })
        };
        Ok(Self {
            base_url: value(BASE_URL)?.map(|text| base_url(&text)).transpose()?,
            code_length: value(CODE_LENGTH)?
                .map(|text| {
                    text.parse().map_err(|_| SettingsError::Invalid {
                        key: CODE_LENGTH,
                        expected: "a small whole number",
                    })
                })
                .transpose()?,
        })
    }
}

fn base_url(text: &str) -> Result<String, SettingsError> {
    match HttpUrl::parse(text) {
        Ok(url) if !text.contains(['?', '#']) => Ok(url.as_str().trim_end_matches('/').to_owned()),
        _ => Err(SettingsError::Invalid {
            key: BASE_URL,
            expected: "an absolute http or https url without query and fragment",
        }),
    }
}
