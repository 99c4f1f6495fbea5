//! The provider's and its links' configuration: every key, its default, and why.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::Duration;

use http::Method;
use trellis_protocol::limits::{DEADLINE_DEFAULT, DEADLINE_MAX, HEAD_BYTES_MAX, HTTP_FIELDS_MAX};
use trellis_provider_sdk::{ConfigError, Settings};

use crate::address::AddressBlock;
use crate::rule::{HostRule, Methods, PathPrefix, Rules};

/// Time until there is a connection, name look-up and TLS included, where neither link nor guest says less.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Longest silence of a body in both directions together.
pub const BODY_IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// How long a connection is kept without a request. Shorter than the 60 s and more after which servers and load balancers
/// commonly close theirs, so that a request seldom meets one that is being closed.
pub const IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(45);

/// Most connections that one link keeps without a request.
pub const IDLE_CONNECTIONS_DEFAULT: u64 = 32;

/// Most requests of one link at once, up to the last byte of their responses.
pub const REQUESTS_DEFAULT: u64 = 128;

/// Largest body, in bytes, in either direction. Bodies stream, so this bounds work, not memory.
pub const BODY_BYTES_DEFAULT: u64 = 1024 * 1024 * 1024;

/// Largest head of a response, in bytes: what a frame between hosts can carry.
pub const HEAD_BYTES: usize = HEAD_BYTES_MAX;

/// Most fields in the head of a response, and in its trailers.
pub const FIELDS: usize = HTTP_FIELDS_MAX;

/// Most bytes that one HTTP/1.1 connection reads ahead or holds back. Twice a head, so that the largest one fits whatever
/// arrives with it.
pub const CONNECTION_BUFFER_BYTES: usize = 2 * HEAD_BYTES;

/// Unread bytes that one HTTP/2 stream may have on the way.
pub const H2_STREAM_WINDOW_BYTES: u32 = 128 * 1024;

/// Silence of an HTTP/2 connection with open streams after which it is asked whether it still lives.
pub const H2_PING_INTERVAL: Duration = Duration::from_secs(15);

/// How long it may take to answer.
pub const H2_PING_TIMEOUT: Duration = Duration::from_secs(10);

/// Addresses of one name that are tried.
pub const ADDRESSES_MAX: usize = 8;

/// How long an address is waited for before the next is tried beside it (RFC 8305, section 5).
pub const NEXT_ADDRESS_AFTER: Duration = Duration::from_millis(250);

/// Name look-ups of one provider at once. The system's resolver holds a thread for each, for as long as it likes.
pub const LOOK_UPS_MAX: usize = 32;

/// How long before the deadline of a call the provider answers that there was no response.
pub const ANSWER_MARGIN: Duration = Duration::from_millis(50);

/// Largest file with certificates, in bytes, that is read.
pub const CA_FILE_BYTES_MAX: u64 = 4 * 1024 * 1024;

const KEYS: &[&str] = &["ca_files"];

const LINK_KEYS: &[&str] = &[
    "allowed_hosts",
    "allowed_methods",
    "allowed_paths",
    "allowed_addresses",
    "ca_files",
    "connect_timeout_ms",
    "response_timeout_ms",
    "body_idle_timeout_ms",
    "idle_timeout_ms",
    "idle_connections_max",
    "requests_max",
    "request_bytes_max",
    "response_bytes_max",
];

/// The provider's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Config {
    /// Files with certificates in PEM of authorities that are trusted beside the system's (`ca_files`).
    pub(crate) ca_files: Vec<PathBuf>,
}

impl Config {
    /// # Errors
    /// The first key that is unknown.
    pub(crate) fn parse(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let settings = Settings::new(values, KEYS)?;
        Ok(Self {
            ca_files: settings.list("ca_files").map(PathBuf::from).collect(),
        })
    }
}

/// One link's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct LinkConfig {
    pub(crate) rules: Rules,
    /// Addresses that are not public and may be connected to (`allowed_addresses`).
    pub(crate) addresses: Vec<AddressBlock>,
    /// As the provider's, for this link alone (`ca_files`).
    pub(crate) ca_files: Vec<PathBuf>,
    pub(crate) limits: Limits,
}

/// What one link's requests may take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Limits {
    pub(crate) connect_timeout: Duration,
    pub(crate) response_timeout: Duration,
    pub(crate) body_idle_timeout: Duration,
    pub(crate) idle_timeout: Duration,
    pub(crate) idle_connections: usize,
    pub(crate) requests: usize,
    pub(crate) request_bytes: u64,
    pub(crate) response_bytes: u64,
}

