//! Writing: chunks first, a few unacknowledged at a time, then the description that makes them an object.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::error::Error as _;
use std::time::Duration;

use async_nats::HeaderMap;
use async_nats::jetstream::context::{PublishAckFuture, PublishError};
use async_nats::jetstream::object_store::{ObjectInfo, ObjectOptions};
use async_nats::jetstream::stream::Stream;
use data_encoding::BASE64URL;
use rand::Rng as _;
use rand::distr::Alphanumeric;
use sha2::{Digest as _, Sha256};
use time::OffsetDateTime;

use super::{
    ANNOTATION_PREFIX, CHUNK_BYTES, DESCRIPTION_BYTES_MAX, DIGEST_KEY, MEDIA_TYPE_KEY, Store,
    unavailable,
};
use crate::digest::Digest;
use crate::error::StoreError;
use crate::progress::Progress;
use crate::reference::LatticeReference;
use crate::registry::Source;

/// Chunks that are sent and not acknowledged yet.
const UNACKNOWLEDGED_MAX: usize = 8;

/// Letters and digits of the name that the chunks of one push share.
const NUID_CHARS: usize = 22;

/// What a message holds beside its payload, at most, in bytes.
const HEADER_BYTES: usize = 1024;

/// How long clearing up may take.
const PURGE_WITHIN: Duration = Duration::from_secs(10);

