//! `list<u8>`, which is always binary.
//!
//! Plain serde writes a `Vec<u8>` as an array of integers, twice the size and many times the work.

use std::fmt;
use std::ops::Deref;

use ::bytes::Bytes;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// A `list<u8>`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct ByteList(pub Vec<u8>);

/// A borrowed `list<u8>`, to be written only.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ByteSlice<'a>(pub &'a [u8]);

impl fmt::Debug for ByteList {
    /// Shows the length alone: what is inside belongs to an actor and may be large.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ByteList({} bytes)", self.0.len())
    }
}

impl Deref for ByteList {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

impl AsRef<[u8]> for ByteList {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

impl From<Vec<u8>> for ByteList {
    fn from(bytes: Vec<u8>) -> Self {
        Self(bytes)
    }
}

impl From<&[u8]> for ByteList {
    fn from(bytes: &[u8]) -> Self {
        Self(bytes.to_vec())
    }
}

impl From<Bytes> for ByteList {
    fn from(bytes: Bytes) -> Self {
        Self(bytes.into())
    }
}

impl From<ByteList> for Vec<u8> {
    fn from(list: ByteList) -> Self {
        list.0
    }
}

impl From<ByteList> for Bytes {
    fn from(list: ByteList) -> Self {
        list.0.into()
    }
}

impl Serialize for ByteList {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl Serialize for ByteSlice<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for ByteList {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Binary;

        // No `visit_seq` and no `visit_str`: there is one form for these.
        impl Visitor<'_> for Binary {
            type Value = ByteList;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("binary")
            }

            fn visit_bytes<E: Error>(self, bytes: &[u8]) -> Result<ByteList, E> {
                Ok(ByteList(bytes.to_vec()))
            }

            fn visit_byte_buf<E: Error>(self, bytes: Vec<u8>) -> Result<ByteList, E> {
                Ok(ByteList(bytes))
            }
        }

        deserializer.deserialize_byte_buf(Binary)
    }
}
