//! Why a command or a link is not believed: a stable word, and a sentence that says what would help.

use std::fmt;

use trellis_claims::TokenError;
use trellis_lattice::ledger::LedgerError;

/// A refusal. Shown as `code: reason`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    /// One of the words that the protocol lists.
    pub(crate) code: &'static str,
    /// For people.
    pub(crate) reason: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.code, self.reason)
    }
}

impl Refusal {
    fn new(code: &'static str, reason: impl Into<String>) -> Self {
        Self {
            code,
            reason: reason.into(),
        }
    }

    /// `what` is "command", "link" or "deletion".
    pub(super) fn unsigned(what: &str) -> Self {
        Self::new(
            "unsigned",
            format!(
                "this {what} is not signed, and this host takes signed ones alone; `wash` signs with your account key, which the host must trust"
            ),
        )
    }

    pub(super) fn malformed(reason: impl fmt::Display) -> Self {
        Self::new("signature-malformed", reason.to_string())
    }

    pub(super) fn mismatch(reason: &str) -> Self {
        Self::new("signature-mismatch", reason)
    }

    pub(super) fn replayed() -> Self {
        Self::new(
            "signature-replayed",
            "this very command was carried out before; give it again, so that it is signed anew",
        )
    }

    pub(super) fn superseded() -> Self {
        Self::new(
            "signature-replayed",
            "something was signed about this link later than this; sign it anew, and check this machine's clock",
        )
    }

    pub(super) fn no_room() -> Self {
        Self::new(
            "signature-unchecked",
            "this host has too many recent commands to remember and takes no more for now; try again in a minute",
        )
    }

    pub(super) fn unchecked(error: &LedgerError) -> Self {
        Self::new(
            "signature-unchecked",
            format!("it cannot be told whether this command was carried out before: {error}"),
        )
    }
}

impl From<TokenError> for Refusal {
    fn from(error: TokenError) -> Self {
        let code = match error {
            TokenError::BadSignature { .. } => "signature-invalid",
            TokenError::Expired { .. } => "signature-expired",
            TokenError::NotYetValid { .. } => "signature-not-yet-valid",
            TokenError::UntrustedIssuer { .. } | TokenError::BrokenChain { .. } => {
                "signature-untrusted"
            }
            TokenError::WrongSubject { .. } => "signature-mismatch",
            _ => "signature-malformed",
        };
        let mut reason = error.to_string();
        if matches!(code, "signature-expired" | "signature-not-yet-valid") {
            reason.push_str(" (do the clocks of both machines agree?)");
        }
        if let Some(cause) = std::error::Error::source(&error) {
            reason = format!("{reason}: {cause}");
        }
        Self::new(code, reason)
    }
}
