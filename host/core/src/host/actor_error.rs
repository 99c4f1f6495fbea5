//! Why an actor was not started, scaled or replaced.

use trellis_lattice::state::WriteError;
use trellis_protocol::{EntityId, Refusal, RefusalCode};

use super::inner::OPERATOR_ID;
use super::starting::PREPARE_MAX;
use crate::actor::PrepareError;
use crate::artifact::ArtifactError;

/// Why an actor was not started, scaled or replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ActorError {
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error(transparent)]
    Prepare(#[from] PrepareError),
    /// It has everything that it needs, and its first instance did not come to be.
    #[error("no instance of it starts: {0}")]
    Warm(Refusal),
    #[error(
        "a running id can't be taken over by a component of another issuer or subject: `{id}` belongs to {holder}, this component is {found}"
    )]
    TakeOver {
        id: EntityId,
        holder: String,
        found: String,
    },
    #[error("`{id}` is the id of a provider; choose another id")]
    IsProvider { id: EntityId },
    #[error("the id `{OPERATOR_ID}` stands for operators who call actors; choose another id")]
    Reserved,
    #[error(
        "`{reference}` is not what ran here: its content is {found}, it was {expected}; start it anew if that is meant"
    )]
    Changed {
        reference: String,
        expected: String,
        found: String,
    },
    /// What an actor was started from has been written anew since.
    #[error(
        "`{id}` runs with other content from the same reference; `wash scale component … --allow-update` replaces it, or stop it first"
    )]
    OtherContent { id: EntityId },
    #[error("the lattice's state no longer holds `{id}` for {what}: it is not restored")]
    NotWanted { id: EntityId, what: String },
    #[error("`{id}` does not run on this host")]
    NotRunning { id: EntityId },
    /// A later command wants something else.
    #[error("a later command for the same id made this one pointless before it was done")]
    Superseded,
    /// An application manager replaces a version by another, and the other one does not start.
    #[error(
        "`{id}` keeps running `{reference}`: the version that was to take its place did not start. Stop it once more to stop it nevertheless"
    )]
    NotReplaced { id: EntityId, reference: String },
    #[error("{0}")]
    State(#[from] WriteError),
    #[error(
        "the component could not be prepared: the host is shutting down, or the compiler panicked"
    )]
    Interrupted,
    /// Compiling takes longer than anybody waits for.
    #[error("the component was not verified and compiled within {} s", PREPARE_MAX.as_secs())]
    TooSlow,
}

impl ActorError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Artifact(error) => error.code(),
            Self::Prepare(error) => error.code(),
            Self::Warm(refusal) if refusal.code == RefusalCode::OutOfMemory => "memory-limit",
            Self::Warm(_) => "component-does-not-start",
            Self::TakeOver { .. } | Self::State(WriteError::IdTaken { .. }) => "id-taken",
            Self::IsProvider { .. } => "id-of-a-provider",
            Self::Reserved => "id-reserved",
            Self::Changed { .. } => "content-changed",
            Self::OtherContent { .. } => "other-content",
            Self::NotWanted { .. } => "not-wanted",
            Self::NotRunning { .. } => "not-running",
            Self::Superseded => "superseded",
            Self::NotReplaced { .. } => "not-replaced",
            Self::State(_) => "state-unavailable",
            Self::Interrupted => "interrupted",
            Self::TooSlow => "component-too-slow",
        }
    }

    /// Whether the same attempt might go well a little later.
    pub(super) fn may_pass(&self) -> bool {
        match self {
            Self::State(WriteError::IdTaken { .. }) => false,
            Self::State(_) => true,
            Self::Artifact(error) => error.may_pass(),
            _ => false,
        }
    }
}

/// An error with what caused it, in one line.
pub(crate) fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
