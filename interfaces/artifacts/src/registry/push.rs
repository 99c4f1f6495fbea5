//! Pushing: content in one piece, its configuration, then the manifest that makes them visible.
//!
//! Until the manifest is there, what was uploaded has no name, and a registry clears it away by itself: a push that breaks
//! off leaves nothing half.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use futures::stream;
use reqwest::header::{CONTENT_LENGTH, CONTENT_TYPE, LOCATION};
use reqwest::{Method, Response, StatusCode, Url};
use serde_json::json;

use super::client::Repository;
use crate::digest::Digest;
use crate::error::RegistryError;
use crate::kind::Kind;
use crate::media_type;
use crate::progress::Progress;

const UPLOAD: &str = "upload";
const MANIFEST: &str = "manifest";

/// How much goes out at once, in bytes.
const PIECE_BYTES: usize = 64 * 1024;

/// What is pushed: bytes, or a file that is not changed meanwhile.
#[derive(Debug, Clone)]
pub(crate) enum Source {
    Bytes(Bytes),
    File(Arc<File>),
}

impl Source {
    /// The piece at an offset; empty at the end. Blocks.
    pub(crate) fn piece(&self, offset: u64, bytes: usize) -> std::io::Result<Bytes> {
        match self {
            Self::Bytes(all) => {
                let from = usize::try_from(offset).map_or(all.len(), |from| from.min(all.len()));
                let to = from.saturating_add(bytes).min(all.len());
                Ok(all.slice(from..to))
            }
            Self::File(file) => {
                let mut piece = vec![0; bytes];
                let mut filled = 0;
                while filled < bytes {
                    match file.read_at(&mut piece[filled..], offset + filled as u64)? {
                        0 => break,
                        read => filled += read,
                    }
                }
                piece.truncate(filled);
                Ok(piece.into())
            }
        }
    }

    /// Its length and digest. Blocks. Reads no more than one byte beyond `max`.
    pub(crate) fn measure(&self, max: u64) -> std::io::Result<(u64, Digest)> {
        struct Pieces<'a>(&'a Source, u64);
        impl Read for Pieces<'_> {
            fn read(&mut self, buf: &mut [u8]) -> std::io::Result<usize> {
                let piece = self.0.piece(self.1, buf.len())?;
                buf[..piece.len()].copy_from_slice(&piece);
                self.1 += piece.len() as u64;
                Ok(piece.len())
            }
        }
        use sha2::{Digest as _, Sha256};
        let mut hash = Sha256::new();
        let mut pieces = Pieces(self, 0).take(max.saturating_add(1));
        let mut piece = vec![0; PIECE_BYTES];
        let mut bytes = 0;
        loop {
            match pieces.read(&mut piece)? {
                0 => return Ok((bytes, Digest::from_bytes(hash.finalize().into()))),
                read => {
                    hash.update(&piece[..read]);
                    bytes += read as u64;
                }
            }
        }
    }
}

/// A manifest to be pushed, and the configuration that it names.
#[derive(Debug)]
pub(crate) struct Manifest {
    pub(crate) body: Bytes,
    pub(crate) configuration: Bytes,
}

impl Manifest {
    pub(crate) fn of(
        kind: Kind,
        digest: Digest,
        bytes: u64,
        annotations: &BTreeMap<String, String>,
    ) -> Self {
        let (layer_type, configuration_type, configuration) = match kind {
            // As the CNCF's guidance for WebAssembly artifacts has it.
            Kind::Component => (
                media_type::WASM,
                media_type::WASM_CONFIG,
                json!({"architecture": "wasm", "os": "wasip2", "layerDigests": [digest.to_string()]}),
            ),
            Kind::Provider => (
                media_type::PROVIDER_ARCHIVE,
                media_type::PROVIDER_CONFIG,
                json!({}),
            ),
        };
        let configuration = Bytes::from(configuration.to_string());
        let mut manifest = json!({
            "schemaVersion": 2,
            "mediaType": oci_client::manifest::OCI_IMAGE_MEDIA_TYPE,
            "config": {
                "mediaType": configuration_type,
                "digest": Digest::of(&configuration).to_string(),
                "size": configuration.len(),
            },
            "layers": [{
                "mediaType": layer_type,
                "digest": digest.to_string(),
                "size": bytes,
            }],
        });
        if !annotations.is_empty() {
            manifest["annotations"] = json!(annotations);
        }
        Self {
            body: manifest.to_string().into(),
            configuration,
        }
    }
}

