//! `flags`: an array of the names that are set, in the order of their declaration.
//!
//! A Rust type for flags keeps bits; these two functions are its `Serialize` and `Deserialize`. Names in another order,
//! twice, or unknown are refused, so that each set has one encoding.

use std::borrow::Cow;
use std::fmt;

use serde::de::{Error, SeqAccess, Visitor};
use serde::ser::SerializeSeq;
use serde::{Deserialize, Deserializer, Serializer};

/// Most flags of one type. The component model stops at 32 today.
pub const FLAGS_MAX: usize = 64;

/// Writes the names whose bits are set; bit 0 is the first name. Bits without a name are left out.
///
/// # Errors
/// The serialiser's.
pub fn serialize<S: Serializer>(
    names: &[&'static str],
    bits: u64,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    let set = || {
        names
            .iter()
            .take(FLAGS_MAX)
            .enumerate()
            .filter(|(bit, _)| bits >> bit & 1 == 1)
    };
    let mut array = serializer.serialize_seq(Some(set().count()))?;
    for (_, name) in set() {
        array.serialize_element(name)?;
    }
    array.end()
}

/// Reads the names that are set into bits.
///
/// # Errors
/// Where a name is unknown, stands twice, or stands before one that is declared earlier.
pub fn deserialize<'de, D: Deserializer<'de>>(
    names: &'static [&'static str],
    deserializer: D,
) -> Result<u64, D::Error> {
    struct Names(&'static [&'static str]);

    impl<'de> Visitor<'de> for Names {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("an array of names of flags in the order of their declaration")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut array: A) -> Result<u64, A::Error> {
            let mut bits = 0;
            let mut declared = self.0.iter().take(FLAGS_MAX).enumerate();
            while let Some(Name(name)) = array.next_element::<Name<'_>>()? {
                // Looking further from where the last name was found refuses disorder and repetition with the unknown.
                match declared.find(|(_, candidate)| **candidate == name) {
                    Some((bit, _)) => bits |= 1 << bit,
                    None => {
                        return Err(A::Error::custom(format_args!(
                            "flag `{name}` is unknown, repeated or out of order"
                        )));
                    }
                }
            }
            Ok(bits)
        }
    }

    deserializer.deserialize_seq(Names(names))
}

/// A name that is borrowed from the bytes where they permit it.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);
