//! The life of a provider: it is started with its configuration, told of links, called, asked for its health, and shut down.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, Lease, Refusal, RefusalCode};

use crate::call::Call;
use crate::http::{HttpRequest, HttpResponse};
use crate::link::{Link, LinkError};
use crate::outbound::Outbound;

/// What a provider is started with.
pub struct ProviderSetup {
    /// Its id in the lattice.
    pub id: EntityId,
    /// The lattice's name.
    pub lattice: String,
    /// Public key of the host it runs on.
    pub host: String,
    /// Its named configurations, merged in the order in which the start command names them.
    pub config: BTreeMap<String, String>,
    /// The way to the actors it is linked to.
    pub outbound: Arc<dyn Outbound>,
}

impl fmt::Debug for ProviderSetup {
    /// Shows the names of configuration values, never the values.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProviderSetup")
            .field("id", &self.id)
            .field("lattice", &self.lattice)
            .field("host", &self.host)
            .field("config", &self.config.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}

/// Why a provider did not start.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// A configuration value is missing, unknown or malformed.
    #[error("configuration key `{key}`: {reason}")]
    Config {
        /// The key.
        key: String,
        /// What is wrong with it, and what it should be.
        reason: String,
    },
    /// The backend, an address or a file cannot be had.
    #[error("{0}")]
    Backend(String),
}

/// How a provider is, by its own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Health {
    /// It can serve.
    Healthy,
    /// It cannot serve at present, for this reason.
    Failing(String),
}

/// Makes one kind of provider. A host is assembled with factories, by name.
#[async_trait]
pub trait ProviderFactory: Send + Sync + 'static {
    /// The name by which it is started: `http-server`, `keyvalue-nats`.
    fn name(&self) -> &'static str;

    /// The interfaces that actors can call on it, `namespace:package/interface`.
    fn serves(&self) -> &'static [&'static str];

    /// The interfaces that it calls on actors.
    fn calls(&self) -> &'static [&'static str];

    /// Starts one.
    ///
    /// # Errors
    /// [`StartError`] where the configuration or the backend does not permit it.
    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError>;
}

/// A running provider.
///
/// All methods may be called at once from many tasks. Nothing that a caller sends may make one panic.
#[async_trait]
pub trait Provider: Send + Sync + 'static {
    /// A link was put, or its configuration changed. The same key may come again with a larger generation, which replaces
    /// the former one; applying the same link twice changes nothing.
    ///
    /// # Errors
    /// [`LinkError`] where the link cannot be served. Calls over it are then refused with that reason, and a former
    /// generation no longer serves.
    async fn link_put(&self, link: Link) -> Result<(), LinkError>;

    /// A link is gone. What it held is released; calls over it no longer arrive.
    async fn link_delete(&self, key: &LinkKey, end: crate::link::LinkEnd);

    /// Serves one invocation: the encoded result, or a refusal.
    ///
    /// Dropping the future must be safe at every await: it is how a host ends work whose caller has gone.
    ///
    /// # Errors
    /// [`RefusalCode::UnknownOperation`], `type-mismatch` and `bad-payload` come from the generated dispatch;
    /// `provider-failed` is for what the interface itself has no error for.
    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        Err(Refusal::new(
            RefusalCode::UnknownOperation,
            format!(
                "this provider serves no interface, `{}` was called",
                call.operation
            ),
        ))
    }

    /// Serves an HTTP request of an actor, for `wasi:http/outgoing-handler`.
    ///
    /// The future ends with the response's head, at [`Call::deadline`] at the latest. Bodies stream in both directions:
    /// the request's is polled as it is wanted, and dropping the response's body is how the caller says that it wants no
    /// more. [`Call::payload`] is empty and [`Call::type_hash`] zero.
    ///
    /// # Errors
    /// A [`Refusal`] where there is no response.
    async fn http(&self, call: Call, request: HttpRequest) -> Result<HttpResponse, Refusal> {
        drop(request);
        Err(Refusal::new(
            RefusalCode::UnknownOperation,
            format!(
                "this provider sends no requests, `{}` was called",
                call.operation
            ),
        ))
    }

    /// An instance has ended: everything it held can go.
    async fn release(&self, lease: &Lease) {
        let _ = lease;
    }

    /// A host has disappeared: everything its instances held can go.
    async fn release_host(&self, host: &str) {
        let _ = host;
    }

    /// Whether it can serve. Asked every few seconds; not answering in time counts as failing.
    async fn health(&self) -> Health {
        Health::Healthy
    }

    /// Stop taking work, finish what is under way within the time given, and let go of everything.
    async fn shutdown(&self, within: Duration);
}
