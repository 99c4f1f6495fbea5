//! How a provider reaches NATS: which servers a configuration names, and as whom it connects there.
//!
//! [`server`] reads this from the keys that every provider on NATS has in common, and turns it into a client's options.
//! [`setting`] is what reading a configuration is made of, and [`established`] makes a connection when it is first needed.
//! What a provider does with its connections is its own affair.

pub mod established;
pub mod server;
pub mod setting;

pub use established::Established;
pub use server::{Identity, SERVER_KEYS, Server};
pub use setting::{ConfigError, given, known};
