//! HTTP out of actors: a request that the router has authorised, handed to a provider, and the body of its response on the
//! way back.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio_util::sync::WaitForCancellationFutureOwned;
use trellis_protocol::{EntityId, Refusal};
use trellis_provider_sdk::{Body, BodyError, HttpRequest, HttpResponse};

use super::RunningProvider;
use super::running::{call, stopped};
use crate::invocation::Invocation;

impl RunningProvider {
    /// Serves a request that the router has authorised. The future ends with the head of the response.
    pub(crate) async fn http(
        &self,
        invocation: Invocation,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        let provider = self.admit(&invocation)?;
        let (deadline, cancel) = (invocation.deadline, invocation.cancel.clone());
        let served = provider.http(call(invocation), request);
        let response = self.within(deadline, &cancel, served).await?;
        Ok(response.map(|body| {
            Body::new(ResponseBody {
                body,
                stopping: Box::pin(self.stopping.clone().cancelled_owned()),
                provider: self.id.clone(),
            })
        }))
    }
}

/// The body of a response, which ends with a refusal where the provider is stopped before it is read.
struct ResponseBody {
    body: Body,
    stopping: Pin<Box<WaitForCancellationFutureOwned>>,
    provider: EntityId,
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(context) {
            return Poll::Ready(frame);
        }
        match self.stopping.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(Some(Err(stopped(&self.provider).into()))),
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
