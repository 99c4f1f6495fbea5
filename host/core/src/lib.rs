//! A host as a library: it verifies and runs actors, routes and authorises every call, and keeps what the lattice's state
//! says. It knows the trait of a provider, never a provider, and it is the only crate that knows wasmtime.
//!
//! Reading order: [`host`] is the life of a host, [`router`] the way of a call, [`actor`] and [`engine`] what runs it,
//! [`provider`] what serves it, `control` what operators ask of it, and [`observe`] what can be seen of all that.

pub mod actor;
mod admission;
mod artifact;
mod atomic_file;
mod control;
pub mod engine;
mod event;
pub mod host;
mod imports;
pub mod invocation;
pub mod limits;
pub mod observe;
mod provider;
mod restore;
pub mod router;
mod value;

pub use admission::RETRY_AFTER;
pub use host::{Host, HostError, HostOptions, StopRequest};
pub use observe::span::{ActiveSpan, SpanKind, SpanOutcome, SpanStart, Tracer};
pub use observe::{METRICS_CONTENT_TYPE, Readiness, Requirement};
