//! Bodies: from data frames to an [`http_body::Body`], and back.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use bytes::Bytes;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use http_body::{Body, Frame as BodyFrame, SizeHint};
use http_body_util::BodyExt as _;
use tokio::time::Sleep;
use trellis_protocol::frame::{CallNumber, Fields, Frame, Stream};
use trellis_protocol::{Refusal, RefusalCode};

use super::courier::Say;
use super::message;
use super::outgoing::OutgoingCall;
use super::remote::{Incoming, Outgoing, Remote};
use super::shared::Shared;
use super::stream_in::{Piece, StreamIn};
use super::stream_out::StreamOut;
use super::{BODY_IDLE, PeerBody};

/// A stream that this host reads: the request's of a peer's call, or the response's of its own.
#[derive(Clone)]
pub(super) enum Reading {
    Request(Arc<Incoming>),
    Response(Arc<Outgoing>),
}

impl Reading {
    pub(super) fn stream_in(&self) -> &StreamIn {
        match self {
            Self::Request(call) => &call.upload,
            Self::Response(call) => &call.download,
        }
    }

    pub(super) fn stream(&self) -> Stream {
        match self {
            Self::Request(_) => Stream::ToCallee,
            Self::Response(_) => Stream::ToCaller,
        }
    }
}

/// Takes pieces off a stream, and sees that their sender is paid or told to stop.
pub(super) struct Reader {
    shared: Arc<Shared>,
    from: Arc<Remote>,
    call: CallNumber,
    reading: Reading,
}

impl Reader {
    pub(super) fn new(
        shared: &Arc<Shared>,
        from: &Arc<Remote>,
        call: CallNumber,
        reading: Reading,
    ) -> Self {
        Self {
            shared: Arc::clone(shared),
            from: Arc::clone(from),
            call,
            reading,
        }
    }

    fn poll_piece(&self, cx: &mut Context<'_>) -> Poll<Option<Result<Piece, Refusal>>> {
        let mut credit_due = false;
        let stream = self.reading.stream_in();
        let polled = stream.poll_next(cx, &self.shared.budget, &mut credit_due);
        if credit_due {
            let say = Say::Credit(self.reading.clone());
            self.shared.signal(&self.from, self.call, say, Vec::new());
        }
        polled
    }

    /// Waits until the stream has failed.
    pub(super) async fn failure(&self) -> Refusal {
        std::future::poll_fn(|cx| self.reading.stream_in().poll_failure(cx)).await
    }

