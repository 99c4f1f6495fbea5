//! What can go wrong while a message is sent. The interface has one error, a sentence.

use std::error::Error as StdError;

use crate::subject::SubjectError;

/// A serving function's answer: the interface's own result, inside what a host understands.
pub(crate) type Answer<T> = Result<Result<T, String>, trellis_provider_sdk::Refusal>;

/// Longest text that somebody is told of what others said, in bytes.
const TEXT_BYTES_MAX: usize = 512;

/// Why a message was not sent, or not answered.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Failure {
    /// The subject is none.
    #[error("`{}` is no subject for a message: {reason}", shown(subject))]
    Subject {
        subject: String,
        reason: SubjectError,
    },
    /// The link does not let its actor publish there.
    #[error(
        "the link does not allow the subject `{}`; its configuration `publish_subjects` can name it",
        shown(subject)
    )]
    Forbidden { subject: String },
    /// The body is larger than the server takes.
    #[error("a message of {bytes} bytes exceeds the {limit} that the server takes")]
    Payload { bytes: usize, limit: usize },
    /// The answer is larger than a call can carry.
    #[error("the answer of {bytes} bytes exceeds the {limit} that a call can carry")]
    Reply { bytes: usize, limit: usize },
    /// Nobody listens.
    #[error("nobody listens on `{}`", shown(subject))]
    NoResponders { subject: String },
    /// No answer in time.
    #[error("no answer from `{}` within {within_ms} ms", shown(subject))]
    TimedOut { subject: String, within_ms: u128 },
    /// The connection is down, and nothing was sent.
    #[error("not connected to NATS, nothing was sent")]
    NotConnected,
    /// Nobody knows whether the server has it.
    #[error("the server did not confirm the message: it may have been sent")]
    Unconfirmed,
    /// The server refused.
    #[error("the server does not permit the subject `{}`", shown(subject))]
    Denied { subject: String },
    /// No stream took the message, though the link wants one to.
    #[error("no stream confirmed the message: {reason}")]
    Stream { reason: String },
    /// Too many wait already.
    #[error("{limit} requests wait for answers already")]
    Busy { limit: usize },
    /// The server cannot be reached or says no.
    #[error("{attempted}: {reason}")]
    Backend {
        attempted: &'static str,
        reason: String,
    },
}

impl Failure {
    /// A failure of the backend, with the causes that it gives.
    pub(crate) fn backend(attempted: &'static str, error: &dyn StdError) -> Self {
        let mut reason = error.to_string();
        let mut cause = error.source();
        while let Some(next) = cause {
            let text = next.to_string();
            // Many errors repeat their cause in their own text.
            if !reason.contains(&text) {
                reason.push_str(": ");
                reason.push_str(&text);
            }
            cause = next.source();
        }
        reason.truncate(reason.floor_char_boundary(TEXT_BYTES_MAX));
        Self::Backend { attempted, reason }
    }

    /// Whether it is the backend's doing, so that an operator should read of it.
    pub(crate) fn is_backend(&self) -> bool {
        matches!(
            self,
            Self::NotConnected | Self::Unconfirmed | Self::Denied { .. } | Self::Backend { .. }
        )
    }
}

/// Somebody's text as it may stand in a sentence or a log: cut, and without what would look like another line.
pub(crate) fn shown(text: &str) -> String {
    let text = &text[..text.floor_char_boundary(TEXT_BYTES_MAX)];
    text.escape_debug().to_string()
}
