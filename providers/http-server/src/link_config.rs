//! The configuration of one link: what it claims, and how its requests are treated.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use http::HeaderValue;
use trellis_protocol::limits::DEADLINE_MAX;
use trellis_provider_sdk::{ConfigError, Settings};

use crate::config::{Config, RoutingMode};
use crate::cors::Cors;

const KEYS: &[&str] = &[
    "address",
    "path",
    "host",
    "timeout_ms",
    "readonly_mode",
    "cache_control",
    "cors_allowed_origins",
    "cors_allowed_methods",
    "cors_allowed_headers",
    "cors_exposed_headers",
    "cors_max_age_secs",
    "tls_cert_file",
    "tls_priv_key_file",
    "disable_keepalive",
];

/// What requests a link wants.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Claim {
    /// Those that arrive at an address.
    Address(SocketAddr),
    /// Those whose path is this or begins with this and a slash. Without a slash at its end; empty for all paths.
    Path(String),
    /// Those for a host name, in lower case and without a port.
    Host(String),
}

impl Claim {
    /// For messages: `path /api`.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Address(address) => format!("address {address}"),
            Self::Path(path) if path.is_empty() => "path /".to_owned(),
            Self::Path(path) => format!("path {path}"),
            Self::Host(host) => format!("host {host}"),
        }
    }
}

/// Where a link's certificate chain and private key are, both PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TlsFiles {
    pub(crate) certificates: PathBuf,
    pub(crate) private_key: PathBuf,
}

/// How requests of a link are treated.
#[derive(Debug)]
pub(crate) struct Policy {
    /// Time until the response's head.
    pub(crate) timeout: Duration,
    /// Whether only methods that change nothing are let through.
    pub(crate) readonly: bool,
    /// `Cache-Control` of responses that have none.
    pub(crate) cache_control: Option<HeaderValue>,
    /// What pages of other origins may do.
    pub(crate) cors: Option<Cors>,
    /// Whether a connection ends with its first response.
    pub(crate) disable_keepalive: bool,
}

/// One link's configuration, checked.
#[derive(Debug)]
pub(crate) struct LinkConfig {
    pub(crate) claim: Claim,
    pub(crate) policy: Policy,
    pub(crate) tls: Option<TlsFiles>,
}

impl LinkConfig {
    pub(crate) fn parse(
        values: &BTreeMap<String, String>,
        provider: &Config,
    ) -> Result<Self, ConfigError> {
        let settings = Settings::new(values, KEYS)?;
        Ok(Self {
            claim: claim(&settings, provider)?,
            tls: tls(&settings, provider.routing_mode)?,
            policy: Policy {
                timeout: settings.millis("timeout_ms", DEADLINE_MAX, provider.request_timeout)?,
                readonly: settings.flag("readonly_mode")?,
                cache_control: settings
                    .text("cache_control")
                    .map(HeaderValue::from_str)
                    .transpose()
                    .map_err(|_| ConfigError::new("cache_control", "is not a field value"))?,
                cors: Cors::parse(&settings)?,
                disable_keepalive: settings.flag("disable_keepalive")?,
            },
        })
    }
}

fn claim(settings: &Settings<'_>, provider: &Config) -> Result<Claim, ConfigError> {
    let (own, name) = match provider.routing_mode {
        RoutingMode::Address => ("address", "address"),
        RoutingMode::Path => ("path", "path"),
        RoutingMode::Host => ("host", "host"),
    };
    for key in ["address", "path", "host"] {
        if key != own && settings.text(key).is_some() {
            return Err(ConfigError::new(
                key,
                format!("has no meaning: this provider's `routing_mode` is `{name}`"),
            ));
        }
    }
    let required = |reason| {
        settings
            .text(own)
            .ok_or_else(|| ConfigError::new(own, reason))
    };
    match provider.routing_mode {
        RoutingMode::Address => Ok(Claim::Address(
            settings
                .parsed("address")?
                .unwrap_or(provider.default_address),
        )),
        RoutingMode::Path => {
            let path = required("is missing; this provider routes by path, for example `/api`")?;
            let proper = path.starts_with('/')
                && !path.contains("//")
                && path
                    .parse::<http::uri::PathAndQuery>()
                    .is_ok_and(|parsed| parsed.path() == path);
            if !proper {
                return Err(ConfigError::new(
                    "path",
                    "must begin with `/` and be a path without query or empty segments, as requests spell it",
                ));
            }
            Ok(Claim::Path(path.trim_end_matches('/').to_owned()))
        }
        RoutingMode::Host => {
            let host = required("is missing; this provider routes by host name")?;
            let host = host.trim_end_matches('.').to_ascii_lowercase();
            let proper = host
                .parse::<http::uri::Authority>()
                .is_ok_and(|authority| authority.host() == host && authority.as_str() == host);
            if !proper {
                return Err(ConfigError::new(
                    "host",
                    "must be a host name without a port",
                ));
            }
            Ok(Claim::Host(host))
        }
    }
}