    /// Gathers the rest of a value, of exactly so many bytes.
    pub(super) async fn rest(&self, beginning: &[u8], rest: u32) -> Result<Vec<u8>, Refusal> {
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

impl Drop for Reader {
    fn drop(&mut self) {
        let (permits, tell) = self.reading.stream_in().abandon();
        // A response that nobody reads ends with its call, which says so itself.
        if tell && matches!(self.reading, Reading::Request(_)) {
            let say = Say::Stop(self.reading.stream());
            self.shared.signal(&self.from, self.call, say, permits);
        }
    }
}

/// A body that arrives from a peer.
pub(super) struct Arriving {
    reader: Reader,
    /// Runs while the consumer waits, not while it is busy elsewhere.
    idle: Option<Pin<Box<Sleep>>>,
    /// Trailers that came with the last bytes, and go to the consumer behind them.
    trailers: Option<Fields>,
    /// The response's call, which ends with its body.
    call: Option<OutgoingCall>,
    cancelled: Option<BoxFuture<'static, ()>>,
    failed: bool,
}

impl Arriving {
    pub(super) fn request(reader: Reader) -> PeerBody {
        Self::new(reader, None, None).boxed_unsync()
    }

    pub(super) fn response(
        reader: Reader,
        call: OutgoingCall,
        cancelled: BoxFuture<'static, ()>,
    ) -> PeerBody {
        Self::new(reader, Some(call), Some(cancelled)).boxed_unsync()
    }

    fn new(
        reader: Reader,
        call: Option<OutgoingCall>,
        cancelled: Option<BoxFuture<'static, ()>>,
    ) -> Self {
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

impl Body for Arriving {
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
        let is_read = self.reader.reading.stream_in().is_read();
        self.failed || (is_read && self.trailers.is_none())
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::default()
    }
}

/// Sends a body as data frames, until it ends or its stream is closed.
pub(super) async fn send_body(
    shared: &Shared,
    to: &Remote,
    call: CallNumber,
    stream: Stream,
    out: &StreamOut,
    mut body: PeerBody,
) {
    let mut sender = Sender {
        shared,
        to,
        call,
        stream,
        out,
        sequence: 0,
    };
    if let Err(refusal) = sender.body(&mut body).await {
        abort(shared, to, call, stream, out, refusal).await;
    }
}

/// Tells the reader of a stream that it will not be sent to its end, unless nobody is left to be told.
pub(super) async fn abort(
    shared: &Shared,
    to: &Remote,
    call: CallNumber,
    stream: Stream,
    out: &StreamOut,
    refusal: Refusal,
) {
    if out.is_closed() {
        // The reader said so, or the call has ended.
        return;
    }
    let abort = Frame::Abort {
        call,
        stream,
        refusal,
    };
    if let Err(error) = shared.send(to, &abort).await {
        tracing::debug!(%error, "cannot abort a stream");
    }
}

/// Sends the rest of a value as data frames.
pub(super) async fn send_rest(
    shared: &Shared,
    to: &Remote,
    call: CallNumber,
    stream: Stream,
    out: &StreamOut,
    rest: Bytes,
) -> Result<(), Refusal> {
    let mut sender = Sender {
        shared,
        to,
        call,
        stream,
        out,
        sequence: 0,
    };
    sender.bytes(rest, true).await
}

struct Sender<'a> {
    shared: &'a Shared,
    to: &'a Remote,
    call: CallNumber,
    stream: Stream,
    out: &'a StreamOut,
    sequence: u32,
}

impl Sender<'_> {
    async fn body(&mut self, body: &mut PeerBody) -> Result<(), Refusal> {
        loop {
            let next = tokio::select! {
                biased;
                closed = self.out.closed() => return Err(closed),
                next = tokio::time::timeout(BODY_IDLE, body.frame()) => next,
            };
            let Some(frame) = next.map_err(|_| idle())? else {
                return self.end(None).await;
            };
            match frame?.into_data() {
                Ok(data) => {
                    let last = body.is_end_stream();
                    self.bytes(data, last).await?;
                    if last {
                        return Ok(());
                    }
                }
                Err(frame) => {
                    if let Ok(trailers) = frame.into_trailers() {
                        return self.end(Some(message::to_fields(&trailers)?)).await;
                    }
                }
            }
        }
    }

    async fn bytes(&mut self, mut bytes: Bytes, last: bool) -> Result<(), Refusal> {
        if bytes.is_empty() && last {
            return self.end(None).await;
        }
        while !bytes.is_empty() {
            let taken = self.out.take(bytes.len()).await?;
            let piece = bytes.split_to(taken);
            let ends = last && bytes.is_empty();
            self.send(piece, ends, None).await?;
        }
        Ok(())
    }

    /// Trailers, or the end where no data was known to be the last, go in a frame without data. Others may put trailers
    /// into the frame of their last data.
    async fn end(&mut self, trailers: Option<Fields>) -> Result<(), Refusal> {
        self.out.take(0).await?;
        self.send(Bytes::new(), true, trailers).await
    }

    async fn send(
        &mut self,
        bytes: Bytes,
        last: bool,
        trailers: Option<Fields>,
    ) -> Result<(), Refusal> {
        let (call, stream, sequence) = (self.call, self.stream, self.sequence);
        self.sequence = sequence.wrapping_add(1);
        let frame = Frame::Data {
            call,
            stream,
            sequence,
            bytes,
            last,
            trailers,
        };
        self.shared.send(self.to, &frame).await
    }
}

fn idle() -> Refusal {
    Refusal::new(
        RefusalCode::DeadlineExceeded,
        format!("a body brought no byte for {} s", BODY_IDLE.as_secs()),
    )
}

fn wrong_length() -> Refusal {
    Refusal::new(
        RefusalCode::BadPayload,
        "a value has another length than its sender announced",
    )
}
