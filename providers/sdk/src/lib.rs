//! Everything a capability provider needs but its backend.
//!
//! A provider is native code that implements WIT interfaces against a real backend and serves them to actors over links.
//! It is written once, against [`Provider`], and cannot tell whether it runs inside a host or as a process of its own.
//!
//! Reading order: [`provider`] is the life of a provider, [`link`] what it learns of each link, [`call`] what reaches it,
//! [`outbound`] how it calls actors, [`http`] the typed door for HTTP, [`outgoing`] what HTTP out of actors needs beside,
//! [`settings`] how a configuration is read, [`links`] the table of the links that lead to it, [`underway`] the calls that
//! it works on, [`resources`] the handles it gives out, and [`harness`] how it is tested without a lattice. [`process`] is
//! its other door. [`interfaces!`] turns WIT interfaces into typed Rust, on top of [`mod@interface`].
//!
//! The crate knows the protocol's types. It knows neither NATS nor wasmtime.

pub mod call;
mod dispatch;
pub mod harness;
pub mod http;
pub mod interface;
pub mod link;
pub mod links;
pub mod outbound;
pub mod outgoing;
mod plain;
pub mod process;
pub mod provider;
pub mod resources;
pub mod settings;
pub mod underway;

pub use call::Call;
pub use http::{Body, BodyError, HttpRequest, HttpResponse};
pub use link::{Link, LinkEnd, LinkError};
pub use links::Links;
pub use outbound::{Outbound, OutboundCall};
pub use outgoing::{OutgoingError, OutgoingErrorCode, OutgoingTimeouts};
pub use provider::{Health, Provider, ProviderFactory, ProviderSetup, StartError};
pub use resources::Resources;
pub use settings::{ConfigError, Settings};
pub use trellis_protocol::{
    EntityId, Lease, LinkName, Operation, Refusal, RefusalCode, link::LinkKey,
};
pub use trellis_provider_macros::interfaces;
pub use underway::Underway;

/// What [`interfaces!`] refers to; not for use by hand.
#[doc(hidden)]
pub mod __macro {
    pub use async_trait::async_trait;
    pub use bytes::Bytes;
    pub use serde;
    pub use trellis_protocol as protocol;

    pub use crate::dispatch::{call, params, result, unknown};
    pub use crate::plain::{As, Same};
}
