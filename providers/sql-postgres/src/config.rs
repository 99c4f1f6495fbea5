//! What the provider and its links can be configured with.
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `POSTGRES_HOST` | none, required | name or address of the server |
//! | `POSTGRES_PORT` | 5432 | its port |
//! | `POSTGRES_USERNAME` | none, required | the role to connect as |
//! | `POSTGRES_PASSWORD` | none | its password |
//! | `POSTGRES_DATABASE` | the role's name | the database |
//! | `POSTGRES_TLS_REQUIRED` | `false` | `true`: TLS with a verified certificate; `false`: no TLS |
//! | `POSTGRES_TLS_CA_FILE` | the system's | further root certificates, a PEM file |
//! | `POSTGRES_POOL_SIZE` | 16 | most connections at once |
//! | `POSTGRES_CONNECT_TIMEOUT_MS` | 5000 | time for one connection to come up, sign-in included |
//! | `POSTGRES_MAX_ROWS` | 10000 | most rows of one result |
//! | `POSTGRES_MAX_BYTES` | 2097152 | most bytes of one result, as the actor gets it |
//!
//! Each key may stand in the provider's configuration, for all links, or in a link's. The first seven go together: a
//! link that gives one of them gives them all, since the provider's password must never go to a server that a link
//! names. An empty value counts as none.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_provider_sdk::settings::{self, known};

pub use trellis_provider_sdk::ConfigError;

/// PostgreSQL's own port.
pub const PORT_DEFAULT: u16 = 5432;

/// Connections of a pool where nothing else is configured.
///
/// A server permits 100 in all by default, and hosts and pools add up.
pub const POOL_SIZE_DEFAULT: usize = 16;

/// Connections of the largest pool.
pub const POOL_SIZE_MAX: usize = 100;

/// Time for a connection to come up where nothing else is configured.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Rows of a result where nothing else is configured.
pub const ROWS_DEFAULT: usize = 10_000;

/// Rows of the largest result.
pub const ROWS_MAX: usize = 100_000;

/// Bytes of a result where nothing else is configured.
pub const BYTES_DEFAULT: usize = 2 * 1024 * 1024;

/// Bytes of the largest result: what a call may carry, less its framing.
pub const BYTES_MAX: usize = VALUE_BYTES_MAX - 64 * 1024;

const _: () = assert!(BYTES_DEFAULT <= BYTES_MAX && ROWS_DEFAULT <= ROWS_MAX);

/// Longest host, role, database or password, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

const HOST: &str = "POSTGRES_HOST";
const PORT: &str = "POSTGRES_PORT";
const USERNAME: &str = "POSTGRES_USERNAME";
const PASSWORD: &str = "POSTGRES_PASSWORD";
const DATABASE: &str = "POSTGRES_DATABASE";
const TLS_REQUIRED: &str = "POSTGRES_TLS_REQUIRED";
const TLS_CA_FILE: &str = "POSTGRES_TLS_CA_FILE";
const POOL_SIZE: &str = "POSTGRES_POOL_SIZE";
const CONNECT_TIMEOUT_MS: &str = "POSTGRES_CONNECT_TIMEOUT_MS";
const MAX_ROWS: &str = "POSTGRES_MAX_ROWS";
const MAX_BYTES: &str = "POSTGRES_MAX_BYTES";

const SERVER_KEYS: &[&str] = &[
    HOST,
    PORT,
    USERNAME,
    PASSWORD,
    DATABASE,
    TLS_REQUIRED,
    TLS_CA_FILE,
];
const LIMIT_KEYS: &[&str] = &[POOL_SIZE, CONNECT_TIMEOUT_MS, MAX_ROWS, MAX_BYTES];
const KEYS: &[&[&str]] = &[SERVER_KEYS, LIMIT_KEYS];

/// A password, which shows nowhere.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Password(String);

impl Password {
    /// The password itself, for the one place that signs in with it.
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Where to connect, and as whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Name or address.
    pub host: String,
    /// Port.
    pub port: u16,
    /// Role.
    pub username: String,
    /// The role's password.
    pub password: Option<Password>,
    /// Database.
    pub database: String,
    /// How the connection is protected.
    pub tls: TlsMode,
}

/// How a connection is protected.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum TlsMode {
    /// Not at all.
    Off,
    /// By TLS, with a certificate that the system's roots vouch for, or those of this file.
    Required {
        /// Further root certificates.
        ca_file: Option<PathBuf>,
    },
}

