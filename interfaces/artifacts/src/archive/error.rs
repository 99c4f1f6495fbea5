//! Why an archive is not read, believed or made.

use std::io;

use trellis_claims::token::{SignError, TokenError};

/// Why an archive is not read, believed or made.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArchiveError {
    /// Not an archive of ours.
    #[error("it is no archive of a provider: {reason}")]
    Malformed {
        /// What is wrong.
        reason: String,
    },
    /// It is cut short.
    #[error("the archive is cut short or damaged at byte {offset}; build and publish it again")]
    Truncated {
        /// Where.
        offset: u64,
    },
    /// An archive of another system.
    #[error(
        "it is an archive of a wasmCloud 1.x provider, which runs on hosts of wasmCloud only; name one of this host's own providers instead (see docs/artifacts.md)"
    )]
    Foreign,
    /// Its manifest is not believed.
    #[error("the archive's manifest is not believed: {cause}")]
    Untrusted {
        /// Why.
        #[source]
        cause: TokenError,
    },
    /// An executable is not the one that was signed.
    #[error(
        "the executable `{name}` is not the one that was signed: its digest or length differs; nothing of it was kept"
    )]
    Changed {
        /// The entry's name.
        name: String,
    },
    /// There is none for a platform.
    #[error("the archive has no executable for {platform}; it has {available}")]
    PlatformMissing {
        /// The platform asked for.
        platform: String,
        /// What it has.
        available: String,
    },
    /// The manifest cannot be signed.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// Reading or writing failed.
    #[error("cannot read or write the archive: {0}")]
    Io(#[from] io::Error),
}

impl ArchiveError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Malformed { .. } | Self::Truncated { .. } | Self::Foreign => "archive-invalid",
            Self::Untrusted { .. } | Self::Changed { .. } => "archive-untrusted",
            Self::PlatformMissing { .. } => "platform-missing",
            Self::Sign(_) => "archive-unsigned",
            Self::Io(_) => "artifact-unreadable",
        }
    }

    pub(crate) fn malformed(reason: impl ToString) -> Self {
        Self::Malformed {
            reason: reason.to_string(),
        }
    }
}