impl Store {
    /// Stores content under a reference, in place of what was there.
    pub(crate) async fn put(
        &self,
        reference: &LatticeReference,
        media_type: &str,
        source: &Source,
        (bytes, digest): (u64, Digest),
        annotations: &BTreeMap<String, String>,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<(), StoreError> {
        let stream = self.stream_or_new().await?;
        let before = self.describe(&stream, &reference.object()).await?;
        let nuid: String = rand::rng()
            .sample_iter(Alphanumeric)
            .take(NUID_CHARS)
            .map(char::from)
            .collect();
        let mut unfinished = Unfinished {
            stream: Some(stream.clone()),
            subject: self.chunks_subject(&nuid),
            unacknowledged: VecDeque::new(),
        };
        let chunk_bytes = self.chunk_bytes();
        let chunks = self
            .put_chunks(
                &mut unfinished,
                source,
                (bytes, digest),
                chunk_bytes,
                progress,
            )
            .await?;
        let mut metadata: HashMap<_, _> = annotations
            .iter()
            .map(|(key, value)| (format!("{ANNOTATION_PREFIX}{key}"), value.clone()))
            .collect();
        metadata.insert(DIGEST_KEY.to_owned(), digest.to_string());
        metadata.insert(MEDIA_TYPE_KEY.to_owned(), media_type.to_owned());
        let description = ObjectInfo {
            name: reference.object(),
            description: None,
            metadata,
            headers: None,
            options: Some(ObjectOptions {
                link: None,
                max_chunk_size: Some(chunk_bytes),
            }),
            bucket: self.bucket.clone(),
            nuid,
            size: usize::try_from(bytes).unwrap_or(usize::MAX),
            chunks,
            modified: Some(OffsetDateTime::now_utc()),
            digest: Some(format!("SHA-256={}", BASE64URL.encode(digest.as_bytes()))),
            deleted: false,
        };
        let payload = serde_json::to_vec(&description).map_err(unavailable)?;
        if payload.len() > DESCRIPTION_BYTES_MAX {
            return Err(StoreError::Malformed {
                reference: reference.to_string(),
                reason: format!("its annotations have more than {DESCRIPTION_BYTES_MAX} bytes"),
            });
        }
        let mut headers = HeaderMap::new();
        headers.insert("Nats-Rollup", "sub");
        let subject = self.description_subject(&reference.object());
        let sent = self
            .context
            .publish_with_headers(subject, headers, payload.into());
        let acknowledged = self.within(sent).await?.map_err(refused)?;
        self.within(acknowledged.into_future())
            .await?
            .map_err(refused)?;
        unfinished.done();
        // What the name stood for before. Where this fails, some room is lost until somebody clears the bucket.
        if let Some(before) = before {
            let purge = stream.purge().filter(self.chunks_subject(&before.nuid));
            if let Err(error) = self.within(purge.into_future()).await {
                tracing::warn!(%error, "chunks of a replaced artifact were not removed");
            }
        }
        Ok(())
    }

    /// Fewer bytes than usual where the server takes only small messages.
    fn chunk_bytes(&self) -> usize {
        let limit = self.context.client().server_info().max_payload;
        match limit {
            0 => CHUNK_BYTES,
            limit => CHUNK_BYTES.min(limit.saturating_sub(HEADER_BYTES).max(HEADER_BYTES)),
        }
    }

    async fn put_chunks(
        &self,
        unfinished: &mut Unfinished,
        source: &Source,
        (bytes, digest): (u64, Digest),
        chunk_bytes: usize,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> Result<usize, StoreError> {
        let mut hash = Sha256::new();
        let (mut offset, mut chunks) = (0_u64, 0);
        while offset < bytes {
            let from = source.clone();
            let piece = tokio::task::spawn_blocking(move || from.piece(offset, chunk_bytes))
                .await
                .map_err(unavailable)?
                .map_err(unavailable)?;
            if piece.is_empty() {
                return Err(StoreError::LengthMismatch {
                    expected: bytes,
                    actual: offset,
                });
            }
            hash.update(&piece);
            offset += piece.len() as u64;
            chunks += 1;
            let sent = self.context.publish(unfinished.subject.clone(), piece);
            let sent = self.within(sent).await?.map_err(refused)?;
            unfinished.unacknowledged.push_back(sent);
            if unfinished.unacknowledged.len() >= UNACKNOWLEDGED_MAX {
                self.acknowledged(&mut unfinished.unacknowledged).await?;
                progress(Progress::Pushing {
                    sent_bytes: offset,
                    total_bytes: bytes,
                });
            }
        }
        while !unfinished.unacknowledged.is_empty() {
            self.acknowledged(&mut unfinished.unacknowledged).await?;
        }
        progress(Progress::Pushing {
            sent_bytes: bytes,
            total_bytes: bytes,
        });
        match Digest::from_bytes(hash.finalize().into()) {
            sent if sent == digest => Ok(chunks),
            // A file was changed while it was read.
            sent => Err(StoreError::DigestMismatch {
                expected: digest,
                actual: sent,
            }),
        }
    }

    async fn acknowledged(
        &self,
        unacknowledged: &mut VecDeque<PublishAckFuture>,
    ) -> Result<(), StoreError> {
        if let Some(oldest) = unacknowledged.pop_front() {
            self.within(oldest.into_future()).await?.map_err(refused)?;
        }
        Ok(())
    }
}

/// Chunks that nothing describes yet. Removed again where that does not come, whether by an error or because the push was
/// given up.
struct Unfinished {
    stream: Option<Stream>,
    subject: String,
    unacknowledged: VecDeque<PublishAckFuture>,
}

impl Unfinished {
    fn done(mut self) {
        self.stream = None;
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let Some(stream) = self.stream.take() else {
            return;
        };
        let subject = std::mem::take(&mut self.subject);
        let unacknowledged = std::mem::take(&mut self.unacknowledged);
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            // Bounded in time, and nobody's to wait for: at worst, some room is lost.
            runtime.spawn(async move {
                // A server purges at once and stores in its own time: what is on its way must have arrived.
                let arrived = futures::future::join_all(
                    unacknowledged.into_iter().map(IntoFuture::into_future),
                );
                let _ = tokio::time::timeout(PURGE_WITHIN, arrived).await;
                let purge = stream.purge().filter(&subject).into_future();
                if let Ok(Err(error)) = tokio::time::timeout(PURGE_WITHIN, purge).await {
                    tracing::warn!(%error, subject, "chunks of an unfinished push were not removed");
                }
            });
        }
    }
}

/// Tells a full store from one that does not answer.
fn refused(error: PublishError) -> StoreError {
    let reason = match error.source() {
        Some(source) => source.to_string(),
        None => error.to_string(),
    };
    let is_full = [
        "maximum bytes",
        "maximum messages",
        "resource",
        "storage",
        "no space",
    ]
    .iter()
    .any(|word| reason.to_lowercase().contains(word));
    match is_full {
        true => StoreError::Full { reason },
        false => unavailable(reason),
    }
}
