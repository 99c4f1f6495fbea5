//! What can go wrong, and how the actor is told: everything here has a place in the interface's own error.

use std::time::Duration;

use redis::ServerError;

use crate::connection::Fault;
use crate::key::KEY_BYTES_MAX;
use crate::server::Address;
use crate::wit::store::Error;

/// A serving function's answer: the interface's own result, inside what a host understands.
pub(crate) type Answer<T> = Result<Result<T, Error>, trellis_provider_sdk::Refusal>;

/// Longest text that an actor is told of what the server said, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Codes of errors that mean: not as this user.
const DENIED_CODES: &[&str] = &["NOPERM", "NOAUTH", "WRONGPASS"];

/// What a question does to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    /// Nothing: it can be asked again.
    Reads,
    /// Something: unanswered, it may have happened or not.
    Writes,
}

impl Effect {
    /// What is to be added where no answer came.
    fn doubt(self) -> &'static str {
        match self {
            Self::Reads => "",
            Self::Writes => "; the write may have happened",
        }
    }
}

/// Why an operation on a bucket failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The identifier stands for no bucket of this link.
    #[error("no such store")]
    NoSuchStore,
    /// The server does not let this user in, or not do this.
    #[error("the server denies it: {reason}")]
    Denied { reason: String },
    /// A key that cannot be kept.
    #[error("a key has 1 to {KEY_BYTES_MAX} bytes, this one has {bytes}")]
    Key { bytes: usize },
    /// A value that could not be read back in one answer.
    #[error("a value of {bytes} bytes exceeds the {limit} that this store takes")]
    Value { bytes: usize, limit: usize },
    /// Somebody else's value that does not fit into an answer.
    #[error("the value at this key exceeds the {limit} bytes that one answer carries")]
    Stored { limit: usize },
    /// A counter's key holds something else.
    #[error("the value at this key is not a number that can be counted up")]
    NotANumber,
    /// The sum exceeds what Redis counts in.
    #[error("the sum exceeds {}", i64::MAX)]
    Overflow,
    /// Somebody else's counter, which is below zero.
    #[error("the number at this key is below zero")]
    Negative,
    /// A batch of more keys than allowed.
    #[error("a batch has at most {limit} keys, this one has {keys}")]
    Batch { keys: usize, limit: usize },
    /// A batch whose values do not fit into one answer.
    #[error("the values at these keys exceed {limit} bytes together")]
    BatchValues { limit: usize },
    /// A page of keys that does not fit into one answer.
    #[error("the server gave more keys at once than one answer carries")]
    Page,
    /// There is no connection, and nothing was sent.
    #[error("Redis at {address} is unavailable: {fault}; nothing was sent")]
    Unavailable { address: Address, fault: Fault },
    /// The connection ended before the answer.
    #[error("the connection to Redis was lost before the answer{}", effect.doubt())]
    Lost { effect: Effect },
    /// No answer in time.
    #[error("Redis did not answer within {} ms{}", within.as_millis(), effect.doubt())]
    Silent { within: Duration, effect: Effect },
    /// The server says no.
    #[error("Redis refused: {reason}")]
    Refused { reason: String },
    /// The server gave an answer of another kind.
    #[error("Redis answered what was not asked")]
    Unexpected,
}

impl Failure {
    /// What a server's error means.
    pub(crate) fn refused(error: &ServerError) -> Self {
        let reason = text(error);
        match DENIED_CODES.contains(&error.code()) {
            true => Self::Denied { reason },
            false => Self::Refused { reason },
        }
    }
}

/// A server's words, shortened.
pub(crate) fn text(error: &ServerError) -> String {
    let text = match error.details() {
        Some(details) => format!("{} {details}", error.code()),
        None => error.code().to_owned(),
    };
    shortened(text)
}

/// A text of somebody else's, at a length that can be passed on.
pub(crate) fn shortened(mut text: String) -> String {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
    text
}

impl From<Failure> for Error {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::NoSuchStore => Self::NoSuchStore,
            Failure::Denied { .. } => Self::AccessDenied,
            other => Self::Other(other.to_string()),
        }
    }
}
