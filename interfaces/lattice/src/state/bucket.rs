//! One key-value bucket: opened or created, read from its leader, written by compare-and-swap.
//!
//! Reads for a write ask the stream's leader. The direct gets that a bucket usually answers with may come from a
//! follower that lags (D8), and a compare-and-swap on a stale revision would fail again and again.

use std::fmt;
use std::time::Duration;

use async_nats::jetstream::context::{CreateKeyValueErrorKind, KeyValueErrorKind};
use async_nats::jetstream::kv::{self, Store, UpdateErrorKind};
use async_nats::jetstream::stream::LastRawMessageErrorKind;
use async_nats::jetstream::{Context, stream};
use bytes::Bytes;
use rand::Rng as _;
use tokio::time::timeout;
use trellis_protocol::LatticeName;
use trellis_protocol::subject::{config_data_bucket, lattice_data_bucket, trellis_bucket};

use super::write::WriteError;

/// Values of a key that a bucket keeps. The state is what is true now; history is the audit's business.
const HISTORY: i64 = 1;

/// Replicas of a bucket that is created in a cluster; a bucket on a single server has one.
const REPLICAS_IN_CLUSTER: usize = 3;

/// Longest time to open or create one bucket.
///
/// Making one waits for the server's disk (`sync_interval: always`), and an SD card, or a disk that a compiler has just
/// written gigabytes to, takes its time.
pub const OPEN_TIMEOUT: Duration = Duration::from_secs(60);

/// Longest time for one write with its reads and retries.
pub const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// Most attempts of one write. Each failed one means that somebody else's has succeeded.
pub const WRITE_ATTEMPTS_MAX: u32 = 32;

/// Pause between two attempts to open a bucket or to write, before jitter.
const RETRY_PAUSE: Duration = Duration::from_millis(20);

/// The buckets of a lattice.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Bucket {
    /// `LATTICEDATA_<lattice>`: links, and public claims.
    LatticeData,
    /// `CONFIGDATA_<lattice>`: named configurations.
    ConfigData,
    /// `TRELLIS_<lattice>`: who holds an id, with the whole claims token.
    Trellis,
}

impl Bucket {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::LatticeData, Self::ConfigData, Self::Trellis];

    /// Its name in a lattice.
    pub fn name(self, lattice: &LatticeName) -> String {
        match self {
            Self::LatticeData => lattice_data_bucket(lattice),
            Self::ConfigData => config_data_bucket(lattice),
            Self::Trellis => trellis_bucket(lattice),
        }
    }

    pub(super) const fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LatticeData => "LATTICEDATA",
            Self::ConfigData => "CONFIGDATA",
            Self::Trellis => "TRELLIS",
        })
    }
}

/// Why a bucket can be neither opened nor created.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// JetStream refused.
    #[error(
        "cannot open the bucket `{bucket}`: {reason}; check that this identity may use JetStream and that its limits leave room for a bucket"
    )]
    Refused {
        /// The bucket's name.
        bucket: String,
        /// What JetStream said.
        reason: String,
    },
    /// JetStream did not answer in time.
    #[error("cannot open the bucket `{bucket}`: JetStream did not answer within {} s (last: {reason}); it may be electing a leader, try again", after.as_secs())]
    TimedOut {
        /// The bucket's name.
        bucket: String,
        /// How long it was tried.
        after: Duration,
        /// The last failure.
        reason: String,
    },
}

/// Opens a bucket, or creates it. Several hosts may do so at once.
pub(super) async fn open(context: &Context, name: &str) -> Result<Store, OpenError> {
    let mut reason = String::from("no answer");
    let opening = async {
        loop {
            match attempt(context, name).await {
                Ok(store) => return Ok(store),
                Err(Attempt::Final(reason)) => {
                    return Err(OpenError::Refused {
                        bucket: name.to_owned(),
                        reason,
                    });
                }
                Err(Attempt::Again(why)) => reason = why,
            }
            tokio::time::sleep(jittered(RETRY_PAUSE * 10)).await;
        }
    };
    match timeout(OPEN_TIMEOUT, opening).await {
        Ok(result) => result,
        Err(_) => Err(OpenError::TimedOut {
            bucket: name.to_owned(),
            after: OPEN_TIMEOUT,
            reason,
        }),
    }
}

enum Attempt {
    Again(String),
    Final(String),
}

