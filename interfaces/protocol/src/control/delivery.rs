//! Which ends of links a host has applied: `C.host.links.<host>`, of this project alone.
//!
//! A link is one entry of the lattice's state, and takes effect at two ends, often on two hosts. Each host answers for the
//! ends that are with it: those of the actors and providers that it runs. What no host names is not applied anywhere.

use serde::{Deserialize, Serialize};

use crate::id::EntityId;
use crate::link::LinkKey;

/// Longest reason that a host passes on of an end that has failed or a provider that is not well, in bytes. Providers write
/// them.
pub const REASON_BYTES_MAX: usize = 1024;

/// One end of a link, as the host knows it that runs what is there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkEnd {
    /// What the link is found by.
    #[serde(flatten)]
    pub key: LinkKey,
    /// The callee. With the key and the end it says which end of which link this is.
    pub target: EntityId,
    /// Which end.
    pub end: End,
    /// What stands at this end.
    pub kind: EndKind,
    /// How far it is.
    pub state: EndState,
    /// Why it has failed, or what it waits for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// Which version of the link was put to its provider last, from 1 since the provider was started; each change of the link
    /// or of its configuration adds one. 0: none yet. Always 0 for an actor, which is told nothing: its host decides by its
    /// own copy of the state.
    #[serde(default)]
    pub generation: u64,
}

impl LinkEnd {
    /// The id at this end.
    pub fn id(&self) -> &EntityId {
        match self.end {
            End::Source => &self.key.source_id,
            End::Target => &self.target,
        }
    }
}

/// An end of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum End {
    /// The caller's.
    Source,
    /// The callee's.
    Target,
}

/// What stands at an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndKind {
    /// An actor: the link is in effect once its host has it in its copy of the state.
    Component,
    /// A provider: the link is in effect once the provider has acknowledged it.
    Provider,
}

/// How far an end is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndState {
    /// It is in effect.
    Applied,
    /// The provider has not answered yet, or is not there to be told at the moment.
    Pending,
    /// It is not in effect, for the reason that is given. What can mend itself is tried again.
    Failed,
}
