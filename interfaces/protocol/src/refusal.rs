//! Why a call was not carried out: a stable code, what happened, and what would allow it.
//!
//! A refusal is not an error of the callee's interface (those travel as ordinary results). It is what a host, a provider
//! or a peer says instead of a result, at once and with a type, wherever a call cannot or may not proceed.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::limits::REFUSAL_TEXT_BYTES_MAX;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $text:literal, $status:literal, $retry:ident;)*) => {
        /// The stable codes of refusals. Their text form is what travels, is logged and is documented in `PROTOCOL.md`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
        #[non_exhaustive]
        pub enum RefusalCode {
            $($(#[$doc])* #[serde(rename = $text)] $name,)*
        }

        impl RefusalCode {
            /// Every code, for tables and tests.
            pub const ALL: &[RefusalCode] = &[$(RefusalCode::$name),*];

            /// The code as it stands on the wire, in logs and in documents.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }

            /// The HTTP status with which an HTTP endpoint answers for this refusal.
            pub fn http_status(self) -> u16 {
                match self { $(Self::$name => $status),* }
            }

            /// Whether the same call may be sent to another route: the refuser says that it has not begun it (D5).
            pub fn is_retryable(self) -> bool {
                match self { $(Self::$name => codes!(@retry $retry)),* }
            }
        }
    };
    (@retry retry) => { true };
    (@retry stop) => { false };
}

codes! {
    /// No link leads from the source to a target for this interface under this name.
    NoLink = "no-link", 502, stop;
    /// The caller's or callee's claims do not grant the interface.
    NotGranted = "not-granted", 403, stop;
    /// The target does not run on the host that was asked.
    NotHere = "not-here", 503, retry;
    /// No host of the lattice runs the target.
    NoRoute = "no-route", 503, stop;
    /// The host is shutting down and takes no new work.
    Draining = "draining", 503, retry;
    /// Every permit is taken and the queue is full, or the call waited too long in it.
    Overloaded = "overloaded", 503, retry;
    /// The deadline passed before there was an answer.
    DeadlineExceeded = "deadline-exceeded", 504, stop;
    /// The caller has gone, and its work was stopped.
    Cancelled = "cancelled", 499, stop;
    /// The host or provider that had the call is gone; whether the call took effect is unknown.
    OutcomeUnknown = "outcome-unknown", 502, stop;
    /// The target has no such interface or function.
    UnknownOperation = "unknown-operation", 502, stop;
    /// Both ends know the function by another type.
    TypeMismatch = "type-mismatch", 502, stop;
    /// The payload is not an encoding of the function's parameters or result.
    BadPayload = "bad-payload", 400, stop;
    /// A message, value, list or body is larger than its limit.
    TooLarge = "too-large", 413, stop;
    /// The chain of calls is deeper than its limit.
    TooDeep = "too-deep", 508, stop;
    /// The actor stopped with a trap.
    Trapped = "trapped", 500, stop;
    /// The actor reached its memory limit.
    OutOfMemory = "out-of-memory", 500, stop;
    /// A resource handle is unknown, of another holder, or of a former incarnation of its owner.
    BadHandle = "bad-handle", 502, stop;
    /// A call that the actor made was refused for want of room or of a host, and the actor stopped at that.
    CalleeUnavailable = "callee-unavailable", 503, stop;
    /// The provider failed to do its work, in a way its interface has no error for.
    ProviderFailed = "provider-failed", 502, stop;
    /// A message between hosts was not authentic, was replayed, or came from a host that may not speak for the source.
    Unauthenticated = "unauthenticated", 403, stop;
    /// A message or frame has a version or kind that this host does not know.
    UnsupportedVersion = "unsupported-version", 502, stop;
    /// The copy of the lattice's state on the refusing host is older than its limit.
    StaleState = "stale-state", 503, stop;
    /// A fault of this software. Please report it.
    Internal = "internal", 500, stop;
}

impl fmt::Display for RefusalCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A refusal as it travels: encoded as the array `[code, message, remedy]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{code}: {message}{}", remedy.as_deref().map(|r| format!(" ({r})")).unwrap_or_default())]
pub struct Refusal {
    /// The rule that refused.
    pub code: RefusalCode,
    /// What was attempted and what stood against it: one sentence, lower case, no final period.
    pub message: String,
    /// What would allow it, where somebody can do something about it.
    pub remedy: Option<String>,
}

impl Refusal {
    /// A refusal without a remedy. Text beyond [`REFUSAL_TEXT_BYTES_MAX`] is cut.
    pub fn new(code: RefusalCode, message: impl Into<String>) -> Self {
        Self {
            code,
            message: cut(message.into()),
            remedy: None,
        }
    }

    /// Adds what would allow the call.
    #[must_use]
    pub fn with_remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(cut(remedy.into()));
        self
    }
}

fn cut(mut text: String) -> String {
    if text.len() > REFUSAL_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX));
    }
    text
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_encoding_is_an_array_of_code_message_and_remedy() {
        let refusal = Refusal::new(RefusalCode::NoLink, "m").with_remedy("r");
        let bytes = rmp_serde::to_vec(&refusal).unwrap();
        assert_eq!(bytes, b"\x93\xa7no-link\xa1m\xa1r");
        assert_eq!(rmp_serde::from_slice::<Refusal>(&bytes).unwrap(), refusal);
    }

    #[test]
    fn text_is_cut_at_a_character_boundary() {
        let refusal = Refusal::new(RefusalCode::Internal, "ä".repeat(REFUSAL_TEXT_BYTES_MAX));
        assert_eq!(refusal.message.len(), REFUSAL_TEXT_BYTES_MAX);
    }

    #[test]
    fn only_refusals_before_the_work_began_are_retryable() {
        let retryable: Vec<_> = RefusalCode::ALL
            .iter()
            .filter(|c| c.is_retryable())
            .map(|c| c.as_str())
            .collect();
        assert_eq!(retryable, ["not-here", "draining", "overloaded"]);
    }
}
