//! How a pipe ends, or does not begin.

use std::time::Duration;

use trellis_protocol::{Refusal, RefusalCode};

/// Why a pipe has ended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipeEnd {
    /// The other end has gone.
    #[error("the other end of the socket is closed")]
    Eof,
    /// The other end does not read.
    #[error("the other end took nothing for {} s", .0.as_secs_f32())]
    Stalled(Duration),
    /// The other end does not end calls whose caller has gone.
    #[error("a cancelled call was not answered within {} s", .0.as_secs_f32())]
    CancelUnanswered(Duration),
    /// The other end does not keep to the protocol.
    #[error("the other end broke the protocol: {what}")]
    Broken {
        /// What it sent.
        what: String,
    },
    /// The socket failed.
    #[error("the socket failed: {reason}")]
    Io {
        /// What the system said.
        reason: String,
    },
    /// This end closed it.
    #[error("{reason}")]
    Closed {
        /// Why.
        reason: String,
    },
}

impl PipeEnd {
    pub(crate) fn broken(what: impl Into<String>) -> Self {
        Self::Broken { what: what.into() }
    }

    /// What becomes of a call that the other end may have begun.
    pub(crate) fn lost(&self) -> Refusal {
        Refusal::new(
            RefusalCode::OutcomeUnknown,
            format!("the process with the call was lost: {self}"),
        )
    }

    /// What becomes of a call of which nothing was sent.
    pub(crate) fn not_here(&self) -> Refusal {
        Refusal::new(
            RefusalCode::NotHere,
            format!("the process that would serve the call is gone: {self}"),
        )
    }
}

/// Why a pipe was not begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PipeError {
    /// The provider said nothing in time.
    #[error("the provider did not say hello within {} s", .0.as_secs_f32())]
    NoHello(Duration),
    /// The provider speaks another version.
    #[error(
        "the provider speaks version {theirs} of the pipe's protocol, this host version {ours}"
    )]
    Version {
        /// Its version.
        theirs: u16,
        /// This one.
        ours: u16,
    },
    /// The budget is too low to work with.
    #[error("the byte budget of {value} is below {least}")]
    Budget {
        /// What was configured.
        value: usize,
        /// The least.
        least: usize,
    },
    /// The pipe ended before the hello was through.
    #[error(transparent)]
    Ended(#[from] PipeEnd),
}
