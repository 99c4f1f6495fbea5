//! Servers that misbehave on purpose: one that never answers, and a proxy that can hold, cut and refuse.
//!
//! Both listen on a free port of the loopback interface and end, with all their connections, when they are dropped.

mod proxy;
mod silent;

pub use proxy::{Mode, Proxy};
pub use silent::Silent;
