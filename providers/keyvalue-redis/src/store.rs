//! `wasi:keyvalue/store`: opening a bucket, and one key at a time.

use async_trait::async_trait;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::{Call, Refusal};

use crate::KeyValue;
use crate::bucket::{Bucket, STORED_BYTES_MAX};
use crate::connection::deadline;
use crate::error::{Answer, Failure};
use crate::wit::store::{self, KeyResponse, Store};

/// The identifier, beside the configured and the empty one, by which an actor opens the bucket of its link.
const ALIAS: &str = "default";

#[async_trait]
impl Store for KeyValue {
    /// There is one bucket behind a link. Every identifier opens it, unless the link's configuration names the one that
    /// does. Nothing is asked of the server.
    async fn open(&self, call: &Call, identifier: String) -> Answer<store::Bucket> {
        let link = self.links.of(call)?;
        if let Some(bucket) = &link.config.bucket
            && !identifier.is_empty()
            && identifier != ALIAS
            && identifier != *bucket
        {
            return answer(Err(Failure::NoSuchStore));
        }
        if let Some(reason) = link.connection.denied() {
            return answer(Err(Failure::Denied { reason }));
        }
        let handle = self.handles.insert(&call.lease, Bucket::of(link))?;
        Ok(Ok(store::Bucket(handle)))
    }

    async fn bucket_get(
        &self,
        call: &Call,
        self_: store::Bucket,
        key: String,
    ) -> Answer<Option<ByteList>> {
        let bucket = self.bucket(call, self_)?;
        let value = async { bucket.get(&bucket.key(&key)?, deadline(call)).await };
        answer(value.await.map(|value| value.map(ByteList)))
    }

    async fn bucket_set(
        &self,
        call: &Call,
        self_: store::Bucket,
        key: String,
        value: ByteList,
    ) -> Answer<()> {
        let bucket = self.bucket(call, self_)?;
        let written = async {
            check_value(&value)?;
            bucket
                .set(&[(bucket.key(&key)?, value.0)], deadline(call))
                .await
        };
        answer(written.await)
    }

    async fn bucket_delete(&self, call: &Call, self_: store::Bucket, key: String) -> Answer<()> {
        let bucket = self.bucket(call, self_)?;
        let deleted = async { bucket.delete(&[bucket.key(&key)?], deadline(call)).await };
        answer(deleted.await)
    }

    async fn bucket_exists(&self, call: &Call, self_: store::Bucket, key: String) -> Answer<bool> {
        let bucket = self.bucket(call, self_)?;
        let exists = async { bucket.exists(&bucket.key(&key)?, deadline(call)).await };
        answer(exists.await)
    }

    async fn bucket_list_keys(
        &self,
        call: &Call,
        self_: store::Bucket,
        cursor: Option<u64>,
    ) -> Answer<KeyResponse> {
        let bucket = self.bucket(call, self_)?;
        let page = bucket.keys(cursor.unwrap_or(0), deadline(call)).await;
        answer(page.map(|(keys, cursor)| KeyResponse { keys, cursor }))
    }

    async fn drop_bucket(&self, call: &Call, handle: store::Bucket) -> Result<(), Refusal> {
        self.handles.remove(&call.lease, handle.0);
        Ok(())
    }
}

/// Refuses a value that could not be read back.
pub(crate) fn check_value(value: &[u8]) -> Result<(), Failure> {
    match value.len() <= STORED_BYTES_MAX {
        true => Ok(()),
        false => Err(Failure::Value {
            bytes: value.len(),
            limit: STORED_BYTES_MAX,
        }),
    }
}

/// What the actor is told. That a server is away stands in the log once, by its connection; the rest is the actor's.
pub(crate) fn answer<T>(outcome: Result<T, Failure>) -> Answer<T> {
    Ok(outcome.map_err(|failure| {
        tracing::debug!(error = %failure, "a key-value operation failed");
        failure.into()
    }))
}
