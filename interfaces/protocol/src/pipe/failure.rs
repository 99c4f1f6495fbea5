//! Why a provider did not do what its host asked for.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::id::EntityId;
use crate::limits::REFUSAL_TEXT_BYTES_MAX;

/// Why a question was not answered as wished.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{kind}: {reason}")]
pub struct Failure {
    /// The kind of failure.
    pub kind: FailureKind,
    /// What it is about: the configuration key, or the resource that is taken.
    pub subject: Option<String>,
    /// Who has the resource.
    pub holder: Option<EntityId>,
    /// One sentence. Never the value of a secret.
    pub reason: String,
}

/// The kinds of failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FailureKind {
    /// A configuration value is missing, unknown or malformed; the subject is its key.
    Config,
    /// The link claims what another has; the subject is the resource, the holder the other link's peer.
    Conflict,
    /// The backend cannot be had.
    Backend,
    /// The provider cannot serve at present. The answer to a question for its health.
    Failing,
    /// The provider does not know such a question.
    Unsupported,
    /// A fault of the provider. What this version does not know is read as this.
    Internal,
}

impl FailureKind {
    /// Every kind, for tables and tests.
    pub const ALL: &[Self] = &[
        Self::Config,
        Self::Conflict,
        Self::Backend,
        Self::Failing,
        Self::Unsupported,
        Self::Internal,
    ];

    /// The kind as it stands on the wire.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Config => "config",
            Self::Conflict => "conflict",
            Self::Backend => "backend",
            Self::Failing => "failing",
            Self::Unsupported => "unsupported",
            Self::Internal => "internal",
        }
    }
}

impl fmt::Display for FailureKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl Serialize for FailureKind {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl<'de> Deserialize<'de> for FailureKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let known = Self::ALL.iter().find(|kind| kind.as_str() == text);
        Ok(known.copied().unwrap_or(Self::Internal))
    }
}

impl Failure {
    /// A failure about nothing in particular. Text beyond [`REFUSAL_TEXT_BYTES_MAX`] is cut.
    pub fn new(kind: FailureKind, reason: impl Into<String>) -> Self {
        Self {
            kind,
            subject: None,
            holder: None,
            reason: cut(reason.into()),
        }
    }

    /// Says what it is about.
    #[must_use]
    pub fn about(mut self, subject: impl Into<String>) -> Self {
        self.subject = Some(cut(subject.into()));
        self
    }

    /// Says who has it.
    #[must_use]
    pub fn held_by(mut self, holder: EntityId) -> Self {
        self.holder = Some(holder);
        self
    }

    /// The same with its texts cut to what they may have.
    pub(super) fn cut(self) -> Self {
        Self {
            subject: self.subject.map(cut),
            reason: cut(self.reason),
            ..self
        }
    }
}

fn cut(mut text: String) -> String {
    if text.len() > REFUSAL_TEXT_BYTES_MAX {
        text.truncate(text.floor_char_boundary(REFUSAL_TEXT_BYTES_MAX));
    }
    text
}
