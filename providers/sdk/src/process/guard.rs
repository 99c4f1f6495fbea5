//! What a panic in a provider costs: the call in which it happened.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt;
use http_body::{Frame, SizeHint};
use trellis_pipe::PipeBody;
use trellis_protocol::{Refusal, RefusalCode};

/// A method of the provider panicked. The panic itself is in the log.
#[derive(Debug, Clone, Copy)]
pub(super) struct Panicked;

impl From<Panicked> for Refusal {
    fn from(_: Panicked) -> Self {
        Self::new(
            RefusalCode::Internal,
            "the provider panicked while it served the call",
        )
    }
}

/// Runs a method of the provider.
///
/// What it shares with others may be left half changed, as by any panic that is caught; the types of the standard library
/// say so themselves (locks are poisoned), and a provider whose own would be dangerous has to end the process itself.
pub(super) async fn guarded<T>(method: impl Future<Output = T>) -> Result<T, Panicked> {
    AssertUnwindSafe(method)
        .catch_unwind()
        .await
        .map_err(|_| Panicked)
}

/// A body that the provider makes.
pub(super) struct GuardedBody {
    body: Option<PipeBody>,
}

impl GuardedBody {
    pub(super) fn new(body: PipeBody) -> Self {
        Self { body: Some(body) }
    }
}

impl http_body::Body for GuardedBody {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let Some(body) = &mut self.body else {
            return Poll::Ready(None);
        };
        let polled = AssertUnwindSafe(|| Pin::new(body).poll_frame(context));
        catch_unwind(polled).unwrap_or_else(|_| {
            // Not asked again: who knows what is left of it.
            self.body = None;
            Poll::Ready(Some(Err(Panicked.into())))
        })
    }

    fn is_end_stream(&self) -> bool {
        self.body
            .as_ref()
            .is_none_or(http_body::Body::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        let hint = self.body.as_ref().map(http_body::Body::size_hint);
        hint.unwrap_or_else(|| SizeHint::with_exact(0))
    }
}
