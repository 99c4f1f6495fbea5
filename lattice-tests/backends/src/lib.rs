//! Private servers of Redis and PostgreSQL, and registries of artifacts, for tests, demonstrations and benchmarks.
//!
//! A server started here belongs to the value that stands for it: it listens on a free port of the loopback interface,
//! keeps everything in a temporary directory, and ends with that value, or with this process if that is killed first.
//! Nothing of the machine's own servers is touched.
//!
//! [`process`] is what all servers have in common and [`locate`] finds their programs; [`redis`], [`postgres`] and
//! [`registry`] are one kind of server each. [`faulty`] has servers and proxies that misbehave on purpose. [`collector`] takes
//! traces and metrics and keeps them. [`certificates`] makes what TLS needs.
//!
//! Starting, killing and restarting block the calling thread for as long as that takes, at most half a minute.

pub mod certificates;
pub mod collector;
mod error;
pub mod faulty;
pub mod locate;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod registry;

pub use error::BackendError;
pub use postgres::{Postgres, PostgresOptions};
pub use redis::{Redis, RedisOptions};
pub use registry::{Registry, RegistryOptions};
