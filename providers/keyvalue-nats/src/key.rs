//! Between keys of WIT, which are any strings, and keys of JetStream, which are parts of a subject.
//!
//! ASCII letters and digits, `-`, `_`, `/` and `.` stand for themselves, so common keys look the same to every NATS
//! tool. Every other byte of the key's UTF-8 is written `=XX`, in upper-case hexadecimal; so are `=` itself, a dot that
//! begins or ends the key or follows another (a subject has no empty token), and a `_` that begins a key of the form
//! `_kv…`, which NATS keeps for itself.
//!
//! Each key has exactly one such form. What another program stored under a key of another form is not shown.

use crate::error::Failure;

/// Longest key, in bytes of UTF-8.
///
/// Escaped, it is three times as long at most, and with the subject's other parts it has to stay below the 4,096 bytes
/// that a server takes for one protocol line.
pub(crate) const KEY_BYTES_MAX: usize = 1024;

const HEX: &[u8; 16] = b"0123456789ABCDEF";

/// The form in which JetStream keeps a key.
///
/// # Errors
/// [`Failure::Key`] for an empty key and for one beyond [`KEY_BYTES_MAX`].
pub(crate) fn escape(key: &str) -> Result<String, Failure> {
    if key.is_empty() || key.len() > KEY_BYTES_MAX {
        return Err(Failure::Key { bytes: key.len() });
    }
    Ok(escaped(key))
}

/// The key of a form; `None` where the form is not one of ours.
pub(crate) fn unescape(form: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(form.len());
    let mut rest = form.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'=' => digit(rest.next()?)? << 4 | digit(rest.next()?)?,
            byte => byte,
        });
    }
    let key = String::from_utf8(bytes).ok()?;
    (escaped(&key) == form).then_some(key)
}

fn escaped(key: &str) -> String {
    let bytes = key.as_bytes();
    let mut form = String::with_capacity(key.len());
    for (at, &byte) in bytes.iter().enumerate() {
        let plain = match byte {
            b'.' => at > 0 && at + 1 < bytes.len() && bytes[at - 1] != b'.',
            b'_' => at > 0 || !key.starts_with("_kv"),
            byte => byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'/'),
        };
        if plain {
            form.push(char::from(byte));
        } else {
            form.push('=');
            form.push(char::from(HEX[usize::from(byte >> 4)]));
            form.push(char::from(HEX[usize::from(byte & 15)]));
        }
    }
    form
}

fn digit(byte: u8) -> Option<u8> {
    let value = HEX.iter().position(|digit| *digit == byte)?;
    u8::try_from(value).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn common_keys_look_the_same_and_others_are_escaped() {
        for (key, form) in [
            ("clicks/aB3-x_9", "clicks/aB3-x_9"),
            ("user.42.name", "user.42.name"),
            ("_private", "_private"),
            ("_kv.x", "=5Fkv.x"),
            ("a b", "a=20b"),
            ("a:b", "a=3Ab"),
            ("a=3Ab", "a=3D3Ab"),
            (".", "=2E"),
            (".a.", "=2Ea=2E"),
            ("a..b", "a.=2Eb"),
            ("...", "=2E=2E=2E"),
            ("*", "=2A"),
            ("a.>", "a.=3E"),
            ("ä", "=C3=A4"),
            ("\0\r\n", "=00=0D=0A"),
        ] {
            assert_eq!(escape(key).unwrap(), form);
            assert_eq!(unescape(form).unwrap(), key);
        }
    }

    #[test]
    fn every_form_is_a_key_that_jetstream_takes() {
        for first in 0..=127u8 {
            for second in 0..=127u8 {
                let key = format!("{}{}", char::from(first), char::from(second));
                let form = escape(&key).unwrap();
                assert!(
                    form.bytes()
                        .all(|b| b.is_ascii_alphanumeric() || b"-/_=.".contains(&b))
                );
                assert!(!form.starts_with('.') && !form.ends_with('.') && !form.contains(".."));
                assert_eq!(unescape(&form).unwrap(), key);
            }
        }
    }

    #[test]
    fn what_is_no_form_of_ours_has_no_key() {
        for form in [
            "a=", "a=3", "a=3d", "a=41", "=GG", "=FF", "a.=2e", "_kv", "a..b",
        ] {
            assert_eq!(unescape(form), None, "{form}");
        }
    }

    #[test]
    fn the_longest_key_is_accepted_and_an_empty_or_longer_one_is_refused() {
        assert!(escape(&"ä".repeat(KEY_BYTES_MAX / 2)).is_ok());
        assert!(escape(&"a".repeat(KEY_BYTES_MAX + 1)).is_err());
        assert!(escape("").is_err());
    }
}
