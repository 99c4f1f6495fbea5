//! `wasi:keyvalue/batch`: many keys in one command.
//!
//! Each batch is a single command of Redis and so happens as one, more than the interface promises. Everything that can
//! be checked is checked before it is sent.

use async_trait::async_trait;
use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::Call;

use crate::KeyValue;
use crate::bucket::Bucket;
use crate::connection::deadline;
use crate::error::{Answer, Failure};
use crate::key::KEY_BYTES_MAX;
use crate::store::{answer, check_value};
use crate::wit::{batch::Batch, store};

/// Most keys in one batch.
pub const BATCH_KEYS_MAX: usize = 1024;

/// Most bytes of values that one answer carries: what is left of a call's limit beside the keys and their framing.
const VALUES_BYTES_MAX: usize = VALUE_BYTES_MAX - BATCH_KEYS_MAX * (KEY_BYTES_MAX + 16) - 64;

type Pair = (String, ByteList);

#[async_trait]
impl Batch for KeyValue {
    async fn get_many(
        &self,
        call: &Call,
        bucket: store::Bucket,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<Pair>>> {
        let bucket = self.bucket(call, bucket)?;
        let values = async {
            let full = full(&bucket, &keys)?;
            bucket
                .get_many(&full, VALUES_BYTES_MAX, deadline(call))
                .await
        };
        answer(values.await.map(|values| {
            let values = values.into_iter().map(|value| value.map(ByteList));
            keys.into_iter()
                .zip(values)
                .map(|(key, value)| value.map(|value| (key, value)))
                .collect()
        }))
    }

    async fn set_many(
        &self,
        call: &Call,
        bucket: store::Bucket,
        key_values: Vec<Pair>,
    ) -> Answer<()> {
        let bucket = self.bucket(call, bucket)?;
        let written = async {
            check_count(key_values.len())?;
            let mut pairs = Vec::with_capacity(key_values.len());
            for (key, value) in key_values {
                check_value(&value)?;
                pairs.push((bucket.key(&key)?, value.0));
            }
            bucket.set(&pairs, deadline(call)).await
        };
        answer(written.await)
    }

    async fn delete_many(
        &self,
        call: &Call,
        bucket: store::Bucket,
        keys: Vec<String>,
    ) -> Answer<()> {
        let bucket = self.bucket(call, bucket)?;
        let deleted = async { bucket.delete(&full(&bucket, &keys)?, deadline(call)).await };
        answer(deleted.await)
    }
}

fn full(bucket: &Bucket, keys: &[String]) -> Result<Vec<Vec<u8>>, Failure> {
    check_count(keys.len())?;
    keys.iter().map(|key| bucket.key(key)).collect()
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
