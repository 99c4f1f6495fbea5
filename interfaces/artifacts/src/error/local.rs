//! What goes wrong on this machine: with files, the cache, and the form of some content.

use std::io;
use std::path::{Path, PathBuf};

use crate::archive::ArchiveError;

/// Why a file of the host is not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// There is no such file.
    #[error("there is no file {} here", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory, a device, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// It has no byte.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than it may be.
    #[error("{} has {bytes} bytes, at most {max} are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl FileError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "artifact-missing",
            Self::Empty { .. } => "artifact-empty",
            Self::NotAFile { .. } | Self::Io { .. } => "artifact-unreadable",
            Self::TooLarge { .. } => "artifact-too-large",
        }
    }
}

/// Why something cannot be kept.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// No room, on the disk or within a quota.
    #[error("there is no room in {} ({source}); free some, or name another directory with `--artifact-cache`", path.display())]
    Full {
        /// The cache's directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// It is larger than the whole cache may be.
    #[error("it has {bytes} bytes, and the cache in {} holds at most {max}", path.display())]
    TooLarge {
        /// The cache's directory.
        path: PathBuf,
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The directory cannot be used.
    #[error("cannot use the cache in {}: {source}; look at its owner and permissions", path.display())]
    Unusable {
        /// The cache's directory.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl CacheError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Full { .. } | Self::TooLarge { .. } => "cache-full",
            Self::Unusable { .. } => "cache-unusable",
        }
    }

    pub(crate) fn io(path: &Path, source: io::Error) -> Self {
        let path = path.to_owned();
        match source.kind() {
            io::ErrorKind::StorageFull
            | io::ErrorKind::QuotaExceeded
            | io::ErrorKind::FileTooLarge => Self::Full { path, source },
            _ => Self::Unusable { path, source },
        }
    }
}

/// Why bytes are not what they should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ContentError {
    /// No byte.
    #[error("it is empty; build and publish it again")]
    Empty,
    /// It does not begin as WebAssembly.
    #[error("it is not WebAssembly but {found}; name a component (target wasm32-wasip2)")]
    NotWasm {
        /// What it looks like.
        found: &'static str,
    },
    /// WebAssembly, but a core module.
    #[error(
        "it is a core module of WebAssembly, not a component; build it for wasm32-wasip2, or wrap it into a component"
    )]
    CoreModule,
    /// WebAssembly of another version or layer.
    #[error("its binary format (version and layer {version:02x?}) is not that of components")]
    UnknownFormat {
        /// The four bytes behind the magic number.
        version: [u8; 4],
    },
    /// A section claims more bytes than there are.
    #[error("it is cut short or damaged at byte {offset}; build and publish it again")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// Larger than it may be.
    #[error("it has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// Neither an archive of ours nor an executable.
    #[error("it is no provider but {found}; make an archive with `wash par create`")]
    NotAProvider {
        /// What it looks like.
        found: &'static str,
    },
    /// An executable for another machine.
    #[error(
        "it is an executable for {found}, and this machine is {platform}; build it for this one"
    )]
    ForeignExecutable {
        /// What it was built for.
        found: String,
        /// This machine.
        platform: String,
    },
    /// An archive that is not taken.
    #[error(transparent)]
    Archive(#[from] ArchiveError),
}

impl ContentError {
    /// A stable word for programs and audits.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Empty => "artifact-empty",
            Self::NotWasm { .. } | Self::CoreModule | Self::UnknownFormat { .. } => {
                "not-a-component"
            }
            Self::Truncated { .. } => "artifact-truncated",
            Self::TooLarge { .. } => "artifact-too-large",
            Self::NotAProvider { .. } => "not-a-provider",
            Self::ForeignExecutable { .. } => "platform-missing",
            Self::Archive(error) => error.code(),
        }
    }
}
