//! The way from a provider of this host to actors.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use trellis_protocol::{EntityId, InvocationId, Refusal};
use trellis_provider_sdk::{HttpRequest, HttpResponse, Outbound, OutboundCall};

use crate::invocation::Invocation;
use crate::router::Router;

/// Calls of one provider. It is their source, whatever it says.
pub(super) struct ActorCalls {
    source: EntityId,
    router: Arc<Router>,
}

impl ActorCalls {
    pub(super) fn new(source: EntityId, router: Arc<Router>) -> Self {
        Self { source, router }
    }

    fn invocation(&self, call: OutboundCall) -> Invocation {
        Invocation {
            id: InvocationId::random(),
            source: self.source.clone(),
            target: call.target,
            operation: call.operation,
            link: call.link,
            deadline: call.deadline,
            depth: 0,
            type_hash: call.type_hash,
            idempotent: call.idempotent,
            lease: self.router.new_lease(),
            chain: Arc::default(),
            traceparent: call.traceparent.map(Arc::from),
            cancel: call.cancel,
            payload: call.payload,
        }
    }
}

#[async_trait]
impl Outbound for ActorCalls {
    async fn invoke(&self, call: OutboundCall) -> Result<Bytes, Refusal> {
        let (result, _) = self.router.invoke(self.invocation(call)).await?;
        Ok(result)
    }

    async fn http(
        &self,
        call: OutboundCall,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        self.router.http(self.invocation(call), request).await
    }
}
