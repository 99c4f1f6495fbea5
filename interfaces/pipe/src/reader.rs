//! The task that reads: many frames at a time, each handed to its call. It never waits for anything but bytes.

use std::sync::Arc;

use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use tokio::net::unix::OwnedReadHalf;
use trellis_flow::{Broken, Piece};
use trellis_protocol::frame::{CallNumber, Frame, Stream};
use trellis_protocol::limits::FRAME_BYTES_MAX;
use trellis_protocol::pipe::{Control, LENGTH_BYTES, PipeFrame, read_length};
use trellis_protocol::{Refusal, RefusalCode};

use crate::calls::{Answer, Outgoing};
use crate::error::PipeEnd;
use crate::exchange::{Exchange, Side};
use crate::incoming::{self, Asked};
use crate::questions;
use crate::streams::ends;
use crate::writer::io;

/// Bytes that one call of the system may bring. The buffer stays, so that what was read keeps nothing of it alive.
const BUFFER_BYTES: usize = 128 * 1024;

const _: () = assert!(FRAME_BYTES_MAX + LENGTH_BYTES <= BUFFER_BYTES / 2);

/// Cuts what arrives into frames.
pub(crate) struct Frames {
    socket: OwnedReadHalf,
    buffer: Box<[u8]>,
    start: usize,
    end: usize,
}

impl Frames {
    pub(crate) fn new(socket: OwnedReadHalf) -> Self {
        Self {
            socket,
            buffer: vec![0; BUFFER_BYTES].into_boxed_slice(),
            start: 0,
            end: 0,
        }
    }

    /// A frame that has arrived whole. Its bytes are a copy of exactly its length.
    pub(crate) fn arrived(&mut self) -> Result<Option<Bytes>, PipeEnd> {
        let bytes = &self.buffer[self.start..self.end];
        let Some((length, bytes)) = bytes.split_first_chunk::<LENGTH_BYTES>() else {
            return Ok(None);
        };
        let length = read_length(*length).map_err(|error| PipeEnd::broken(error.to_string()))?;
        let Some(frame) = bytes.get(..length) else {
            return Ok(None);
        };
        let frame = Bytes::copy_from_slice(frame);
        self.start += LENGTH_BYTES + length;
        Ok(Some(frame))
    }

    /// Waits for more.
    pub(crate) async fn fill(&mut self) -> Result<(), PipeEnd> {
        // What is left is less than a frame, and the buffer has room for two.
        self.buffer.copy_within(self.start..self.end, 0);
        self.end -= self.start;
        self.start = 0;
        let read = self.socket.read(&mut self.buffer[self.end..]).await;
        match read {
            Ok(0) if self.end > 0 => Err(PipeEnd::broken("it ended within a frame")),
            Ok(0) => Err(PipeEnd::Eof),
            Ok(bytes) => {
                self.end += bytes;
                Ok(())
            }
            Err(error) => Err(io(&error)),
        }
    }

    /// Waits for one frame.
    pub(crate) async fn next(&mut self) -> Result<PipeFrame, PipeEnd> {
        loop {
            if let Some(frame) = self.arrived()? {
                return decode(&frame);
            }
            self.fill().await?;
        }
    }
}

fn decode(frame: &Bytes) -> Result<PipeFrame, PipeEnd> {
    PipeFrame::decode(frame).map_err(|error| PipeEnd::broken(error.to_string()))
}

pub(crate) async fn run(exchange: Arc<Exchange>, mut frames: Frames) {
    let reading = read(&exchange, &mut frames);
    if let Some(end) = exchange.ended.run_until_cancelled(reading).await {
        exchange.end(end);
    }
}

async fn read(exchange: &Arc<Exchange>, frames: &mut Frames) -> PipeEnd {
    loop {
        let heard = hear(exchange, frames);
        if let Err(end) = heard {
            return end;
        }
        if let Err(end) = frames.fill().await {
            return end;
        }
    }
}

