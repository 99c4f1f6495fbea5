//! The two bodies of an exchange, between the guest's types and those of the lattice.

use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Frame, SizeHint};
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use trellis_provider_sdk::{Body, BodyError};
use wasmtime_wasi_http::{Error, WasiBody};

use super::fault::Fault;

/// What the guest did wrong with its own body, kept until somebody asks why the exchange failed.
#[derive(Debug, Clone, Default)]
pub(super) struct GuestFault(Arc<Mutex<Option<Error>>>);

impl GuestFault {
    pub(super) fn take(&self) -> Option<Error> {
        self.slot().take()
    }

    fn slot(&self) -> std::sync::MutexGuard<'_, Option<Error>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request's body, as the guest writes it.
pub(super) struct RequestBody {
    body: WasiBody,
    gone: CancellationToken,
    fault: GuestFault,
}

impl RequestBody {
    pub(super) fn new(body: WasiBody, gone: CancellationToken, fault: GuestFault) -> Self {
        Self { body, gone, fault }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let frame = std::task::ready!(Pin::new(&mut self.body).poll_frame(context));
        Poll::Ready(match frame {
            Some(Ok(frame)) => Some(Ok(frame)),
            Some(Err(error)) => {
                let reason = format!("the actor did not finish its body: {error}");
                *self.fault.slot() = Some(error);
                Some(Err(BodyError::Disconnected { reason }))
            }
            // The guest's end closes its bodies just as their proper end does.
            None if self.gone.is_cancelled() => Some(Err(BodyError::Disconnected {
                reason: "the actor ended before its body".to_owned(),
            })),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

/// A response's body on its way to the guest, with a limit on silence.
pub(super) struct ResponseBody {
    body: Body,
    idle_max: Duration,
    idle: Option<Pin<Box<Sleep>>>,
    failed: bool,
    /// The exchange counts among those of its instance for as long as its body is there.
    _permit: OwnedSemaphorePermit,
}

impl ResponseBody {
    pub(super) fn new(body: Body, idle_max: Duration, permit: OwnedSemaphorePermit) -> Self {
        Self {
            body,
            idle_max,
            idle: None,
            failed: false,
            _permit: permit,
        }
    }

    fn fail(&mut self, error: Error) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        self.failed = true;
        // Nothing more is wanted of it, and whoever sends it should know.
        self.body = trellis_provider_sdk::http::empty();
        Poll::Ready(Some(Err(error)))
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Error>>> {
        if self.failed {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Err(error))) => self.fail(Fault::of_body(error).error),
            Poll::Ready(Some(Ok(frame))) => {
                self.idle = None;
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(None) => Poll::Ready(None),
            Poll::Pending => {
                let idle_max = self.idle_max;
                let idle = self
                    .idle
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_max)));
                match idle.as_mut().poll(context) {
                    Poll::Ready(()) => self.fail(Error::ConnectionReadTimeout),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.failed || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
