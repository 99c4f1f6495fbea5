//! What can go wrong. Every error has a stable code and says what was tried, what went wrong and what would help.
//!
//! | code | meaning |
//! | --- | --- |
//! | `reference-unsupported` | the text is no reference, or not one for this |
//! | `files-not-allowed`, `latest-not-allowed` | the operator did not allow it |
//! | `artifact-missing` | there is no such file, repository, tag or object |
//! | `artifact-unreadable` | a file cannot be read, or is no regular file |
//! | `artifact-too-large` | larger than the limit; said before its bytes are fetched where the source says the size |
//! | `artifact-empty`, `artifact-truncated` | it has no byte, or not all that it says it has |
//! | `not-a-component` | not WebAssembly, or a core module |
//! | `not-a-provider` | neither an archive of ours nor an executable |
//! | `platform-missing` | nothing in it runs on this machine |
//! | `archive-invalid`, `archive-untrusted` | an archive's form, or its manifest's claims |
//! | `registry-unreachable`, `registry-timeout`, `registry-untrusted` | no connection; silent; its certificate |
//! | `registry-refused` | it wants (other) credentials, or forbids |
//! | `registry-failing` | it answers with errors of its own |
//! | `registry-misbehaved` | its answers make no sense: a manifest that is none or too large, redirects in circles |
//! | `digest-mismatch`, `length-mismatch` | the bytes are not those that were announced |
//! | `media-type-unsupported` | the manifest has no layer that we take |
//! | `store-unavailable` | NATS or JetStream does not answer, or has no store |
//! | `cache-full`, `cache-unusable` | the cache's disk |
//! | `transfer-timeout` | bytes came until the end of all patience |

mod local;
mod source;

use std::path::PathBuf;
use std::time::Duration;

use crate::reference::ReferenceError;

pub use local::{CacheError, ContentError, FileError};
pub use source::{RegistryError, StoreError};

/// Why nothing was fetched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FetchError {
    /// The text is no reference.
    #[error(transparent)]
    Reference(#[from] ReferenceError),
    /// The operator has not allowed files.
    #[error(
        "refused `{reference}`: nothing is taken from files here; start the host with `--allow-file` to allow it"
    )]
    FilesNotAllowed {
        /// The reference.
        reference: String,
    },
    /// The operator has not allowed what changes under its name.
    #[error(
        "refused `{reference}`: it stands for whatever is the latest; name a tag or a digest, or start the host with `--allow-latest`"
    )]
    LatestNotAllowed {
        /// The reference.
        reference: String,
    },
    /// The file cannot be taken.
    #[error("cannot take `{reference}`: {cause}")]
    File {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        #[source]
        cause: FileError,
    },
    /// The registry did not hand it over.
    #[error("cannot fetch `{reference}`: {cause}")]
    Registry {
        /// The reference.
        reference: String,
        /// What went wrong last.
        #[source]
        cause: RegistryError,
    },
    /// The lattice's store did not hand it over.
    #[error("cannot fetch `{reference}`: {cause}")]
    Store {
        /// The reference.
        reference: String,
        /// What went wrong last.
        #[source]
        cause: StoreError,
    },
    /// What came is not what it should be.
    #[error("refused `{reference}`: {cause}")]
    Content {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        #[source]
        cause: ContentError,
    },
    /// It cannot be kept.
    #[error("cannot keep `{reference}`: {cause}")]
    Cache {
        /// The reference.
        reference: String,
        /// What is wrong with the cache.
        #[source]
        cause: CacheError,
    },
    /// Bytes came for too long.
    #[error(
        "gave up on `{reference}`: it was not there within {within:?}; look at the network and the source, then try again"
    )]
    TooSlow {
        /// The reference.
        reference: String,
        /// The limit.
        within: Duration,
    },
}

impl FetchError {
    /// A stable word for programs and audits.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Reference(error) => error.code(),
            Self::FilesNotAllowed { .. } => "files-not-allowed",
            Self::LatestNotAllowed { .. } => "latest-not-allowed",
            Self::File { cause, .. } => cause.code(),
            Self::Registry { cause, .. } => cause.code(),
            Self::Store { cause, .. } => cause.code(),
            Self::Content { cause, .. } => cause.code(),
            Self::Cache { cause, .. } => cause.code(),
            Self::TooSlow { .. } => "transfer-timeout",
        }
    }
}

/// Why nothing was pushed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PushError {
    /// Only registries and the lattice's store take artifacts.
    #[error(
        "cannot push to `{reference}`: name a registry (`registry.example/name:tag`) or the lattice's store (`lattice://name:tag`)"
    )]
    Unsupported {
        /// The reference.
        reference: String,
    },
    /// A digest is not chosen by who pushes.
    #[error(
        "cannot push to `{reference}`: leave the digest out, it is what comes of the push; name a tag"
    )]
    Pinned {
        /// The reference.
        reference: String,
    },
    /// The file cannot be read.
    #[error("cannot push to `{reference}`: {cause}")]
    File {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        #[source]
        cause: FileError,
    },
    /// What is pushed is not what it should be.
    #[error("refused to push to `{reference}`: {cause}")]
    Content {
        /// The reference.
        reference: String,
        /// What is wrong with it.
        #[source]
        cause: ContentError,
    },
    /// The registry did not take it.
    #[error("cannot push to `{reference}`: {cause}")]
    Registry {
        /// The reference.
        reference: String,
        /// What went wrong last.
        #[source]
        cause: RegistryError,
    },
    /// The lattice's store did not take it.
    #[error("cannot push to `{reference}`: {cause}")]
    Store {
        /// The reference.
        reference: String,
        /// What went wrong.
        #[source]
        cause: StoreError,
    },
    /// It went on for too long.
    #[error(
        "gave up pushing to `{reference}`: it was not done within {within:?}; look at the network, then push again"
    )]
    TooSlow {
        /// The reference.
        reference: String,
        /// The limit.
        within: Duration,
    },
}

impl PushError {
    /// A stable word for programs and audits.
    #[must_use]
    pub fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } | Self::Pinned { .. } => "reference-unsupported",
            Self::File { cause, .. } => cause.code(),
            Self::Content { cause, .. } => cause.code(),
            Self::Registry { cause, .. } => cause.code(),
            Self::Store { cause, .. } => cause.code(),
            Self::TooSlow { .. } => "transfer-timeout",
        }
    }
}

/// Why artifacts cannot be fetched at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The cache's directory cannot be used.
    #[error(transparent)]
    Cache(#[from] CacheError),
    /// A file of certificates cannot be used.
    #[error("cannot use the certificates in {}: {reason}", path.display())]
    Certificates {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The client cannot be made.
    #[error("cannot make a client for registries: {reason}")]
    Client {
        /// What is wrong.
        reason: String,
    },
}
