//! Every limit of this crate, with unit and reason.

use std::time::Duration;

/// Largest component where the options name no other size, in bytes. Hosts compile what they fetch, and nothing anybody
/// writes by hand is near this.
pub const COMPONENT_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Largest archive of a provider, and largest single executable, in bytes: a few platforms of 100 MB each.
pub const ARCHIVE_BYTES_MAX: u64 = 512 * 1024 * 1024;

/// Size that the cache is kept below where the options name no other, in bytes.
pub const CACHE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Longest reference, in bytes: a registry's name, a repository's (255), a tag (128), a digest.
pub const REFERENCE_BYTES_MAX: usize = 1024;

/// Longest wait for a connection, TLS included.
pub const CONNECT_WITHIN: Duration = Duration::from_secs(10);

/// Longest wait for the head of a response.
pub const HEAD_WITHIN: Duration = Duration::from_secs(20);

/// Longest time in which a body brings no byte.
pub const STALL_WITHIN: Duration = Duration::from_secs(20);

/// Longest that one fetch or push may take in all. A source that sends a byte now and then ends here.
pub const TRANSFER_WITHIN: Duration = Duration::from_secs(30 * 60);

/// Most attempts in a row that bring nothing new.
pub const ATTEMPTS_MAX: u32 = 5;
