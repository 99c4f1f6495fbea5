//! `wasi:keyvalue/atomics`: counting without a lost update.
//!
//! A counter is decimal text that Redis adds to by itself (`INCRBY`), so counts are exact whoever else counts. Redis
//! counts in 64 bits with a sign: a counter ends at 2⁶³ − 1.

use async_trait::async_trait;
use trellis_provider_sdk::Call;

use crate::KeyValue;
use crate::connection::deadline;
use crate::error::Answer;
use crate::store::answer;
use crate::wit::{atomics::Atomics, store};

#[async_trait]
impl Atomics for KeyValue {
    async fn increment(
        &self,
        call: &Call,
        bucket: store::Bucket,
        key: String,
        delta: u64,
    ) -> Answer<u64> {
        let bucket = self.bucket(call, bucket)?;
        let sum = async { bucket.add(&bucket.key(&key)?, delta, deadline(call)).await };
        answer(sum.await)
    }
}
