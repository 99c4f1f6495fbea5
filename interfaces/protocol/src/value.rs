//! The bytes of WIT values: parameters and results of every function, as serde types write and read them (D17).
//!
//! The encoding is MessagePack, close to what `rmp-serde` makes of the obvious Rust types, without the places where that
//! would lose something. A host writes and reads the same bytes from WIT types it meets at run time; the vectors in
//! `vectors/values.json` hold both sides to them.
//!
//! | WIT | bytes | Rust |
//! | --- | --- | --- |
//! | `bool` | true, false | `bool` |
//! | `u8` … `s64` | an integer, in the shortest form that holds it | `u8` … `i64` |
//! | `f32`, `f64` | float 32, float 64, never the other; every NaN as the canonical one | `f32`, `f64` |
//! | `char` | a string of exactly one character | `char` |
//! | `string` | a string | `String` |
//! | `list<u8>` | binary, at every depth, empty or not | [`ByteList`] |
//! | `list<T>` | an array | `Vec<T>` |
//! | `option<T>` | nil, or the value | `Option<T>` |
//! | `option<T>` where T itself may be nil | an array of none or one | [`NestedOption<T>`] |
//! | `result<T, E>` | a map of one: `Ok` or `Err` to the value, or to nil where there is none | `Result<T, E>` |
//! | `tuple`, `record` | an array of the elements or fields in order; none: the empty array | tuples, structs |
//! | `variant` | the case's name; with a payload, a map of one: name to payload | newtype enums |
//! | `enum` | the case's name | enums |
//! | `flags` | an array of the names that are set, in the order of their declaration | [`flags`] |
//! | `own<R>`, `borrow<R>` | the handle, an unsigned integer of at most 64 bits | a newtype of `u64` |
//! | parameters | one array of them; none: the empty array | a tuple, [`NoParams`] |
//! | a result | the bare value; none: nil | the type, `()` |
//!
//! The only type that may be nil is `option<T>` in its first form. So `option<option<T>>` is in the second form, and an
//! option around *that* in the first again. Names of cases, flags and fields are WIT's, in kebab case.
//!
//! Nothing is believed before it is [`check`]ed: depth, lengths and size are bounded before serde allocates a byte.
//! Writers use the shortest form of each integer and length; readers take any form that holds the value.

pub mod flags;

mod bytes;
mod option;
mod params;
mod scan;

#[cfg(test)]
mod tests;

use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VALUE_LENGTH_MAX};
use crate::refusal::{Refusal, RefusalCode};

pub use bytes::{ByteList, ByteSlice};
pub use option::NestedOption;
pub use params::NoParams;
pub use scan::check;

/// Most bytes of an error text that serde makes of somebody else's value, which may quote that value.
const DETAIL_BYTES_MAX: usize = 256;

/// Why a value was not written or read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ValueError {
    /// The encoding has more than [`VALUE_BYTES_MAX`] bytes.
    #[error("the encoded value exceeds {VALUE_BYTES_MAX} bytes")]
    TooLarge,
    /// Arrays and maps are nested more than [`VALUE_DEPTH_MAX`] deep.
    #[error("the value nests deeper than {VALUE_DEPTH_MAX}")]
    TooDeep,
    /// An array or map has more than [`VALUE_LENGTH_MAX`] elements or entries.
    #[error("a list of {length} elements exceeds {VALUE_LENGTH_MAX}")]
    TooLong {
        /// The length that the bytes state.
        length: u32,
    },
    /// The bytes end before the value does, or a length states more than is left.
    #[error("the value is cut off at byte {offset}")]
    Truncated {
        /// Where the missing part was to begin.
        offset: usize,
    },
    /// There are bytes behind the value.
    #[error("{bytes} bytes follow the value")]
    Trailing {
        /// How many.
        bytes: usize,
    },
    /// An extension type or the reserved marker, neither of which stands for any WIT value.
    #[error("marker {marker:#04x} at byte {offset} stands for no value")]
    Marker {
        /// The byte.
        marker: u8,
        /// Where it stands.
        offset: usize,
    },
    /// A string is not UTF-8.
    #[error("the string at byte {offset} is not UTF-8")]
    NotUtf8 {
        /// Where its first character was to begin.
        offset: usize,
    },
    /// The bytes are well formed, but not of this type.
    #[error("not a value of this type: {detail}")]
    Mismatch {
        /// What differs.
        detail: String,
    },
    /// The Rust value has no encoding. A fault of the type's author.
    #[error("a value without an encoding: {detail}")]
    Unencodable {
        /// What serde says.
        detail: String,
    },
}

impl ValueError {
    /// The code with which a call that carries such a value is refused.
    pub fn code(&self) -> RefusalCode {
        match self {
            Self::TooLarge | Self::TooLong { .. } | Self::TooDeep => RefusalCode::TooLarge,
            Self::Unencodable { .. } => RefusalCode::Internal,
            _ => RefusalCode::BadPayload,
        }
    }
}

impl From<ValueError> for Refusal {
    fn from(error: ValueError) -> Self {
        Self::new(error.code(), error.to_string())
    }
}

/// Writes one value: a function's parameters as a tuple, or its result.
///
/// # Errors
/// [`ValueError::TooLarge`], `TooLong` and `TooDeep` where a receiver would refuse it; `Unencodable` where the type's own
/// `Serialize` fails.
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ValueError> {
    let mut sink = BoundedSink::default();
    let written = value.serialize(&mut rmp_serde::Serializer::new(&mut sink));
    if sink.overflowed {
        return Err(ValueError::TooLarge);
    }
    written.map_err(|error| ValueError::Unencodable {
        detail: detail(&error),
    })?;
    scan::check_and_make_canonical(&mut sink.bytes)?;
    Ok(sink.bytes)
}

/// Reads one value that is exactly these bytes.
///
/// # Errors
/// Those of [`check`], and [`ValueError::Mismatch`] where the bytes are of another type.
pub fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, ValueError> {
    check(bytes)?;
    rmp_serde::from_slice(bytes).map_err(|error| ValueError::Mismatch {
        detail: detail(&error),
    })
}

fn detail(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.floor_char_boundary(DETAIL_BYTES_MAX));
    text
}

/// A buffer that stops at the limit, so that a value which is far too large is not written out first.
#[derive(Default)]
struct BoundedSink {
    bytes: Vec<u8>,
    overflowed: bool,
}

impl io::Write for BoundedSink {
    fn write(&mut self, part: &[u8]) -> io::Result<usize> {
        if part.len() > VALUE_BYTES_MAX - self.bytes.len() {
            self.overflowed = true;
            return Err(io::ErrorKind::StorageFull.into());
        }
        self.bytes.extend_from_slice(part);
        Ok(part.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
