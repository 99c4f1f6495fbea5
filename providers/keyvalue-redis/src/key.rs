//! Between keys of WIT, which are strings, and keys of Redis, which are bytes.
//!
//! A key stands as it is, behind the link's prefix. So the keys of other programs, wasmCloud's provider among them, are
//! found under the same names. Keys that are no UTF-8, or longer than a key may be here, are out of an actor's reach.

use crate::error::Failure;

/// Longest key, in bytes of UTF-8, its prefix not counted: as in the project's other stores.
pub const KEY_BYTES_MAX: usize = 1024;

/// The key in Redis.
///
/// # Errors
/// [`Failure::Key`] for an empty key and for one beyond [`KEY_BYTES_MAX`].
pub(crate) fn full(prefix: &str, key: &str) -> Result<Vec<u8>, Failure> {
    match key.len() {
        1..=KEY_BYTES_MAX => Ok([prefix, key].concat().into_bytes()),
        bytes => Err(Failure::Key { bytes }),
    }
}

/// The key of a key in Redis; `None` where an actor cannot name it.
pub(crate) fn short(prefix: &str, full: Vec<u8>) -> Option<String> {
    let mut key = String::from_utf8(full).ok()?;
    if !prefix.is_empty() {
        key = key.strip_prefix(prefix)?.to_owned();
    }
    (1..=KEY_BYTES_MAX).contains(&key.len()).then_some(key)
}

/// The pattern of `SCAN` that all keys with a prefix match, and others hardly ever do.
pub(crate) fn pattern(prefix: &str) -> String {
    let mut pattern = String::with_capacity(prefix.len() + 1);
    for character in prefix.chars() {
        if matches!(character, '*' | '?' | '[' | ']' | '^' | '\\') {
            pattern.push('\\');
        }
        pattern.push(character);
    }
    pattern.push('*');
    pattern
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_key_comes_back_as_it_went() {
        for prefix in ["", "app:", "ä*"] {
            for key in ["k", "*", "\0\r\n", "schön", &"a".repeat(KEY_BYTES_MAX)] {
                let full = full(prefix, key).unwrap();
                assert_eq!(full, [prefix, key].concat().as_bytes());
                assert_eq!(short(prefix, full).as_deref(), Some(key));
            }
        }
    }

    #[test]
    fn an_empty_and_a_longer_key_is_refused_and_not_listed() {
        assert!(full("p", "").is_err());
        assert!(full("", &"a".repeat(KEY_BYTES_MAX + 1)).is_err());
        assert_eq!(short("p", b"p".to_vec()), None);
        assert_eq!(short("p", b"qk".to_vec()), None);
        assert_eq!(short("", vec![0xff]), None);
        assert_eq!(short("", vec![b'a'; KEY_BYTES_MAX + 1]), None);
    }

    #[test]
    fn what_a_pattern_means_is_taken_from_a_prefix() {
        assert_eq!(pattern("app:"), "app:*");
        assert_eq!(pattern(r"a*?[b]^\"), r"a\*\?\[b\]\^\\*");
    }
}
