//! The lattice's own store: an object store bucket in JetStream, so that machines share artifacts without a registry.
//!
//! Bucket `ARTIFACTS_<lattice>`, object `<name>/<tag>`, in the layout of NATS object stores (its ADR-20), so that
//! `nats object` lists and fetches them, too. What we add stands in the object's metadata; see PROTOCOL.md.
//!
//! Chunks are written here and not by `ObjectStore::put`: several at a time, and they are purged where a push breaks off.
//! The object's description is published last and makes them visible at once: nobody ever sees half an object.

mod get;
mod put;

use std::collections::BTreeMap;
use std::time::{Duration, SystemTime};

use async_nats::jetstream;
use async_nats::jetstream::context::GetStreamErrorKind;
use async_nats::jetstream::object_store::{Config, ObjectInfo};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, Stream};
use data_encoding::BASE64URL;

use crate::artifact::Stored;
use crate::artifacts::LatticeStore;
use crate::digest::Digest;
use crate::error::StoreError;
use crate::options::Timeouts;
use crate::reference::LatticeReference;

/// What names of buckets begin with; the lattice's name follows.
const BUCKET_PREFIX: &str = "ARTIFACTS_";

/// Metadata: SHA-256 of the content.
const DIGEST_KEY: &str = "trellis-digest";

/// Metadata: the media type of the content.
const MEDIA_TYPE_KEY: &str = "trellis-media-type";

/// Metadata: what its publisher wrote beside it, each key behind this.
const ANNOTATION_PREFIX: &str = "annotation:";

/// One chunk, in bytes, as other clients write them. Well below a server's default limit of 1 MiB.
const CHUNK_BYTES: usize = 128 * 1024;

/// Most objects that a list holds. Beyond that, a registry is the better place.
const OBJECTS_MAX: usize = 4096;

/// Longest description of an object, in bytes.
const DESCRIPTION_BYTES_MAX: usize = 64 * 1024;

/// Longest that one answer of JetStream may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// The lattice's own store.
#[derive(Debug, Clone)]
pub(crate) struct Store {
    context: jetstream::Context,
    bucket: String,
    timeouts: Timeouts,
}

/// An object, by its description.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Object {
    pub(crate) stored: Stored,
    nuid: String,
    chunks: usize,
}

impl Store {
    pub(crate) fn new(store: LatticeStore, timeouts: Timeouts) -> Self {
        Self {
            context: store.context,
            bucket: format!("{BUCKET_PREFIX}{}", store.lattice),
            timeouts,
        }
    }

    fn stream_name(&self) -> String {
        format!("OBJ_{}", self.bucket)
    }

    fn chunks_subject(&self, nuid: &str) -> String {
        format!("$O.{}.C.{nuid}", self.bucket)
    }

    fn description_subject(&self, object: &str) -> String {
        format!(
            "$O.{}.M.{}",
            self.bucket,
            BASE64URL.encode(object.as_bytes())
        )
    }

