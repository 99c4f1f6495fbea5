//! The providers that are built into this host, each behind a feature of its own.

use std::sync::Arc;

use trellis_lattice::connection::LatticeOptions;
use trellis_provider_sdk::ProviderFactory;

/// Every built-in provider. `nats` is the host's own way to NATS, which those whose backend is a NATS take where nobody
/// configures another.
pub fn built_in(nats: &LatticeOptions) -> Vec<Arc<dyn ProviderFactory>> {
    let _ = nats;
    vec![
        #[cfg(feature = "http-client")]
        Arc::new(trellis_http_client::Factory),
        #[cfg(feature = "http-server")]
        Arc::new(trellis_http_server::HttpServerFactory),
        #[cfg(feature = "keyvalue-nats")]
        Arc::new(on_hosts_nats::OnHostsNats::new(
            trellis_keyvalue_nats::Factory,
            nats.clone(),
        )),
        #[cfg(feature = "keyvalue-redis")]
        Arc::new(trellis_keyvalue_redis::Factory),
        #[cfg(feature = "messaging-nats")]
        Arc::new(on_hosts_nats::OnHostsNats::new(
            trellis_messaging_nats::Factory,
            nats.clone(),
        )),
        #[cfg(feature = "sql-postgres")]
        Arc::new(trellis_sql_postgres::Factory),
    ]
}

#[cfg(any(feature = "keyvalue-nats", feature = "messaging-nats"))]
mod on_hosts_nats {
    //! Providers whose servers and identity are the host's own unless their configuration names others.

    use std::collections::BTreeMap;
    use std::path::Path;
    use std::sync::Arc;

    use async_trait::async_trait;
    use trellis_lattice::connection::LatticeOptions;
    use trellis_provider_sdk::{Provider, ProviderFactory, ProviderSetup, StartError};

    /// Keys of the provider's configuration that say where and who. With any of them it is the operator's own.
    const SERVER_KEYS: &[&str] = &[
        "cluster_uris",
        "cluster_uri",
        "credentials",
        "client_jwt",
        "client_seed",
        "tls_ca_file",
        "js_domain",
    ];

    /// Longest credentials file, in bytes.
    const CREDS_BYTES_MAX: u64 = 64 * 1024;

    /// A factory with the host's defaults.
    pub(super) struct OnHostsNats<F> {
        factory: F,
        nats: LatticeOptions,
    }

    impl<F> OnHostsNats<F> {
        pub(super) fn new(factory: F, nats: LatticeOptions) -> Self {
            Self { factory, nats }
        }

        /// The host's own servers and identity, as the provider's configuration names them.
        async fn defaults(&self) -> Result<BTreeMap<String, String>, StartError> {
            // A login in a URL is for a host that has no other identity.
            let has_key = self.nats.creds_file.is_some() || self.nats.nkey_seed.is_some();
            let urls = self.nats.urls.iter().map(|url| match has_key {
                true => url.to_string(),
                false => url.reveal().to_owned(),
            });
            let urls: Vec<_> = urls.collect();
            let mut config = BTreeMap::from([("cluster_uris".to_owned(), urls.join(","))]);
            if let Some(path) = &self.nats.creds_file {
                config.insert("credentials".to_owned(), read_creds(path).await?);
            } else if let Some(seed) = &self.nats.nkey_seed {
                config.insert("client_seed".to_owned(), seed.to_string());
            }
            if let Some(ca) = &self.nats.tls.ca {
                config.insert("tls_ca_file".to_owned(), ca.display().to_string());
            }
            if let Some(domain) = &self.nats.js_domain {
                config.insert("js_domain".to_owned(), domain.clone());
            }
            Ok(config)
        }
    }

    #[async_trait]
    impl<F: ProviderFactory> ProviderFactory for OnHostsNats<F> {
        fn name(&self) -> &'static str {
            self.factory.name()
        }

        fn serves(&self) -> &'static [&'static str] {
            self.factory.serves()
        }

        fn calls(&self) -> &'static [&'static str] {
            self.factory.calls()
        }

        async fn start(&self, mut setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
            let given = |key: &&str| setup.config.get(*key).is_some_and(|v| !v.trim().is_empty());
            if !SERVER_KEYS.iter().any(given) {
                setup.config.extend(self.defaults().await?);
            }
            self.factory.start(setup).await
        }
    }

    async fn read_creds(path: &Path) -> Result<String, StartError> {
        let failed = |reason: String| {
            StartError::Backend(format!(
                "the host's credentials file {} cannot be read: {reason}",
                path.display()
            ))
        };
        let metadata = tokio::fs::metadata(path)
            .await
            .map_err(|error| failed(error.to_string()))?;
        if !metadata.is_file() || metadata.len() > CREDS_BYTES_MAX {
            return Err(failed("it is no file, or too large for one".to_owned()));
        }
        tokio::fs::read_to_string(path)
            .await
            .map_err(|error| failed(error.to_string()))
    }

    #[cfg(test)]
    #[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
    mod tests {
        use super::*;
        use trellis_lattice::connection::ServerUrl;

        #[tokio::test]
        async fn the_default_is_the_hosts_own_nats_with_its_identity() {
            let dir = tempfile::tempdir().unwrap();
            let creds = dir.path().join("host.creds");
            std::fs::write(&creds, "creds").unwrap();
            let nats = LatticeOptions {
                urls: ServerUrl::parse_list("nats://u:p@a:1,tls://b:2").unwrap(),
                creds_file: Some(creds),
                js_domain: Some("hub".to_owned()),
                ..LatticeOptions::default()
            };
            let config = OnHostsNats::new((), nats).defaults().await.unwrap();
            assert_eq!(config["cluster_uris"], "nats://a:1,tls://b:2");
            assert_eq!(config["credentials"], "creds");
            assert_eq!(config["js_domain"], "hub");
        }

        #[tokio::test]
        async fn a_credentials_file_that_is_gone_is_named() {
            let nats = LatticeOptions {
                creds_file: Some("/nowhere/host.creds".into()),
                ..LatticeOptions::default()
            };
            let error = OnHostsNats::new((), nats).defaults().await.unwrap_err();
            assert!(error.to_string().contains("/nowhere/host.creds"));
        }
    }
}
