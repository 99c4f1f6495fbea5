//! Subjects: what may be published to, and what may be subscribed to.
//!
//! A subject is tokens between dots. Some first tokens are *reserved*: they belong to NATS itself, to somebody's inbox, or
//! to a lattice. An actor publishes to such a subject only where its link names it, so that a grant for messages is not
//! one for commands. Where a subject came from makes no difference: the subject for replies that an actor puts into a
//! message obeys the same rule, since whoever answers would publish there for it.

use std::fmt;

/// Longest subject, in bytes. NATS itself ends a connection at some 4 KiB for a whole line of its protocol.
pub const SUBJECT_BYTES_MAX: usize = 512;

/// First tokens of the subjects of a lattice.
const LATTICE_TOKENS: &[&str] = &["trellis", "wasmbus"];

/// Why a text is no subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SubjectError {
    /// It is empty, or too long.
    #[error("a subject has 1 to {SUBJECT_BYTES_MAX} bytes")]
    Length,
    /// Two dots in a row, or one at an end.
    #[error("a subject has no empty part between its dots")]
    EmptyToken,
    /// A space or a control character.
    #[error("a subject has no spaces and no control characters")]
    Character,
    /// A wildcard where one subject is needed.
    #[error("`*` and `>` stand for many subjects, and a message goes to one")]
    Wildcard,
    /// A wildcard that is not a token of its own, or `>` before the end.
    #[error("`*` stands for one whole part and `>` for the whole rest")]
    MisplacedWildcard,
}

/// Checks that a message can go to a subject.
///
/// # Errors
/// [`SubjectError`], by cause.
pub(crate) fn check(subject: &str) -> Result<(), SubjectError> {
    check_tokens(subject)?;
    match subject.split('.').any(|token| matches!(token, "*" | ">")) {
        true => Err(SubjectError::Wildcard),
        false => Ok(()),
    }
}

fn check_tokens(text: &str) -> Result<(), SubjectError> {
    if text.is_empty() || text.len() > SUBJECT_BYTES_MAX {
        return Err(SubjectError::Length);
    }
    if text.chars().any(|c| c.is_whitespace() || c.is_control()) {
        return Err(SubjectError::Character);
    }
    match text.split('.').any(str::is_empty) {
        true => Err(SubjectError::EmptyToken),
        false => Ok(()),
    }
}

/// Whether a subject begins with a token that is not for messages of applications.
pub(crate) fn is_reserved(subject: &str) -> bool {
    let first = first_token(subject);
    first.starts_with(['$', '_']) || LATTICE_TOKENS.contains(&first)
}

/// Whether a subject is where one requester waits for answers.
pub(crate) fn is_inbox(subject: &str) -> bool {
    first_token(subject).starts_with("_INBOX")
}

fn first_token(subject: &str) -> &str {
    subject.split('.').next().unwrap_or_default()
}

/// A subject that may have wildcards.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Pattern(Box<str>);

impl Pattern {
    /// Checks a text.
    ///
    /// # Errors
    /// [`SubjectError`], by cause.
    pub fn new(text: &str) -> Result<Self, SubjectError> {
        check_tokens(text)?;
        let mut tokens = text.split('.').peekable();
        while let Some(token) = tokens.next() {
            let misplaced = match token {
                "*" => false,
                ">" => tokens.peek().is_some(),
                // NATS takes such a token literally, which is never what was meant.
                token => token.contains(['*', '>']),
            };
            if misplaced {
                return Err(SubjectError::MisplacedWildcard);
            }
        }
        Ok(Self(text.into()))
    }

    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether it stands for this subject.
    pub fn matches(&self, subject: &str) -> bool {
        let mut subject = subject.split('.');
        for token in self.0.split('.') {
            match (token, subject.next()) {
                (_, None) => return false,
                (">", Some(_)) => return true,
                ("*", Some(_)) => {}
                (token, Some(other)) if token == other => {}
                _ => return false,
            }
        }
        subject.next().is_none()
    }

    /// Whether it stands for this subject and says so: no wildcard opens what is reserved.
    pub fn names(&self, subject: &str) -> bool {
        let is_literal = !matches!(first_token(&self.0), "*" | ">");
        self.matches(subject) && (is_literal || !is_reserved(subject))
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`", self.0)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_message_goes_to_one_well_formed_subject() {
        for subject in ["a", "orders.new", "a.b-c_d.é", "$JS.API", "a*b", "a.b>"] {
            assert_eq!(check(subject), Ok(()), "{subject}");
        }
        for (subject, error) in [
            ("", SubjectError::Length),
            (".", SubjectError::EmptyToken),
            ("a..b", SubjectError::EmptyToken),
            (".a", SubjectError::EmptyToken),
            ("a.", SubjectError::EmptyToken),
            ("a b", SubjectError::Character),
            ("a\tb", SubjectError::Character),
            ("a\r\nPUB b 0\r\n", SubjectError::Character),
            ("a\0", SubjectError::Character),
            ("*", SubjectError::Wildcard),
            ("a.*.c", SubjectError::Wildcard),
            ("a.>", SubjectError::Wildcard),
        ] {
            assert_eq!(check(subject), Err(error), "{subject:?}");
        }
        assert_eq!(check(&"s".repeat(SUBJECT_BYTES_MAX)), Ok(()));
        assert_eq!(
            check(&"s".repeat(SUBJECT_BYTES_MAX + 1)),
            Err(SubjectError::Length)
        );
    }

    #[test]
    fn what_belongs_to_nats_to_inboxes_and_to_lattices_is_reserved() {
        for subject in [
            "$JS.API.STREAM.DELETE.x",
            "$KV.b.k",
            "$SYS.REQ.SERVER.PING",
            "_INBOX.x.1",
            "_INBOX_host.1",
            "_R_.x",
            "trellis.rpc.v1.default.N.M",
            "wasmbus.ctl.v1.default.host.stop.N",
            "wasmbus",
        ] {
            assert!(is_reserved(subject), "{subject}");
        }
        for subject in ["orders.new", "trellises.new", "Trellis.x", "my.trellis.x"] {
            assert!(!is_reserved(subject), "{subject}");
        }
    }

    #[test]
    fn a_pattern_stands_for_what_nats_says_it_does() {
        for (pattern, subject, matches) in [
            ("a.b", "a.b", true),
            ("a.b", "a.b.c", false),
            ("a.b", "a", false),
            ("a.*", "a.b", true),
            ("a.*", "a", false),
            ("a.*", "a.b.c", false),
            ("*.b", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            (">", "a", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().matches(subject),
                matches,
                "{pattern} {subject}"
            );
        }
        for text in ["a.>.b", "a.b*", ">a", "", "a..b", "a b"] {
            assert!(Pattern::new(text).is_err(), "{text}");
        }
    }

    #[test]
    fn no_wildcard_opens_what_is_reserved() {
        for (pattern, subject, names) in [
            (">", "orders.new", true),
            (">", "wasmbus.ctl.v1.x", false),
            ("*.ctl.>", "wasmbus.ctl.v1.x", false),
            ("wasmbus.>", "wasmbus.evt.x", true),
            ("_INBOX.>", "_INBOX.x", true),
        ] {
            assert_eq!(
                Pattern::new(pattern).unwrap().names(subject),
                names,
                "{pattern} {subject}"
            );
        }
    }
}
