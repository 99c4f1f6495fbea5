//! What the provider and its links can be configured with.
//!
//! | key | where | default | meaning |
//! | --- | --- | --- | --- |
//! | `URL` | provider, link | `redis://127.0.0.1:6379` | the server, user, password and database; see [`crate::server`] |
//! | `tls_ca_file` | provider, link | none | root certificates beside the system's, a PEM file; for `rediss` |
//! | `connect_timeout_ms` | provider, link | 3000 | longest that making a connection may take, 50 to 60,000 |
//! | `response_timeout_ms` | provider, link | 3000 | longest that the server may leave a question unanswered, 50 to 60,000; the deadline of a call may come first |
//! | `reconnect_delay_max_ms` | provider, link | 1000 | longest pause between two attempts to connect, 10 to 60,000 |
//! | `retries` | provider, link | 1 | how often a read is asked again after its connection was lost, 0 to 10; writes never are |
//! | `prefix` | link | none | stands before each key: an actor reaches the keys that begin so and no others |
//! | `bucket` | link | any | the one identifier, beside `default` and the empty one, by which the bucket is opened |
//!
//! The case of letters in a key does not matter (`url`). The names that wasmCloud's provider has for the same are taken
//! too: `BACKEND_CONNECTION_TIMEOUT_MS`, `BACKEND_RESPONSE_TIMEOUT_MS`, `BACKEND_RECONNECT_MAX_DELAY_MS` and
//! `BACKEND_RECONNECT_NUM_RETRIES`; of the last the value is not used, because there is no end to reconnecting here. An
//! empty value counts as none.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use crate::key::KEY_BYTES_MAX;
use crate::server::{Address, Server, Target};

pub use trellis_provider_sdk::ConfigError;

/// The server where nothing else is configured.
pub const URL_DEFAULT: &str = "redis://127.0.0.1:6379";

/// `connect_timeout_ms` where nothing else is configured.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);

/// `response_timeout_ms` where nothing else is configured. A server that syncs each write to a busy disk may take a
/// second.
pub const RESPONSE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(3);

/// Shortest and longest of both timeouts, in milliseconds.
pub const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 50..=60_000;

/// `reconnect_delay_max_ms` where nothing else is configured.
pub const RECONNECT_DELAY_MAX_DEFAULT: Duration = Duration::from_secs(1);

/// Shortest and longest of it, in milliseconds.
pub const RECONNECT_DELAY_MAX_MS: std::ops::RangeInclusive<u64> = 10..=60_000;

/// `retries` where nothing else is configured.
pub const READ_RETRIES_DEFAULT: u32 = 1;

/// Most of it.
pub const READ_RETRIES_MAX: u32 = 10;

/// Longest `prefix`, in bytes.
pub const PREFIX_BYTES_MAX: usize = 256;

const _: () = assert!(PREFIX_BYTES_MAX < KEY_BYTES_MAX);

/// Longest `bucket`, in bytes.
pub const BUCKET_BYTES_MAX: usize = 128;

const URL: &str = "url";
const TLS_CA_FILE: &str = "tls_ca_file";
const CONNECT_TIMEOUT: &str = "connect_timeout_ms";
const RESPONSE_TIMEOUT: &str = "response_timeout_ms";
const RECONNECT_DELAY_MAX: &str = "reconnect_delay_max_ms";
const RETRIES: &str = "retries";
const PREFIX: &str = "prefix";
const BUCKET: &str = "bucket";

const SHARED_KEYS: &[&str] = &[
    URL,
    TLS_CA_FILE,
    CONNECT_TIMEOUT,
    RESPONSE_TIMEOUT,
    RECONNECT_DELAY_MAX,
    RETRIES,
];
const LINK_KEYS: &[&str] = &[PREFIX, BUCKET];

/// wasmCloud's names, and ours. A name without one is taken and has no effect.
const OTHER_NAMES: &[(&str, Option<&str>)] = &[
    ("backend_connection_timeout_ms", Some(CONNECT_TIMEOUT)),
    ("backend_response_timeout_ms", Some(RESPONSE_TIMEOUT)),
    ("backend_reconnect_max_delay_ms", Some(RECONNECT_DELAY_MAX)),
    ("backend_reconnect_num_retries", None),
];

/// What the provider's configuration gives to links that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults(Server);

/// What one link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Where the keys are.
    pub server: Server,
    /// What stands before each key.
    pub prefix: String,
    /// The only identifier of the bucket, where there is one.
    pub bucket: Option<String>,
}

