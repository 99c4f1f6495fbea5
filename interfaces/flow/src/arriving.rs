//! Reading streams: the rest of a value, gathered, or an [`http_body::Body`].

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::{Body, Frame as BodyFrame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::Sleep;
use trellis_protocol::frame::Fields;
use trellis_protocol::{Refusal, RefusalCode};

use crate::budget::Budget;
use crate::stream_in::{Piece, StreamIn};
use crate::{BODY_IDLE, FlowBody, idle, message};

/// A stream that this end reads, and the way back to its sender.
pub trait Source: Send + Unpin + 'static {
    /// Where the pieces come out.
    fn stream(&self) -> &StreamIn;

    /// What windows grow from.
    fn budget(&self) -> &Budget;

    /// Credit is due. Whoever sends it takes it off the stream at that moment, by [`StreamIn::take_credit`].
    fn credit_due(&self);

    /// Nobody reads on, and the sender does not know. The permits are what the sender may have on the way: they go back
    /// to the budget once it has been told.
    fn abandoned(&self, permits: Vec<OwnedSemaphorePermit>);
}

/// Takes pieces off a stream, and sees that their sender is paid or told to stop.
pub struct Reader<S: Source> {
    source: S,
}

impl<S: Source> Reader<S> {
    /// The reader of a stream. There is one for each.
    pub fn new(source: S) -> Self {
        Self { source }
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Refusal>>> {
        let mut credit_due = false;
        let stream = self.source.stream();
        let polled = stream.poll_next(cx, self.source.budget(), &mut credit_due);
        if credit_due {
            self.source.credit_due();
        }
        polled
    }

    /// Waits until the stream has failed.
    pub async fn failure(&self) -> Refusal {
        std::future::poll_fn(|cx| self.source.stream().poll_failure(cx)).await
    }

    /// Gathers the rest of a value, of exactly so many bytes.
    ///
    /// # Errors
    /// Why the stream failed; `deadline-exceeded` where it brings nothing for [`BODY_IDLE`]; `bad-payload` where the
    /// length is another.
    pub async fn rest(&self, beginning: &[u8], rest: u32) -> Result<Vec<u8>, Refusal> {
        let whole = beginning.len() + rest as usize;
        let mut value = Vec::with_capacity(whole);
        value.extend_from_slice(beginning);
        loop {
            let next = std::future::poll_fn(|cx| self.poll_piece(cx));
            let next = tokio::time::timeout(BODY_IDLE, next).await;
            let Some(piece) = next.map_err(|_| idle())?.transpose()? else {
                break;
            };
            if value.len() + piece.bytes.len() > whole {
                return Err(wrong_length());
            }
            value.extend_from_slice(&piece.bytes);
        }
        if value.len() == whole {
            Ok(value)
        } else {
            Err(wrong_length())
        }
    }
}

impl<S: Source> Drop for Reader<S> {
    fn drop(&mut self) {
        let (permits, tell) = self.source.stream().abandon();
        if tell {
            self.source.abandoned(permits);
        }
    }
}

/// A call that ends with the last byte of its response. Dropped before, it tells the callee that the caller has gone.
pub trait Settle: Send + Unpin + 'static {
    /// Ends the call, which the callee knows to have ended.
    fn settle(self);
}

/// For a request's body, which ends no call.
impl Settle for () {
    fn settle(self) {}
}

/// A body that arrives.
pub struct Arriving<S: Source, C: Settle> {
    reader: Reader<S>,
    /// Runs while the consumer waits, not while it is busy elsewhere.
    idle: Option<Pin<Box<Sleep>>>,
    /// Trailers that came with the last bytes, and go to the consumer behind them.
    trailers: Option<Fields>,
    /// The response's call, which ends with its body.
    call: Option<C>,
    cancelled: Option<BoxFuture<'static, ()>>,
    failed: bool,
}

impl<S: Source> Arriving<S, ()> {
    /// The body of a request.
    pub fn request(reader: Reader<S>) -> FlowBody {
        Self::new(reader, None, None).boxed_unsync()
    }
}

impl<S: Source, C: Settle> Arriving<S, C> {
    /// The body of a response. It holds the call, and fails when `cancelled` is ready.
    pub fn response(reader: Reader<S>, call: C, cancelled: BoxFuture<'static, ()>) -> FlowBody {
        Self::new(reader, Some(call), Some(cancelled)).boxed_unsync()
    }

    fn new(reader: Reader<S>, call: Option<C>, cancelled: Option<BoxFuture<'static, ()>>) -> Self {
        Self {
            reader,
            idle: None,
            trailers: None,
            call,
            cancelled,
            failed: false,
        }
    }

    fn end_call(&mut self) {
        if let Some(call) = self.call.take() {
            call.settle();
        }
    }
}

impl<S: Source, C: Settle> Body for Arriving<S, C> {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<BodyFrame<Bytes>, Refusal>>> {
        let this = &mut *self;
        if this.failed {
            return Poll::Ready(None);
        }
        if let Some(cancelled) = &mut this.cancelled
            && cancelled.poll_unpin(cx).is_ready()
        {
            this.failed = true;
            // Dropping the call unsettled tells the peer.
            this.call = None;
            let gone = Refusal::new(RefusalCode::Cancelled, "the call was cancelled");
            return Poll::Ready(Some(Err(gone)));
        }
        let failure = loop {
            if let Some(fields) = this.trailers.take() {
                match message::from_fields(fields) {
                    Ok(trailers) => return Poll::Ready(Some(Ok(BodyFrame::trailers(trailers)))),
                    Err(refusal) => break refusal,
                }
            }
            match this.reader.poll_piece(cx) {
                Poll::Ready(Some(Ok(piece))) => {
                    this.idle = None;
                    if piece.last {
                        this.end_call();
                    }
                    let Piece {
                        bytes, trailers, ..
                    } = piece;
                    this.trailers = trailers;
                    if bytes.is_empty() {
                        continue;
                    }
                    return Poll::Ready(Some(Ok(BodyFrame::data(bytes))));
                }
                Poll::Ready(Some(Err(refusal))) => break refusal,
                Poll::Ready(None) => return Poll::Ready(None),
                Poll::Pending => {
                    let start = || Box::pin(tokio::time::sleep(BODY_IDLE));
                    let waiting = this.idle.get_or_insert_with(start);
                    if waiting.as_mut().poll(cx).is_pending() {
                        return Poll::Pending;
                    }
                    break idle();
                }
            }
        };
        this.failed = true;
        this.call = None;
        Poll::Ready(Some(Err(failure)))
    }

    fn is_end_stream(&self) -> bool {
        let is_read = self.reader.source.stream().is_read();
        self.failed || (is_read && self.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

fn wrong_length() -> Refusal {
    Refusal::new(
        RefusalCode::BadPayload,
        "a value has another length than its sender announced",
    )
}
