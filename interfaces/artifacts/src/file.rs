//! Files of the host: opened without waiting for anything, and never read beyond the limit.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use rustix::fs::OFlags;

use crate::error::FileError;

/// Opens a regular file of 1 to `max` bytes, and says how many. Blocks.
///
/// # Errors
/// [`FileError`], by cause.
pub(crate) fn open(path: &Path, max: u64) -> Result<(File, u64), FileError> {
    // Looked at before it is opened, because opening a device can do something to it. What stands there when it is opened
    // may be another file, so nothing is waited for then either: a pipe would wait for its other end.
    let found = std::fs::metadata(path).map_err(|error| failed(path, error))?;
    if !found.is_file() {
        return Err(FileError::NotAFile {
            path: path.to_owned(),
        });
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
        .map_err(|error| failed(path, error))?;
    let metadata = file.metadata().map_err(|error| failed(path, error))?;
    if !metadata.is_file() {
        return Err(FileError::NotAFile {
            path: path.to_owned(),
        });
    }
    match metadata.len() {
        // Not read at all: files that the kernel makes up have no length either, and reading some of them never ends.
        0 => Err(FileError::Empty {
            path: path.to_owned(),
        }),
        bytes if bytes > max => Err(FileError::TooLarge {
            path: path.to_owned(),
            bytes,
            max,
        }),
        bytes => Ok((file, bytes)),
    }
}

/// Reads such a file. Blocks.
///
/// # Errors
/// [`FileError`], by cause.
pub(crate) fn read(path: &Path, max: u64) -> Result<Vec<u8>, FileError> {
    let (file, bytes) = open(path, max)?;
    let mut content = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    // It may grow while it is read, so the limit holds here as well.
    file.take(max.saturating_add(1))
        .read_to_end(&mut content)
        .map_err(|error| failed(path, error))?;
    match content.len() as u64 {
        0 => Err(FileError::Empty {
            path: path.to_owned(),
        }),
        bytes if bytes > max => Err(FileError::TooLarge {
            path: path.to_owned(),
            bytes,
            max,
        }),
        _ => Ok(content),
    }
}

/// For `map_err`.
pub(crate) fn unreadable(path: &Path) -> impl Fn(io::Error) -> FileError {
    move |error| failed(path, error)
}

fn failed(path: &Path, source: io::Error) -> FileError {
    let path = path.to_owned();
    match source.kind() {
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => FileError::Missing { path },
        _ => FileError::Io { path, source },
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn code(path: &Path) -> &'static str {
        read(path, 10).unwrap_err().code()
    }

    #[test]
    fn only_a_regular_file_with_something_in_it_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.wasm");
        assert_eq!(code(&path), "artifact-missing");
        assert_eq!(code(&path.join("below")), "artifact-missing");
        assert_eq!(code(dir.path()), "artifact-unreadable");
        assert_eq!(code(Path::new("/dev/zero")), "artifact-unreadable");
        std::fs::write(&path, b"").unwrap();
        assert_eq!(code(&path), "artifact-empty");
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(read(&path, 10).unwrap(), b"x");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_the_kernel_makes_up_is_not_read() {
        // Regular by its type. Reading `/proc/kmsg` instead would wait for the kernel's next message.
        for path in ["/proc/self/status", "/proc/self/mem"] {
            assert_eq!(code(Path::new(path)), "artifact-empty");
        }
    }

    #[test]
    fn the_largest_is_read_and_one_byte_or_two_gigabytes_more_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.wasm");
        let file = File::create(&path).unwrap();
        file.set_len(10).unwrap();
        assert_eq!(read(&path, 10).unwrap().len(), 10);
        for bytes in [11, 2 << 30] {
            file.set_len(bytes).unwrap();
            assert_eq!(code(&path), "artifact-too-large");
        }
    }
}
