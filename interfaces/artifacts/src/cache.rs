//! [`Cache`]: what was fetched, by content. Everything blocks: call it where that is allowed.
//!
//! ```text
//! <cache>/blobs/<sha256>      components, archives, manifests, as they were published
//! <cache>/programs/<sha256>   executables out of archives
//! <cache>/tmp/…               what is being written
//! ```
//!
//! A file is written aside, hashed on the way, and renamed to the name of its hash, so no name ever stands for other
//! bytes or for half of them. It is hashed again at each load all the same: disks forget, and people edit. What does not
//! fit its name is removed and counts as missing.
//!
//! Several processes can share one cache. Whoever uses a file holds a shared lock (`flock`) on it; clearing takes an
//! exclusive one first, and leaves what it does not get. What a process that was killed left in `tmp` has no lock, and goes
//! when the next one opens the cache.

mod draft;

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustix::fs::OFlags;
use sha2::{Digest as _, Sha256};
use tempfile::TempDir;

use crate::digest::Digest;
use crate::error::CacheError;

pub(crate) use draft::{Draft, Kept};

/// What was written to so recently is left in `tmp` even without a lock: its owner is about to take one, or to rename it.
const DRAFT_SETTLED: Duration = Duration::from_secs(60);

/// How much is read at once, in bytes.
const PIECE_BYTES: usize = 128 * 1024;

/// What a file of the cache is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shelf {
    /// As it was published.
    Blobs,
    /// An executable.
    Programs,
}

impl Shelf {
    const ALL: [Self; 2] = [Self::Blobs, Self::Programs];

    const fn directory(self) -> &'static str {
        match self {
            Self::Blobs => "blobs",
            Self::Programs => "programs",
        }
    }

    /// Programs may have to be run as another user.
    const fn directory_mode(self) -> u32 {
        match self {
            Self::Blobs => 0o700,
            Self::Programs => 0o711,
        }
    }

    const fn file_mode(self) -> u32 {
        match self {
            Self::Blobs => 0o600,
            Self::Programs => 0o555,
        }
    }
}

/// What was fetched, by content.
#[derive(Debug)]
pub(crate) struct Cache {
    directory: PathBuf,
    bytes_max: u64,
    /// One clearing at a time in this process. Others can only have removed what it is about to remove.
    clearing: Mutex<()>,
    _temporary: Option<TempDir>,
}

impl Cache {
    /// Makes what is missing, and clears away what others left half written.
    pub(crate) fn open(directory: Option<&Path>, bytes_max: u64) -> Result<Self, CacheError> {
        let (directory, temporary) = match directory {
            Some(directory) => (directory.to_owned(), None),
            None => {
                let made = tempfile::Builder::new()
                    .prefix("trellis-artifacts-")
                    .tempdir()
                    .map_err(|error| CacheError::io(&std::env::temp_dir(), error))?;
                (made.path().to_owned(), Some(made))
            }
        };
        let cache = Self {
            directory,
            bytes_max,
            clearing: Mutex::new(()),
            _temporary: temporary,
        };
        cache.prepare().map_err(|error| cache.error(error))?;
        Ok(cache)
    }

    fn prepare(&self) -> io::Result<()> {
        let make = |path: &Path, mode| DirBuilder::new().recursive(true).mode(mode).create(path);
        make(&self.directory, 0o711)?;
        let found = fs::metadata(&self.directory)?;
        if found.mode() & 0o002 != 0 && found.mode() & 0o1000 == 0 {
            return Err(io::Error::new(
                io::ErrorKind::PermissionDenied,
                "other users can write to it",
            ));
        }
        for shelf in Shelf::ALL {
            make(&self.shelf(shelf), shelf.directory_mode())?;
        }
        make(&self.drafts(), 0o700)?;
        for entry in fs::read_dir(self.drafts())? {
            let path = entry?.path();
            let is_settled = |file: &File| {
                let written = file.metadata().and_then(|metadata| metadata.modified());
                written.is_ok_and(|at| at.elapsed().is_ok_and(|age| age >= DRAFT_SETTLED))
            };
            if let Ok(file) = File::open(&path)
                && is_settled(&file)
                && file.try_lock().is_ok()
            {
                // Somebody else may do the same.
                let _ = fs::remove_file(&path);
            }
        }
        Ok(())
    }

    fn shelf(&self, shelf: Shelf) -> PathBuf {
        self.directory.join(shelf.directory())
    }

    fn drafts(&self) -> PathBuf {
        self.directory.join("tmp")
    }

