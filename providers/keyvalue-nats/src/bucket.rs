//! An open bucket: what a handle stands for, and the operations on it in terms of JetStream.

use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::consumer::{self, AckPolicy, DeliverPolicy};
use async_nats::jetstream::context::{GetStreamError, GetStreamErrorKind, PublishErrorKind};
use async_nats::jetstream::stream::{LastRawMessageErrorKind, StorageType};
use async_nats::jetstream::{self, ErrorCode, kv};
use bytes::Bytes;
use futures::TryStreamExt;
use trellis_protocol::limits::VALUE_BYTES_MAX;

use crate::config::LinkConfig;
use crate::connection::{Connection, Connections};
use crate::error::Failure;
use crate::key;
use crate::link::Served;

/// Most keys in one page of a listing. With keys of full length, a page stays below what one call may answer.
pub(crate) const PAGE_KEYS_MAX: usize = 1000;

const _: () = assert!(PAGE_KEYS_MAX * (key::KEY_BYTES_MAX + 8) < VALUE_BYTES_MAX);

/// Room that a value leaves in a NATS message for its headers.
const HEADERS_BYTES: usize = 1024;

/// How long the server keeps the consumer of a listing that was broken off.
const LISTING_IDLE: Duration = Duration::from_secs(10);

/// An open bucket.
#[derive(Debug, Clone)]
pub(crate) struct Bucket {
    config: Arc<LinkConfig>,
    pub(crate) connection: Arc<Connection>,
    store: Arc<kv::Store>,
    value_bytes_max: usize,
}

/// What stands at a key.
pub(crate) struct Stored {
    /// `None` where the key was deleted.
    pub(crate) value: Option<Bytes>,
    /// For a write that expects it unchanged.
    pub(crate) revision: u64,
}

/// How a conditional write ended.
pub(crate) enum Written {
    /// As the revision that is named.
    At(u64),
    /// Not at all: the key has another revision.
    Conflict,
}

impl Bucket {
    /// Opens the bucket of a link, making it where it is missing and the link allows that.
    pub(crate) async fn open(link: &Served, connections: &Connections) -> Result<Self, Failure> {
        if let Some(bucket) = link.opened() {
            return Ok(bucket);
        }
        let config = link.config.clone();
        let connection = connections.of(&config);
        let context = connection.jetstream(config.js_domain.as_deref()).await?;
        let store = match context.get_key_value(&*config.bucket).await {
            Ok(store) => store,
            Err(error) if !is_missing(&error) => {
                return Err(Failure::backend("opening the bucket", &error));
            }
            Err(_) if !config.bucket_auto_create => return Err(Failure::NoSuchStore),
            Err(_) => create(&context, &config).await?,
        };
        let payload_max = connection.client().await?.server_info().max_payload;
        let payload_max = payload_max.saturating_sub(HEADERS_BYTES);
        let stream = &store.stream.cached_info().config;
        // Zero and less stand for no limit of the bucket's own.
        let bucket_max = usize::try_from(stream.max_message_size)
            .ok()
            .filter(|max| *max > 0);
        let bucket = Self {
            value_bytes_max: payload_max
                .min(bucket_max.unwrap_or(usize::MAX))
                .min(VALUE_BYTES_MAX),
            config,
            connection,
            store: Arc::new(store),
        };
        link.keep(&bucket);
        Ok(bucket)
    }

    /// Whether the link leads to this bucket as it did when it was opened.
    pub(crate) fn is_of(&self, link: &Served) -> bool {
        Arc::ptr_eq(&self.config, &link.config) || self.config == link.config
    }

    /// Its JetStream domain and its name.
    pub(crate) fn place(&self) -> (Option<&str>, &str) {
        (self.config.js_domain.as_deref(), &self.config.bucket)
    }

    /// The value at a key, by its form (see [`key::escape`]).
    pub(crate) async fn get(&self, form: &str) -> Result<Option<Bytes>, Failure> {
        Ok(self.read(form).await?.and_then(|stored| stored.value))
    }

    /// What stands at a key, deleted or not; `None` where nothing ever did.
    pub(crate) async fn read(&self, form: &str) -> Result<Option<Stored>, Failure> {
        let stream = &self.store.stream.cached_info().config;
        // Any replica answers a direct get, also one that has not yet seen the caller's own last write.
        let entry = if stream.allow_direct && stream.num_replicas <= 1 {
            let entry = self.store.entry(form).await;
            let entry = entry.map_err(|error| Failure::backend("reading the key", &error))?;
            entry.map(|entry| (entry.operation, entry.value, entry.revision))
        } else {
            self.read_from_leader(form).await?
        };
        Ok(entry.map(|(operation, value, revision)| Stored {
            value: (operation == kv::Operation::Put).then_some(value),
            revision,
        }))
    }

    async fn read_from_leader(
        &self,
        form: &str,
    ) -> Result<Option<(kv::Operation, Bytes, u64)>, Failure> {
        let subject = format!("{}{form}", self.store.prefix);
        let message = match self
            .store
            .stream
            .get_last_raw_message_by_subject(&subject)
            .await
        {
            Ok(message) => message,
            Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => {
                return Ok(None);
            }
            Err(error) => return Err(Failure::backend("reading the key", &error)),
        };
        let deleted = message.headers.get("KV-Operation").is_some()
            || message.headers.get("Nats-Marker-Reason").is_some();
        let operation = match deleted {
            true => kv::Operation::Delete,
            false => kv::Operation::Put,
        };
        Ok(Some((operation, message.payload, message.sequence)))
    }

