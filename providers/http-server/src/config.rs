//! The provider's configuration: every key, its default, and why.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use http::HeaderName;
use http::header::HOST;
use trellis_protocol::limits::{DEADLINE_DEFAULT, DEADLINE_MAX, HEAD_BYTES_MAX};
use trellis_provider_sdk::{ConfigError, Settings};

/// Port of `default_address` where nobody chose one: the one that wasmCloud's manifests expect.
pub const PORT_DEFAULT: u16 = 8000;

/// Largest head of a request, in bytes, where nobody chose: what a host hands on to a peer.
pub const HEADER_BYTES_DEFAULT: u64 = HEAD_BYTES_MAX as u64;

/// Most fields in the head of a request.
///
/// Up to this number the parser keeps them on its stack; a larger one costs two allocations for each request.
pub const HEADER_COUNT_DEFAULT: u64 = 100;

/// Time from the first byte of a request's head to its last, TLS handshake included on a new connection.
pub const HEADER_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// Longest pause in a request's body while somebody waits for it, and longest pause of a client that does not read its
/// response.
pub const BODY_IDLE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(30);

/// Largest body of a request, in bytes. Bodies stream, so this bounds work, not memory.
pub const BODY_BYTES_DEFAULT: u64 = 64 * 1024 * 1024;

/// How long a connection may stay without a request. Longer than the 60 s after which common proxies and load balancers
/// give up theirs, so that it is they who close.
pub const KEEPALIVE_TIMEOUT_DEFAULT: Duration = Duration::from_secs(75);

/// Most open connections over all addresses. Further ones wait in the system's queue.
pub const CONNECTIONS_DEFAULT: u64 = 8192;

/// Most requests at once on one HTTP/2 connection.
pub const H2_STREAMS_DEFAULT: u64 = 128;

/// Most streams of one HTTP/2 connection that the client has reset before they were looked at; one more ends the
/// connection (the rapid reset attack, CVE-2023-44487).
pub const H2_PENDING_RESETS_DEFAULT: u64 = 20;

/// Most streams of one HTTP/2 connection that were reset because of the client's own mistakes; one more ends the
/// connection (CVE-2025-8671).
pub const H2_ERROR_RESETS_MAX: usize = 64;

/// Unread bytes that one HTTP/2 stream may have on the way.
pub const H2_STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Unread bytes that one HTTP/2 connection may have on the way.
pub const H2_CONNECTION_WINDOW_BYTES: u32 = 1024 * 1024;

/// Response bytes that wait for the socket of one HTTP/1.1 connection, or of one HTTP/2 stream, before the actor's body
/// is no longer polled.
pub const SEND_BUFFER_BYTES: usize = 64 * 1024;

/// Longest queue of connections that the system has completed and nobody has accepted.
pub const BACKLOG: u32 = 1024;

const KEYS: &[&str] = &[
    "default_address",
    "routing_mode",
    "header",
    "header_bytes_max",
    "header_count_max",
    "header_timeout_ms",
    "body_idle_timeout_ms",
    "body_bytes_max",
    "keepalive_timeout_ms",
    "connections_max",
    "h2_streams_max",
    "h2_pending_resets_max",
    "request_timeout_ms",
];

/// By what a request finds its link.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RoutingMode {
    /// By the address it came in on: each link has its own listener. The default.
    Address,
    /// By the longest prefix of its path, on one shared listener.
    Path,
    /// By its host name, on one shared listener.
    Host,
}

impl FromStr for RoutingMode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "address" => Ok(Self::Address),
            "path" => Ok(Self::Path),
            "host" => Ok(Self::Host),
            _ => Err("must be `address`, `path` or `host`".to_owned()),
        }
    }
}

/// What one client can make the server hold, and for how long.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Limits {
    /// Largest head of a request, in bytes; beyond it 431 (`header_bytes_max`).
    pub header_bytes: usize,
    /// Most fields in a head; beyond it 431 (`header_count_max`).
    pub header_count: usize,
    /// Longest time from a head's first byte to its last; beyond it 408, or the connection is closed
    /// (`header_timeout_ms`).
    pub header_timeout: Duration,
    /// Longest pause of a body in either direction (`body_idle_timeout_ms`).
    pub body_idle_timeout: Duration,
    /// Largest body of a request, in bytes; beyond it 413 (`body_bytes_max`).
    pub body_bytes: u64,
    /// How long a connection may stay without a request (`keepalive_timeout_ms`).
    pub keepalive_timeout: Duration,
    /// Most open connections; further ones are not accepted until one closes (`connections_max`).
    pub connections: usize,
    /// Most requests at once on one HTTP/2 connection (`h2_streams_max`).
    pub h2_streams: u32,
    /// Most resets of one HTTP/2 connection that are still to be handled (`h2_pending_resets_max`).
    pub h2_pending_resets: usize,
}