impl LinkConfig {
    /// # Errors
    /// The first key that is unknown or whose value is malformed or out of bounds, and `allowed_hosts` where it is missing.
    pub(crate) fn parse(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let settings = Settings::new(values, LINK_KEYS)?;
        let hosts: Vec<HostRule> = entries(&settings, "allowed_hosts")?;
        if hosts.is_empty() {
            return Err(ConfigError::new(
                "allowed_hosts",
                "missing: without it the link allows nothing; name hosts, such as \
                 `api.example.com, *.example.net, https://example.org:8443, http://10.1.2.3`",
            ));
        }
        let methods = match settings.text("allowed_methods") {
            None => Methods::Named(vec![Method::GET, Method::HEAD]),
            Some("*") => Methods::Any,
            Some(_) => Methods::Named(methods(&settings)?),
        };
        Ok(Self {
            rules: Rules {
                hosts,
                methods,
                paths: entries::<PathPrefix>(&settings, "allowed_paths")?,
            },
            addresses: entries(&settings, "allowed_addresses")?,
            ca_files: settings.list("ca_files").map(PathBuf::from).collect(),
            limits: Limits::parse(&settings)?,
        })
    }
}

impl Limits {
    fn parse(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        const HOUR: Duration = Duration::from_secs(3600);
        Ok(Self {
            connect_timeout: settings.millis(
                "connect_timeout_ms",
                DEADLINE_MAX,
                CONNECT_TIMEOUT_DEFAULT,
            )?,
            response_timeout: settings.millis(
                "response_timeout_ms",
                DEADLINE_MAX,
                DEADLINE_DEFAULT,
            )?,
            body_idle_timeout: settings.millis(
                "body_idle_timeout_ms",
                HOUR,
                BODY_IDLE_TIMEOUT_DEFAULT,
            )?,
            idle_timeout: settings.millis("idle_timeout_ms", HOUR, IDLE_TIMEOUT_DEFAULT)?,
            idle_connections: settings.count(
                "idle_connections_max",
                0..=1024,
                IDLE_CONNECTIONS_DEFAULT,
            )?,
            requests: settings.count("requests_max", 1..=4096, REQUESTS_DEFAULT)?,
            request_bytes: settings.number(
                "request_bytes_max",
                0..=u64::MAX,
                BODY_BYTES_DEFAULT,
            )?,
            response_bytes: settings.number(
                "response_bytes_max",
                0..=u64::MAX,
                BODY_BYTES_DEFAULT,
            )?,
        })
    }
}

fn entries<T: std::str::FromStr<Err = String>>(
    settings: &Settings<'_>,
    key: &str,
) -> Result<Vec<T>, ConfigError> {
    settings
        .list(key)
        .map(|text| text.parse().map_err(|reason| ConfigError::new(key, reason)))
        .collect()
}

fn methods(settings: &Settings<'_>) -> Result<Vec<Method>, ConfigError> {
    const KEY: &str = "allowed_methods";
    let method = |text: &str| match Method::from_bytes(text.as_bytes()) {
        Ok(Method::CONNECT) => Err(ConfigError::new(KEY, "`CONNECT` is never sent")),
        Ok(method) if text != "*" => Ok(method),
        _ => Err(ConfigError::new(
            KEY,
            format!("`{text}` is no method, and `*` stands alone"),
        )),
    };
    settings.list(KEY).map(method).collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<LinkConfig, ConfigError> {
        LinkConfig::parse(&values(pairs))
    }

    #[test]
    fn a_link_that_names_no_host_is_refused_with_an_example() {
        for pairs in [
            &[][..],
            &[("allowed_hosts", " , ")],
            &[("allowed_methods", "*")],
        ] {
            let error = parse(pairs).unwrap_err();
            assert_eq!(error.key, "allowed_hosts");
            assert!(error.reason.contains("api.example.com"), "{error}");
        }
    }

    #[test]
    fn hosts_alone_allow_reading_and_every_path_and_no_private_address() {
        let config = parse(&[("allowed_hosts", "a.example, http://b.example:8080")]).unwrap();
        assert_eq!(config.rules.hosts.len(), 2);
        assert_eq!(
            config.rules.methods,
            Methods::Named(vec![Method::GET, Method::HEAD])
        );
        assert!(config.rules.paths.is_empty());
        assert!(config.addresses.is_empty());
        assert_eq!(config.limits.requests, 128);
    }

    #[test]
    fn each_mistake_is_told_by_its_key() {
        for (key, value) in [
            ("alowed_paths", "/"),
            ("allowed_hosts", "a.example/b"),
            ("allowed_methods", "GET,*"),
            ("allowed_methods", "CONNECT"),
            ("allowed_methods", "G T"),
            ("allowed_paths", "v1"),
            ("allowed_addresses", "10.0.0.1/24"),
            ("requests_max", "0"),
            ("requests_max", "4097"),
            ("connect_timeout_ms", "600001"),
        ] {
            let hosts = ("allowed_hosts", "a.example");
            let pairs: Vec<_> = [hosts].into_iter().filter(|p| p.0 != key).collect();
            let pairs = [&pairs[..], &[(key, value)]].concat();
            assert_eq!(parse(&pairs).unwrap_err().key, key, "{value}");
        }
    }

    #[test]
    fn the_provider_knows_its_own_key_alone() {
        let parse = |key| Config::parse(&values(&[(key, "/a.pem,/b.pem")]));
        assert_eq!(parse("ca_files").unwrap().ca_files.len(), 2);
        assert_eq!(parse("allowed_hosts").unwrap_err().key, "allowed_hosts");
    }
}
