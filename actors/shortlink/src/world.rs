//! Everything this actor imports, as a trait: the lattice when it runs, a fake in tests.

use std::time::Duration;

/// What surrounds the actor.
pub(crate) trait World {
    /// An open bucket of the key-value store.
    type Bucket: Bucket;

    /// Opens the bucket that holds the links (`wasi:keyvalue/store`).
    fn open(&self) -> Result<Self::Bucket, StoreError>;

    /// Asks the code maker for a code (`trellis:shortlink/codes`).
    fn make_code(
        &self,
        url: &str,
        length: Option<u8>,
        attempt: u32,
    ) -> Result<MadeCode, CodeRefusal>;

    /// The value of a configuration key (`wasi:config/store`), or why it can't be had.
    fn config(&self, key: &str) -> Result<Option<String>, String>;

    /// Publishes a message (`wasmcloud:messaging/consumer`), or says why it can't.
    fn publish(&self, subject: &str, body: Vec<u8>) -> Result<(), String>;

    /// Writes a line to the log (`wasi:logging`).
    fn log(&self, level: LogLevel, message: &str);

    /// Lets others go on for a while.
    fn pause(&self, time: Duration);
}

/// An open bucket. Keys are what [`Code`](crate::code::Code) builds.
pub(crate) trait Bucket {
    /// The value at `key`.
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError>;

    /// Puts `value` at `key`.
    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError>;

    /// Adds `delta` to the counter at `key`, atomically, and returns the sum.
    fn increment(&self, key: &str, delta: u64) -> Result<u64, StoreError>;
}

/// A code as the code maker sent it, not yet checked.
#[derive(Debug, Clone)]
pub(crate) struct MadeCode {
    /// The code's symbols.
    pub(crate) text: String,
    /// Digest of the URL, by which the log can name it.
    pub(crate) fingerprint: Vec<u8>,
}

/// The key-value store did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("could not {operation}: {reason}")]
pub(crate) struct StoreError {
    /// What was attempted.
    pub(crate) operation: &'static str,
    /// Why not, in the words of the host or the provider.
    pub(crate) reason: String,
}

/// The code maker made no code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CodeRefusal {
    /// The configured length is below what it makes.
    #[error("it makes no codes shorter than {0} symbols")]
    TooShort(u8),
    /// The configured length is above what it makes.
    #[error("it makes no codes longer than {0} symbols")]
    TooLong(u8),
    /// It takes codes of this length for used up.
    #[error("codes of this length are nearly used up")]
    Exhausted,
    /// Its own words.
    #[error("{0}")]
    Other(String),
}

/// How much a log line matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LogLevel {
    /// The system at work.
    Info,
    /// A request failed for a reason that is not the client's.
    Error,
}
