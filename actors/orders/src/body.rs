//! Reading a request body within a limit.

use std::io::{self, Read};

/// Largest request body, in bytes. An order takes a few hundred.
pub(crate) const BODY_BYTES_MAX: u64 = 16 * 1024;

/// Why there is no body to work with.
#[derive(Debug, thiserror::Error)]
pub(crate) enum BodyError {
    /// It is larger than [`BODY_BYTES_MAX`], or says it is.
    #[error("the body is larger than {BODY_BYTES_MAX} bytes")]
    TooLarge,
    /// It ended before its time.
    #[error("the body could not be read: {0}")]
    Broken(#[from] io::Error),
}

/// Reads all of `body`, and no more than one byte beyond the limit. `announced` is the `Content-Length`, if there
/// is one: a body that announces too much is refused before any of it is read.
///
/// # Errors
///
/// See [`BodyError`].
pub(crate) fn read(announced: Option<u64>, body: impl Read) -> Result<Vec<u8>, BodyError> {
    if announced.is_some_and(|bytes| bytes > BODY_BYTES_MAX) {
        return Err(BodyError::TooLarge);
    }
    let mut bytes = Vec::new();
    let read = body.take(BODY_BYTES_MAX + 1).read_to_end(&mut bytes)?;
    // Both are within a few KiB, so the cast is exact.
    if read as u64 > BODY_BYTES_MAX {
        return Err(BodyError::TooLarge);
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_body_of_16_kib_is_the_largest() {
        let body = vec![b' '; 16 * 1024 + 1];
        assert!(read(None, &body[1..]).is_ok_and(|bytes| bytes.len() == 16 * 1024));
        assert!(matches!(read(None, &body[..]), Err(BodyError::TooLarge)));
    }

    #[test]
    fn a_body_that_never_ends_is_refused_at_the_limit() {
        assert!(matches!(
            read(None, io::repeat(b' ')),
            Err(BodyError::TooLarge)
        ));
    }

    #[test]
    fn a_body_that_announces_too_much_is_not_read() {
        struct Unreadable;
        impl Read for Unreadable {
            fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
                panic!("read although its announced length was too large");
            }
        }
        assert!(matches!(
            read(Some(16 * 1024 + 1), Unreadable),
            Err(BodyError::TooLarge)
        ));
    }
}
