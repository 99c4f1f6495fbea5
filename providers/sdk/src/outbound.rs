//! How a provider calls actors.

use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::{EntityId, LinkName, Operation, Refusal};

use crate::http::{HttpRequest, HttpResponse};

/// A call from a provider to an actor, over a link whose source is the provider.
#[derive(Debug, Clone)]
pub struct OutboundCall {
    /// The actor to call.
    pub target: EntityId,
    /// The link to call it by.
    pub link: LinkName,
    /// What to call.
    pub operation: Operation,
    /// Structural hash of the function's type as the provider knows it; unused for HTTP.
    pub type_hash: u64,
    /// The encoded parameters; empty for HTTP.
    pub payload: Bytes,
    /// When the provider stops waiting.
    pub deadline: Instant,
    /// Cancelling it stops the actor's work, queued or running.
    pub cancel: CancellationToken,
    /// Whether the call may be repeated without harm.
    pub idempotent: bool,
    /// W3C trace context to continue.
    pub traceparent: Option<String>,
}

/// The way out of a provider. Its host authorises each call again, as it does for actors.
#[async_trait]
pub trait Outbound: Send + Sync + 'static {
    /// Calls an actor's function and gives back its encoded result.
    ///
    /// # Errors
    /// A [`Refusal`] where the call was not carried out.
    async fn invoke(&self, call: OutboundCall) -> Result<Bytes, Refusal>;

    /// Hands an HTTP request to an actor.
    ///
    /// The future ends with the response's head. Dropping the response's body, or cancelling the call, stops the actor.
    ///
    /// # Errors
    /// A [`Refusal`] where there is no response; an actor's own error status is a response.
    async fn http(&self, call: OutboundCall, request: HttpRequest)
    -> Result<HttpResponse, Refusal>;
}