    async fn stream(&self) -> Result<Option<Stream>, StoreError> {
        match self
            .within(self.context.get_stream(self.stream_name()))
            .await?
        {
            Ok(stream) => Ok(Some(stream)),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error)
                    if error.error_code() == jetstream::ErrorCode::STREAM_NOT_FOUND =>
                {
                    Ok(None)
                }
                _ => Err(unavailable(error)),
            },
        }
    }

    /// The bucket's stream, made where it is missing.
    async fn stream_or_new(&self) -> Result<Stream, StoreError> {
        if let Some(stream) = self.stream().await? {
            return Ok(stream);
        }
        let config = Config {
            bucket: self.bucket.clone(),
            description: Some("artifacts of a lattice".to_owned()),
            max_bytes: -1,
            num_replicas: 1,
            ..Config::default()
        };
        match self
            .within(self.context.create_object_store(config))
            .await?
        {
            Ok(_) => {}
            // Somebody else was faster.
            Err(error) => tracing::debug!(%error, "the store was not made here"),
        }
        match self
            .within(self.context.get_stream(self.stream_name()))
            .await?
        {
            Ok(stream) => Ok(stream),
            Err(error) => Err(unavailable(error)),
        }
    }

    /// What is known of an object.
    pub(crate) async fn find(&self, reference: &LatticeReference) -> Result<Object, StoreError> {
        let missing = || StoreError::Missing {
            reference: reference.to_string(),
        };
        let stream = self.stream().await?.ok_or_else(missing)?;
        let found = self.describe(&stream, &reference.object()).await?;
        let object = Object::read(&found.ok_or_else(missing)?, reference)?;
        match reference.digest() {
            Some(expected) if expected != object.stored.digest => Err(StoreError::DigestMismatch {
                expected,
                actual: object.stored.digest,
            }),
            _ => Ok(object),
        }
    }

    /// The description of an object, if it is there and not deleted.
    async fn describe(
        &self,
        stream: &Stream,
        object: &str,
    ) -> Result<Option<ObjectInfo>, StoreError> {
        let subject = self.description_subject(object);
        // By the leader: a follower may not know yet what was just pushed.
        let asked = stream.get_last_raw_message_by_subject(&subject);
        let message = match self.within(asked).await? {
            Ok(message) => message,
            Err(error) => {
                return match error.kind() {
                    LastRawMessageErrorKind::NoMessageFound => Ok(None),
                    _ => Err(unavailable(error)),
                };
            }
        };
        Ok(read_description(&message.payload).filter(|info| !info.deleted))
    }

    pub(crate) async fn list(&self) -> Result<Vec<Stored>, StoreError> {
        let Some(stream) = self.stream().await? else {
            return Ok(Vec::new());
        };
        let mut all = Vec::new();
        for info in self.descriptions(&stream).await? {
            let Some(reference) = LatticeReference::of_object(&info.name) else {
                continue;
            };
            if let Ok(object) = Object::read(&info, &reference) {
                all.push(object.stored);
            }
        }
        all.sort_by_key(|stored| stored.reference.to_string());
        Ok(all)
    }

    pub(crate) async fn remove(&self, reference: &LatticeReference) -> Result<(), StoreError> {
        // Where the reference pins a digest, only that is removed.
        self.find(reference).await?;
        let store = self.within(self.context.get_object_store(&self.bucket));
        let store = store.await?.map_err(unavailable)?;
        let removed = self.within(store.delete(reference.object())).await?;
        removed.map_err(unavailable)
    }

    async fn within<T>(&self, asked: impl Future<Output = T>) -> Result<T, StoreError> {
        let within = ANSWER_WITHIN.min(self.timeouts.head);
        tokio::time::timeout(within, asked)
            .await
            .map_err(|_| unavailable(format_args!("no answer within {within:?}")))
    }
}

impl Object {
    fn read(info: &ObjectInfo, reference: &LatticeReference) -> Result<Self, StoreError> {
        let malformed = |reason: &str| StoreError::Malformed {
            reference: reference.to_string(),
            reason: reason.to_owned(),
        };
        let digest: Digest = info
            .metadata
            .get(DIGEST_KEY)
            .ok_or_else(|| malformed("it has no digest of ours"))?
            .parse()
            .map_err(|_| malformed("its digest cannot be read"))?;
        // It becomes a part of a subject.
        if info.nuid.is_empty() || !info.nuid.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(malformed("its chunks have no name"));
        }
        let annotations: BTreeMap<_, _> = info
            .metadata
            .iter()
            .filter_map(|(key, value)| {
                let key = key.strip_prefix(ANNOTATION_PREFIX)?;
                Some((key.to_owned(), value.clone()))
            })
            .collect();
        let pushed = info.modified.map(SystemTime::from);
        Ok(Self {
            stored: Stored {
                reference: LatticeReference::of_object(&info.name)
                    .ok_or_else(|| malformed("its name is none of ours"))?,
                digest,
                bytes: info.size as u64,
                media_type: info
                    .metadata
                    .get(MEDIA_TYPE_KEY)
                    .cloned()
                    .unwrap_or_default(),
                pushed,
                annotations,
            },
            nuid: info.nuid.clone(),
            chunks: info.chunks,
        })
    }
}

fn read_description(payload: &[u8]) -> Option<ObjectInfo> {
    if payload.len() > DESCRIPTION_BYTES_MAX {
        return None;
    }
    serde_json::from_slice(payload).ok()
}

fn unavailable(reason: impl ToString) -> StoreError {
    StoreError::Unavailable {
        reason: reason.to_string().chars().take(200).collect(),
    }
}