impl Defaults {
    /// Reads the provider's configuration.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is unknown or malformed.
    pub fn read(config: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let built_in = Server {
            target: Target {
                address: Address::Tcp {
                    host: "127.0.0.1".to_owned(),
                    port: crate::server::PORT_DEFAULT,
                    tls: false,
                },
                user: None,
                password: None,
                database: 0,
            },
            tls_ca_file: None,
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
            response_timeout: RESPONSE_TIMEOUT_DEFAULT,
            reconnect_delay_max: RECONNECT_DELAY_MAX_DEFAULT,
            read_retries: READ_RETRIES_DEFAULT,
        };
        let values = Values::read(config, &[SHARED_KEYS])?;
        Ok(Self(server(&values, &built_in)?))
    }
}

impl LinkConfig {
    /// Reads a link's configuration over the provider's.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is unknown or malformed.
    pub fn read(
        config: &BTreeMap<String, String>,
        defaults: &Defaults,
    ) -> Result<Self, ConfigError> {
        let values = Values::read(config, &[SHARED_KEYS, LINK_KEYS])?;
        let within = |key: &str, bytes_max: usize| match values.get(key) {
            Some(value) if value.len() > bytes_max => {
                Err(values.error(key, format!("longer than {bytes_max} bytes")))
            }
            value => Ok(value.map(str::to_owned)),
        };
        Ok(Self {
            server: server(&values, &defaults.0)?,
            prefix: within(PREFIX, PREFIX_BYTES_MAX)?.unwrap_or_default(),
            bucket: within(BUCKET, BUCKET_BYTES_MAX)?,
        })
    }
}

fn server(values: &Values<'_>, defaults: &Server) -> Result<Server, ConfigError> {
    let target = match values.get(URL) {
        Some(url) => Target::parse(url).map_err(|reason| values.error(URL, reason))?,
        None => defaults.target.clone(),
    };
    let speaks_tls = matches!(target.address, Address::Tcp { tls: true, .. });
    let given_ca_file = values.get(TLS_CA_FILE).map(PathBuf::from);
    if given_ca_file.is_some() && !speaks_tls {
        return Err(values.error(TLS_CA_FILE, "the URL's scheme is not `rediss`"));
    }
    let milliseconds = |key, range: &std::ops::RangeInclusive<u64>, default| {
        let number = values.number(key, range)?;
        Ok(number.map_or(default, Duration::from_millis))
    };
    Ok(Server {
        target,
        tls_ca_file: given_ca_file
            .or_else(|| defaults.tls_ca_file.clone())
            .filter(|_| speaks_tls),
        connect_timeout: milliseconds(CONNECT_TIMEOUT, &TIMEOUT_MS, defaults.connect_timeout)?,
        response_timeout: milliseconds(RESPONSE_TIMEOUT, &TIMEOUT_MS, defaults.response_timeout)?,
        reconnect_delay_max: milliseconds(
            RECONNECT_DELAY_MAX,
            &RECONNECT_DELAY_MAX_MS,
            defaults.reconnect_delay_max,
        )?,
        read_retries: values
            .number(RETRIES, &(0..=READ_RETRIES_MAX.into()))?
            .and_then(|number| u32::try_from(number).ok())
            .unwrap_or(defaults.read_retries),
    })
}

/// Values by our own names of their keys, each with the name under which it was given.
struct Values<'a>(BTreeMap<&'static str, (&'a str, &'a str)>);