fn tls(settings: &Settings<'_>, mode: RoutingMode) -> Result<Option<TlsFiles>, ConfigError> {
    const CERTIFICATES: &str = "tls_cert_file";
    const PRIVATE_KEY: &str = "tls_priv_key_file";
    let missing = |key, other| {
        Err(ConfigError::new(
            key,
            format!("is missing; TLS needs it beside `{other}`"),
        ))
    };
    match (settings.text(CERTIFICATES), settings.text(PRIVATE_KEY)) {
        (None, None) => Ok(None),
        (Some(_), None) => missing(PRIVATE_KEY, CERTIFICATES),
        (None, Some(_)) => missing(CERTIFICATES, PRIVATE_KEY),
        (Some(_), Some(_)) if mode != RoutingMode::Address => Err(ConfigError::new(
            CERTIFICATES,
            "needs `routing_mode` = `address`: a shared listener has no certificate of one link",
        )),
        (Some(certificates), Some(private_key)) => Ok(Some(TlsFiles {
            certificates: certificates.into(),
            private_key: private_key.into(),
        })),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn parse(mode: &str, pairs: &[(&str, &str)]) -> Result<LinkConfig, ConfigError> {
        let provider = Config::parse(&values(&[("routing_mode", mode)])).unwrap();
        LinkConfig::parse(&values(pairs), &provider)
    }

    #[test]
    fn an_unknown_key_is_refused_with_the_known_ones() {
        let error = parse("address", &[("adress", "127.0.0.1:1")]).unwrap_err();
        assert_eq!(error.key, "adress");
        assert!(error.reason.contains("cors_max_age_secs"), "{error}");
    }

    #[test]
    fn a_key_of_another_routing_mode_is_a_mistake() {
        assert_eq!(parse("address", &[("path", "/a")]).unwrap_err().key, "path");
        assert_eq!(
            parse("path", &[("path", "/a"), ("address", "127.0.0.1:1")])
                .unwrap_err()
                .key,
            "address"
        );
        assert_eq!(parse("host", &[]).unwrap_err().key, "host");
    }

    #[test]
    fn paths_lose_their_last_slash_and_odd_ones_are_refused() {
        let claim = |path| parse("path", &[("path", path)]).map(|link| link.claim);
        assert_eq!(claim("/api/").unwrap(), Claim::Path("/api".to_owned()));
        assert_eq!(claim("/").unwrap(), Claim::Path(String::new()));
        for path in ["api", "/a?b", "/a//b", "/a b", "/a#b", "//"] {
            assert_eq!(claim(path).unwrap_err().key, "path", "{path}");
        }
    }

    #[test]
    fn hosts_are_lower_case_and_have_no_port() {
        let claim = |host| parse("host", &[("host", host)]).map(|link| link.claim);
        assert_eq!(
            claim("Example.COM.").unwrap(),
            Claim::Host("example.com".to_owned())
        );
        assert_eq!(claim("[::1]").unwrap(), Claim::Host("[::1]".to_owned()));
        for host in ["a:80", "a/b", "u@a", "."] {
            assert_eq!(claim(host).unwrap_err().key, "host", "{host}");
        }
    }

    #[test]
    fn half_of_a_tls_configuration_is_a_mistake() {
        assert_eq!(
            parse("address", &[("tls_cert_file", "/c")])
                .unwrap_err()
                .key,
            "tls_priv_key_file"
        );
        assert_eq!(
            parse("address", &[("tls_priv_key_file", "/k")])
                .unwrap_err()
                .key,
            "tls_cert_file"
        );
        let both = [
            ("tls_cert_file", "/c"),
            ("tls_priv_key_file", "/k"),
            ("host", "a"),
        ];
        assert_eq!(parse("host", &both).unwrap_err().key, "tls_cert_file");
    }
}
