//! Whom to trust: the system's authorities and those in files that provider or link name.

use std::path::PathBuf;
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use rustls::{ClientConfig, RootCertStore};
use trellis_provider_sdk::ConfigError;

use crate::config::CA_FILE_BYTES_MAX;

const CA_FILES: &str = "ca_files";

/// The system's authorities. Reads files, so it is asked for once, when the provider starts.
pub(crate) async fn system_roots() -> RootCertStore {
    let loaded = tokio::task::spawn_blocking(rustls_native_certs::load_native_certs).await;
    let mut roots = RootCertStore::empty();
    match loaded {
        Ok(found) => {
            for error in &found.errors {
                tracing::warn!(%error, "some of the system's authorities cannot be read");
            }
            let (added, ignored) = roots.add_parsable_certificates(found.certs);
            tracing::debug!(added, ignored, "read the system's authorities");
        }
        Err(error) => tracing::warn!(%error, "the system's authorities cannot be read"),
    }
    roots
}

/// Adds the authorities in files.
///
/// # Errors
/// A file that cannot be read, is too large, or holds no certificate.
pub(crate) async fn add_files(
    roots: &mut RootCertStore,
    files: &[PathBuf],
) -> Result<(), ConfigError> {
    for path in files {
        let wrong =
            |reason: String| ConfigError::new(CA_FILES, format!("`{}` {reason}", path.display()));
        let unreadable = |error: std::io::Error| wrong(format!("cannot be read: {error}"));
        let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
        if length > CA_FILE_BYTES_MAX {
            return Err(wrong(format!("is larger than {CA_FILE_BYTES_MAX} bytes")));
        }
        let content = tokio::fs::read(path).await.map_err(unreadable)?;
        let mut count = 0;
        for certificate in CertificateDer::pem_slice_iter(&content) {
            let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
            roots.add(certificate).map_err(|error| {
                wrong(format!("holds a certificate that cannot be used: {error}"))
            })?;
            count += 1;
        }
        if count == 0 {
            return Err(wrong("holds no certificate".to_owned()));
        }
    }
    Ok(())
}

/// What a link's connections are made with. HTTP/2 is offered first.
///
/// # Errors
/// Where the cryptography supports no version of TLS, which would be a fault of the build.
pub(crate) fn client_config(roots: RootCertStore) -> Result<Arc<ClientConfig>, ConfigError> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new(CA_FILES, error.to_string()))?
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
