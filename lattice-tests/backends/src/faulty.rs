//! Servers that misbehave on purpose: one that never answers, a proxy that can hold, cut and refuse, and a registry of
//! artifacts with a fault of one's choice.
//!
//! They listen on a free port of the loopback interface and end, with all their connections, when they are dropped.

mod proxy;
mod registry;
mod silent;

pub use proxy::{Mode, Proxy};
pub use registry::{Fault, FaultyRegistry, Image, Step};
pub use silent::Silent;
