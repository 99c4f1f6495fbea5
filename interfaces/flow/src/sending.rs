//! Sending bodies, and the rests of values, as data frames.

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt as _;
use trellis_protocol::Refusal;
use trellis_protocol::frame::{CallNumber, Fields, Frame, Stream};

use crate::stream_out::StreamOut;
use crate::{BODY_IDLE, FlowBody, idle, message};

/// Takes frames to the other end of a call, in order.
pub trait Carrier: Sync {
    /// Sends a frame, once there is room for it.
    fn send(&self, frame: Frame) -> impl Future<Output = Result<(), Refusal>> + Send;
}

/// Sends a body as data frames, until it ends or its stream is closed.
pub async fn send_body(
    carrier: &impl Carrier,
    call: CallNumber,
    stream: Stream,
    out: &StreamOut,
    mut body: FlowBody,
) {
    let mut sender = Sender {
        carrier,
        call,
        stream,
        out,
        sequence: 0,
    };
    if let Err(refusal) = sender.body(&mut body).await {
        abort(carrier, call, stream, out, refusal).await;
    }
}

/// Tells the reader of a stream that it will not be sent to its end, unless nobody is left to be told.
pub async fn abort(
    carrier: &impl Carrier,
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
    if let Err(error) = carrier.send(abort).await {
        tracing::debug!(%error, "cannot abort a stream");
    }
}

/// Sends the rest of a value as data frames.
///
/// # Errors
/// Why it was not sent to its end. Its reader does not know yet.
pub async fn send_rest(
    carrier: &impl Carrier,
    call: CallNumber,
    stream: Stream,
    out: &StreamOut,
    rest: Bytes,
) -> Result<(), Refusal> {
    let mut sender = Sender {
        carrier,
        call,
        stream,
        out,
        sequence: 0,
    };
    sender.bytes(rest, true).await
}

struct Sender<'a, C> {
    carrier: &'a C,
    call: CallNumber,
    stream: Stream,
    out: &'a StreamOut,
    sequence: u32,
}

impl<C: Carrier> Sender<'_, C> {
    async fn body(&mut self, body: &mut FlowBody) -> Result<(), Refusal> {
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
        self.carrier.send(frame).await
    }
}