/// A pool of connections. Links that agree on this share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct PoolConfig {
    /// Where to.
    pub server: Server,
    /// Most connections.
    pub size: usize,
    /// Time for one of them to come up.
    pub connect_timeout: Duration,
}

/// What the provider's configuration gives to links that do not say otherwise.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Defaults {
    server: Option<Server>,
    limits: Limits,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Limits {
    pool_size: Option<usize>,
    connect_timeout: Option<Duration>,
    rows: Option<usize>,
    bytes: Option<usize>,
}

/// What one link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// The connections.
    pub pool: PoolConfig,
    /// Most rows of one result.
    pub rows_max: usize,
    /// Most bytes of one result.
    pub bytes_max: usize,
}

impl Defaults {
    /// Reads the provider's configuration.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is unknown or malformed.
    pub fn read(config: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        known(config, KEYS)?;
        Ok(Self {
            server: server(config)?,
            limits: limits(config)?,
        })
    }
}

impl LinkConfig {
    /// Reads a link's configuration over the provider's.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is missing, unknown or malformed.
    pub fn read(
        config: &BTreeMap<String, String>,
        defaults: &Defaults,
    ) -> Result<Self, ConfigError> {
        known(config, KEYS)?;
        let server = match server(config)? {
            Some(server) => server,
            None => defaults
                .server
                .clone()
                .ok_or_else(|| ConfigError::new(HOST, "missing"))?,
        };
        let (own, default) = (limits(config)?, defaults.limits);
        let pick = |own: Option<usize>, default: Option<usize>| own.or(default);
        Ok(Self {
            pool: PoolConfig {
                server,
                size: pick(own.pool_size, default.pool_size).unwrap_or(POOL_SIZE_DEFAULT),
                connect_timeout: own
                    .connect_timeout
                    .or(default.connect_timeout)
                    .unwrap_or(CONNECT_TIMEOUT_DEFAULT),
            },
            rows_max: pick(own.rows, default.rows).unwrap_or(ROWS_DEFAULT),
            bytes_max: pick(own.bytes, default.bytes).unwrap_or(BYTES_DEFAULT),
        })
    }
}

fn given<'a>(config: &'a BTreeMap<String, String>, key: &str) -> Option<&'a str> {
    match key {
        // It may begin or end with a space.
        PASSWORD => config
            .get(key)
            .map(String::as_str)
            .filter(|p| !p.is_empty()),
        _ => settings::given(config, key),
    }
}

/// The server that a configuration names; `None` where it says nothing about one.
fn server(config: &BTreeMap<String, String>) -> Result<Option<Server>, ConfigError> {
    if SERVER_KEYS.iter().all(|key| given(config, key).is_none()) {
        return Ok(None);
    }
    let host = text(config, HOST)?
        .ok_or_else(|| ConfigError::new(HOST, "missing beside other keys of a server"))?;
    if host.starts_with('/') || host.contains([',', ' ']) {
        return Err(ConfigError::new(
            HOST,
            "not the name or address of one server",
        ));
    }
    let username = text(config, USERNAME)?.ok_or_else(|| ConfigError::new(USERNAME, "missing"))?;
    let ca_file = given(config, TLS_CA_FILE).map(PathBuf::from);
    let tls = match given(config, TLS_REQUIRED) {
        Some("true") => TlsMode::Required { ca_file },
        None | Some("false") if ca_file.is_some() => {
            return Err(ConfigError::new(
                TLS_CA_FILE,
                format!("of use only where `{TLS_REQUIRED}` is `true`"),
            ));
        }
        None | Some("false") => TlsMode::Off,
        Some(_) => return Err(ConfigError::new(TLS_REQUIRED, "neither `true` nor `false`")),
    };
    Ok(Some(Server {
        host,
        port: number(config, PORT, 1..=u16::MAX)?.unwrap_or(PORT_DEFAULT),
        database: text(config, DATABASE)?.unwrap_or_else(|| username.clone()),
        username,
        password: text(config, PASSWORD)?.map(Password),
        tls,
    }))
}

fn limits(config: &BTreeMap<String, String>) -> Result<Limits, ConfigError> {
    Ok(Limits {
        pool_size: number(config, POOL_SIZE, 1..=POOL_SIZE_MAX)?,
        connect_timeout: number(config, CONNECT_TIMEOUT_MS, 100..=60_000)?
            .map(Duration::from_millis),
        rows: number(config, MAX_ROWS, 1..=ROWS_MAX)?,
        bytes: number(config, MAX_BYTES, 1024..=BYTES_MAX)?,
    })
}

