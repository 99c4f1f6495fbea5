//! [`ContentHash`]: which component a token speaks of, however often it is signed again.
//!
//! It is SHA-256 over the component's bytes less the section `trellis-claims` (see
//! [`section::content_hash`](crate::section::content_hash), which computes it), so a signature can stand inside what it
//! signs. Written `sha256:` and 64 lower case hexadecimal digits.

use std::fmt;
use std::str::FromStr;

use data_encoding::HEXLOWER;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

const PREFIX: &str = "sha256:";

/// SHA-256 of a component without its claims.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ContentHash([u8; 32]);

/// Text that is not `sha256:` and 64 lower case hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read a content hash: expected `sha256:` and 64 lower case hexadecimal digits, got {len} bytes of something else"
)]
pub struct ContentHashError {
    /// Length of the refused text, in bytes. The text itself may be anything and is not repeated.
    pub len: usize,
}

impl ContentHash {
    /// The hash whose 32 bytes are these.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The 32 bytes of the hash.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }
}

impl fmt::Display for ContentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{}", HEXLOWER.encode(&self.0))
    }
}

impl FromStr for ContentHash {
    type Err = ContentHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.strip_prefix(PREFIX)
            // The length is judged before anything is decoded, so a long text allocates nothing.
            .filter(|hex| hex.len() == 64)
            .and_then(|hex| HEXLOWER.decode(hex.as_bytes()).ok())
            .and_then(|bytes| bytes.try_into().ok())
            .map(Self)
            .ok_or(ContentHashError { len: text.len() })
    }
}

impl Serialize for ContentHash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for ContentHash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?
            .parse()
            .map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_read_as_it_is_written() {
        let hash = ContentHash::from_bytes([0xab; 32]);
        let text = format!("sha256:{}", "ab".repeat(32));
        assert_eq!(hash.to_string(), text);
        assert_eq!(text.parse(), Ok(hash));
    }

    #[test]
    fn anything_else_is_refused() {
        let digits = "ab".repeat(32);
        for bad in [
            String::new(),
            digits.clone(),
            format!("sha512:{digits}"),
            format!("sha256:{}", digits.to_uppercase()),
            format!("sha256:{digits}0"),
            format!("sha256:{}", &digits[1..]),
            format!("sha256:{}", "zz".repeat(32)),
        ] {
            assert_eq!(
                bad.parse::<ContentHash>(),
                Err(ContentHashError { len: bad.len() })
            );
        }
    }
}