    fn place(&self, shelf: Shelf, digest: &Digest) -> PathBuf {
        self.shelf(shelf).join(digest.hex())
    }

    fn error(&self, source: io::Error) -> CacheError {
        CacheError::io(&self.directory, source)
    }

    /// Looks for some content, and hands it to `out` while it is verified. What `out` got is worthless where the answer is
    /// `None`.
    pub(crate) fn find(
        &self,
        shelf: Shelf,
        digest: &Digest,
        out: &mut dyn Write,
    ) -> Result<Option<Kept>, CacheError> {
        let path = self.place(shelf, digest);
        let opened = OpenOptions::new()
            .read(true)
            .custom_flags((OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed())
            .open(&path);
        let file = match opened {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(_) => return self.discard(&path),
        };
        // An exclusive lock is somebody's who removes it.
        if file.try_lock_shared().is_err() {
            return Ok(None);
        }
        let metadata = file.metadata().map_err(|error| self.error(error))?;
        if metadata.nlink() == 0 {
            return Ok(None);
        }
        let is_whole = metadata.is_file()
            && metadata.len() <= self.bytes_max
            && hash(&file, out).map_err(|error| self.error(error))? == *digest;
        if !is_whole {
            tracing::warn!(path = %path.display(), "a cached artifact is not what it was; it is fetched again");
            return self.discard(&path);
        }
        // By this, the longest unused is found. A file system without times only chooses worse.
        let _ = file.set_modified(SystemTime::now());
        Ok(Some(Kept::new(path, file, metadata.len())))
    }

    fn discard(&self, path: &Path) -> Result<Option<Kept>, CacheError> {
        let removed = match fs::symlink_metadata(path) {
            Ok(metadata) if metadata.is_dir() => fs::remove_dir_all(path),
            _ => fs::remove_file(path),
        };
        match removed {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(self.error(error)),
            _ => Ok(None),
        }
    }

    /// Begins to write something. With its length, room is made for it first.
    pub(crate) fn draft(self: &Arc<Self>, bytes: Option<u64>) -> Result<Draft, CacheError> {
        if let Some(bytes) = bytes {
            self.make_room(bytes)?;
        }
        Draft::begin(self.clone()).map_err(|error| self.error(error))
    }

    /// Keeps what fits beside `bytes` more, the most recently used.
    fn make_room(&self, bytes: u64) -> Result<(), CacheError> {
        if bytes > self.bytes_max {
            return Err(CacheError::TooLarge {
                path: self.directory.clone(),
                bytes,
                max: self.bytes_max,
            });
        }
        let _one = self.clearing.lock().unwrap_or_else(PoisonError::into_inner);
        let mut files = self.files().map_err(|error| self.error(error))?;
        let mut used: u64 = files.iter().map(|file| file.bytes).sum();
        files.sort_by_key(|file| file.used);
        for file in files {
            if used.saturating_add(bytes) <= self.bytes_max {
                return Ok(());
            }
            let is_free = File::open(&file.path).is_ok_and(|opened| opened.try_lock().is_ok());
            if is_free && fs::remove_file(&file.path).is_ok() {
                tracing::debug!(path = %file.path.display(), "cleared from the cache");
                used = used.saturating_sub(file.bytes);
            }
        }
        if used.saturating_add(bytes) <= self.bytes_max {
            return Ok(());
        }
        Err(self.error(io::Error::new(
            io::ErrorKind::StorageFull,
            "everything in it is in use",
        )))
    }

    fn files(&self) -> io::Result<Vec<Cached>> {
        let mut files = Vec::new();
        for shelf in Shelf::ALL {
            for entry in fs::read_dir(self.shelf(shelf))? {
                let entry = entry?;
                // It may have gone since.
                let Ok(metadata) = entry.metadata() else {
                    continue;
                };
                files.push(Cached {
                    path: entry.path(),
                    bytes: metadata.len(),
                    used: metadata.modified().unwrap_or(SystemTime::UNIX_EPOCH),
                });
            }
        }
        Ok(files)
    }
}

struct Cached {
    path: PathBuf,
    bytes: u64,
    used: SystemTime,
}

fn hash(mut file: &File, out: &mut dyn Write) -> io::Result<Digest> {
    let mut hash = Sha256::new();
    let mut piece = vec![0; PIECE_BYTES];
    loop {
        let read = match file.read(&mut piece) {
            Ok(0) => return Ok(Digest::from_bytes(hash.finalize().into())),
            Ok(read) => read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        hash.update(&piece[..read]);
        out.write_all(&piece[..read])?;
    }
}

#[cfg(test)]
mod tests;
