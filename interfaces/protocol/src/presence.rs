//! How hosts know of each other: short signed beats, and rosters that are pulled when a beat names a new one (D10).
//!
//! Both are `1 | signature, 64 bytes | MessagePack array`, signed by the host's key over a context of their own and the
//! array. A signature proves which host speaks; whether it belongs to the lattice, and for which actors it may speak, is
//! in the certificate that its roster carries, and for the reader to check.
//!
//! **Incarnation** is one run of a host's process. It must grow with every start: a reader believes the largest that it
//! has seen, and beats are numbered within it, so that an old beat, heard again, keeps nobody alive.

mod roster;

use std::time::Duration;

use serde::{Deserialize, Serialize};
use trellis_claims::{KeyError, KeyKind, PublicKey, SigningKey};

pub use roster::{
    LABEL_BYTES_MAX, LABELS_MAX, ROSTER_BYTES_MAX, ROSTER_ENTRIES_MAX, Roster, RosterActor,
    RosterProvider,
};

use crate::envelope::signed;
use crate::frame::wire::from_array;
use crate::id::LatticeName;

/// The version of beats and rosters.
pub const PRESENCE_VERSION: u8 = 1;

/// Largest beat, in bytes.
pub const BEAT_BYTES_MAX: usize = 1024;

/// Shortest time between the beats of a host.
pub const BEAT_INTERVAL_MIN: Duration = Duration::from_millis(500);

/// Longest time between the beats of a host that a reader waits for, whatever the beat says.
pub const BEAT_INTERVAL_MAX: Duration = Duration::from_secs(30);

/// How many beats of the whole lattice there are in a second, at most: the interval grows with the number of hosts.
pub const BEATS_PER_SECOND_MAX: u32 = 100;

/// After so many missed beats a host is suspect: calls prefer others.
pub const BEATS_MISSED_SUSPECT: u32 = 2;

/// After so many missed beats a host is gone, and its calls in flight fail.
pub const BEATS_MISSED_GONE: u32 = 5;

const _: () = assert!(BEATS_MISSED_SUSPECT < BEATS_MISSED_GONE);

const BEAT_CONTEXT: &[u8] = b"trellis beat 1\0";
const ROSTER_CONTEXT: &[u8] = b"trellis roster 1\0";

/// The time between beats in a lattice of so many hosts.
pub fn beat_interval(hosts: usize) -> Duration {
    let hosts = u32::try_from(hosts).unwrap_or(u32::MAX);
    (Duration::from_secs(1) / BEATS_PER_SECOND_MAX)
        .saturating_mul(hosts)
        .clamp(BEAT_INTERVAL_MIN, BEAT_INTERVAL_MAX)
}

/// Whether a host takes work.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// It does.
    Serving,
    /// It finishes what it has and takes no new work.
    Draining,
    /// It is about to end; this is its last beat.
    Leaving,
}

/// A sign of life. Encoded as an array in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Beat {
    /// Public key of the host.
    pub host: PublicKey,
    /// The lattice that it is in.
    pub lattice: LatticeName,
    /// The run of its process.
    pub incarnation: u64,
    /// Counts the beats of this incarnation.
    pub number: u64,
    /// The version of its roster; grows with each change.
    pub roster_version: u64,
    /// The sequence of the lattice's state that it has applied (D8).
    pub state_sequence: u64,
    /// Whether it takes work.
    pub state: State,
    /// When to expect the next beat, in milliseconds from this one.
    pub interval_ms: u32,
    /// Milliseconds since it started.
    pub uptime_ms: u64,
}

