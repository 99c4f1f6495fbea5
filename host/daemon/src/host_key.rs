//! The host's key: its identity in the lattice, kept as a seed in a file that nobody else can read.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use trellis_claims::{KeyError, KeyKind, SigningKey};
use zeroize::Zeroizing;

/// The file in the state directory.
pub const HOST_KEY_FILE: &str = "host.nk";

/// Largest key file that is read, in bytes: a seed has 58, the rest is room for blanks around it.
pub const KEY_FILE_BYTES_MAX: u64 = 1024;

/// Why the host's key cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostKeyError {
    /// It cannot be read or made.
    #[error("cannot {action} the host's key {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can read it.
    #[error("refused the host's key {}: its mode {mode:04o} lets others read it; run `chmod 600` if nobody has, else remove it and take a new one", path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// It is no seed of a host.
    #[error("cannot use {} as a host's key: {source}", path.display())]
    Key {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        #[source]
        source: KeyError,
    },
    /// It is not a file with a seed.
    #[error("cannot use {} as a host's key: it is no file of at most {KEY_FILE_BYTES_MAX} bytes", path.display())]
    NotAKeyFile {
        /// What was found.
        path: PathBuf,
    },
}

/// The host's key in a state directory, made (mode 0600) on first use. Of two processes that make it at once, one key
/// counts for both.
///
/// # Errors
/// [`HostKeyError`], by cause; a file that others can read is refused.
pub fn load_or_create_host_key(state_dir: &Path) -> Result<Arc<SigningKey>, HostKeyError> {
    let path = state_dir.join(HOST_KEY_FILE);
    if !path.exists() {
        create(state_dir, &path)?;
    }
    load_host_key(&path)
}

/// A host's key from a file.
///
/// # Errors
/// As [`load_or_create_host_key`]; one that is missing is [`HostKeyError::Io`].
pub fn load_host_key(path: &Path) -> Result<Arc<SigningKey>, HostKeyError> {
    let io = |source| HostKeyError::Io {
        action: "read",
        path: path.to_owned(),
        source,
    };
    if !fs::metadata(path).map_err(io)?.is_file() {
        return Err(HostKeyError::NotAKeyFile {
            path: path.to_owned(),
        });
    }
    let file = File::open(path).map_err(io)?;
    // Asked of the opened file, so that no other one can be put in its place in between.
    let mode = file.metadata().map_err(io)?.mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(HostKeyError::Exposed {
            path: path.to_owned(),
            mode,
        });
    }
    let mut seed = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES_MAX as usize + 1));
    file.take(KEY_FILE_BYTES_MAX + 1)
        .read_to_string(&mut seed)
        .map_err(io)?;
    if seed.len() as u64 > KEY_FILE_BYTES_MAX {
        return Err(HostKeyError::NotAKeyFile {
            path: path.to_owned(),
        });
    }
    SigningKey::from_seed_of(KeyKind::Host, seed.trim())
        .map(Arc::new)
        .map_err(|source| HostKeyError::Key {
            path: path.to_owned(),
            source,
        })
}

fn create(state_dir: &Path, path: &Path) -> Result<(), HostKeyError> {
    let io = |source| HostKeyError::Io {
        action: "make",
        path: path.to_owned(),
        source,
    };
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(state_dir)
        .map_err(io)?;
    // Made with mode 0600 under a random name, and linked to its own name whole.
    let mut file = tempfile::NamedTempFile::new_in(state_dir).map_err(io)?;
    let seed = SigningKey::generate(KeyKind::Host).seed();
    file.write_all(seed.as_bytes())
        .and_then(|()| file.write_all(b"\n"))
        .and_then(|()| file.as_file().sync_all())
        .map_err(io)?;
    match file.persist_noclobber(path) {
        Ok(_) => {
            tracing::info!(path = %path.display(), "made this host's key");
            Ok(())
        }
        Err(error) if error.error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(io(error.error)),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn the_first_start_makes_a_key_and_the_second_finds_it() {
        let dir = tempfile::tempdir().unwrap();
        let state_dir = dir.path().join("state");
        let first = load_or_create_host_key(&state_dir).unwrap();
        let second = load_or_create_host_key(&state_dir).unwrap();
        assert_eq!(first.public(), second.public());
        assert_eq!(first.kind(), KeyKind::Host);
        let mode = fs::metadata(state_dir.join(HOST_KEY_FILE)).unwrap().mode();
        assert_eq!(mode & 0o777, 0o600);
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        load_or_create_host_key(dir.path()).unwrap();
        let path = dir.path().join(HOST_KEY_FILE);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        let error = load_or_create_host_key(dir.path()).unwrap_err();
        assert!(matches!(error, HostKeyError::Exposed { mode: 0o640, .. }));
    }

    #[test]
    fn another_kind_of_key_and_other_files_are_refused_and_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(HOST_KEY_FILE);
        let account = SigningKey::generate(KeyKind::Account).seed();
        for content in [account.as_str(), "", "SN", &"x".repeat(2000)] {
            fs::write(&path, content).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
            assert!(load_or_create_host_key(dir.path()).is_err(), "{content}");
            assert_eq!(fs::read_to_string(&path).unwrap(), content);
        }
        fs::remove_file(&path).unwrap();
        fs::create_dir(&path).unwrap();
        assert!(matches!(
            load_or_create_host_key(dir.path()),
            Err(HostKeyError::NotAKeyFile { .. })
        ));
    }
}
