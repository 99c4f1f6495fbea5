//! Fixtures of the end-to-end tests: a real nats-server, real hosts, signed actors, real HTTP.
//!
//! ```no_run
//! # async fn example() {
//! use trellis_lattice_tests::Lattice;
//!
//! let lattice = Lattice::start().await;
//! let host = lattice.host("a").start().await;
//! lattice.run(&host, "hello").await;
//! let url = lattice.serve(&host, "hello").await;
//! assert_eq!(trellis_lattice_tests::http::get(&url).await.status, 200);
//! # }
//! ```
//!
//! Everything that a fixture starts ends with it: servers and hosts on `Drop`, directories with them. Ports are free
//! ones. Every wait has a deadline, and says what it waited for when it fails. A fixture panics where something it
//! needs is missing, with a sentence that says what to do.

pub mod actor;
pub mod binary;
pub mod deploy;
pub mod door;
pub mod host;
pub mod http;
pub mod lattice;
pub mod load;
pub mod memory;
pub mod nats;
pub mod ports;
pub mod process;
pub mod transfer;
pub mod version;
pub mod wait;

pub use door::{Door, Place, Setting};
pub use host::{AnyHost, HostFixture, HostId};
pub use lattice::Lattice;
pub use process::HostProcess;
pub use wait::eventually;
