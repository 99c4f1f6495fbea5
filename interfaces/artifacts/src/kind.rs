//! [`Kind`]: what an artifact is for.

use std::fmt;

/// What an artifact is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Kind {
    /// A WebAssembly component: an actor.
    Component,
    /// A provider: an archive of executables, or (from a file) one executable.
    Provider,
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Component => "component",
            Self::Provider => "provider",
        })
    }
}
