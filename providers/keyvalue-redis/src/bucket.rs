//! An open bucket: what a handle stands for, and the operations on it in terms of Redis.

use std::sync::Arc;

use redis::{Pipeline, Value};
use tokio::time::Instant;
use trellis_protocol::limits::VALUE_BYTES_MAX;

use crate::config::PREFIX_BYTES_MAX;
use crate::error::{Effect, Failure};
use crate::key::{self, KEY_BYTES_MAX};
use crate::link::Served;

/// Longest value, in bytes: what a call carries, without its key and their framing.
pub const STORED_BYTES_MAX: usize = VALUE_BYTES_MAX - 4096;

const _: () = assert!(KEY_BYTES_MAX + PREFIX_BYTES_MAX + 64 < 4096);

/// Keys that the server looks at in one go while it lists: some hundred microseconds in which it serves nobody else.
const SCAN_KEYS: usize = 1000;

/// Most goes of one call. An actor whose keys are few among many others' gets empty pages with a cursor in between.
const SCANS_PER_CALL: usize = 64;

/// Most bytes of keys in one page.
const PAGE_BYTES_MAX: usize = VALUE_BYTES_MAX / 2;

/// Most keys in one page. The server may give more than it was asked for, by few.
const PAGE_KEYS_MAX: usize = 16 * SCAN_KEYS;

/// An open bucket.
#[derive(Debug)]
pub(crate) struct Bucket(Arc<Served>);

impl Bucket {
    pub(crate) fn of(link: Arc<Served>) -> Self {
        Self(link)
    }

    /// Whether the link leads to this bucket as it did when it was opened.
    pub(crate) fn is_of(&self, link: &Arc<Served>) -> bool {
        Arc::ptr_eq(&self.0, link) || self.0.config == link.config
    }

    /// The key in Redis.
    pub(crate) fn key(&self, key: &str) -> Result<Vec<u8>, Failure> {
        key::full(&self.0.config.prefix, key)
    }

    /// The value at a key.
    ///
    /// Read as a range: whatever somebody else has put there, no more than one answer can carry comes over the wire.
    /// The range of a missing key is empty, hence the second question.
    pub(crate) async fn get(
        &self,
        key: &[u8],
        deadline: Instant,
    ) -> Result<Option<Vec<u8>>, Failure> {
        let mut questions = Pipeline::new();
        questions
            .cmd("GETRANGE")
            .arg(key)
            .arg(0)
            .arg(STORED_BYTES_MAX);
        questions.cmd("EXISTS").arg(key);
        let [value, exists] = self.ask(&questions, Effect::Reads, deadline).await?;
        let (value, exists) = (bytes(value)?, integer(exists)?);
        if !value.is_empty() {
            return within_answer(value).map(Some);
        }
        if exists == 0 {
            return Ok(None);
        }
        // An empty value, or one that was set between the two questions.
        let mut question = Pipeline::new();
        question.cmd("GET").arg(key);
        let [value] = self.ask(&question, Effect::Reads, deadline).await?;
        match value {
            Value::Nil => Ok(None),
            value => within_answer(bytes(value)?).map(Some),
        }
    }

    /// Whether something is at a key.
    pub(crate) async fn exists(&self, key: &[u8], deadline: Instant) -> Result<bool, Failure> {
        let mut question = Pipeline::new();
        question.cmd("EXISTS").arg(key);
        let [exists] = self.ask(&question, Effect::Reads, deadline).await?;
        Ok(integer(exists)? > 0)
    }

    /// Puts values at keys, all at once.
    pub(crate) async fn set(
        &self,
        pairs: &[(Vec<u8>, Vec<u8>)],
        deadline: Instant,
    ) -> Result<(), Failure> {
        let mut order = Pipeline::new();
        match pairs.len() {
            0 => return Ok(()),
            1 => order.cmd("SET"),
            _ => order.cmd("MSET"),
        };
        for (key, value) in pairs {
            order.arg(key).arg(value);
        }
        let [done] = self.ask(&order, Effect::Writes, deadline).await?;
        match done {
            Value::Okay => Ok(()),
            _ => Err(Failure::Unexpected),
        }
    }

    /// Removes keys; the server frees large values aside.
    pub(crate) async fn delete(&self, keys: &[Vec<u8>], deadline: Instant) -> Result<(), Failure> {
        if keys.is_empty() {
            return Ok(());
        }
        let mut order = Pipeline::new();
        order.cmd("UNLINK").arg(keys);
        let [removed] = self.ask(&order, Effect::Writes, deadline).await?;
        integer(removed).map(drop)
    }

