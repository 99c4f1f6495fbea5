//! How a provider in a process calls actors: over its socket, through its host.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::sync::SetOnce;
use trellis_pipe::Pipe;
use trellis_protocol::{EntityId, InvocationHead, InvocationId, Lease, Refusal};

use crate::http::{Body, BodyError, HttpRequest, HttpResponse};
use crate::outbound::{Outbound, OutboundCall};

/// The way out. The pipe is there before the provider is.
pub(super) struct WayOut {
    pub(super) id: EntityId,
    pub(super) host: Arc<str>,
    pub(super) pipe: Arc<SetOnce<Pipe>>,
}

impl WayOut {
    /// The head of a call. Source, lease, depth and chain are what the host says they are.
    fn head(&self, call: &OutboundCall) -> InvocationHead {
        InvocationHead {
            id: InvocationId::random(),
            source: self.id.clone(),
            target: call.target.clone(),
            operation: call.operation.clone(),
            link: call.link.clone(),
            // The pipe writes what is left when the frame is sent.
            deadline_ms: 0,
            depth: 0,
            type_hash: call.type_hash,
            idempotent: call.idempotent,
            lease: Lease {
                host: Arc::clone(&self.host),
                instance: 0,
            },
            chain: Vec::new(),
            traceparent: call.traceparent.clone(),
            state_sequence: 0,
        }
    }
}

#[async_trait]
impl Outbound for WayOut {
    async fn invoke(&self, call: OutboundCall) -> Result<Bytes, Refusal> {
        let head = self.head(&call);
        let pipe = self.pipe.wait().await;
        pipe.invoke(head, call.payload, call.deadline, &call.cancel)
            .await
    }

    async fn http(
        &self,
        call: OutboundCall,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        let head = self.head(&call);
        let request = request.map(|body| body.map_err(Refusal::from).boxed_unsync());
        let pipe = self.pipe.wait().await;
        let response = pipe
            .http(head, call.deadline, &call.cancel, request)
            .await?;
        Ok(response.map(|body| Body::new(body.map_err(BodyError::Refused))))
    }
}
