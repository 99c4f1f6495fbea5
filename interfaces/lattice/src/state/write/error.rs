//! Why a write did not happen, and what to do about it.

use std::time::Duration;

use trellis_protocol::EntityId;
use trellis_protocol::control::ControlError;

/// Why a write did not happen.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// What was to be written is not acceptable.
    #[error("{reason}")]
    Invalid {
        /// What is wrong with it.
        reason: String,
    },
    /// The source has a link of this name and package to another target, for an interface of this one.
    #[error(
        "`{source_id}` is linked to `{target}` for `{interface}` under the name `{name}`; delete that link first, or choose another name"
    )]
    Conflict {
        /// The caller.
        source_id: EntityId,
        /// The link's name.
        name: String,
        /// The interface that both claim, in full.
        interface: String,
        /// The callee of the link that exists.
        target: EntityId,
    },
    /// The same link stands with a signature that was made later.
    #[error(
        "the link `{name}` of `{source_id}` was signed anew after this one; sign this one again, and check this machine's clock"
    )]
    Superseded {
        /// The caller.
        source_id: EntityId,
        /// The link's name.
        name: String,
    },
    /// The link names a configuration that does not exist.
    #[error("there is no configuration `{name}`; put it first")]
    UnknownConfig {
        /// Its name.
        name: String,
    },
    /// The id belongs to another subject key.
    #[error("the id `{id}` is taken by `{holder}`; choose another id, or release that one first")]
    IdTaken {
        /// The id.
        id: EntityId,
        /// The subject key that holds it.
        holder: String,
    },
    /// What the key would hold is too large.
    #[error("cannot write `{key}`: {what} would exceed {limit}")]
    TooLarge {
        /// The key.
        key: String,
        /// What is counted.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The key holds something that is not of this project's shape.
    #[error(
        "cannot write `{key}`: it holds something else than it should ({reason}); look at it with `nats kv get`, and delete it if nobody needs it"
    )]
    Foreign {
        /// The key.
        key: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Others kept writing the same key.
    #[error("cannot write `{key}`: others wrote it {attempts} times in between; try again")]
    Contended {
        /// The key.
        key: String,
        /// How often it was tried.
        attempts: u32,
    },
    /// JetStream refused, or could not be reached.
    #[error("cannot write `{key}`: {reason}")]
    Unavailable {
        /// The key.
        key: String,
        /// What JetStream or the connection said.
        reason: String,
    },
    /// JetStream did not answer in time. Whether it was written is unknown.
    #[error("cannot write `{key}` within {} s: JetStream does not answer; whether it was written is unknown, and writing it again does no harm", after.as_secs())]
    TimedOut {
        /// The key.
        key: String,
        /// How long it was tried.
        after: Duration,
    },
}

impl From<ControlError> for WriteError {
    fn from(error: ControlError) -> Self {
        Self::Invalid {
            reason: error.to_string(),
        }
    }
}
