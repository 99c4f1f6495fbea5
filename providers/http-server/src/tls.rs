//! Certificates of one link.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::crypto::ring;
use tokio_rustls::rustls::pki_types::pem::PemObject;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use trellis_provider_sdk::ConfigError;

use crate::link_config::TlsFiles;

/// Largest certificate chain or key file, in bytes, that is read.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

/// Reads a link's certificate chain and key. HTTP/2 is offered first.
///
/// # Errors
/// The key of the file that cannot be read, is not PEM, or does not fit the other.
pub(crate) async fn acceptor(files: &TlsFiles) -> Result<TlsAcceptor, ConfigError> {
    const CERTIFICATES: &str = "tls_cert_file";
    const PRIVATE_KEY: &str = "tls_priv_key_file";
    let chain = read(CERTIFICATES, &files.certificates).await?;
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_slice_iter(&chain)
        .collect::<Result<_, _>>()
        .map_err(|error| ConfigError::new(CERTIFICATES, format!("is not PEM: {error}")))?;
    if chain.is_empty() {
        return Err(ConfigError::new(CERTIFICATES, "holds no certificate"));
    }
    let private_key = read(PRIVATE_KEY, &files.private_key).await?;
    let private_key = PrivateKeyDer::from_pem_slice(&private_key)
        .map_err(|error| ConfigError::new(PRIVATE_KEY, format!("holds no private key: {error}")))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| ConfigError::new(CERTIFICATES, error.to_string()))?
        .with_no_client_auth()
        .with_single_cert(chain, private_key)
        .map_err(|error| ConfigError::new(PRIVATE_KEY, error.to_string()))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

async fn read(key: &str, path: &Path) -> Result<Vec<u8>, ConfigError> {
    let unreadable =
        |error: std::io::Error| ConfigError::new(key, format!("cannot be read: {error}"));
    let length = tokio::fs::metadata(path).await.map_err(unreadable)?.len();
    if length > FILE_BYTES_MAX {
        return Err(ConfigError::new(
            key,
            format!("is larger than {FILE_BYTES_MAX} bytes"),
        ));
    }
    tokio::fs::read(path).await.map_err(unreadable)
}