impl<'a> Values<'a> {
    fn read(
        config: &'a BTreeMap<String, String>,
        allowed: &[&[&'static str]],
    ) -> Result<Self, ConfigError> {
        let allowed = allowed.concat();
        let mut values = BTreeMap::new();
        for (given, value) in config {
            let lower = given.to_ascii_lowercase();
            let name = match OTHER_NAMES.iter().find(|(other, _)| *other == lower) {
                Some((_, None)) => continue,
                Some((_, Some(name))) => Some(*name),
                None => allowed.iter().copied().find(|name| *name == lower),
            };
            let Some(name) = name else {
                return Err(ConfigError::new(
                    given,
                    format!("unknown; the keys are {}", allowed.join(", ")),
                ));
            };
            // A prefix may well end in a space.
            let value = match name {
                PREFIX => value.as_str(),
                _ => value.trim(),
            };
            if value.is_empty() {
                continue;
            }
            if let Some((other, _)) = values.insert(name, (given.as_str(), value)) {
                return Err(ConfigError::new(
                    given,
                    format!("means the same as `{other}`, which is given, too"),
                ));
            }
        }
        Ok(Self(values))
    }

    fn get(&self, name: &str) -> Option<&'a str> {
        self.0.get(name).map(|(_, value)| *value)
    }

    fn number(
        &self,
        name: &str,
        range: &std::ops::RangeInclusive<u64>,
    ) -> Result<Option<u64>, ConfigError> {
        let Some(value) = self.get(name) else {
            return Ok(None);
        };
        match value.parse().ok().filter(|number| range.contains(number)) {
            Some(number) => Ok(Some(number)),
            None => Err(self.error(
                name,
                format!("not a number from {} to {}", range.start(), range.end()),
            )),
        }
    }

    fn error(&self, name: &str, reason: impl Into<String>) -> ConfigError {
        let given = self.0.get(name).map_or(name, |(given, _)| *given);
        ConfigError::new(given, reason)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn link(pairs: &[(&str, &str)]) -> Result<LinkConfig, ConfigError> {
        let provider = values(&[
            ("URL", "rediss://:hunter1@one:7000"),
            ("tls_ca_file", "/ca.pem"),
            ("retries", "3"),
        ]);
        LinkConfig::read(&values(pairs), &Defaults::read(&provider).unwrap())
    }

    #[test]
    fn the_default_server_is_the_one_that_is_documented() {
        let Defaults(server) = Defaults::read(&values(&[])).unwrap();
        assert_eq!(server.target, Target::parse(URL_DEFAULT).unwrap());
    }

    #[test]
    fn a_link_without_configuration_leads_to_the_providers_server() {
        let config = link(&[("prefix", ""), ("url", " ")]).unwrap();
        assert_eq!(config.server.target.address.to_string(), "one:7000");
        assert_eq!(config.server.target.password.as_deref(), Some("hunter1"));
        assert_eq!(config.server.tls_ca_file, Some("/ca.pem".into()));
        assert_eq!(config.server.read_retries, 3);
        assert_eq!((&*config.prefix, config.bucket), ("", None));
    }

    #[test]
    fn the_providers_password_never_goes_to_a_links_server() {
        let config = link(&[("URL", "redis://two")]).unwrap();
        assert_eq!(config.server.target.address.to_string(), "two:6379");
        assert_eq!(config.server.target.password, None);
        assert_eq!(config.server.tls_ca_file, None);
        assert_eq!(config.server.read_retries, 3);
    }

    #[test]
    fn keys_are_known_in_any_case_and_by_wasmclouds_names() {
        let config = link(&[
            ("Url", "redis://two"),
            ("BACKEND_CONNECTION_TIMEOUT_MS", "100"),
            ("BACKEND_RESPONSE_TIMEOUT_MS", "200"),
            ("BACKEND_RECONNECT_MAX_DELAY_MS", "300"),
            ("BACKEND_RECONNECT_NUM_RETRIES", "3"),
            ("PREFIX", "app: "),
        ])
        .unwrap();
        assert_eq!(config.server.connect_timeout, Duration::from_millis(100));
        assert_eq!(config.server.response_timeout, Duration::from_millis(200));
        assert_eq!(
            config.server.reconnect_delay_max,
            Duration::from_millis(300)
        );
        assert_eq!(config.prefix, "app: ");
        let error = link(&[("URL", "redis://two"), ("url", "redis://three")]).unwrap_err();
        assert!(error.reason.contains("means the same"), "{error}");
    }

    #[test]
    fn mistakes_name_their_key_and_not_their_value() {
        for (key, value) in [
            ("URI", "redis://:secret@two"),
            ("URL", "redis://:secret@"),
            ("url", "secret"),
            ("connect_timeout_ms", "49"),
            ("connect_timeout_ms", "60001"),
            ("response_timeout_ms", "secret"),
            ("reconnect_delay_max_ms", "9"),
            ("retries", "11"),
            ("retries", "-1"),
        ] {
            let error = link(&[(key, value)]).unwrap_err();
            assert_eq!(error.key, key);
            assert!(!error.reason.contains("secret"), "{error}");
        }
        let plain = link(&[("URL", "redis://two"), ("tls_ca_file", "/ca.pem")]);
        assert_eq!(plain.unwrap_err().key, "tls_ca_file");
        for (key, bytes_max) in [("prefix", PREFIX_BYTES_MAX), ("bucket", BUCKET_BYTES_MAX)] {
            assert!(link(&[(key, &"b".repeat(bytes_max))]).is_ok());
            assert_eq!(
                link(&[(key, &"b".repeat(bytes_max + 1))]).unwrap_err().key,
                key
            );
        }
        // What belongs to a link is unknown to the provider.
        assert!(Defaults::read(&values(&[("prefix", "p")])).is_err());
    }

    #[test]
    fn passwords_do_not_show_in_debug_output() {
        let config = link(&[("URL", "redis://user:hunter2@two:4222")]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
        assert!(!format!("{:?}", link(&[]).unwrap()).contains("hunter1"));
    }
}
