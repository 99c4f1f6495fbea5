//! What a connection with TLS trusts.

use std::path::Path;
use std::sync::Arc;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use rustls::{ClientConfig, RootCertStore};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Makes TLS connections that trust the system's roots and those of a file.
///
/// Reads files, and is to be called seldom.
///
/// # Errors
/// What is wrong, in words: a file that cannot be read or has no certificate, or no roots at all.
pub(crate) fn connector(ca_file: Option<&Path>) -> Result<MakeRustlsConnect, String> {
    let mut roots = RootCertStore::empty();
    // A certificate of the system's that cannot be read is one that is not trusted, and no more.
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if let Some(file) = ca_file {
        let wrong = |reason: String| format!("the CA file {}: {reason}", file.display());
        let mut found = 0;
        for certificate in
            CertificateDer::pem_file_iter(file).map_err(|error| wrong(error.to_string()))?
        {
            let certificate = certificate.map_err(|error| wrong(error.to_string()))?;
            roots
                .add(certificate)
                .map_err(|error| wrong(error.to_string()))?;
            found += 1;
        }
        if found == 0 {
            return Err(wrong("it has no certificates".to_owned()));
        }
    }
    if roots.is_empty() {
        return Err("there are no root certificates to trust".to_owned());
    }
    // Named here, so that nothing depends on what the process has installed.
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(MakeRustlsConnect::new(config))
}
