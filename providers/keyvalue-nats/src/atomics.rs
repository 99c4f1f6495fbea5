//! `wasi:keyvalue/atomics`: counting without a lost update.
//!
//! A counter is kept as decimal text. It is raised by compare-and-swap on the key's revision, so counts are exact
//! whoever else counts. Within this process the counts of one key queue up, first come first served, instead of
//! racing: then the revision after one count is the one before the next, each costs a single round trip, and only
//! other processes can make one start over.

use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use rand::Rng;
use tokio::sync::Mutex;
use trellis_provider_sdk::Call;

use crate::KeyValue;
use crate::bucket::{Bucket, Written};
use crate::error::{Answer, Failure};
use crate::key;
use crate::wit::{atomics::Atomics, store};

/// Queues for counters. Two keys in one queue wait for each other, which costs time and nothing else.
const QUEUES: usize = 64;

/// Attempts before a count gives up. With the pauses between them, a call's deadline mostly comes first.
const ATTEMPTS_MAX: u32 = 1000;

/// Longest pause between two attempts; each pause is random below a bound that doubles up to this.
const PAUSE_MAX: Duration = Duration::from_millis(64);

/// How long a revision is believed unread. Not longer, because a bucket that is deleted and made again numbers its
/// revisions from the start, and one could fit by chance.
const BELIEVED_FOR: Duration = Duration::from_secs(1);

/// The queues of one connection.
#[derive(Debug)]
pub(crate) struct Counters {
    queues: Vec<Mutex<Option<Last>>>,
    hasher: RandomState,
}

impl Default for Counters {
    fn default() -> Self {
        Self {
            queues: (0..QUEUES).map(|_| Mutex::default()).collect(),
            hasher: RandomState::new(),
        }
    }
}

/// The counter that a queue served last, as it left it.
#[derive(Debug)]
struct Last {
    domain: Option<String>,
    bucket: String,
    form: String,
    count: u64,
    revision: u64,
    at: Instant,
}

#[async_trait]
impl Atomics for KeyValue {
    async fn increment(
        &self,
        call: &Call,
        bucket: store::Bucket,
        key: String,
        delta: u64,
    ) -> Answer<u64> {
        let (link, bucket) = self.bucket(call, bucket)?;
        let counted = async { increment(&bucket, &key::escape(&key)?, delta).await };
        link.answer(counted.await)
    }
}

async fn increment(bucket: &Bucket, form: &str, delta: u64) -> Result<u64, Failure> {
    let counters = &bucket.connection.counters;
    let queue = counters.hasher.hash_one((bucket.place(), form)) as usize % QUEUES;
    // Held across the round trips on purpose: it is the queue. It is fair, and a caller that gives up leaves it.
    let mut last = counters.queues[queue].lock().await;
    let mut known = last.take().filter(|last| last.is(bucket, form));
    for attempt in 0..ATTEMPTS_MAX {
        let (count, revision) = match known.take() {
            Some(last) => (last.count, last.revision),
            None => read(bucket, form).await?,
        };
        let sum = count.checked_add(delta).ok_or(Failure::Overflow)?;
        if delta == 0 {
            return Ok(sum);
        }
        match bucket
            .update(form, Bytes::from(sum.to_string()), revision)
            .await?
        {
            Written::At(revision) => {
                *last = Some(Last::new(bucket, form, sum, revision));
                return Ok(sum);
            }
            Written::Conflict => pause(attempt).await,
        }
    }
    Err(Failure::Contended {
        attempts: ATTEMPTS_MAX,
    })
}

/// The count at a key, and the revision for the next write.
async fn read(bucket: &Bucket, form: &str) -> Result<(u64, u64), Failure> {
    let Some(stored) = bucket.read(form).await? else {
        return Ok((0, 0));
    };
    let count = match &stored.value {
        None => 0,
        Some(text) => number(text).ok_or(Failure::NotANumber)?,
    };
    Ok((count, stored.revision))
}

/// Decimal digits and nothing else, at most [`u64::MAX`].
fn number(text: &[u8]) -> Option<u64> {
    let digits = std::str::from_utf8(text).ok()?;
    match digits.bytes().all(|byte| byte.is_ascii_digit()) {
        true => digits.parse().ok(),
        false => None,
    }
}

async fn pause(attempt: u32) {
    let bound = Duration::from_millis(1 << attempt.min(10)).min(PAUSE_MAX);
    let pause = rand::rng().random_range(Duration::ZERO..=bound);
    tokio::time::sleep(pause).await;
}

impl Last {
    fn new(bucket: &Bucket, form: &str, count: u64, revision: u64) -> Self {
        let (domain, name) = bucket.place();
        Self {
            domain: domain.map(str::to_owned),
            bucket: name.to_owned(),
            form: form.to_owned(),
            count,
            revision,
            at: Instant::now(),
        }
    }

    fn is(&self, bucket: &Bucket, form: &str) -> bool {
        (self.domain.as_deref(), &*self.bucket) == bucket.place()
            && self.form == form
            && self.at.elapsed() < BELIEVED_FOR
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_decimal_digits_are_a_number() {
        assert_eq!(number(b"0"), Some(0));
        assert_eq!(number(b"00042"), Some(42));
        assert_eq!(number(b"18446744073709551615"), Some(u64::MAX));
        for text in [
            "",
            "+1",
            "-1",
            " 1",
            "1\n",
            "1.0",
            "0x1",
            "18446744073709551616",
            "१",
        ] {
            assert_eq!(number(text.as_bytes()), None, "{text:?}");
        }
    }
}
