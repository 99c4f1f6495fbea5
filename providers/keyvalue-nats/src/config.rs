//! What the provider and its links can be configured with.
//!
//! | key | where | default | meaning |
//! | --- | --- | --- | --- |
//! | `cluster_uris` | provider, link | `nats://127.0.0.1:4222` | URLs of the NATS servers, separated by commas |
//! | `credentials` | provider, link | none | contents of a creds file |
//! | `client_jwt`, `client_seed` | provider, link | none | the same in two values; a seed alone is an nkey |
//! | `tls_ca_file` | provider, link | the system's | further root certificates, a PEM file |
//! | `js_domain` | provider, link | none | JetStream domain |
//! | `enable_bucket_auto_create` | provider, link | `true` | whether a missing bucket is made when it is opened |
//! | `bucket` | link | `default` | the bucket |
//!
//! `cluster_uri` is read as `cluster_uris`. A link that names servers of its own brings credentials of its own: the
//! provider's are never sent to a server that a link names. An empty value counts as none.

use std::collections::BTreeMap;

use trellis_nats_connection::{SERVER_KEYS, Server};
use trellis_provider_sdk::settings::{given, known};

pub use trellis_provider_sdk::ConfigError;

/// The server where nothing else is configured.
pub const CLUSTER_URI_DEFAULT: &str = "nats://127.0.0.1:4222";

/// The bucket of a link that names none.
pub const BUCKET_DEFAULT: &str = "default";

/// Longest name of a bucket, in bytes. The name stands in every subject beside the key.
pub const BUCKET_BYTES_MAX: usize = 128;

/// Beginnings of the names of buckets that hold a lattice's own state, which no actor may write.
const RESERVED_PREFIXES: &[&str] = &["LATTICEDATA_", "CONFIGDATA_", "TRELLIS_"];

const SHARED_KEYS: &[&str] = &["js_domain", "enable_bucket_auto_create"];
const LINK_KEYS: &[&str] = &["bucket"];

/// What the provider's configuration gives to links that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    server: Server,
    js_domain: Option<String>,
    bucket_auto_create: bool,
}

/// What one link leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinkConfig {
    /// Where the bucket is.
    pub server: Server,
    /// In which JetStream domain.
    pub js_domain: Option<String>,
    /// Its name.
    pub bucket: String,
    /// Whether it is made where it is missing.
    pub bucket_auto_create: bool,
}

impl Defaults {
    /// Reads the provider's configuration.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is unknown or malformed.
    pub fn read(config: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        known(config, &[SERVER_KEYS, SHARED_KEYS])?;
        Ok(Self {
            server: match Server::read(config)? {
                Some(server) => server,
                None => Server::anonymous(CLUSTER_URI_DEFAULT)?,
            },
            js_domain: js_domain(config)?,
            bucket_auto_create: auto_create(config)?.unwrap_or(true),
        })
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
        known(config, &[SERVER_KEYS, SHARED_KEYS, LINK_KEYS])?;
        let bucket = given(config, "bucket").unwrap_or(BUCKET_DEFAULT);
        if !is_token(bucket) || bucket.len() > BUCKET_BYTES_MAX {
            return Err(ConfigError::new(
                "bucket",
                format!("a bucket's name has 1 to {BUCKET_BYTES_MAX} letters, digits, `-` and `_`"),
            ));
        }
        if let Some(prefix) = RESERVED_PREFIXES.iter().find(|p| bucket.starts_with(**p)) {
            return Err(ConfigError::new(
                "bucket",
                format!("buckets named `{prefix}…` hold the state of a lattice"),
            ));
        }
        Ok(Self {
            server: Server::read(config)?.unwrap_or_else(|| defaults.server.clone()),
            js_domain: js_domain(config)?.or_else(|| defaults.js_domain.clone()),
            bucket: bucket.to_owned(),
            bucket_auto_create: auto_create(config)?.unwrap_or(defaults.bucket_auto_create),
        })
    }
}

fn js_domain(config: &BTreeMap<String, String>) -> Result<Option<String>, ConfigError> {
    match given(config, "js_domain") {
        None => Ok(None),
        Some(domain) if is_token(domain) => Ok(Some(domain.to_owned())),
        Some(_) => Err(ConfigError::new(
            "js_domain",
            "a domain's name has letters, digits, `-` and `_`",
        )),
    }
}

fn auto_create(config: &BTreeMap<String, String>) -> Result<Option<bool>, ConfigError> {
    match given(config, "enable_bucket_auto_create") {
        None => Ok(None),
        Some("true") => Ok(Some(true)),
        Some("false") => Ok(Some(false)),
        Some(_) => Err(ConfigError::new(
            "enable_bucket_auto_create",
            "neither `true` nor `false`",
        )),
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_'))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_nats_connection::Identity;
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn link(pairs: &[(&str, &str)]) -> Result<LinkConfig, ConfigError> {
        let provider = values(&[("cluster_uris", "nats://one:4222"), ("client_seed", "SU")]);
        LinkConfig::read(&values(pairs), &Defaults::read(&provider).unwrap())
    }

    #[test]
    fn a_link_without_configuration_leads_to_the_providers_server() {
        let config = link(&[]).unwrap();
        assert_eq!(config.server.addresses[0].as_url_str(), "nats://one:4222");
        assert_eq!(config.server.identity, Identity::Nkey("SU".to_owned()));
        assert_eq!(config.bucket, BUCKET_DEFAULT);
        assert!(config.bucket_auto_create);
    }

    #[test]
    fn the_providers_credentials_never_go_to_a_links_server() {
        let config = link(&[("cluster_uris", "nats://two:4222, tls://three")]).unwrap();
        assert_eq!(config.server.addresses.len(), 2);
        assert_eq!(config.server.identity, Identity::Anonymous);
        assert_eq!(
            link(&[("credentials", "c")]).unwrap_err().key,
            "cluster_uris"
        );
    }

    #[test]
    fn mistakes_name_their_key_and_not_their_value() {
        for (key, value) in [
            ("bukket", "secret"),
            ("bucket", "a.secret"),
            ("bucket", "TRELLIS_secret"),
            ("bucket", "LATTICEDATA_secret"),
            ("cluster_uris", "secret://:secret@"),
            ("js_domain", "secret.domain"),
            ("enable_bucket_auto_create", "secret"),
        ] {
            let error = link(&[(key, value)]).unwrap_err();
            assert_eq!(error.key, key);
            assert!(!error.reason.contains("secret"), "{error}");
        }
        assert!(link(&[("bucket", &"b".repeat(BUCKET_BYTES_MAX))]).is_ok());
        assert!(link(&[("bucket", &"b".repeat(BUCKET_BYTES_MAX + 1))]).is_err());
    }

    #[test]
    fn secrets_do_not_show_in_debug_output() {
        let seeds = [
            ("cluster_uris", "nats://two:4222"),
            ("client_jwt", "hunter2"),
            ("client_seed", "hunter2"),
        ];
        let login = [("cluster_uris", "nats://user:hunter2@two:4222")];
        for config in [link(&seeds), link(&login)] {
            assert!(!format!("{:?}", config.unwrap()).contains("hunter2"));
        }
    }
}