/// Why bytes are not a beat or a roster that can be believed, or why one was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PresenceError {
    /// More bytes than there may be, or none.
    #[error("{what} has 1 to {limit} bytes, this one has {bytes}")]
    Length {
        /// A beat or a roster.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// A version that this host does not know.
    #[error(
        "version {version} of beats and rosters is unknown, this host reads {PRESENCE_VERSION}"
    )]
    UnknownVersion {
        /// The version byte.
        version: u8,
    },
    /// The bytes are not the array of a beat or roster.
    #[error("malformed: {reason}")]
    Malformed {
        /// What was seen.
        reason: String,
    },
    /// A list or text in a roster exceeds its limit.
    #[error("{what} of {count} exceeds the limit of {limit}")]
    TooMany {
        /// Which.
        what: &'static str,
        /// How many, or how long.
        count: usize,
        /// The limit in the same unit.
        limit: usize,
    },
    /// The key is no host's, or the signature is not made by it.
    #[error("not signed by the host: {0}")]
    Signature(#[from] KeyError),
}

impl Beat {
    /// The signed bytes.
    ///
    /// # Errors
    /// [`PresenceError::Signature`] where `key` is not the host's.
    pub fn seal(&self, key: &SigningKey) -> Result<Vec<u8>, PresenceError> {
        seal(
            key,
            &self.host,
            BEAT_CONTEXT,
            self,
            "a beat",
            BEAT_BYTES_MAX,
        )
    }

    /// Reads a beat without checking its signature, so that a reader can first see whether it is news.
    ///
    /// # Errors
    /// [`PresenceError`], except for the signature.
    pub fn read(bytes: &[u8]) -> Result<Self, PresenceError> {
        read(bytes, "a beat", BEAT_BYTES_MAX)
    }

    /// Checks that the bytes from which this beat was read are signed by its host.
    ///
    /// # Errors
    /// [`PresenceError::Signature`].
    pub fn verify(&self, bytes: &[u8]) -> Result<(), PresenceError> {
        verify(&self.host, BEAT_CONTEXT, bytes)
    }

    /// [`Self::read`] and [`Self::verify`].
    ///
    /// # Errors
    /// [`PresenceError`].
    pub fn open(bytes: &[u8]) -> Result<Self, PresenceError> {
        let beat = Self::read(bytes)?;
        beat.verify(bytes)?;
        Ok(beat)
    }

    /// The stated interval, within what a reader accepts.
    pub fn interval(&self) -> Duration {
        Duration::from_millis(u64::from(self.interval_ms))
            .clamp(BEAT_INTERVAL_MIN, BEAT_INTERVAL_MAX)
    }
}

fn seal<T: Serialize>(
    key: &SigningKey,
    host: &PublicKey,
    context: &[u8],
    body: &T,
    what: &'static str,
    limit: usize,
) -> Result<Vec<u8>, PresenceError> {
    host.expect_kind(KeyKind::Host)?;
    if key.public() != host {
        return Err(PresenceError::Signature(KeyError::BadSignature));
    }
    let bytes = signed::sign(key, PRESENCE_VERSION, context, body, 0)
        .map_err(|reason| PresenceError::Malformed { reason })?;
    if bytes.len() > limit {
        return Err(PresenceError::Length {
            what,
            bytes: bytes.len(),
            limit,
        });
    }
    Ok(bytes)
}

fn read<'a, T: Deserialize<'a>>(
    bytes: &'a [u8],
    what: &'static str,
    limit: usize,
) -> Result<T, PresenceError> {
    let length = PresenceError::Length {
        what,
        bytes: bytes.len(),
        limit,
    };
    if bytes.len() > limit {
        return Err(length);
    }
    match bytes.first() {
        None => return Err(length),
        Some(&PRESENCE_VERSION) => {}
        Some(&version) => return Err(PresenceError::UnknownVersion { version }),
    }
    let body = bytes.get(signed::BODY_OFFSET..).unwrap_or_default();
    from_array(body).map_err(|error| PresenceError::Malformed {
        reason: error.to_string(),
    })
}

fn verify(host: &PublicKey, context: &[u8], bytes: &[u8]) -> Result<(), PresenceError> {
    host.expect_kind(KeyKind::Host)?;
    Ok(signed::verify(host, context, bytes)?)
}

#[cfg(test)]
mod tests;
