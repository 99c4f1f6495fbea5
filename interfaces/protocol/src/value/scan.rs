//! Looks over the bytes of a value before anything is allocated for it.
//!
//! One pass from front to back with a fixed stack of counts: no recursion, no allocation, no panic. What passes is one
//! well-formed MessagePack value, whole, within the limits, so that a reader which follows its lengths stays inside.

use crate::limits::{VALUE_BYTES_MAX, VALUE_DEPTH_MAX, VALUE_LENGTH_MAX};

use super::ValueError;

/// The canonical NaN, as the component model has it: quiet, positive, no payload.
const NAN_32: u32 = 0x7fc0_0000;
/// The same in 64 bits.
const NAN_64: u64 = 0x7ff8_0000_0000_0000;

/// Checks that bytes are exactly one value within the limits of depth, length and size.
///
/// # Errors
/// [`ValueError`], by the first thing that is wrong, except `Mismatch` and `Unencodable`: types are not known here.
pub fn check(bytes: &[u8]) -> Result<(), ValueError> {
    let mut scan = Scan::of(bytes)?;
    while scan.step(bytes)?.is_some() {}
    scan.finish(bytes)
}

/// The same for bytes that were just written, whose NaNs become canonical on the way.
///
/// Done here and not in a serialiser, a float stays a plain `f64` in every type at every depth.
pub(super) fn check_and_make_canonical(bytes: &mut [u8]) -> Result<(), ValueError> {
    let mut scan = Scan::of(bytes)?;
    while let Some(item) = scan.step(bytes)? {
        match item {
            Item::Float32 { at } => {
                if let Some(field) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut())
                    && f32::from_be_bytes(*field).is_nan()
                {
                    *field = NAN_32.to_be_bytes();
                }
            }
            Item::Float64 { at } => {
                if let Some(field) = bytes.get_mut(at..).and_then(|b| b.first_chunk_mut())
                    && f64::from_be_bytes(*field).is_nan()
                {
                    *field = NAN_64.to_be_bytes();
                }
            }
            Item::Other => {}
        }
    }
    scan.finish(bytes)
}

/// What a step has passed.
enum Item {
    /// A float of four bytes that begin at `at`.
    Float32 { at: usize },
    /// A float of eight bytes that begin at `at`.
    Float64 { at: usize },
    /// Anything else: a scalar whole, or the head of an array or map.
    Other,
}

/// Where a scan is: it holds no borrow, so the bytes it has passed may be changed.
struct Scan {
    offset: usize,
    /// For each open array or map, how many elements are still to come; a map counts keys and values.
    pending: [u32; VALUE_DEPTH_MAX],
    depth: usize,
    complete: bool,
}

impl Scan {
    fn of(bytes: &[u8]) -> Result<Self, ValueError> {
        if bytes.len() > VALUE_BYTES_MAX {
            return Err(ValueError::TooLarge);
        }
        Ok(Self {
            offset: 0,
            pending: [0; VALUE_DEPTH_MAX],
            depth: 0,
            complete: false,
        })
    }

    /// Passes one scalar or one head; `None` once the value is complete.
    fn step(&mut self, bytes: &[u8]) -> Result<Option<Item>, ValueError> {
        if self.complete {
            return Ok(None);
        }
        let offset = self.offset;
        let marker = self.number(bytes, 1)? as u8;
        let mut item = Item::Other;
        match marker {
            // Small integers, nil and booleans are the marker alone.
            0x00..=0x7f | 0xe0..=0xff | 0xc0 | 0xc2 | 0xc3 => {}
            0x80..=0x8f => return self.open_map(bytes, u32::from(marker & 0x0f)),
            0x90..=0x9f => return self.open(bytes, u32::from(marker & 0x0f)),
            0xa0..=0xbf => self.string(bytes, u32::from(marker & 0x1f))?,
            0xc4..=0xc6 => {
                let length = self.number(bytes, 1 << (marker - 0xc4))?;
                self.skip(bytes, length as usize)?;
            }
            0xca => {
                item = Item::Float32 { at: self.offset };
                self.skip(bytes, 4)?;
            }
            0xcb => {
                item = Item::Float64 { at: self.offset };
                self.skip(bytes, 8)?;
            }
            0xcc..=0xcf => self.skip(bytes, 1 << (marker - 0xcc))?,
            0xd0..=0xd3 => self.skip(bytes, 1 << (marker - 0xd0))?,
            0xd9..=0xdb => {
                let length = self.number(bytes, 1 << (marker - 0xd9))?;
                self.string(bytes, length)?;
            }
            0xdc | 0xdd => {
                let length = self.number(bytes, 2 << (marker - 0xdc))?;
                return self.open(bytes, length);
            }
            0xde | 0xdf => {
                let length = self.number(bytes, 2 << (marker - 0xde))?;
                return self.open_map(bytes, length);
            }
            // Extension types and the reserved marker.
            0xc1 | 0xc7..=0xc9 | 0xd4..=0xd8 => return Err(ValueError::Marker { marker, offset }),
        }
        self.close_element();
        Ok(Some(item))
    }

