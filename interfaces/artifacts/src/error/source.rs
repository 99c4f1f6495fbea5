//! What goes wrong with those that artifacts come from: registries, and the lattice's store.

use std::time::Duration;

use crate::digest::Digest;
use crate::kind::Kind;

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
