//! Is it a component, and all of it? Asked before anything is compiled, so that the answer is a sentence.

use crate::error::ContentError;
use crate::looks::Looks;

const MAGIC: &[u8] = b"\0asm";
const COMPONENT: [u8; 4] = [0x0d, 0, 1, 0];
const CORE_MODULE: [u8; 4] = [1, 0, 0, 0];

/// Bytes before the first section.
const PREAMBLE_BYTES: usize = 8;

/// Checks that the bytes begin as a component does and that every section at the top is whole. What the sections hold is
/// for the compiler to judge.
///
/// # Errors
/// [`ContentError`], by cause.
pub(crate) fn check(bytes: &[u8], max: u64) -> Result<(), ContentError> {
    if bytes.is_empty() {
        return Err(ContentError::Empty);
    }
    if bytes.len() as u64 > max {
        return Err(ContentError::TooLarge {
            bytes: bytes.len() as u64,
            max,
        });
    }
    let truncated = |offset: usize| ContentError::Truncated {
        offset: offset as u64,
    };
    if !bytes.starts_with(MAGIC) {
        return Err(match MAGIC.starts_with(bytes) {
            true => truncated(bytes.len()),
            false => ContentError::NotWasm {
                found: Looks::of(bytes).words(),
            },
        });
    }
    let version: [u8; 4] = bytes
        .get(MAGIC.len()..PREAMBLE_BYTES)
        .and_then(|version| version.try_into().ok())
        .ok_or_else(|| truncated(bytes.len()))?;
    match version {
        COMPONENT => {}
        CORE_MODULE => return Err(ContentError::CoreModule),
        version => return Err(ContentError::UnknownFormat { version }),
    }
    let mut at = PREAMBLE_BYTES;
    while at < bytes.len() {
        // The section's number, then its length.
        let (length, after) = leb128(bytes, at + 1).ok_or_else(|| truncated(at))?;
        at = after
            .checked_add(length)
            .filter(|end| *end <= bytes.len())
            .ok_or_else(|| truncated(bytes.len()))?;
    }
    Ok(())
}

/// An unsigned number of 32 bits, and where it ends.
fn leb128(bytes: &[u8], at: usize) -> Option<(usize, usize)> {
    let mut value = 0_u64;
    for index in 0..5 {
        let byte = *bytes.get(at + index)?;
        value |= u64::from(byte & 0x7f) << (7 * index);
        if byte & 0x80 == 0 {
            let value = u32::try_from(value).ok()?;
            return Some((usize::try_from(value).ok()?, at + index + 1));
        }
    }
    None
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// A component with two custom sections.
    fn component() -> Vec<u8> {
        let mut bytes = [MAGIC, &COMPONENT].concat();
        for name in ["first", "second"] {
            let content = [
                &[u8::try_from(name.len()).unwrap()],
                name.as_bytes(),
                b"content",
            ]
            .concat();
            bytes.push(0);
            bytes.push(u8::try_from(content.len()).unwrap());
            bytes.extend(content);
        }
        bytes
    }

    #[test]
    fn a_component_is_one() {
        check(&component(), 1000).unwrap();
        check(&[MAGIC, &COMPONENT].concat(), 1000).unwrap();
    }

    #[test]
    fn what_is_none_is_told_apart() {
        let refused = |bytes: &[u8]| check(bytes, 1000).unwrap_err();
        assert!(matches!(refused(b""), ContentError::Empty));
        assert!(matches!(
            refused(b"\0asm\x01\0\0\0"),
            ContentError::CoreModule
        ));
        assert!(matches!(
            refused(b"\0asm\x0e\0\x01\0"),
            ContentError::UnknownFormat { .. }
        ));
        for (bytes, found) in [
            (&b"<!doctype html>"[..], "a page of HTML or XML"),
            (b"\x7fELF\x02", "an ELF executable"),
            (b"\x1f\x8b\x08", "a gzip file"),
            (b"(module)", "WebAssembly as text"),
        ] {
            let error = refused(bytes);
            assert!(error.to_string().contains(found), "{error}");
            assert_eq!(error.code(), "not-a-component");
        }
    }

    #[test]
    fn one_that_is_cut_short_anywhere_is_refused_but_between_sections() {
        let whole = component();
        let boundaries: Vec<usize> = [PREAMBLE_BYTES, PREAMBLE_BYTES + 2 + 13].into();
        for length in 1..whole.len() {
            let checked = check(&whole[..length], 1000);
            assert_eq!(checked.is_ok(), boundaries.contains(&length), "{length}");
            if let Err(error) = checked {
                assert_eq!(error.code(), "artifact-truncated");
            }
        }
    }

    #[test]
    fn the_largest_is_taken_and_one_byte_more_is_refused() {
        let bytes = component();
        let length = bytes.len() as u64;
        check(&bytes, length).unwrap();
        let error = check(&bytes, length - 1).unwrap_err();
        assert_eq!(error.code(), "artifact-too-large");
    }

    #[test]
    fn whatever_the_bytes_nothing_panics() {
        let whole = component();
        for index in 0..whole.len() {
            for value in [0, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[index] = value;
                let _ = check(&bytes, 1000);
            }
        }
    }
}
