//! `wasi:keyvalue/store`: opening a bucket, and one key at a time.

use async_trait::async_trait;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::{Call, Refusal};

use crate::KeyValue;
use crate::bucket::Bucket;
use crate::error::{Answer, Failure};
use crate::key;
use crate::link::Served;
use crate::wit::store::{self, Error, KeyResponse, Store};

/// The identifier, beside the bucket's own name and the empty one, by which an actor opens the bucket of its link.
const ALIAS: &str = "default";

#[async_trait]
impl Store for KeyValue {
    /// An actor may open the bucket of its link, by its name, by `default` or by the empty identifier. No other bucket
    /// is there for it.
    async fn open(&self, call: &Call, identifier: String) -> Answer<store::Bucket> {
        let link = self.links.of(call)?;
        if !identifier.is_empty() && identifier != ALIAS && identifier != link.config.bucket {
            return Ok(Err(Error::NoSuchStore));
        }
        match Bucket::open(&link, &self.connections).await {
            Ok(bucket) => {
                let handle = self.handles.insert(&call.lease, bucket)?;
                Ok(Ok(store::Bucket(handle)))
            }
            Err(failure) => Ok(Err(failure.into())),
        }
    }

    async fn bucket_get(
        &self,
        call: &Call,
        self_: store::Bucket,
        key: String,
    ) -> Answer<Option<ByteList>> {
        let (link, bucket) = self.bucket(call, self_)?;
        let value = async { bucket.get(&key::escape(&key)?).await };
        link.answer(value.await.map(|value| value.map(ByteList::from)))
    }

    async fn bucket_set(
        &self,
        call: &Call,
        self_: store::Bucket,
        key: String,
        value: ByteList,
    ) -> Answer<()> {
        let (link, bucket) = self.bucket(call, self_)?;
        let written = async { bucket.put(&key::escape(&key)?, value.into()).await };
        link.answer(written.await)
    }

    async fn bucket_delete(&self, call: &Call, self_: store::Bucket, key: String) -> Answer<()> {
        let (link, bucket) = self.bucket(call, self_)?;
        let deleted = async { bucket.delete(&key::escape(&key)?).await };
        link.answer(deleted.await)
    }

    async fn bucket_exists(&self, call: &Call, self_: store::Bucket, key: String) -> Answer<bool> {
        let (link, bucket) = self.bucket(call, self_)?;
        let value = async { bucket.get(&key::escape(&key)?).await };
        link.answer(value.await.map(|value| value.is_some()))
    }

    async fn bucket_list_keys(
        &self,
        call: &Call,
        self_: store::Bucket,
        cursor: Option<u64>,
    ) -> Answer<KeyResponse> {
        let (link, bucket) = self.bucket(call, self_)?;
        let page = bucket.keys(cursor.unwrap_or(0)).await;
        link.answer(page.map(|(keys, cursor)| KeyResponse { keys, cursor }))
    }

    async fn drop_bucket(&self, call: &Call, handle: store::Bucket) -> Result<(), Refusal> {
        self.handles.remove(&call.lease, handle.0);
        Ok(())
    }
}

impl Served {
    /// What the actor is told. After a failure of the backend the bucket is looked up again when it is next opened.
    pub(crate) fn answer<T>(&self, outcome: Result<T, Failure>) -> Answer<T> {
        Ok(outcome.map_err(|failure| {
            if failure.is_backend() {
                tracing::warn!(bucket = self.config.bucket, error = %failure, "key-value operation failed");
                self.forget();
            }
            failure.into()
        }))
    }
}