impl Repository<'_> {
    /// Uploads content, unless it is there.
    pub(crate) async fn upload(
        &self,
        source: &Source,
        digest: Digest,
        bytes: u64,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let there = self
            .send(
                Method::HEAD,
                self.url(&format!("blobs/{digest}"))?,
                UPLOAD,
                |request| request,
            )
            .await;
        match there {
            Ok(_) => {
                progress(Progress::Pushing {
                    sent_bytes: bytes,
                    total_bytes: bytes,
                });
                return Ok(());
            }
            Err(RegistryError::Missing { .. }) => {}
            // A registry that only lets us write may refuse this.
            Err(RegistryError::Refused { .. }) => {}
            Err(error) => return Err(error),
        }
        let begun = self
            .send(
                Method::POST,
                self.url("blobs/uploads/")?,
                UPLOAD,
                |request| request.header(CONTENT_LENGTH, 0),
            )
            .await?;
        let mut location = self.location(&begun)?;
        location
            .query_pairs_mut()
            .append_pair("digest", &digest.to_string());
        self.put(location, source, bytes, progress).await
    }

    fn location(&self, response: &Response) -> Result<Url, RegistryError> {
        if response.status() != StatusCode::ACCEPTED {
            return Err(self.misbehaved(format_args!(
                "it begins an upload with HTTP {}",
                response.status().as_u16()
            )));
        }
        let location = response
            .headers()
            .get(LOCATION)
            .and_then(|location| location.to_str().ok())
            .and_then(|location| response.url().join(location).ok())
            .filter(|location| matches!(location.scheme(), "http" | "https"))
            .ok_or_else(|| self.misbehaved("it does not say where an upload goes"))?;
        if location.scheme() == "http" && self.url("")?.scheme() == "https" {
            return Err(self.misbehaved("it wants an upload in plain text, though it speaks TLS"));
        }
        Ok(location)
    }

    /// Sends content, and notices if nobody takes it.
    async fn put(
        &self,
        location: Url,
        source: &Source,
        bytes: u64,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), RegistryError> {
        let sent = Arc::new(AtomicU64::new(0));
        let body = |sent: Arc<AtomicU64>| {
            let source = source.clone();
            let pieces = stream::try_unfold(0, move |offset| {
                let (source, sent) = (source.clone(), sent.clone());
                async move {
                    let piece =
                        tokio::task::spawn_blocking(move || source.piece(offset, PIECE_BYTES))
                            .await
                            .map_err(std::io::Error::other)??;
                    sent.store(offset, Ordering::Relaxed);
                    Ok::<_, std::io::Error>(match piece.len() {
                        0 => None,
                        length => Some((piece, offset + length as u64)),
                    })
                }
            });
            reqwest::Body::wrap_stream(pieces)
        };
        let sending = self.send_watched(Method::PUT, location, UPLOAD, |request| {
            request
                .header(CONTENT_LENGTH, bytes)
                .header(CONTENT_TYPE, "application/octet-stream")
                .body(body(sent.clone()))
        });
        let mut sending = std::pin::pin!(sending);
        let mut last = 0;
        let mut since = tokio::time::Instant::now();
        let tick = (self.timeouts().stall / 4).min(std::time::Duration::from_millis(200));
        loop {
            match tokio::time::timeout(tick, &mut sending).await {
                Ok(response) => {
                    response?;
                    progress(Progress::Pushing {
                        sent_bytes: bytes,
                        total_bytes: bytes,
                    });
                    return Ok(());
                }
                Err(_) => {
                    let now = sent.load(Ordering::Relaxed);
                    if now != last {
                        last = now;
                        since = tokio::time::Instant::now();
                        progress(Progress::Pushing {
                            sent_bytes: now.min(bytes),
                            total_bytes: bytes,
                        });
                    } else if since.elapsed() > self.timeouts().stall + self.timeouts().connect {
                        return Err(self.silent(UPLOAD, self.timeouts().stall));
                    }
                }
            }
        }
    }

    /// Makes pushed content visible.
    pub(crate) async fn put_manifest(&self, tag: &str, body: &Bytes) -> Result<(), RegistryError> {
        let url = self.url(&format!("manifests/{tag}"))?;
        self.send(Method::PUT, url, MANIFEST, |request| {
            request
                .header(CONTENT_TYPE, oci_client::manifest::OCI_IMAGE_MEDIA_TYPE)
                .body(body.clone())
        })
        .await
        .map(drop)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_file_and_bytes_are_measured_alike_and_not_beyond_the_limit() {
        let content: Vec<u8> = (0..200_000_u32).map(|n| n as u8).collect();
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, &content).unwrap();
        let file = Source::File(Arc::new(file));
        let bytes = Source::Bytes(content.clone().into());
        let measured = bytes.measure(u64::MAX).unwrap();
        assert_eq!(measured, (200_000, Digest::of(&content)));
        assert_eq!(file.measure(200_000).unwrap(), measured);
        assert_eq!(file.measure(1000).unwrap().0, 1001);
    }
}