    /// Refuses a value that the server would not take.
    pub(crate) fn check_value(&self, value: &[u8]) -> Result<(), Failure> {
        match value.len() <= self.value_bytes_max {
            true => Ok(()),
            false => Err(Failure::Value {
                bytes: value.len(),
                limit: self.value_bytes_max,
            }),
        }
    }

    /// Puts a value at a key.
    pub(crate) async fn put(&self, form: &str, value: Bytes) -> Result<(), Failure> {
        self.check_value(&value)?;
        let written = self.store.put(form, value).await;
        written
            .map(|_| ())
            .map_err(|error| unwritten("writing the key", &error))
    }

    /// Puts a value at a key whose revision is known; 0 where nothing ever was there.
    pub(crate) async fn update(
        &self,
        form: &str,
        value: Bytes,
        revision: u64,
    ) -> Result<Written, Failure> {
        match self.store.update(form, value, revision).await {
            Ok(revision) => Ok(Written::At(revision)),
            Err(error) if error.kind() == kv::UpdateErrorKind::WrongLastRevision => {
                Ok(Written::Conflict)
            }
            Err(error) if error.kind() == kv::UpdateErrorKind::TimedOut => {
                Err(Failure::Unconfirmed)
            }
            Err(error) => Err(unwritten("writing the key", &error)),
        }
    }

    /// Removes a key. One that is not there leaves no trace: JetStream would keep a marker for each.
    pub(crate) async fn delete(&self, form: &str) -> Result<(), Failure> {
        if self.get(form).await?.is_none() {
            return Ok(());
        }
        let deleted = self.store.delete(form).await;
        deleted.map_err(|error| unwritten("deleting the key", &error))
    }

    /// One page of keys, and where the next begins; `None` on the last.
    ///
    /// The cursor is the revision of the last key that was looked at, and keys come in the order of their revisions: a
    /// key that is written while somebody walks the bucket moves to the end and is met again, never missed.
    pub(crate) async fn keys(&self, after: u64) -> Result<(Vec<String>, Option<u64>), Failure> {
        let failed = |error: &dyn std::error::Error| Failure::backend("listing the keys", error);
        let stream = &self.store.stream;
        let current_only = stream.cached_info().config.max_messages_per_subject == 1;
        let listing = consumer::pull::Config {
            // With a history, the revisions before the current one must be left out by the server, which then always
            // begins at the beginning.
            deliver_policy: match current_only && after > 0 {
                true => DeliverPolicy::ByStartSequence {
                    start_sequence: after.saturating_add(1),
                },
                false => DeliverPolicy::LastPerSubject,
            },
            ack_policy: AckPolicy::None,
            filter_subject: format!("{}>", self.store.prefix),
            headers_only: true,
            inactive_threshold: LISTING_IDLE,
            memory_storage: true,
            num_replicas: 1,
            ..Default::default()
        };
        let listing = stream
            .create_consumer(listing)
            .await
            .map_err(|e| failed(&e))?;
        let mut pending = listing.cached_info().num_pending;
        let (mut keys, mut last) = (Vec::new(), after);
        // Until a page has a key: an empty page that is not the last would look like the end to many.
        while pending > 0 && keys.is_empty() {
            let batch = listing.fetch().max_messages(PAGE_KEYS_MAX).messages().await;
            let mut batch = batch.map_err(|e| failed(&e))?;
            let mut seen = 0;
            while let Some(message) = batch.try_next().await.map_err(|e| failed(&*e))? {
                seen += 1;
                let info = message.info().map_err(|e| failed(&*e))?;
                pending = info.pending;
                if info.stream_sequence <= after {
                    continue;
                }
                last = info.stream_sequence;
                let headers = message.headers.as_ref();
                let deleted = headers.is_some_and(|headers| {
                    headers.get("KV-Operation").is_some()
                        || headers.get("Nats-Marker-Reason").is_some()
                });
                if !deleted {
                    let form = message.subject.strip_prefix(&*self.store.prefix);
                    keys.extend(form.and_then(key::unescape));
                }
            }
            if seen == 0 {
                break;
            }
        }
        let name = &listing.cached_info().name;
        if let Err(error) = stream.delete_consumer(name).await {
            // It goes by itself after a while.
            tracing::debug!(%error, "the consumer of a listing was not deleted");
        }
        Ok((keys, (pending > 0).then_some(last)))
    }
}

async fn create(context: &jetstream::Context, config: &LinkConfig) -> Result<kv::Store, Failure> {
    let wanted = kv::Config {
        bucket: config.bucket.clone(),
        history: 1,
        storage: StorageType::File,
        ..Default::default()
    };
    let created = context.create_key_value(wanted).await;
    let store = created.map_err(|error| Failure::backend("creating the bucket", &error))?;
    tracing::info!(bucket = config.bucket, "created a bucket");
    Ok(store)
}

fn is_missing(error: &jetstream::context::KeyValueError) -> bool {
    let source = std::error::Error::source(error).and_then(|e| e.downcast_ref::<GetStreamError>());
    source.is_some_and(|error| match error.kind() {
        GetStreamErrorKind::JetStream(error) => error.error_code() == ErrorCode::STREAM_NOT_FOUND,
        _ => false,
    })
}

/// A write that failed: either it certainly was not done, or nobody knows.
fn unwritten(attempted: &'static str, error: &(dyn std::error::Error + 'static)) -> Failure {
    let mut cause = Some(error);
    while let Some(error) = cause {
        let publish = error.downcast_ref::<jetstream::context::PublishError>();
        if publish.is_some_and(|error| error.kind() == PublishErrorKind::TimedOut) {
            return Failure::Unconfirmed;
        }
        cause = error.source();
    }
    Failure::backend(attempted, error)
}