fn hear(exchange: &Arc<Exchange>, frames: &mut Frames) -> Result<(), PipeEnd> {
    while let Some(frame) = frames.arrived()? {
        let use_of = match decode(&frame)? {
            PipeFrame::Call(frame) => call(exchange, frame)?,
            PipeFrame::Control(frame) => control(exchange, *frame)?,
        };
        match use_of {
            Use::Some => exchange.strays.earn(1),
            Use::None => exchange.strays.spend()?,
        }
    }
    Ok(())
}

/// Whether a frame was of use. What is not may have crossed the end of its call, and is paid by what is.
#[derive(Clone, Copy)]
enum Use {
    /// It did something that is bounded otherwise: a place was taken, an answer or bytes that were asked for came.
    Some,
    /// It came for nothing, or costs its sender nothing.
    None,
}

impl Use {
    fn of<T>(met: Option<T>) -> Self {
        if met.is_some() {
            Self::Some
        } else {
            Self::None
        }
    }
}

fn control(exchange: &Arc<Exchange>, frame: Control) -> Result<Use, PipeEnd> {
    match (exchange.side, frame) {
        (Side::Provider, Control::Ask { number, question }) => {
            questions::answer(exchange, number, question)?;
            Ok(Use::Some)
        }
        (Side::Provider, Control::ReleaseHost { host }) => {
            questions::release_host(exchange, host);
            Ok(Use::Some)
        }
        (Side::Host, Control::Done { number, failure }) => {
            // Whoever asked may have gone, or the answer may come twice.
            let asked = exchange.calls().answered(number);
            let use_of = Use::of(asked.as_ref());
            if let Some(asked) = asked {
                let _ = asked.answer.send(failure.map_or(Ok(()), Err));
            }
            Ok(use_of)
        }
        (_, frame) => Err(wrong_way(frame.kind())),
    }
}

/// Hands a frame to its call. A call that is not there has ended, which the other end may not know yet.
fn call(exchange: &Arc<Exchange>, frame: Frame) -> Result<Use, PipeEnd> {
    if let Some(call) = ends(&frame) {
        return last(exchange, call, frame);
    }
    match frame {
        Frame::Invoke {
            call,
            head,
            payload,
            rest,
        } => {
            incoming::admit(exchange, call, head, Asked::Invoke { payload, rest })?;
            return Ok(Use::Some);
        }
        Frame::HttpRequest {
            call,
            head,
            method,
            uri,
            fields,
            has_body,
        } => {
            let asked = Asked::Http {
                method,
                uri,
                fields,
                has_body,
            };
            incoming::admit(exchange, call, head, asked)?;
            return Ok(Use::Some);
        }
        Frame::Release { lease } => {
            if exchange.side == Side::Host {
                return Err(wrong_way("release"));
            }
            questions::release(exchange, lease);
            return Ok(Use::Some);
        }
        Frame::Cancel { call } => {
            let incoming = exchange.calls().incoming(call);
            incoming.inspect(|call| call.end());
        }
        Frame::Data {
            call,
            stream: Stream::ToCallee,
            sequence,
            bytes,
            last,
            trailers,
        } => {
            let piece = Piece {
                bytes,
                last,
                trailers,
            };
            let incoming = exchange.calls().incoming(call);
            let pushed = incoming.map(|call| call.upload.push(sequence, piece));
            return whole(call, pushed);
        }
        Frame::Credit {
            call,
            stream,
            bytes,
        } => match stream {
            Stream::ToCallee => {
                let outgoing = exchange.calls().outgoing(call);
                outgoing.inspect(|call| call.upload.grant(bytes));
            }
            Stream::ToCaller => {
                let incoming = exchange.calls().incoming(call);
                incoming.inspect(|call| call.download.grant(bytes));
            }
        },
        Frame::Abort { call, refusal, .. } => {
            let incoming = exchange.calls().incoming(call);
            incoming.inspect(|call| call.upload.fail(refusal));
        }
        Frame::Stop { call, stream } => {
            let stopped = Refusal::new(RefusalCode::Cancelled, "the stream's reader wants no more");
            match stream {
                Stream::ToCallee => {
                    let outgoing = exchange.calls().outgoing(call);
                    outgoing.inspect(|call| call.upload.close(stopped));
                }
                Stream::ToCaller => {
                    let incoming = exchange.calls().incoming(call);
                    incoming.inspect(|call| call.download.close(stopped));
                }
            }
        }
        Frame::Reply { call, .. } | Frame::HttpResponse { call, .. } | Frame::Data { call, .. } => {
            let outgoing = exchange.calls().outgoing(call);
            if let Some(outgoing) = outgoing {
                return answer(call, &outgoing, frame);
            }
        }
        // It ends its call, and so was taken above.
        Frame::Refuse { .. } => {}
    }
    Ok(Use::None)
}