    fn finish(&self, bytes: &[u8]) -> Result<(), ValueError> {
        match bytes.len() - self.offset {
            0 => Ok(()),
            trailing => Err(ValueError::Trailing { bytes: trailing }),
        }
    }

    /// Enters an array. Each element takes at least one byte, so a length beyond the bytes left is refused here, before
    /// a reader reserves space for it.
    fn open(&mut self, bytes: &[u8], length: u32) -> Result<Option<Item>, ValueError> {
        self.enter(bytes, length, length)
    }

    fn open_map(&mut self, bytes: &[u8], entries: u32) -> Result<Option<Item>, ValueError> {
        self.enter(bytes, entries, entries.saturating_mul(2))
    }

    fn enter(
        &mut self,
        bytes: &[u8],
        length: u32,
        elements: u32,
    ) -> Result<Option<Item>, ValueError> {
        if length as usize > VALUE_LENGTH_MAX {
            return Err(ValueError::TooLong { length });
        }
        if elements as usize > bytes.len() - self.offset {
            return Err(ValueError::Truncated {
                offset: bytes.len(),
            });
        }
        // An empty one at the deepest level is as deep as any other: readers recurse into it before they see its length.
        let slot = self
            .pending
            .get_mut(self.depth)
            .ok_or(ValueError::TooDeep)?;
        if elements == 0 {
            self.close_element();
        } else {
            *slot = elements;
            self.depth += 1;
        }
        Ok(Some(Item::Other))
    }

    /// Counts one element of the innermost open array or map, and closes all that are complete by it.
    fn close_element(&mut self) {
        while let Some(level) = self.depth.checked_sub(1) {
            self.pending[level] -= 1;
            if self.pending[level] > 0 {
                return;
            }
            self.depth = level;
        }
        self.complete = true;
    }

    /// Reads a big-endian number of one, two or four bytes.
    fn number(&mut self, bytes: &[u8], width: usize) -> Result<u32, ValueError> {
        let field = self.take(bytes, width)?;
        Ok(field
            .iter()
            .fold(0, |number, byte| number << 8 | u32::from(*byte)))
    }

    fn string(&mut self, bytes: &[u8], length: u32) -> Result<(), ValueError> {
        let offset = self.offset;
        let text = self.take(bytes, length as usize)?;
        // `rmp-serde` hands ill-formed text to whoever takes binary; here it is refused for all.
        match std::str::from_utf8(text) {
            Ok(_) => Ok(()),
            Err(_) => Err(ValueError::NotUtf8 { offset }),
        }
    }

    fn skip(&mut self, bytes: &[u8], length: usize) -> Result<(), ValueError> {
        self.take(bytes, length).map(|_| ())
    }

    fn take<'a>(&mut self, bytes: &'a [u8], length: usize) -> Result<&'a [u8], ValueError> {
        let rest = bytes.get(self.offset..).unwrap_or_default();
        match rest.get(..length) {
            Some(taken) => {
                self.offset += length;
                Ok(taken)
            }
            None => Err(ValueError::Truncated {
                offset: bytes.len(),
            }),
        }
    }
}
