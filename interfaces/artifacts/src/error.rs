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

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::archive::ArchiveError;
use crate::digest::Digest;
use crate::kind::Kind;
use crate::reference::ReferenceError;

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

/// Why a registry did not hand over, or take, an artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RegistryError {
    /// No connection.
    #[error(
        "no connection to {registry} ({reason}); look whether it runs and whether this machine reaches it"
    )]
    Unreachable {
        /// The registry.
        registry: String,
        /// What the system said.
        reason: String,
    },
    /// Its certificate is not believed, or it does not speak TLS.
    #[error(
        "{registry} is not believed ({reason}); name its authority with `--oci-ca`, or the registry with `--insecure-registry` if it speaks plain HTTP"
    )]
    Untrusted {
        /// The registry.
        registry: String,
        /// What TLS said.
        reason: String,
    },
    /// It was silent.
    #[error(
        "{registry} was silent for {within:?} when it came to the {what}; look whether it is overloaded, then try again"
    )]
    Timeout {
        /// The registry.
        registry: String,
        /// What was waited for.
        what: &'static str,
        /// For how long.
        within: Duration,
    },
    /// It wants credentials, or others, or forbids.
    #[error("{registry} refused it (HTTP {status}{}); {remedy}", colon(reason))]
    Refused {
        /// The registry.
        registry: String,
        /// The status of HTTP.
        status: u16,
        /// What it said, shortened.
        reason: String,
        /// What would help.
        remedy: &'static str,
    },
    /// There is no such repository or tag or blob.
    #[error(
        "{registry} has no {what}{}; look at the name and the tag",
        colon(reason)
    )]
    Missing {
        /// The registry.
        registry: String,
        /// What is missing.
        what: String,
        /// What it said, shortened.
        reason: String,
    },
    /// It answers with errors of its own.
    #[error(
        "{registry} fails (HTTP {status}{}); try again later, or look at its log",
        colon(reason)
    )]
    Failing {
        /// The registry.
        registry: String,
        /// The status of HTTP.
        status: u16,
        /// What it said, shortened.
        reason: String,
    },
    /// Its answers make no sense.
    #[error("{registry} does not behave as a registry does: {reason}")]
    Misbehaved {
        /// The registry.
        registry: String,
        /// What it did.
        reason: String,
    },
    /// Other bytes than were asked for.
    #[error(
        "{registry} sent a {what} whose digest is {actual} instead of {expected}; nothing of it was kept"
    )]
    DigestMismatch {
        /// The registry.
        registry: String,
        /// Manifest or content.
        what: &'static str,
        /// The digest asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// More or fewer bytes than were announced.
    #[error("{registry} announced {expected} bytes and sent {actual}; nothing of them was kept")]
    LengthMismatch {
        /// The registry.
        registry: String,
        /// The length in the manifest.
        expected: u64,
        /// What came (or was announced next).
        actual: u64,
    },
    /// No layer of a type that we take.
    #[error("it holds no {wanted}: its layers are {found}, accepted are {accepted}")]
    MediaType {
        /// What was looked for.
        wanted: String,
        /// The types that it has.
        found: String,
        /// The types that would do.
        accepted: String,
    },
    /// An index without anything for this machine.
    #[error("it is made for {found}, this machine is {platform}")]
    Platform {
        /// What it is made for.
        found: String,
        /// This machine.
        platform: String,
    },
    /// Larger than it may be.
    #[error("it has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
}

fn colon(reason: &str) -> String {
    match reason {
        "" => String::new(),
        reason => format!(": {reason}"),
    }
}

impl RegistryError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "registry-unreachable",
            Self::Untrusted { .. } => "registry-untrusted",
            Self::Timeout { .. } => "registry-timeout",
            Self::Refused { .. } => "registry-refused",
            Self::Missing { .. } => "artifact-missing",
            Self::Failing { .. } => "registry-failing",
            Self::Misbehaved { .. } => "registry-misbehaved",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::MediaType { .. } => "media-type-unsupported",
            Self::Platform { .. } => "platform-missing",
            Self::TooLarge { .. } => "artifact-too-large",
        }
    }

    /// Whether another attempt could go better.
    pub(crate) const fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::Unreachable { .. }
                | Self::Timeout { .. }
                | Self::Failing { .. }
                | Self::LengthMismatch { .. }
                | Self::DigestMismatch { .. }
        )
    }
}

/// Why the lattice's store did not hand over, or take, an artifact.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// There is no connection to a lattice.
    #[error("there is no lattice here whose store could be asked; connect to one")]
    NoLattice,
    /// NATS or JetStream does not answer.
    #[error(
        "the lattice's store does not answer ({reason}); look at NATS and JetStream, then try again"
    )]
    Unavailable {
        /// What was heard last.
        reason: String,
    },
    /// There is no such object.
    #[error("the lattice's store has no `{reference}`; `wash push` puts it there")]
    Missing {
        /// The reference.
        reference: String,
    },
    /// The object's own description cannot be used.
    #[error(
        "the lattice's store has `{reference}` in a form that is not ours: {reason}; push it again"
    )]
    Malformed {
        /// The reference.
        reference: String,
        /// What is wrong.
        reason: String,
    },
    /// The content is not what was pushed, or not what the reference pins.
    #[error(
        "the lattice's store has other content under that name: its digest is {actual} instead of {expected}"
    )]
    DigestMismatch {
        /// The digest pinned or pushed.
        expected: Digest,
        /// What is there.
        actual: Digest,
    },
    /// More or fewer bytes than were announced.
    #[error(
        "the lattice's store announced {expected} bytes and sent {actual}; push the artifact again"
    )]
    LengthMismatch {
        /// Announced.
        expected: u64,
        /// Sent.
        actual: u64,
    },
    /// Larger than it may be.
    #[error("it has {bytes} bytes, at most {max} are accepted")]
    TooLarge {
        /// Its length.
        bytes: u64,
        /// The limit.
        max: u64,
    },
    /// The store is full.
    #[error(
        "the lattice's store takes no more ({reason}); remove artifacts, or give JetStream more room"
    )]
    Full {
        /// What the server said.
        reason: String,
    },
    /// It holds something else than was looked for.
    #[error("it is `{found}`, not a {wanted}")]
    MediaType {
        /// Its media type.
        found: String,
        /// What was looked for.
        wanted: Kind,
    },
}

impl StoreError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::NoLattice | Self::Unavailable { .. } => "store-unavailable",
            Self::Missing { .. } => "artifact-missing",
            Self::Malformed { .. } => "store-malformed",
            Self::DigestMismatch { .. } => "digest-mismatch",
            Self::LengthMismatch { .. } => "length-mismatch",
            Self::TooLarge { .. } => "artifact-too-large",
            Self::Full { .. } => "store-full",
            Self::MediaType { .. } => "media-type-unsupported",
        }
    }

    pub(crate) const fn is_retryable(&self) -> bool {
        matches!(self, Self::Unavailable { .. } | Self::LengthMismatch { .. })
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

    pub(crate) fn io(path: &std::path::Path, source: io::Error) -> Self {
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