/// Takes the last frame of a call of ours: the other end is done with it.
fn last(exchange: &Exchange, call: CallNumber, frame: Frame) -> Result<Use, PipeEnd> {
    let left = exchange.calls().leave_outgoing(call);
    match left {
        Some(Some(outgoing)) => answer(call, &outgoing, frame),
        Some(None) => Ok(Use::Some),
        None => Ok(Use::None),
    }
}

/// Hands what a callee says to its caller.
fn answer(call: CallNumber, outgoing: &Outgoing, frame: Frame) -> Result<Use, PipeEnd> {
    let answer = match frame {
        Frame::Refuse { refusal, .. } => {
            outgoing.end(&refusal);
            return Ok(Use::Some);
        }
        // Nothing would ever answer the call, which may be out of the table already.
        Frame::Abort { .. } | Frame::Data { .. } if !outgoing.is_answered() => {
            outgoing.end(&lost_answer());
            return Err(PipeEnd::broken(format!(
                "{} of call {call} came before its head",
                frame.kind()
            )));
        }
        Frame::Abort { refusal, .. } => {
            outgoing.download.fail(refusal);
            return Ok(Use::Some);
        }
        Frame::Data { .. } if outgoing.download.is_unpaid() => {
            outgoing.end(&lost_answer());
            return whole(call, Some(Err(Broken::Credit)));
        }
        Frame::Data {
            sequence,
            bytes,
            last,
            trailers,
            ..
        } => {
            let piece = Piece {
                bytes,
                last,
                trailers,
            };
            return whole(call, Some(outgoing.download.push(sequence, piece)));
        }
        Frame::Reply { result, rest, .. } if outgoing.is_function => Answer::Reply { result, rest },
        Frame::HttpResponse {
            status,
            fields,
            has_body,
            ..
        } if !outgoing.is_function => Answer::Http {
            status,
            fields,
            has_body,
        },
        other => {
            outgoing.end(&lost_answer());
            return Err(PipeEnd::broken(format!(
                "call {call} was answered with {}",
                other.kind()
            )));
        }
    };
    if outgoing.answer(answer) {
        Ok(Use::Some)
    } else {
        outgoing.end(&lost_answer());
        Err(PipeEnd::broken(format!("call {call} was answered twice")))
    }
}

fn lost_answer() -> Refusal {
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        "the process answered against the protocol",
    )
}

fn whole(call: CallNumber, pushed: Option<Result<(), Broken>>) -> Result<Use, PipeEnd> {
    match pushed {
        Some(Ok(())) => Ok(Use::Some),
        // What comes after the end crossed a stop or a failure on its way.
        None | Some(Err(Broken::Closed)) => Ok(Use::None),
        Some(Err(Broken::Gap)) => Err(PipeEnd::broken(format!(
            "data of call {call} is out of order"
        ))),
        Some(Err(Broken::Credit)) => Err(PipeEnd::broken(format!(
            "data of call {call} exceeds its credit"
        ))),
    }
}

fn wrong_way(kind: &str) -> PipeEnd {
    PipeEnd::broken(format!("{kind} does not come from that end"))
}