fn text(config: &BTreeMap<String, String>, key: &str) -> Result<Option<String>, ConfigError> {
    match given(config, key) {
        Some(text) if text.len() > TEXT_BYTES_MAX || text.contains('\0') => Err(ConfigError::new(
            key,
            format!("a text of 1 to {TEXT_BYTES_MAX} bytes, without zeros"),
        )),
        text => Ok(text.map(str::to_owned)),
    }
}

fn number<T>(
    config: &BTreeMap<String, String>,
    key: &str,
    range: RangeInclusive<T>,
) -> Result<Option<T>, ConfigError>
where
    T: std::str::FromStr + PartialOrd + fmt::Display,
{
    let Some(text) = given(config, key) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => Err(ConfigError::new(
            key,
            format!("not a number from {} to {}", range.start(), range.end()),
        )),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn link(pairs: &[(&str, &str)]) -> Result<LinkConfig, ConfigError> {
        let provider = values(&[
            (HOST, "one"),
            (USERNAME, "app"),
            (PASSWORD, "hunter2"),
            (MAX_ROWS, "50"),
        ]);
        LinkConfig::read(&values(pairs), &Defaults::read(&provider).unwrap())
    }

    #[test]
    fn a_link_without_configuration_leads_to_the_providers_server() {
        let config = link(&[]).unwrap();
        assert_eq!(config.pool.server.host, "one");
        assert_eq!(config.pool.server.port, PORT_DEFAULT);
        assert_eq!(config.pool.server.database, "app");
        assert_eq!(
            config.pool.server.password.as_ref().unwrap().reveal(),
            "hunter2"
        );
        assert_eq!((config.pool.size, config.rows_max), (POOL_SIZE_DEFAULT, 50));
        let none = LinkConfig::read(&values(&[]), &Defaults::default());
        assert_eq!(none.unwrap_err().key, HOST);
    }

    #[test]
    fn the_providers_password_never_goes_to_a_links_server() {
        let config = link(&[(HOST, "two"), (USERNAME, "other"), (MAX_ROWS, "7")]).unwrap();
        assert_eq!(config.pool.server.host, "two");
        assert_eq!(config.pool.server.password, None);
        assert_eq!(config.rows_max, 7);
        assert_eq!(link(&[(PORT, "1")]).unwrap_err().key, HOST);
        assert_eq!(link(&[(HOST, "two")]).unwrap_err().key, USERNAME);
    }

    #[test]
    fn mistakes_name_their_key_and_not_their_value() {
        let server = [(HOST, "h"), (USERNAME, "u")];
        for (key, value) in [
            ("POSTGRES_HOSTS", "secret"),
            ("postgres_host", "secret"),
            (HOST, "/secret"),
            (HOST, "secret,secret"),
            (PORT, "secret"),
            (PORT, "0"),
            (PORT, "65536"),
            (PASSWORD, "secret\0"),
            (TLS_REQUIRED, "secret"),
            (TLS_CA_FILE, "/secret"),
            (POOL_SIZE, "0"),
            (POOL_SIZE, "101"),
            (CONNECT_TIMEOUT_MS, "99"),
            (MAX_ROWS, "0"),
            (MAX_ROWS, "100001"),
            (MAX_BYTES, "1023"),
            (MAX_BYTES, "4194304"),
        ] {
            let mut pairs = values(&server);
            pairs.insert(key.to_owned(), value.to_owned());
            let error = LinkConfig::read(&pairs, &Defaults::default()).unwrap_err();
            assert_eq!(error.key, key);
            assert!(!error.reason.contains("secret"), "{error}");
        }
        for (key, value) in [
            (PORT, "65535"),
            (POOL_SIZE, "100"),
            (MAX_ROWS, "100000"),
            (MAX_BYTES, "1024"),
            (TLS_REQUIRED, "true"),
        ] {
            let mut pairs = values(&server);
            pairs.insert(key.to_owned(), value.to_owned());
            LinkConfig::read(&pairs, &Defaults::default()).unwrap();
        }
    }

    #[test]
    fn the_password_does_not_show_in_debug_output() {
        let config = link(&[]).unwrap();
        assert!(!format!("{config:?}").contains("hunter2"));
    }
}
