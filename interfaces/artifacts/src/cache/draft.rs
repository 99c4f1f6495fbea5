//! [`Draft`]: a file of the cache while it is written; [`Kept`]: one that is used.

use std::fs::{self, File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use sha2::{Digest as _, Sha256};
use tempfile::NamedTempFile;

use super::{Cache, Shelf};
use crate::digest::Digest;
use crate::error::CacheError;

/// A file of the cache while it is written. Gone when it is dropped.
#[derive(Debug)]
pub(crate) struct Draft {
    cache: Arc<Cache>,
    file: NamedTempFile,
    hash: Sha256,
    bytes: u64,
}

/// A file of the cache that is used: not cleared away as long as this value or a clone of it is there.
#[derive(Debug, Clone)]
pub(crate) struct Kept {
    pub(crate) path: PathBuf,
    pub(crate) file: Arc<File>,
    pub(crate) bytes: u64,
}

impl Kept {
    pub(super) fn new(path: PathBuf, file: File, bytes: u64) -> Self {
        Self {
            path,
            file: Arc::new(file),
            bytes,
        }
    }

    /// The file from its beginning. There is one position for all clones.
    pub(crate) fn rewound(&self) -> io::Result<&File> {
        (&*self.file).seek(SeekFrom::Start(0))?;
        Ok(&self.file)
    }
}

impl Draft {
    pub(super) fn begin(cache: Arc<Cache>) -> io::Result<Self> {
        let file = NamedTempFile::new_in(cache.drafts())?;
        file.as_file().lock()?;
        Ok(Self {
            cache,
            file,
            hash: Sha256::new(),
            bytes: 0,
        })
    }

    pub(crate) fn add(&mut self, piece: &[u8]) -> Result<(), CacheError> {
        self.file
            .write_all(piece)
            .map_err(|error| self.cache.error(error))?;
        self.hash.update(piece);
        self.bytes += piece.len() as u64;
        Ok(())
    }

    /// Forgets what was written.
    pub(crate) fn restart(&mut self) -> Result<(), CacheError> {
        self.hash = Sha256::new();
        self.bytes = 0;
        self.file
            .as_file()
            .set_len(0)
            .and_then(|()| self.file.rewind())
            .map_err(|error| self.cache.error(error))
    }

    pub(crate) const fn bytes(&self) -> u64 {
        self.bytes
    }

    pub(crate) fn digest(&self) -> Digest {
        Digest::from_bytes(self.hash.clone().finalize().into())
    }

    /// Where it is now, to be looked at before it is kept.
    pub(crate) fn path(&self) -> &Path {
        self.file.path()
    }

    /// Puts it in its place, under its own digest.
    pub(crate) fn keep(self, shelf: Shelf) -> Result<Kept, CacheError> {
        let digest = self.digest();
        let Self {
            cache, file, bytes, ..
        } = self;
        // Its length was not known before, or others have used the room meanwhile.
        cache.make_room(bytes)?;
        let place = cache.place(shelf, &digest);
        let keep = || -> io::Result<Kept> {
            let permissions = Permissions::from_mode(shelf.file_mode());
            fs::set_permissions(file.path(), permissions)?;
            // Opened again for reading alone: a file that anybody can write to cannot be executed. The new lock begins
            // when the old one ends with its file; until then nobody else can have it.
            let reader = File::open(file.path())?;
            let temporary = file.into_temp_path();
            reader.lock_shared()?;
            temporary.persist(&place).map_err(|error| error.error)?;
            Ok(Kept::new(place.clone(), reader, bytes))
        };
        keep().map_err(|error| cache.error(error))
    }
}

/// For whoever writes by the standard traits; the cause of an error is [`CacheError`].
impl Write for Draft {
    fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
        self.add(piece).map_err(io::Error::other)?;
        Ok(piece.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
