//! Reading: chunks in bounded batches, which go on where they broke off; and the descriptions of all objects.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::{Batch, Config};
use async_nats::jetstream::consumer::{AckPolicy, DeliverPolicy, PullConsumer};
use async_nats::jetstream::object_store::ObjectInfo;
use async_nats::jetstream::stream::Stream;
use bytes::Bytes;
use futures::StreamExt as _;

use super::{OBJECTS_MAX, Object, Store, read_description, unavailable};
use crate::error::StoreError;

/// Chunks that are asked for at once: some MiB, so that a slow disk here fills no memory.
const BATCH_MESSAGES: usize = 32;

/// How long the server remembers a reader that went away.
const READER_FORGOTTEN_AFTER: Duration = Duration::from_secs(30);

/// The chunks of an object on their way.
pub(crate) struct Chunks {
    consumer: PullConsumer,
    batch: Option<Batch>,
    stall: Duration,
    /// Of the last chunk that came.
    pub(crate) sequence: u64,
}

impl Store {
    /// The chunks of an object behind a sequence number, 0 for all.
    pub(crate) async fn chunks(&self, object: &Object, after: u64) -> Result<Chunks, StoreError> {
        let gone = || StoreError::Missing {
            reference: object.stored.reference.to_string(),
        };
        let stream = self.stream().await?.ok_or_else(gone)?;
        let policy = match after {
            0 => DeliverPolicy::All,
            after => DeliverPolicy::ByStartSequence {
                start_sequence: after + 1,
            },
        };
        let consumer = self
            .reader(&stream, self.chunks_subject(&object.nuid), policy)
            .await?;
        Ok(Chunks {
            consumer,
            batch: None,
            stall: self.timeouts.stall,
            sequence: after,
        })
    }

    async fn reader(
        &self,
        stream: &Stream,
        filter_subject: String,
        deliver_policy: DeliverPolicy,
    ) -> Result<PullConsumer, StoreError> {
        let config = Config {
            description: Some("reads artifacts".to_owned()),
            filter_subject,
            deliver_policy,
            ack_policy: AckPolicy::None,
            inactive_threshold: READER_FORGOTTEN_AFTER,
            num_replicas: 1,
            memory_storage: true,
            ..Config::default()
        };
        let made = self.within(stream.create_consumer(config)).await?;
        made.map_err(unavailable)
    }

    /// The descriptions of all objects that are there.
    pub(super) async fn descriptions(
        &self,
        stream: &Stream,
    ) -> Result<Vec<ObjectInfo>, StoreError> {
        let subject = format!("$O.{}.M.>", self.bucket);
        let consumer = self
            .reader(stream, subject, DeliverPolicy::LastPerSubject)
            .await?;
        let pending = consumer.cached_info().num_pending;
        let wanted = usize::try_from(pending).map_or(OBJECTS_MAX, |all| all.min(OBJECTS_MAX));
        let mut chunks = Chunks {
            consumer,
            batch: None,
            stall: self.timeouts.stall,
            sequence: 0,
        };
        let mut found = Vec::new();
        for _ in 0..wanted {
            let description = chunks.next().await?;
            found.extend(read_description(&description).filter(|info| !info.deleted));
        }
        Ok(found)
    }
}

impl Chunks {
    /// The next chunk. One more than there are is waited for in vain, and is an error.
    pub(crate) async fn next(&mut self) -> Result<Bytes, StoreError> {
        let silent = |stall| unavailable(format_args!("nothing came for {stall:?}"));
        let deadline = tokio::time::Instant::now() + self.stall;
        loop {
            if self.batch.is_none() {
                let asked = self
                    .consumer
                    .batch()
                    .max_messages(BATCH_MESSAGES)
                    .expires(self.stall);
                let batch = tokio::time::timeout_at(deadline, asked.messages())
                    .await
                    .map_err(|_| silent(self.stall))?;
                self.batch = Some(batch.map_err(unavailable)?);
            }
            let Some(batch) = &mut self.batch else {
                continue;
            };
            match tokio::time::timeout_at(deadline, batch.next()).await {
                Err(_) => return Err(silent(self.stall)),
                // The batch is through, or has expired.
                Ok(None) => self.batch = None,
                Ok(Some(Err(error))) => return Err(unavailable(error)),
                Ok(Some(Ok(message))) => {
                    self.sequence = message.info().map_err(unavailable)?.stream_sequence;
                    return Ok(message.message.payload);
                }
            }
        }
    }
}
