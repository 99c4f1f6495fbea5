//! As whom a connection is made: a credentials file or an nkey, and the inbox that goes with it.

use std::path::Path;

use rand::Rng as _;
use trellis_claims::SigningKey;
use zeroize::Zeroizing;

use super::{ConnectError, LatticeOptions};

/// Longest credentials file, in bytes. Real ones have about two thousand.
const CREDS_BYTES_MAX: u64 = 64 * 1024;

/// How we prove who we are, read once from the files that the options name.
pub(super) struct Identity {
    pub(super) creds: Option<Zeroizing<String>>,
    /// The public key, where it is known before the server asks for a proof.
    pub(super) key: Option<String>,
}

impl Identity {
    pub(super) async fn read(options: &LatticeOptions) -> Result<Self, ConnectError> {
        if options.urls.is_empty() {
            return Err(ConnectError::NoServer);
        }
        for (what, path) in [
            ("the CA file", &options.tls.ca),
            ("the client certificate", &options.tls.cert),
            ("the client certificate's key", &options.tls.key),
        ] {
            if let Some(path) = path {
                readable(what, path).await?;
            }
        }
        if let Some(path) = &options.creds_file {
            let creds = read_creds(path).await?;
            let seed = creds
                .lines()
                .map(str::trim)
                .find(|line| line.starts_with("SU"));
            let key = seed.and_then(|seed| SigningKey::from_seed(seed).ok());
            let key = key.map(|key| key.public().to_string());
            return Ok(Self {
                creds: Some(creds),
                key,
            });
        }
        let key = match &options.nkey_seed {
            Some(seed) => {
                let key =
                    SigningKey::from_seed(seed.trim()).map_err(|error| ConnectError::Seed {
                        reason: error.to_string(),
                    })?;
                Some(key.public().to_string())
            }
            None => None,
        };
        Ok(Self { creds: None, key })
    }

    /// An inbox prefix that nobody else has: the key where there is one, so that permissions can name it.
    pub(super) fn inbox_prefix(&self) -> String {
        match &self.key {
            Some(key) => format!("_INBOX_{key}"),
            None => format!("_INBOX_{:032x}", rand::rng().random::<u128>()),
        }
    }
}

async fn readable(what: &'static str, path: &Path) -> Result<(), ConnectError> {
    match tokio::fs::metadata(path).await {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(file_error(what, path, "it is not a file")),
        Err(error) => Err(file_error(what, path, error)),
    }
}

async fn read_creds(path: &Path) -> Result<Zeroizing<String>, ConnectError> {
    const WHAT: &str = "the credentials file";
    let meta = tokio::fs::metadata(path)
        .await
        .map_err(|error| file_error(WHAT, path, error))?;
    if !meta.is_file() || meta.len() > CREDS_BYTES_MAX {
        return Err(file_error(
            WHAT,
            path,
            "it is no file, or too large for one with credentials",
        ));
    }
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| file_error(WHAT, path, error))?;
    Ok(Zeroizing::new(text))
}

fn file_error(what: &'static str, path: &Path, reason: impl std::fmt::Display) -> ConnectError {
    ConnectError::File {
        what,
        path: path.to_owned(),
        reason: reason.to_string(),
    }
}