/// The provider's configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The address of links that name none, and of the shared listener (`default_address`, 0.0.0.0:8000). Port 0 takes a
    /// free one.
    pub default_address: SocketAddr,
    /// By what a request finds its link (`routing_mode`).
    pub routing_mode: RoutingMode,
    /// The field that holds the host name, in host mode (`header`, Host).
    pub header: HeaderName,
    /// Time until the response's head, where the link says nothing else (`request_timeout_ms`).
    pub request_timeout: Duration,
    /// What a client can make the server hold.
    pub limits: Limits,
}

impl Config {
    /// Reads and checks the provider's configuration.
    ///
    /// # Errors
    /// The first key that is unknown or whose value is malformed or out of bounds.
    pub(crate) fn parse(values: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        let settings = Settings::new(values, KEYS)?;
        let routing_mode = settings
            .parsed("routing_mode")?
            .unwrap_or(RoutingMode::Address);
        if settings.text("header").is_some() && routing_mode != RoutingMode::Host {
            return Err(ConfigError::new(
                "header",
                "has a meaning only with `routing_mode` = `host`",
            ));
        }
        Ok(Self {
            default_address: settings
                .parsed("default_address")?
                .unwrap_or_else(|| SocketAddr::from((Ipv4Addr::UNSPECIFIED, PORT_DEFAULT))),
            routing_mode,
            header: settings.parsed("header")?.unwrap_or(HOST),
            request_timeout: settings.millis(
                "request_timeout_ms",
                DEADLINE_MAX,
                DEADLINE_DEFAULT,
            )?,
            limits: Limits::parse(&settings)?,
        })
    }
}

impl Limits {
    fn parse(settings: &Settings<'_>) -> Result<Self, ConfigError> {
        const HOUR: Duration = Duration::from_secs(3600);
        Ok(Self {
            header_bytes: settings.count(
                "header_bytes_max",
                256..=1024 * 1024,
                HEADER_BYTES_DEFAULT,
            )?,
            header_count: settings.count("header_count_max", 1..=4096, HEADER_COUNT_DEFAULT)?,
            header_timeout: settings.millis("header_timeout_ms", HOUR, HEADER_TIMEOUT_DEFAULT)?,
            body_idle_timeout: settings.millis(
                "body_idle_timeout_ms",
                HOUR,
                BODY_IDLE_TIMEOUT_DEFAULT,
            )?,
            body_bytes: settings.number("body_bytes_max", 0..=u64::MAX, BODY_BYTES_DEFAULT)?,
            keepalive_timeout: settings.millis(
                "keepalive_timeout_ms",
                HOUR,
                KEEPALIVE_TIMEOUT_DEFAULT,
            )?,
            connections: settings.count("connections_max", 1..=1024 * 1024, CONNECTIONS_DEFAULT)?,
            h2_streams: u32::try_from(settings.number(
                "h2_streams_max",
                1..=4096,
                H2_STREAMS_DEFAULT,
            )?)
            .unwrap_or(u32::MAX),
            h2_pending_resets: settings.count(
                "h2_pending_resets_max",
                1..=4096,
                H2_PENDING_RESETS_DEFAULT,
            )?,
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn parse(pairs: &[(&str, &str)]) -> Result<Config, ConfigError> {
        Config::parse(&values(pairs))
    }

    #[test]
    fn an_empty_configuration_routes_by_address_on_port_8000() {
        let config = parse(&[]).unwrap();
        assert_eq!(config.default_address, "0.0.0.0:8000".parse().unwrap());
        assert_eq!(config.routing_mode, RoutingMode::Address);
        assert_eq!(config.header, HOST);
        assert_eq!(config.request_timeout, DEADLINE_DEFAULT);
        assert_eq!(config.limits.header_bytes, HEAD_BYTES_MAX);
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let error = parse(&[("default_adress", "127.0.0.1:1")]).unwrap_err();
        assert_eq!(error.key, "default_adress");
        assert!(error.reason.contains("default_address"), "{error}");
    }

    #[test]
    fn a_number_is_held_to_its_bounds_on_both_sides() {
        for (value, fits) in [
            ("0", false),
            ("1", true),
            ("4096", true),
            ("4097", false),
            ("x", false),
        ] {
            assert_eq!(parse(&[("h2_streams_max", value)]).is_ok(), fits, "{value}");
        }
        for (value, fits) in [
            ("0", false),
            ("1", true),
            ("600000", true),
            ("600001", false),
        ] {
            assert_eq!(
                parse(&[("request_timeout_ms", value)]).is_ok(),
                fits,
                "{value}"
            );
        }
    }

    #[test]
    fn a_header_without_host_mode_is_a_mistake() {
        assert_eq!(parse(&[("header", "x-host")]).unwrap_err().key, "header");
        let config = parse(&[("header", "x-host"), ("routing_mode", "host")]).unwrap();
        assert_eq!(config.header, "x-host");
    }
}
