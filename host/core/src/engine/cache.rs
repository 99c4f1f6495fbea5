//! Compiled components on disk, so that an actor starts in a millisecond the second time.
//!
//! Loading machine code runs whatever it says, so a file is used only if this host wrote it: each carries a message
//! authentication code over its name and content, under a key that only this host's user can read. Bytes are read once,
//! checked, and loaded from memory, so nobody can change them between the check and the use.

use std::fs;
use std::hash::{Hash, Hasher};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use hmac::{Hmac, Mac};
use rustix::fs::OFlags;
use sha2::{Digest, Sha256};
use wasmtime::component::Component;

/// Bytes of the key and of each code.
const KEY_BYTES: usize = 32;

/// Largest cached file that is read, in bytes. Machine code is a few times larger than the component it came from.
const FILE_BYTES_MAX: u64 = 1024 * 1024 * 1024;

/// Why the cache cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The directory or the key cannot be made or read.
    #[error("the cache of compiled components at {path} cannot be used")]
    Io {
        /// The file or directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// Others can write here, so what is found here cannot be trusted.
    #[error("{path} can be read or written by other users; `chmod go= {path}` closes it")]
    Exposed {
        /// The file or directory.
        path: PathBuf,
    },
    /// The compiled form cannot be taken from the engine.
    #[error("the compiled component cannot be serialised: {0}")]
    Serialise(String),
}

/// A directory of compiled components, valid for one engine configuration and one kind of processor.
#[derive(Debug)]
pub struct CompileCache {
    dir: PathBuf,
    key: [u8; KEY_BYTES],
    /// Engine version, flags and processor, as a file name's part.
    engine: String,
}

impl CompileCache {
    /// Opens the cache, making the directory (mode 0700) and its key (mode 0600) where they are missing.
    ///
    /// # Errors
    /// [`CacheError::Exposed`] where other users have access; [`CacheError::Io`] otherwise.
    pub fn open(dir: &Path, engine: &wasmtime::Engine) -> Result<Self, CacheError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source| CacheError::Io { path, source }
        };
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(dir)
            .map_err(io(dir))?;
        closed_to_others(dir)?;
        let key_path = dir.join("key");
        let key = match read_key(&key_path) {
            Ok(key) => key,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                make_key(dir, &key_path).map_err(io(&key_path))?
            }
            Err(error) => return Err(io(&key_path)(error)),
        };
        closed_to_others(&key_path)?;
        let mut hasher = StableHasher(Sha256::new());
        engine.precompile_compatibility_hash().hash(&mut hasher);
        let engine = hex(&hasher.0.finalize()[..8]);
        Ok(Self {
            dir: dir.to_owned(),
            key,
            engine,
        })
    }

    fn path(&self, digest: &str) -> PathBuf {
        let name: String = digest
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .take(80)
            .collect();
        self.dir.join(format!("{name}-{}.cwasm", self.engine))
    }

    fn code(&self, path: &Path, content: &[u8]) -> [u8; KEY_BYTES] {
        let mut mac =
            Hmac::<Sha256>::new_from_slice(&self.key).expect("a key of any length is accepted");
        mac.update(path.file_name().map_or(&[], |n| n.as_encoded_bytes()));
        mac.update(&[0]);
        mac.update(content);
        mac.finalize().into_bytes().into()
    }

    /// The compiled component for a digest; `None` where there is none, or where it is not as this host wrote it.
    pub(crate) fn load(&self, digest: &str, engine: &wasmtime::Engine) -> Option<Component> {
        let path = self.path(digest);
        // Neither a link that leads elsewhere nor a pipe that never ends is a file of ours.
        let file = fs::OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits() as i32)
            .open(&path)
            .ok()?;
        let metadata = file.metadata().ok()?;
        if !metadata.is_file() {
            return None;
        }
        // As large as it says, so that machine code is not moved again and again while it is read.
        let room = metadata.len().min(FILE_BYTES_MAX) + 1;
        let mut bytes = Vec::with_capacity(usize::try_from(room).ok()?);
        file.take(FILE_BYTES_MAX).read_to_end(&mut bytes).ok()?;
        let (code, content) = bytes.split_at_checked(KEY_BYTES)?;
        if !same(&self.code(&path, content), code) {
            tracing::warn!(path = %path.display(), "a cached component was changed since it was written: it is not loaded");
            let _ = fs::remove_file(&path);
            return None;
        }
        #[expect(unsafe_code, reason = "the only way to load compiled code")]
        // SAFETY: `deserialize` requires bytes that `Component::serialize` made and nobody changed. The code over
        // `content` was just checked with a key that only this user can read, and only `store` below makes such codes,
        // for serialised components. The bytes checked are the bytes loaded: they are in this process's memory. A
        // version or flag mismatch is caught by wasmtime itself.
        let component = unsafe { Component::deserialize(engine, content) };
        match component {
            Ok(component) => Some(component),
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "a cached component does not fit this engine");
                None
            }
        }
    }

    /// Keeps a compiled component. The file appears whole or not at all.
    pub(crate) fn store(&self, digest: &str, component: &Component) -> Result<(), CacheError> {
        let content = component
            .serialize()
            .map_err(|error| CacheError::Serialise(error.to_string()))?;
        let path = self.path(digest);
        let io = |source| CacheError::Io {
            path: path.clone(),
            source,
        };
        let mut file = tempfile::NamedTempFile::new_in(&self.dir).map_err(io)?;
        file.write_all(&self.code(&path, &content)).map_err(io)?;
        file.write_all(&content).map_err(io)?;
        file.persist(&path).map_err(|error| io(error.error))?;
        Ok(())
    }
}

