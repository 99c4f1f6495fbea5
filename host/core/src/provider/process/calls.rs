//! What a provider process asks of its host: calls to the actors that it is linked to. It is asked for nothing else.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use trellis_pipe::{Failure, FailureKind, PipeBody, PipeHandler, Question};
use trellis_protocol::{InvocationHead, Lease, Refusal, RefusalCode};
use trellis_provider_sdk::http::INCOMING_HANDLER;
use trellis_provider_sdk::{Body, BodyError, Outbound, OutboundCall};

/// The host's end of the pipe.
pub(super) struct Calls(pub(super) Arc<dyn Outbound>);

/// What the process says of itself (source, depth, chain, lease) is passed over: the way out knows better.
fn outbound(
    head: InvocationHead,
    payload: Bytes,
    deadline: Instant,
    cancel: CancellationToken,
) -> OutboundCall {
    OutboundCall {
        target: head.target,
        link: head.link,
        operation: head.operation,
        type_hash: head.type_hash,
        payload,
        deadline,
        cancel,
        idempotent: head.idempotent,
        traceparent: head.traceparent,
    }
}

#[async_trait]
impl PipeHandler for Calls {
    async fn invoke(
        &self,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Bytes, Refusal> {
        self.0
            .invoke(outbound(head, payload, deadline, cancel))
            .await
    }

    async fn http(
        &self,
        head: InvocationHead,
        deadline: Instant,
        cancel: CancellationToken,
        request: http::Request<PipeBody>,
    ) -> Result<http::Response<PipeBody>, Refusal> {
        // The frame says that this is HTTP. The head must say so as well, or a link for another interface would do.
        if head.operation.interface.split('@').next() != Some(INCOMING_HANDLER) {
            return Err(Refusal::new(
                RefusalCode::UnknownOperation,
                format!("`{}` is not called by HTTP", head.operation),
            ));
        }
        let call = outbound(head, Bytes::new(), deadline, cancel);
        let request = request.map(|body| Body::new(body.map_err(BodyError::Refused)));
        let response = self.0.http(call, request).await?;
        Ok(response.map(|body| body.map_err(Refusal::from).boxed_unsync()))
    }

    async fn release(&self, _: Lease) {}

    async fn release_host(&self, _: String) {}

    async fn answer(&self, _: Question) -> Result<(), Failure> {
        Err(Failure::new(
            FailureKind::Unsupported,
            "a host is asked nothing",
        ))
    }
}
