//! [`Progress`]: what a fetch or push is at. Told to a callback, which must not block.

/// A step of a fetch or a push.
///
/// A fetch of something cached is `Resolving?, Verifying, Cached`; one over the network `Resolving, Fetching…,
/// Verifying, Cached`, with `Retrying` wherever an attempt failed and another is made.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Progress {
    /// Asking the registry or the store what the reference stands for.
    Resolving,
    /// Bytes are coming. Told after each piece of at most some hundred KiB: whoever shows or publishes it does so less
    /// often. `received_bytes` never exceeds `total_bytes`, and may fall back after a retry that could not go on where
    /// it was.
    Fetching {
        /// Bytes so far.
        received_bytes: u64,
        /// Bytes in all, where the source said so beforehand.
        total_bytes: Option<u64>,
    },
    /// Bytes are going out.
    Pushing {
        /// Bytes so far.
        sent_bytes: u64,
        /// Bytes in all.
        total_bytes: u64,
    },
    /// The last attempt failed; another is made after a pause.
    Retrying {
        /// Number of the attempt to come, from 2.
        attempt: u32,
        /// Why the last one failed, in words.
        reason: String,
    },
    /// All bytes are here; their digest and form are checked.
    Verifying,
    /// Checked, and kept in the cache (or it was there already).
    Cached,
}
