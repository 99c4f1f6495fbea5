//! The two doors of a provider, built into a host or a process of its own, and where who calls it runs.
//!
//! A provider is the same code behind both, and callers are not told by which they came. So one scenario is played over
//! each [`Setting`], and must end alike.

use crate::actor::reference;
use crate::binary::program;

/// How a provider runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Door {
    /// In its host.
    BuiltIn,
    /// As a process that its host starts.
    Process,
}

impl Door {
    /// What `wash start provider` is told to start this provider so.
    ///
    /// # Panics
    /// Where it is to be a process and its program is not built.
    pub fn reference(self, provider: &str) -> String {
        match self {
            Self::BuiltIn => provider.to_owned(),
            Self::Process => reference(&program(&format!("trellis-{provider}"))),
        }
    }
}

/// Where the other end of a provider's calls runs: the actor that calls it, or that it calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// On the provider's host.
    SameHost,
    /// On another one.
    PeerHost,
}

/// How a provider runs, and where the actor does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Setting {
    /// How the provider runs.
    pub door: Door,
    /// Where the actor does.
    pub place: Place,
}

impl Setting {
    /// All four.
    pub const ALL: [Self; 4] = [
        Self::new(Door::BuiltIn, Place::SameHost),
        Self::new(Door::BuiltIn, Place::PeerHost),
        Self::new(Door::Process, Place::SameHost),
        Self::new(Door::Process, Place::PeerHost),
    ];

    /// A setting.
    pub const fn new(door: Door, place: Place) -> Self {
        Self { door, place }
    }

    /// How many hosts it takes.
    pub fn hosts(self) -> usize {
        1 + self.actor()
    }

    /// The number of the actor's host. The provider's is 0.
    pub fn actor(self) -> usize {
        match self.place {
            Place::SameHost => 0,
            Place::PeerHost => 1,
        }
    }
}
