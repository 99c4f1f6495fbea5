//! `wasi:keyvalue/batch`: many keys in one call.
//!
//! A batch is no transaction. Everything that can be checked is checked before the first write.

use async_trait::async_trait;
use futures::{StreamExt, TryStreamExt, stream};
use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::Call;

use crate::KeyValue;
use crate::bucket::Bucket;
use crate::error::{Answer, Failure};
use crate::key;
use crate::wit::{batch::Batch, store};

/// Most keys in one batch.
const BATCH_KEYS_MAX: usize = 1024;

/// Requests of one batch that are under way at once.
const REQUESTS_AT_ONCE: usize = 16;

/// Most bytes of values that one answer carries: what is left of a call's limit beside the keys and their framing.
const VALUES_BYTES_MAX: usize = VALUE_BYTES_MAX - BATCH_KEYS_MAX * (key::KEY_BYTES_MAX + 16) - 64;

type Pair = (String, ByteList);

#[async_trait]
impl Batch for KeyValue {
    async fn get_many(
        &self,
        call: &Call,
        bucket: store::Bucket,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<Pair>>> {
        let (link, bucket) = self.bucket(call, bucket)?;
        link.answer(get_many(&bucket, keys).await)
    }

    async fn set_many(
        &self,
        call: &Call,
        bucket: store::Bucket,
        key_values: Vec<Pair>,
    ) -> Answer<()> {
        let (link, bucket) = self.bucket(call, bucket)?;
        link.answer(set_many(&bucket, key_values).await)
    }

    async fn delete_many(
        &self,
        call: &Call,
        bucket: store::Bucket,
        keys: Vec<String>,
    ) -> Answer<()> {
        let (link, bucket) = self.bucket(call, bucket)?;
        link.answer(delete_many(&bucket, keys).await)
    }
}

async fn get_many(bucket: &Bucket, keys: Vec<String>) -> Result<Vec<Option<Pair>>, Failure> {
    check_count(keys.len())?;
    let forms = keys
        .iter()
        .map(|key| key::escape(key))
        .collect::<Result<Vec<_>, _>>()?;
    let mut values = stream::iter(forms)
        .map(|form| async move { bucket.get(&form).await })
        .buffered(REQUESTS_AT_ONCE);
    let (mut pairs, mut bytes) = (Vec::with_capacity(keys.len()), 0);
    for key in keys {
        let value = values.try_next().await?.flatten();
        bytes += value.as_ref().map_or(0, bytes::Bytes::len);
        if bytes > VALUES_BYTES_MAX {
            return Err(Failure::BatchValues {
                limit: VALUES_BYTES_MAX,
            });
        }
        pairs.push(value.map(|value| (key, value.into())));
    }
    Ok(pairs)
}

async fn set_many(bucket: &Bucket, key_values: Vec<Pair>) -> Result<(), Failure> {
    check_count(key_values.len())?;
    let mut writes = Vec::with_capacity(key_values.len());
    for (key, value) in key_values {
        bucket.check_value(&value)?;
        writes.push((key::escape(&key)?, value));
    }
    stream::iter(writes.into_iter().map(Ok))
        .try_for_each_concurrent(REQUESTS_AT_ONCE, |(form, value)| async move {
            bucket.put(&form, value.into()).await
        })
        .await
}

async fn delete_many(bucket: &Bucket, keys: Vec<String>) -> Result<(), Failure> {
    check_count(keys.len())?;
    let forms = keys
        .iter()
        .map(|key| key::escape(key))
        .collect::<Result<Vec<_>, _>>()?;
    stream::iter(forms.into_iter().map(Ok))
        .try_for_each_concurrent(REQUESTS_AT_ONCE, |form| async move {
            bucket.delete(&form).await
        })
        .await
}

fn check_count(keys: usize) -> Result<(), Failure> {
    match keys <= BATCH_KEYS_MAX {
        true => Ok(()),
        false => Err(Failure::Batch {
            keys,
            limit: BATCH_KEYS_MAX,
        }),
    }
}
