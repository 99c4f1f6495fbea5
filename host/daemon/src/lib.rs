//! A host, assembled: the host library with the built-in providers, as the program `trellis-host` and as what `wash up`
//! runs in its own process.
//!
//! [`args`] reads flags and environment, [`host_key`] finds or makes the host's key, [`providers`] lists what is built in,
//! [`runtime`] makes the runtime that guests run on, [`logging`] says where the log goes, [`admin`] and [`telemetry`] tell
//! others how it is, and [`serve`](mod@serve) is the life of a host from its start to its last beat.

pub mod admin;
pub mod args;
pub mod host_key;
pub mod logging;
pub mod providers;
pub mod runtime;
pub mod serve;
pub mod telemetry;

pub use host_key::{HostKeyError, load_host_key, load_or_create_host_key};
pub use providers::built_in;
pub use serve::{Drained, ServeError, Shutdown, serve};
pub use telemetry::TelemetryOptions;
pub use trellis_host_core::{Host, HostError, HostOptions};

/// Chooses the process's one implementation of TLS's cryptography. The first thing that a program does; a second time does
/// no harm.
pub fn install_crypto() {
    // An error says that the choice was made before.
    let _ = rustls::crypto::ring::default_provider().install_default();
}
