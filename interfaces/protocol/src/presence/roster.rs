//! What a host runs, and the certificate by which it may.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use trellis_claims::{ContentHash, PublicKey, SigningKey};

use super::{PresenceError, ROSTER_CONTEXT, read, seal, verify};
use crate::id::EntityId;

/// Largest roster, in bytes: half of what a NATS server passes on unless it is configured otherwise.
pub const ROSTER_BYTES_MAX: usize = 512 * 1024;

/// Most actors, and most providers, of one host.
pub const ROSTER_ENTRIES_MAX: usize = 2048;

/// Most labels of one host.
pub const LABELS_MAX: usize = 64;

/// Longest key or value of a label, longest name of a host or provider, in bytes.
pub const LABEL_BYTES_MAX: usize = 256;

/// An actor that a host runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterActor {
    /// Its id in the lattice.
    pub id: EntityId,
    /// The subject key of its claims, `M…`.
    pub subject: PublicKey,
    /// Which component it is.
    pub content_hash: ContentHash,
    /// How many invocations of it the host runs at once.
    pub count: u32,
}

/// A provider that a host runs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RosterProvider {
    /// Its id in the lattice.
    pub id: EntityId,
    /// What it is: `http-server`, `keyvalue-nats`.
    pub name: String,
}

/// Everything that a host says about itself. Encoded as an array in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Roster {
    /// Public key of the host.
    pub host: PublicKey,
    /// The run of its process.
    pub incarnation: u64,
    /// Grows with each change within an incarnation.
    pub version: u64,
    /// The host's certificate, a JWT of the lattice's authority.
    pub certificate: Option<String>,
    /// The name that people know it by.
    pub name: String,
    /// The host's labels.
    pub labels: BTreeMap<String, String>,
    /// What it runs.
    pub actors: Vec<RosterActor>,
    /// The providers that it runs.
    pub providers: Vec<RosterProvider>,
}

impl Roster {
    /// The signed bytes.
    ///
    /// # Errors
    /// [`PresenceError::TooMany`] or [`PresenceError::Length`] where a reader would refuse it for the same reason,
    /// [`PresenceError::Signature`] where `key` is not the host's.
    pub fn seal(&self, key: &SigningKey) -> Result<Vec<u8>, PresenceError> {
        self.check()?;
        seal(
            key,
            &self.host,
            ROSTER_CONTEXT,
            self,
            "a roster",
            ROSTER_BYTES_MAX,
        )
    }

    /// Reads a roster and checks that its host has signed it. Its certificate is for the reader to check.
    ///
    /// # Errors
    /// [`PresenceError`].
    pub fn open(bytes: &[u8]) -> Result<Self, PresenceError> {
        let roster: Self = read(bytes, "a roster", ROSTER_BYTES_MAX)?;
        roster.check()?;
        verify(&roster.host, ROSTER_CONTEXT, bytes)?;
        Ok(roster)
    }

    /// Every id that the host says it runs.
    pub fn ids(&self) -> impl Iterator<Item = &EntityId> {
        let actors = self.actors.iter().map(|actor| &actor.id);
        actors.chain(self.providers.iter().map(|provider| &provider.id))
    }

    /// Holds every list and text to its limit.
    ///
    /// # Errors
    /// [`PresenceError::TooMany`].
    pub fn check(&self) -> Result<(), PresenceError> {
        at_most("a count of actors", self.actors.len(), ROSTER_ENTRIES_MAX)?;
        at_most(
            "a count of providers",
            self.providers.len(),
            ROSTER_ENTRIES_MAX,
        )?;
        at_most("a count of labels", self.labels.len(), LABELS_MAX)?;
        let labels = self.labels.iter().flat_map(|(key, value)| [key, value]);
        let names = self.providers.iter().map(|provider| &provider.name);
        for text in labels.chain(names).chain([&self.name]) {
            at_most("a label or name", text.len(), LABEL_BYTES_MAX)?;
        }
        Ok(())
    }
}

fn at_most(what: &'static str, count: usize, limit: usize) -> Result<(), PresenceError> {
    if count > limit {
        return Err(PresenceError::TooMany { what, count, limit });
    }
    Ok(())
}
