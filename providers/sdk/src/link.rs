//! What a provider learns of one link.

use std::collections::BTreeMap;
use std::fmt;

use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, LinkName};

/// Which end of a link the provider is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum LinkEnd {
    /// The provider calls the actor at the other end (HTTP, messages).
    Source,
    /// The actor at the other end calls the provider (key-value, SQL).
    Target,
}

/// One link with the configuration for the provider's end, resolved.
#[derive(Clone, PartialEq, Eq)]
pub struct Link {
    /// What identifies it.
    pub key: LinkKey,
    /// The callee.
    pub target: EntityId,
    /// The interfaces it covers, `namespace:package/interface`.
    pub interfaces: Vec<String>,
    /// Which end the provider is.
    pub end: LinkEnd,
    /// The named configurations of the provider's end, merged in the order in which the link names them.
    pub config: BTreeMap<String, String>,
    /// Grows with each change of the link or of its configuration.
    pub generation: u64,
}

impl Link {
    /// The other end: the actor that is called, or that calls.
    pub fn peer(&self) -> &EntityId {
        match self.end {
            LinkEnd::Source => &self.target,
            LinkEnd::Target => &self.key.source_id,
        }
    }

    /// The link's name.
    pub fn name(&self) -> &LinkName {
        &self.key.name
    }
}

impl fmt::Debug for Link {
    /// Shows the names of configuration values, never the values: they may hold passwords.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link")
            .field("key", &self.key)
            .field("target", &self.target)
            .field("interfaces", &self.interfaces)
            .field("end", &self.end)
            .field("config", &self.config.keys().collect::<Vec<_>>())
            .field("generation", &self.generation)
            .finish()
    }
}

/// Why a provider cannot serve a link.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LinkError {
    /// A configuration value is missing, unknown or malformed.
    #[error("configuration key `{key}`: {reason}")]
    Config {
        /// The key.
        key: String,
        /// What is wrong with it, and what it should be. Never the value of a secret.
        reason: String,
    },
    /// The link claims something that another link has: an address, a path, a host name.
    #[error("{resource} is taken by the link to `{holder}`")]
    Conflict {
        /// What both want.
        resource: String,
        /// The other link's peer.
        holder: EntityId,
    },
    /// The backend cannot be reached or refuses.
    #[error("backend: {reason}")]
    Backend {
        /// What the backend said.
        reason: String,
    },
}
