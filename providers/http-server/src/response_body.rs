//! The body of a response on its way to the client. It carries the end of its exchange.

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use trellis_provider_sdk::http::empty;
use trellis_provider_sdk::{Body, BodyError};

use crate::exchange::Exchange;
use crate::stall::{WaitsFor, mark};

/// Largest frame, in bytes, that is handed to the connection at once.
///
/// A client's progress is seen between frames, so a frame must be small enough to be read within the client's time.
const FRAME_BYTES_MAX: usize = 64 * 1024;

/// A response's body.
pub(crate) struct ResponseBody {
    inner: Body,
    /// The rest of a large frame.
    rest: Bytes,
    /// Bytes to come by the head's `Content-Length`. The connection reads that many and drops the body.
    declared_left: Option<u64>,
    /// Nothing where the exchange ends elsewhere.
    exchange: Option<Exchange>,
}

impl ResponseBody {
    /// The body behind a head that declares `declared` bytes, if it does.
    pub(crate) fn new(inner: Body, declared: Option<u64>, mut exchange: Exchange) -> Self {
        if inner.is_end_stream() || declared == Some(0) {
            exchange.complete();
        }
        Self {
            inner,
            rest: Bytes::new(),
            declared_left: declared,
            exchange: Some(exchange),
        }
    }

    /// The body of a head that stands alone.
    pub(crate) fn none() -> Self {
        Self {
            inner: empty(),
            rest: Bytes::new(),
            declared_left: None,
            exchange: None,
        }
    }

    fn hand_over(&mut self, mut data: Bytes) -> Frame<Bytes> {
        if data.len() > FRAME_BYTES_MAX {
            self.rest = data.split_off(FRAME_BYTES_MAX);
        }
        if let Some(exchange) = &mut self.exchange {
            exchange.bytes += data.len() as u64;
        }
        if let Some(left) = &mut self.declared_left {
            *left = left.saturating_sub(data.len() as u64);
        }
        let is_last = self.declared_left == Some(0) || self.inner.is_end_stream();
        if self.rest.is_empty() && is_last {
            self.end();
        } else {
            mark(WaitsFor::Client);
        }
        Frame::data(data)
    }

    fn end(&mut self) {
        if let Some(exchange) = &mut self.exchange {
            exchange.complete();
        }
        mark(WaitsFor::Actor);
    }
}

impl HttpBody for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if !this.rest.is_empty() {
            let rest = std::mem::take(&mut this.rest);
            return Poll::Ready(Some(Ok(this.hand_over(rest))));
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => match frame.into_data() {
                Ok(data) => Poll::Ready(Some(Ok(this.hand_over(data)))),
                Err(trailers) => {
                    // Trailers are the last frame there is.
                    this.end();
                    Poll::Ready(Some(Ok(trailers)))
                }
            },
            Poll::Ready(Some(Err(error))) => {
                mark(WaitsFor::Actor);
                tracing::debug!(%error, "a response's body broke off");
                Poll::Ready(Some(Err(error)))
            }
            Poll::Ready(None) => {
                this.end();
                Poll::Ready(None)
            }
            Poll::Pending => {
                mark(WaitsFor::Actor);
                Poll::Pending
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.rest.is_empty() && self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        let rest = self.rest.len() as u64;
        let inner = self.inner.size_hint();
        let mut hint = SizeHint::new();
        hint.set_lower(inner.lower().saturating_add(rest));
        if let Some(upper) = inner.upper().and_then(|upper| upper.checked_add(rest)) {
            hint.set_upper(upper);
        }
        hint
    }
}