    /// The values at many keys, if they exceed `limit` bytes together in no case. What holds no value counts as missing.
    ///
    /// The lengths are asked first. Who writes in between can make the answer larger than that, and then it is refused
    /// once it is here.
    pub(crate) async fn get_many(
        &self,
        keys: &[Vec<u8>],
        limit: usize,
        deadline: Instant,
    ) -> Result<Vec<Option<Vec<u8>>>, Failure> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        let mut lengths = Pipeline::new();
        for key in keys {
            lengths.cmd("STRLEN").arg(key);
        }
        let answers = self.0.connection.ask(&lengths, Effect::Reads, deadline);
        let mut bytes_together = 0_u64;
        for answer in answers.await? {
            let length = match answer {
                // A list or a set: `MGET` passes it over as well.
                Value::ServerError(error) if error.code() == "WRONGTYPE" => 0,
                answer => integer(answer)?,
            };
            bytes_together = bytes_together.saturating_add_signed(length);
        }
        let exceeds = || Failure::BatchValues { limit };
        if usize::try_from(bytes_together).map_or(true, |bytes| bytes > limit) {
            return Err(exceeds());
        }
        let mut question = Pipeline::new();
        question.cmd("MGET").arg(keys);
        let [values] = self.ask(&question, Effect::Reads, deadline).await?;
        let Value::Array(values) = values else {
            return Err(Failure::Unexpected);
        };
        if values.len() != keys.len() {
            return Err(Failure::Unexpected);
        }
        let mut left = limit;
        values
            .into_iter()
            .map(|value| match value {
                Value::Nil => Ok(None),
                value => {
                    let value = bytes(value)?;
                    left = left.checked_sub(value.len()).ok_or_else(exceeds)?;
                    Ok(Some(value))
                }
            })
            .collect()
    }

    /// Adds to the number at a key.
    pub(crate) async fn add(
        &self,
        key: &[u8],
        delta: u64,
        deadline: Instant,
    ) -> Result<u64, Failure> {
        let delta = i64::try_from(delta).map_err(|_| Failure::Overflow)?;
        if delta == 0 {
            return self.count(key, deadline).await;
        }
        let mut order = Pipeline::new();
        order.cmd("INCRBY").arg(key).arg(delta);
        let [sum] = self
            .ask(&order, Effect::Writes, deadline)
            .await
            .map_err(|failure| match failure {
                Failure::Refused { reason } if reason.contains("not an integer") => {
                    Failure::NotANumber
                }
                Failure::Refused { reason } if reason.starts_with("WRONGTYPE") => {
                    Failure::NotANumber
                }
                Failure::Refused { reason } if reason.contains("would overflow") => {
                    Failure::Overflow
                }
                failure => failure,
            })?;
        u64::try_from(integer(sum)?).map_err(|_| Failure::Negative)
    }

    /// The number at a key, unchanged: adding nothing would make a key that is not there.
    async fn count(&self, key: &[u8], deadline: Instant) -> Result<u64, Failure> {
        let Some(text) = self.get(key, deadline).await? else {
            return Ok(0);
        };
        let text = std::str::from_utf8(&text).map_err(|_| Failure::NotANumber)?;
        let number: i64 = text.parse().map_err(|_| Failure::NotANumber)?;
        // Redis takes a number in its one canonical form only.
        if number.to_string() != text {
            return Err(Failure::NotANumber);
        }
        u64::try_from(number).map_err(|_| Failure::Negative)
    }

    /// One page of keys, and where the next begins; `None` on the last.
    ///
    /// The cursor is Redis's own. A key that is there throughout is met at least once, and may be met twice.
    pub(crate) async fn keys(
        &self,
        mut cursor: u64,
        deadline: Instant,
    ) -> Result<(Vec<String>, Option<u64>), Failure> {
        let prefix = &self.0.config.prefix;
        for _ in 0..SCANS_PER_CALL {
            let mut question = Pipeline::new();
            question.cmd("SCAN").arg(cursor);
            if !prefix.is_empty() {
                question.arg("MATCH").arg(key::pattern(prefix));
            }
            question
                .arg("COUNT")
                .arg(SCAN_KEYS)
                .arg("TYPE")
                .arg("string");
            let [page] = self.ask(&question, Effect::Reads, deadline).await?;
            let (next, found) = scanned(page)?;
            if found.len() > PAGE_KEYS_MAX {
                return Err(Failure::Page);
            }
            let keys: Vec<_> = found
                .into_iter()
                .filter_map(|full| key::short(prefix, full))
                .collect();
            if keys.iter().map(String::len).sum::<usize>() > PAGE_BYTES_MAX {
                return Err(Failure::Page);
            }
            // Until a page has a key: an empty page that is not the last would look like the end to many.
            if next == 0 || !keys.is_empty() {
                return Ok((keys, Some(next).filter(|next| *next != 0)));
            }
            cursor = next;
        }
        Ok((Vec::new(), Some(cursor)))
    }

    /// Asks, and takes the first refusal for all.
    async fn ask<const N: usize>(
        &self,
        questions: &Pipeline,
        effect: Effect,
        deadline: Instant,
    ) -> Result<[Value; N], Failure> {
        let answers = self.0.connection.ask(questions, effect, deadline).await?;
        for answer in &answers {
            if let Value::ServerError(error) = answer {
                return Err(Failure::refused(error));
            }
        }
        answers.try_into().map_err(|_| Failure::Unexpected)
    }
}

fn within_answer(value: Vec<u8>) -> Result<Vec<u8>, Failure> {
    match value.len() <= STORED_BYTES_MAX {
        true => Ok(value),
        false => Err(Failure::Stored {
            limit: STORED_BYTES_MAX,
        }),
    }
}

fn bytes(value: Value) -> Result<Vec<u8>, Failure> {
    match value {
        Value::BulkString(bytes) => Ok(bytes),
        Value::ServerError(error) => Err(Failure::refused(&error)),
        _ => Err(Failure::Unexpected),
    }
}

fn integer(value: Value) -> Result<i64, Failure> {
    match value {
        Value::Int(number) => Ok(number),
        Value::ServerError(error) => Err(Failure::refused(&error)),
        _ => Err(Failure::Unexpected),
    }
}

/// The two parts of an answer to `SCAN`.
fn scanned(page: Value) -> Result<(u64, Vec<Vec<u8>>), Failure> {
    let Value::Array(parts) = page else {
        return Err(Failure::Unexpected);
    };
    let Ok([cursor, Value::Array(keys)]) = <[Value; 2]>::try_from(parts) else {
        return Err(Failure::Unexpected);
    };
    let cursor = String::from_utf8(bytes(cursor)?).ok();
    let cursor = cursor.and_then(|text| text.parse().ok());
    let keys = keys.into_iter().map(bytes).collect::<Result<_, _>>()?;
    Ok((cursor.ok_or(Failure::Unexpected)?, keys))
}
