//! The host's own directory: made private, held by one host at a time, and the place of its incarnation.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use crate::atomic_file::write_atomically;

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// It cannot be made, read or written.
    #[error("the state directory {} cannot be used: {source}", path.display())]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can write into it.
    #[error("other users can write to the state directory {}; `chmod go-w` closes it", path.display())]
    Exposed {
        /// The directory.
        path: PathBuf,
    },
    /// A host runs with it.
    #[error("a host runs with the state directory {} already; stop it, or choose another directory", path.display())]
    InUse {
        /// The directory.
        path: PathBuf,
    },
}

/// A state directory that this process holds until the value is dropped.
#[derive(Debug)]
pub(super) struct StateDir {
    path: PathBuf,
    _lock: File,
}

impl StateDir {
    /// Makes the directory (mode 0700) where it is missing, and takes it.
    pub(super) fn open(path: &Path) -> Result<Self, StateDirError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| StateDirError::Io { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(path)
            .map_err(io(path))?;
        let mode = fs::metadata(path).map_err(io(path))?.permissions().mode();
        if mode & 0o022 != 0 {
            return Err(StateDirError::Exposed {
                path: path.to_owned(),
            });
        }
        let lock_path = path.join("lock");
        let lock = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&lock_path)
            .map_err(io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(StateDirError::InUse {
                    path: path.to_owned(),
                });
            }
            Err(TryLockError::Error(error)) => return Err(io(&lock_path)(error)),
        }
        Ok(Self {
            path: path.to_owned(),
            _lock: lock,
        })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// The number of this start: larger than that of every former one, even if the clock was set back.
    ///
    /// Peers keep the largest that they have seen. A host that loses its directory loses its key with it, so nobody
    /// remembers a larger number for the new one.
    pub(super) fn next_incarnation(&self) -> Result<u64, StateDirError> {
        let path = self.path.join("incarnation");
        let io = |source| StateDirError::Io {
            path: path.clone(),
            source,
        };
        let former: u64 = match fs::read_to_string(&path) {
            Ok(text) => text.trim().parse().unwrap_or_else(|_| {
                tracing::warn!(path = %path.display(), "the file holds no number, the clock alone counts");
                0
            }),
            Err(error) if error.kind() == io::ErrorKind::NotFound => 0,
            Err(error) => return Err(io(error)),
        };
        let next = unix_millis().max(former.saturating_add(1));
        write_atomically(&path, format!("{next}\n").as_bytes()).map_err(io)?;
        Ok(next)
    }
}

fn unix_millis() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| {
            u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
        })
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_directory_has_one_host_at_a_time() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a/b");
        let first = StateDir::open(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o700
        );
        assert!(matches!(
            StateDir::open(&path),
            Err(StateDirError::InUse { .. })
        ));
        drop(first);
        assert!(StateDir::open(&path).is_ok());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            StateDir::open(dir.path()),
            Err(StateDirError::Exposed { .. })
        ));
    }

    #[test]
    fn the_incarnation_grows_even_where_the_clock_was_set_back() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(dir.path()).unwrap();
        let first = state_dir.next_incarnation().unwrap();
        assert!(state_dir.next_incarnation().unwrap() > first);
        let future = unix_millis() + 1_000_000_000;
        fs::write(dir.path().join("incarnation"), future.to_string()).unwrap();
        assert_eq!(state_dir.next_incarnation().unwrap(), future + 1);
    }

    #[test]
    fn a_damaged_incarnation_leaves_the_clock() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = StateDir::open(dir.path()).unwrap();
        fs::write(dir.path().join("incarnation"), "x").unwrap();
        assert!(state_dir.next_incarnation().unwrap() > 1_700_000_000_000);
    }
}