/// Feeds a `Hash` into SHA-256, so that file names do not depend on the standard library's hasher.
struct StableHasher(Sha256);

impl Hasher for StableHasher {
    fn finish(&self) -> u64 {
        0
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }
}

fn read_key(path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let bytes = fs::read(path)?;
    bytes
        .try_into()
        .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "the key has a wrong length"))
}

/// Makes a key; where another process was faster, its key counts.
fn make_key(dir: &Path, path: &Path) -> io::Result<[u8; KEY_BYTES]> {
    let key: [u8; KEY_BYTES] = rand::random();
    let aside = dir.join(format!("key.{}", std::process::id()));
    fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&aside)?
        .write_all(&key)?;
    let linked = fs::hard_link(&aside, path);
    let _ = fs::remove_file(&aside);
    match linked {
        Ok(()) => Ok(key),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => read_key(path),
        Err(error) => Err(error),
    }
}

fn closed_to_others(path: &Path) -> Result<(), CacheError> {
    let mode = fs::metadata(path)
        .map_err(|source| CacheError::Io {
            path: path.to_owned(),
            source,
        })?
        .permissions()
        .mode();
    if mode & 0o077 == 0 {
        Ok(())
    } else {
        Err(CacheError::Exposed {
            path: path.to_owned(),
        })
    }
}

fn same(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && a.iter().zip(b).fold(0, |diff, (a, b)| diff | (a ^ b)) == 0
}

fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const COMPONENT: &[u8] = b"\0asm\x0d\0\x01\0";

    fn cache(dir: &Path) -> (wasmtime::Engine, CompileCache) {
        let engine = wasmtime::Engine::default();
        let cache = CompileCache::open(&dir.join("aot"), &engine).unwrap();
        (engine, cache)
    }

    #[test]
    fn what_was_stored_is_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache) = cache(dir.path());
        let component = Component::new(&engine, COMPONENT).unwrap();
        assert!(cache.load("sha256:00", &engine).is_none());
        cache.store("sha256:00", &component).unwrap();
        assert!(cache.load("sha256:00", &engine).is_some());
    }

    #[test]
    fn a_file_with_any_byte_changed_is_not_loaded_and_is_removed() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache) = cache(dir.path());
        let component = Component::new(&engine, COMPONENT).unwrap();
        for position in [0, KEY_BYTES - 1, KEY_BYTES, KEY_BYTES + 100] {
            cache.store("sha256:00", &component).unwrap();
            let path = cache.path("sha256:00");
            let mut bytes = fs::read(&path).unwrap();
            bytes[position] ^= 1;
            fs::write(&path, bytes).unwrap();
            assert!(cache.load("sha256:00", &engine).is_none());
            assert!(!path.exists());
        }
    }

    #[test]
    fn a_file_that_another_host_wrote_or_that_was_renamed_is_not_loaded() {
        let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let (engine, ours) = cache(here.path());
        let (_, theirs) = cache(there.path());
        let component = Component::new(&engine, COMPONENT).unwrap();
        theirs.store("sha256:00", &component).unwrap();
        fs::copy(theirs.path("sha256:00"), ours.path("sha256:00")).unwrap();
        assert!(ours.load("sha256:00", &engine).is_none());
        ours.store("sha256:01", &component).unwrap();
        fs::rename(ours.path("sha256:01"), ours.path("sha256:00")).unwrap();
        assert!(ours.load("sha256:00", &engine).is_none());
    }

    #[test]
    fn a_directory_that_others_can_write_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("aot");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(matches!(
            CompileCache::open(&path, &wasmtime::Engine::default()),
            Err(CacheError::Exposed { .. })
        ));
    }

    #[test]
    fn a_truncated_file_is_not_loaded() {
        let dir = tempfile::tempdir().unwrap();
        let (engine, cache) = cache(dir.path());
        for bytes in [&[][..], &[1; 31], &[1; 32], &[1; 33]] {
            fs::write(cache.path("sha256:00"), bytes).unwrap();
            assert!(cache.load("sha256:00", &engine).is_none());
        }
    }
}
