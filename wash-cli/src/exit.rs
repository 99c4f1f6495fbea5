//! How `wash` ends: exit codes, and the one shape that every failure takes on its way out.
//!
//! | code | constant | meaning |
//! | --- | --- | --- |
//! | 0 | [`OK`] | done |
//! | 1 | [`REFUSED`] | the lattice refused or failed what was asked, claims that were inspected do not hold, or the doctor found something broken |
//! | 2 | [`USAGE`] | the command line could not be understood |
//! | 3 | [`UNREACHABLE`] | no NATS server, or no host that answers |
//! | 4 | [`TIMED_OUT`] | no outcome within the time given; it may still come |
//! | 5 | [`LOCAL`] | something on this machine: a key, a file, a build, a process |
//!
//! Modules below return their own error types; the conversions here decide the code, and put the chain of causes into
//! one line.

use std::error::Error;
use std::fmt;

/// Everything went as asked.
pub const OK: u8 = 0;
/// The lattice refused or failed what was asked, or claims that were inspected do not hold.
pub const REFUSED: u8 = 1;
/// The command line could not be understood.
pub const USAGE: u8 = 2;
/// No NATS server, or no host that answers.
pub const UNREACHABLE: u8 = 3;
/// No outcome within the time given; it may still come.
pub const TIMED_OUT: u8 = 4;
/// Something on this machine: a key, a file, a build, a process.
pub const LOCAL: u8 = 5;

/// The table for `wash --help`.
pub const HELP: &str = "\
Exit codes:
  0  done
  1  the lattice refused or failed what was asked, inspected claims do not hold, or
     the doctor found something broken
  2  the command line could not be understood
  3  no NATS server, or no host that answers
  4  no outcome within the time given; it may still come
  5  something on this machine: a key, a file, a build, a process";

/// What sort of failure it was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FailureKind {
    /// See [`REFUSED`].
    Refused,
    /// See [`USAGE`].
    Usage,
    /// See [`UNREACHABLE`].
    Unreachable,
    /// See [`TIMED_OUT`].
    TimedOut,
    /// See [`LOCAL`].
    Local,
}

impl FailureKind {
    /// The process's exit code.
    #[must_use]
    pub const fn exit_code(self) -> u8 {
        match self {
            Self::Refused => REFUSED,
            Self::Usage => USAGE,
            Self::Unreachable => UNREACHABLE,
            Self::TimedOut => TIMED_OUT,
            Self::Local => LOCAL,
        }
    }

    /// The stable word that stands in JSON under `code`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Refused => "refused",
            Self::Usage => "usage",
            Self::Unreachable => "unreachable",
            Self::TimedOut => "timed-out",
            Self::Local => "local",
        }
    }
}

/// A failed command: what was tried, what went wrong, what to do next, in one text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    kind: FailureKind,
    message: String,
    reason: Option<String>,
}

impl Failure {
    /// A failure in these words.
    pub fn new(kind: FailureKind, message: impl Into<String>) -> Self {
        Self {
            kind,
            message: message.into(),
            reason: None,
        }
    }

    /// The lattice refused, or claims do not hold.
    pub fn refused(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Refused, message)
    }

    /// The command line makes no sense.
    pub fn usage(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Usage, message)
    }

    /// Something on this machine.
    pub fn local(message: impl Into<String>) -> Self {
        Self::new(FailureKind::Local, message)
    }

    /// Something on this machine, told by an error and its causes.
    pub fn local_error(error: &dyn Error) -> Self {
        Self::local(chain(error))
    }

    /// What sort of failure it was.
    #[must_use]
    pub const fn kind(&self) -> FailureKind {
        self.kind
    }

    /// The same, with the host's own stable code for it, where it gave one.
    #[must_use]
    pub fn because(mut self, reason: Option<String>) -> Self {
        self.reason = reason;
        self
    }

    /// The host's own stable code, for programs.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The text for people.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An error and its causes in one line, without a cause that its parent has repeated already.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}

/// Errors that are always about this machine.
macro_rules! local {
    ($($error:ty),* $(,)?) => {
        $(impl From<$error> for Failure {
            fn from(error: $error) -> Self {
                Self::local_error(&error)
            }
        })*
    };
}

local!(
    crate::artifact::ArtifactError,
    crate::context::ContextError,
    crate::keys::KeyStoreError,
    crate::manifest::ManifestError,
    crate::signing::SigningError,
    crate::state_dir::StateDirError,
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_help_names_every_code() {
        for code in [OK, REFUSED, USAGE, UNREACHABLE, TIMED_OUT, LOCAL] {
            assert!(HELP.contains(&format!("\n  {code}  ")), "{code}");
        }
    }

    #[test]
    fn each_kind_has_a_code_and_a_word_of_its_own() {
        use FailureKind::{Local, Refused, TimedOut, Unreachable, Usage};
        let kinds = [Refused, Usage, Unreachable, TimedOut, Local];
        let mut codes: Vec<_> = kinds.iter().map(|kind| kind.exit_code()).collect();
        let mut words: Vec<_> = kinds.iter().map(|kind| kind.word()).collect();
        codes.dedup();
        words.dedup();
        assert_eq!((codes.len(), words.len()), (kinds.len(), kinds.len()));
    }

    #[test]
    fn a_cause_that_was_told_already_is_not_repeated() {
        #[derive(Debug, thiserror::Error)]
        #[error("cannot read it: {0}")]
        struct Outer(#[source] std::io::Error);
        let error = Outer(std::io::Error::other("the disk is gone"));
        assert_eq!(chain(&error), "cannot read it: the disk is gone");
    }
}
