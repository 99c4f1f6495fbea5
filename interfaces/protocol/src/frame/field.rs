//! Header and trailer fields of HTTP messages.

use std::fmt;

use bytes::Bytes;
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::limits::HTTP_FIELDS_MAX;

/// One field: the array `[name, value]`. A name that occurs twice makes two fields.
#[derive(Clone, PartialEq, Eq)]
pub struct Field {
    /// The field's name, lower case.
    pub name: String,
    /// The field's value, any bytes.
    pub value: Bytes,
}

impl fmt::Debug for Field {
    /// Shows the name and the value's length: values hold cookies and tokens.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} bytes", self.name, self.value.len())
    }
}

/// Fields in their order, at most [`HTTP_FIELDS_MAX`].
pub type Fields = Vec<Field>;

/// A list of fields whose values still lie in the frame.
pub(super) struct FieldsIn<'a>(pub(super) Vec<(&'a str, super::wire::Bin<'a>)>);

impl<'de> Deserialize<'de> for FieldsIn<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = FieldsIn<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "at most {HTTP_FIELDS_MAX} fields")
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut entries: A) -> Result<Self::Value, A::Error> {
                let announced = entries.size_hint().unwrap_or(0);
                if announced > HTTP_FIELDS_MAX {
                    return Err(A::Error::invalid_length(announced, &self));
                }
                let mut fields = Vec::with_capacity(announced);
                while let Some(field) = entries.next_element()? {
                    if fields.len() == HTTP_FIELDS_MAX {
                        return Err(A::Error::invalid_length(fields.len() + 1, &self));
                    }
                    fields.push(field);
                }
                Ok(FieldsIn(fields))
            }
        }
        deserializer.deserialize_seq(Entries)
    }
}