async fn attempt(context: &Context, name: &str) -> Result<Store, Attempt> {
    let missing = match context.get_key_value(name).await {
        Ok(store) => return Ok(store),
        Err(error) if error.kind() == KeyValueErrorKind::InvalidStoreName => {
            return Err(Attempt::Final(error.to_string()));
        }
        Err(error) => chain(&error),
    };
    // Opening does not say why it failed, so the attempt to create decides: a bucket that somebody else created with
    // other settings is opened by the next attempt.
    let clustered = context.client().server_info().cluster.is_some();
    let mut config = kv::Config {
        bucket: name.to_owned(),
        description: "State of a Trellis lattice".to_owned(),
        history: HISTORY,
        num_replicas: if clustered { REPLICAS_IN_CLUSTER } else { 1 },
        ..kv::Config::default()
    };
    match context.create_key_value(config.clone()).await {
        Ok(store) => return Ok(store),
        Err(error) if !clustered || error.kind() != CreateKeyValueErrorKind::BucketCreate => {
            return Err(classify(&error, &missing));
        }
        Err(error) => tracing::debug!(bucket = name, error = chain(&error), "no three replicas"),
    }
    config.num_replicas = 1;
    match context.create_key_value(config).await {
        Ok(store) => {
            tracing::warn!(
                bucket = name,
                "the bucket has one replica: the cluster has no room for three"
            );
            Ok(store)
        }
        Err(error) => Err(classify(&error, &missing)),
    }
}

fn classify(error: &async_nats::jetstream::context::CreateKeyValueError, missing: &str) -> Attempt {
    let reason = format!("{} (opening it: {missing})", chain(error));
    match error.kind() {
        CreateKeyValueErrorKind::InvalidStoreName | CreateKeyValueErrorKind::TooLongHistory => {
            Attempt::Final(reason)
        }
        // Limits and permissions look like any other refusal; the deadline of opening bounds the attempts.
        _ => Attempt::Again(reason),
    }
}

/// An error with its causes: the client's own messages name the operation, their sources the reason.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        let part = error.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = error.source();
    }
    text
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

/// What a key holds at present.
pub(super) struct Read {
    /// The value; none where the key was never put, or was deleted.
    pub(super) value: Option<Bytes>,
    /// The revision of the value or of its deletion; 0 where the key was never put.
    pub(super) revision: u64,
}

/// What is to become of a key.
pub(super) enum Edit {
    Put(Vec<u8>),
    Delete,
    Keep,
}

/// Reads a key from the stream's leader.
pub(super) async fn read(store: &Store, key: &str) -> Result<Read, WriteError> {
    let subject = format!("{}{key}", store.prefix);
    match store.stream.get_last_raw_message_by_subject(&subject).await {
        Ok(message) => {
            let deleted = message
                .headers
                .get("KV-Operation")
                .is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"));
            let value = (!deleted).then_some(message.payload);
            Ok(Read {
                value,
                revision: message.sequence,
            })
        }
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(Read {
            value: None,
            revision: 0,
        }),
        Err(error) => Err(WriteError::Unavailable {
            key: key.to_owned(),
            reason: chain(&error),
        }),
    }
}

/// The sequence of the last message that a bucket still holds; 0 where it holds none.
pub(super) async fn last_held(stream: &stream::Stream, prefix: &str) -> Result<u64, String> {
    match stream
        .get_last_raw_message_by_subject(&format!("{prefix}>"))
        .await
    {
        Ok(message) => Ok(message.sequence),
        Err(error) if error.kind() == LastRawMessageErrorKind::NoMessageFound => Ok(0),
        Err(error) => Err(chain(&error)),
    }
}

/// Reads a key, lets `change` decide, and writes only if nobody else has written in between; again until it succeeds.
///
/// The answer is the key's revision after the edit.
pub(super) async fn edit<F>(store: &Store, key: &str, mut change: F) -> Result<u64, WriteError>
where
    F: FnMut(Option<&[u8]>) -> Result<Edit, WriteError>,
{
    let mut unavailable = None;
    let writing = async {
        for attempt in 0..WRITE_ATTEMPTS_MAX {
            if attempt > 0 {
                tokio::time::sleep(jittered(RETRY_PAUSE * attempt)).await;
            }
            let current = match read(store, key).await {
                Ok(current) => current,
                Err(error) => {
                    unavailable = Some(error);
                    continue;
                }
            };
            let written = match change(current.value.as_deref())? {
                Edit::Keep => return Ok(current.revision),
                Edit::Put(value) => store.update(key, value.into(), current.revision).await,
                Edit::Delete if current.value.is_none() => return Ok(current.revision),
                // The client does not tell the marker's revision. Marking is followed by a read, and whatever that
                // finds is at least as new.
                Edit::Delete => match store
                    .delete_expect_revision(key, Some(current.revision))
                    .await
                {
                    Ok(()) => return Ok(read(store, key).await?.revision),
                    Err(error) => Err(error),
                },
            };
            match written {
                Ok(revision) => return Ok(revision),
                Err(error) if error.kind() == UpdateErrorKind::WrongLastRevision => {
                    unavailable = None
                }
                // It may have been written all the same: the next read tells.
                Err(error) => {
                    unavailable = Some(WriteError::Unavailable {
                        key: key.to_owned(),
                        reason: chain(&error),
                    });
                }
            }
        }
        Err(unavailable.take().unwrap_or(WriteError::Contended {
            key: key.to_owned(),
            attempts: WRITE_ATTEMPTS_MAX,
        }))
    };
    match timeout(WRITE_TIMEOUT, writing).await {
        Ok(result) => result,
        Err(_) => Err(WriteError::TimedOut {
            key: key.to_owned(),
            after: WRITE_TIMEOUT,
        }),
    }
}
