//! What can go wrong, and how the actor is told: everything here has a place in the interface's own error.

use std::error::Error as StdError;

use crate::key::KEY_BYTES_MAX;
use crate::wit::store::Error;

/// A serving function's answer: the interface's own result, inside what a host understands.
pub(crate) type Answer<T> = Result<Result<T, Error>, trellis_provider_sdk::Refusal>;

/// Longest text that an actor is told of what the backend said, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Why an operation on a bucket failed.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// The identifier stands for no bucket of this link, or the bucket is not there.
    #[error("no such store")]
    NoSuchStore,
    /// A key that cannot be kept.
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {bytes}")]
    Key { bytes: usize },
    /// A value that the server would not take.
    #[error("a value of {bytes} bytes exceeds the {limit} that this store takes")]
    Value { bytes: usize, limit: usize },
    /// A counter's key holds something else.
    #[error("the value at this key is not a number that can be counted up")]
    NotANumber,
    /// The sum exceeds 64 bits.
    #[error("the sum exceeds {}", u64::MAX)]
    Overflow,
    /// Others wrote the key between each of our reads and writes.
    #[error("the key was changed by others at every one of {attempts} attempts")]
    Contended { attempts: u32 },
    /// The server did not say whether it wrote.
    #[error("the server did not confirm the write: it may have happened")]
    Unconfirmed,
    /// A batch of more keys than allowed.
    #[error("a batch has at most {limit} keys, this one has {keys}")]
    Batch { keys: usize, limit: usize },
    /// A batch whose values do not fit into one answer.
    #[error("the values at these keys exceed {limit} bytes together")]
    BatchValues { limit: usize },
    /// The server cannot be reached or says no.
    #[error("{attempted}: {reason}")]
    Backend {
        attempted: &'static str,
        reason: String,
    },
}

impl Failure {
    /// A failure of the backend, with the causes that it gives.
    pub(crate) fn backend(attempted: &'static str, error: &dyn StdError) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            let text = next.to_string();
            // Many errors repeat their cause in their own text.
            if !reason.contains(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            cause = next.source();
        }
        reason.truncate(reason.floor_char_boundary(TEXT_BYTES_MAX));
        Self::Backend { attempted, reason }
    }

    /// Whether the bucket should be looked up again before it is used again.
    pub(crate) fn is_backend(&self) -> bool {
        matches!(self, Self::Backend { .. } | Self::Unconfirmed)
    }
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchStore => Self::NoSuchStore,
            other => Self::Other(other.to_string()),
        }
    }
}
