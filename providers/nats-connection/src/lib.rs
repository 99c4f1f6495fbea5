//! How a provider reaches NATS: which servers a configuration names, and as whom it connects there.
//!
//! [`server`] reads this from the keys that every provider on NATS has in common, and turns it into a client's options.
//! [`established`] makes a connection when it is first needed. What a provider does with its connections is its own affair.

pub mod established;
pub mod server;

pub use established::Established;
pub use server::{Identity, SERVER_KEYS, Server};
