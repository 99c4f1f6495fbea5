//! `option<T>` where T itself may be nil: an array of none or one.
//!
//! Written the plain way, `some(none)` and `none` would be the same byte.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// An option around a type whose encoding can be nil: `option<option<T>>` is `NestedOption<Option<T>>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NestedOption<T>(pub Option<T>);

impl<T> Default for NestedOption<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T> From<Option<T>> for NestedOption<T> {
    fn from(option: Option<T>) -> Self {
        Self(option)
    }
}

impl<T> From<NestedOption<T>> for Option<T> {
    fn from(nested: NestedOption<T>) -> Self {
        nested.0
    }
}

impl<T: Serialize> Serialize for NestedOption<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut array = serializer.serialize_seq(Some(usize::from(self.0.is_some())))?;
        if let Some(value) = &self.0 {
            array.serialize_element(value)?;
        }
        array.end()
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NestedOption<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct NoneOrOne<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for NoneOrOne<T> {
            type Value = NestedOption<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an array of none or one")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<Self::Value, A::Error> {
                if array.size_hint().is_some_and(|length| length > 1) {
                    return Err(A::Error::custom("an option holds at most one value"));
                }
                Ok(NestedOption(array.next_element()?))
            }
        }

        deserializer.deserialize_seq(NoneOrOne(PhantomData))
    }
}
