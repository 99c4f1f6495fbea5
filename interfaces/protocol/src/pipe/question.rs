//! What a host asks a provider for.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{CONFIG_ENTRIES_MAX, check};
use crate::frame::FrameError;
use crate::id::EntityId;
use crate::link::{LINK_LIST_MAX, LinkKey};

/// Something that the host wants done. The answer is that it is done, or why not.
#[derive(Clone, PartialEq, Eq)]
pub enum Question {
    /// Start: once, before anything else.
    Start {
        /// The provider's id in the lattice.
        id: EntityId,
        /// The lattice's name.
        lattice: String,
        /// Public key of the host.
        host: String,
        /// The provider's configuration.
        config: BTreeMap<String, String>,
    },
    /// A link was put, or has changed.
    LinkPut(PipeLink),
    /// A link is gone.
    LinkDelete {
        /// What it was put under.
        key: LinkKey,
        /// Which end the provider was.
        end: PipeLinkEnd,
    },
    /// Can you serve? Done means yes.
    Health,
    /// Finish what is under way, let go of everything, answer, and exit when the socket ends.
    Shutdown {
        /// How long that may take, in whole milliseconds.
        within: Duration,
    },
}

/// Which end of a link the provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PipeLinkEnd {
    /// The provider calls the actor at the other end.
    Source,
    /// The actor at the other end calls the provider.
    Target,
}

/// A link with the configuration for the provider's end. Encoded as an array in the order of the fields.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PipeLink {
    /// What identifies it, together with the end.
    pub key: LinkKey,
    /// The callee.
    pub target: EntityId,
    /// The interfaces it covers, `namespace:package/interface`.
    pub interfaces: Vec<String>,
    /// Which end the provider is.
    pub end: PipeLinkEnd,
    /// The configuration of the provider's end.
    pub config: BTreeMap<String, String>,
    /// Grows with each change.
    pub generation: u64,
}

impl Question {
    /// The question's name in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Start { .. } => "start",
            Self::LinkPut(_) => "link-put",
            Self::LinkDelete { .. } => "link-delete",
            Self::Health => "health",
            Self::Shutdown { .. } => "shutdown",
        }
    }

    pub(super) fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Start { config, .. } => check_config(config),
            Self::LinkPut(link) => {
                check_config(&link.config)?;
                check(
                    "a count of interfaces",
                    link.interfaces.len(),
                    LINK_LIST_MAX,
                )
            }
            Self::LinkDelete { .. } | Self::Health | Self::Shutdown { .. } => Ok(()),
        }
    }
}

fn check_config(config: &BTreeMap<String, String>) -> Result<(), FrameError> {
    check(
        "a count of configuration entries",
        config.len(),
        CONFIG_ENTRIES_MAX,
    )
}

impl fmt::Debug for Question {
    /// Shows the names of configuration values, never the values: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Start {
                id,
                lattice,
                host,
                config,
            } => f
                .debug_struct("Start")
                .field("id", id)
                .field("lattice", lattice)
                .field("host", host)
                .field("config", &config.keys().collect::<Vec<_>>())
                .finish(),
            Self::LinkPut(link) => f.debug_tuple("LinkPut").field(link).finish(),
            Self::LinkDelete { key, end } => f
                .debug_struct("LinkDelete")
                .field("key", key)
                .field("end", end)
                .finish(),
            Self::Health => f.write_str("Health"),
            Self::Shutdown { within } => {
                f.debug_struct("Shutdown").field("within", within).finish()
            }
        }
    }
}

impl fmt::Debug for PipeLink {
    /// Shows the names of configuration values, never the values: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PipeLink")
            .field("key", &self.key)
            .field("target", &self.target)
            .field("interfaces", &self.interfaces)
            .field("end", &self.end)
            .field("config", &self.config.keys().collect::<Vec<_>>())
            .field("generation", &self.generation)
            .finish()
    }
}
