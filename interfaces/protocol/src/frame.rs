//! What one host says to another within an envelope, and later a host and its provider processes over a socket.
//!
//! A frame is one kind byte and one MessagePack array, at most [`FRAME_BYTES_MAX`] bytes, with nothing after it:
//!
//! | kind | array | sent by |
//! | --- | --- | --- |
//! | 1 invoke | `[call, head, payload, rest]` | caller |
//! | 2 http request | `[call, head, method, uri, fields, has_body]` | caller |
//! | 3 reply | `[call, result, rest]` | callee |
//! | 4 refuse | `[call, refusal]` | callee |
//! | 5 http response | `[call, status, fields, has_body]` | callee |
//! | 6 data | `[call, stream, sequence, bytes, last, trailers]` | the stream's sender |
//! | 7 credit | `[call, stream, bytes]` | the stream's reader |
//! | 8 abort | `[call, stream, refusal]` | the stream's sender |
//! | 9 stop | `[call, stream]` | the stream's reader |
//! | 10 cancel | `[call]` | caller |
//! | 11 release | `[lease]` | the host of the lease |
//!
//! A call has a number that its caller chose, so both ends may use the same number for two calls. Which one a frame
//! speaks of follows from its kind and stream: of stream 0 (towards the callee) the caller sends data and abort, the
//! callee credit and stop; of stream 1 it is the other way round.
//!
//! A value longer than [`FRAME_PAYLOAD_BYTES_MAX`] begins in its invoke or reply and continues as data, whose length
//! `rest` announces. A body is data too. Data costs credit: see [`data_cost`]. A stream that carries a body begins with
//! [`STREAM_INITIAL_BYTES`] of credit; one that carries the rest of a value with none, until its reader has the room.
//!
//! Trailers stand in the last data frame of a body, which may have bytes as well: its reader hands on the bytes, then
//! the trailers.
//!
//! Everything in a frame but its bulk bytes is bounded by [`HEAD_BYTES_MAX`], in an http request by twice that (it has
//! the invocation's head and the message's), and every list in it by a count of its own, so decoding allocates no more
//! than a small multiple of the frame's length.

mod field;
pub(crate) mod wire;

use bytes::Bytes;

pub use field::{Field, Fields};

use crate::invocation::{InvocationHead, Lease};
use crate::limits::{FRAME_BYTES_MAX, FRAME_PAYLOAD_BYTES_MAX, HEAD_BYTES_MAX, HTTP_FIELDS_MAX};
use crate::refusal::{Refusal, RefusalCode};

/// Credit, in bytes, with which a body's stream begins. Small bodies fit, and so cost no round trip of their own.
pub const STREAM_INITIAL_BYTES: u32 = 16 * 1024;

/// What one data frame costs beside its bytes, so that many small frames cannot fill a reader's memory.
pub const DATA_COST_BYTES: u32 = 256;

/// Longest method of an HTTP request, in bytes.
pub const METHOD_BYTES_MAX: usize = 32;

/// Longest URI of an HTTP request, in bytes.
pub const URI_BYTES_MAX: usize = 8 * 1024;

const _: () = assert!(URI_BYTES_MAX + METHOD_BYTES_MAX < HEAD_BYTES_MAX);
const _: () = assert!(2 * HEAD_BYTES_MAX + FRAME_PAYLOAD_BYTES_MAX > FRAME_BYTES_MAX);

/// The number of a call: unique among the calls of one caller's incarnation.
pub type CallNumber = u64;

/// The credit that a data frame of so many bytes uses up.
pub const fn data_cost(bytes: usize) -> u64 {
    bytes as u64 + DATA_COST_BYTES as u64
}

/// The credit that lets a reader take the rest of a value of so many bytes, however its sender cuts it into full frames.
pub const fn rest_cost(rest_bytes: u32) -> u64 {
    let frames = (rest_bytes as u64).div_ceil(FRAME_PAYLOAD_BYTES_MAX as u64);
    rest_bytes as u64 + frames * DATA_COST_BYTES as u64
}

/// Which way a stream flows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Stream {
    /// Stream 0: a request's body, or the rest of parameters.
    ToCallee,
    /// Stream 1: a response's body, or the rest of a result.
    ToCaller,
}

/// One frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Calls a function.
    Invoke {
        /// The call's number.
        call: CallNumber,
        /// Everything but the parameters.
        head: Box<InvocationHead>,
        /// The encoded parameters, or their beginning.
        payload: Bytes,
        /// How many bytes of the parameters follow as data of stream 0.
        rest: u32,
    },
    /// Hands over an HTTP request.
    HttpRequest {
        /// The call's number.
        call: CallNumber,
        /// The invocation.
        head: Box<InvocationHead>,
        /// The request's method.
        method: String,
        /// The request's URI, with scheme and authority where they are known.
        uri: String,
        /// The request's header fields.
        fields: Fields,
        /// Whether a body follows as data of stream 0.
        has_body: bool,
    },
    /// A function's result.
    Reply {
        /// The call's number.
        call: CallNumber,
        /// The encoded result, or its beginning.
        result: Bytes,
        /// How many bytes of the result follow as data of stream 1.
        rest: u32,
    },
    /// The call is not carried out, or not to its end.
    Refuse {
        /// The call's number.
        call: CallNumber,
        /// Why.
        refusal: Refusal,
    },
    /// The head of an HTTP response.
    HttpResponse {
        /// The call's number.
        call: CallNumber,
        /// The status code, 100 to 999.
        status: u16,
        /// The response's header fields.
        fields: Fields,
        /// Whether a body follows as data of stream 1.
        has_body: bool,
    },
    /// A piece of a stream.
    Data {
        /// The call's number.
        call: CallNumber,
        /// The stream.
        stream: Stream,
        /// Counts the stream's data frames from 0. A gap means that a frame was lost.
        sequence: u32,
        /// The piece.
        bytes: Bytes,
        /// Whether the stream ends here.
        last: bool,
        /// Trailer fields of a body, which come behind `bytes`; only where `last` is set.
        trailers: Option<Fields>,
    },
    /// The reader of a stream can take more.
    Credit {
        /// The call's number.
        call: CallNumber,
        /// The stream.
        stream: Stream,
        /// How much more.
        bytes: u32,
    },
    /// The sender of a stream cannot go on.
    Abort {
        /// The call's number.
        call: CallNumber,
        /// The stream.
        stream: Stream,
        /// Why.
        refusal: Refusal,
    },
    /// The reader of a stream wants no more of it. The call goes on.
    Stop {
        /// The call's number.
        call: CallNumber,
        /// The stream.
        stream: Stream,
    },
    /// The caller has gone.
    Cancel {
        /// The call's number.
        call: CallNumber,
    },
    /// An instance has ended; the handles given to it can go.
    Release {
        /// The instance.
        lease: Lease,
    },
}

/// Why a frame was not encoded or not accepted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FrameError {
    /// A part of the frame, or the whole, exceeds its limit.
    #[error("{what} of {bytes} exceeds the limit of {limit}")]
    TooLarge {
        /// Which part.
        what: &'static str,
        /// Its length in bytes, or its count.
        bytes: usize,
        /// The limit, in the same unit.
        limit: usize,
    },
    /// No kind of frame that this version knows.
    #[error("frame kind {kind} is unknown")]
    UnknownKind {
        /// The kind byte.
        kind: u8,
    },
    /// The bytes are not the array of their kind.
    #[error("malformed frame: {reason}")]
    Malformed {
        /// What was seen.
        reason: String,
    },
    /// The head of the invocation breaks one of its rules.
    #[error(transparent)]
    Head(#[from] Refusal),
}

impl FrameError {
    /// What the sender of such a frame is told.
    pub fn to_refusal(&self) -> Refusal {
        match self {
            Self::TooLarge { .. } => Refusal::new(RefusalCode::TooLarge, self.to_string()),
            Self::UnknownKind { .. } => {
                Refusal::new(RefusalCode::UnsupportedVersion, self.to_string())
            }
            Self::Malformed { .. } => Refusal::new(RefusalCode::BadPayload, self.to_string()),
            Self::Head(refusal) => refusal.clone(),
        }
    }
}

impl Frame {
    /// The bytes of the frame.
    ///
    /// # Errors
    /// [`FrameError::TooLarge`] or [`FrameError::Head`] where the receiver would refuse it for the same reason.
    pub fn encode(&self) -> Result<Vec<u8>, FrameError> {
        self.check()?;
        let bytes = wire::encode(self)?;
        self.check_lengths(bytes.len())?;
        Ok(bytes)
    }

    /// Reads a frame. Payloads are slices of `bytes`, nothing is copied.
    ///
    /// # Errors
    /// [`FrameError`] where a limit is exceeded or the bytes are no frame.
    pub fn decode(bytes: &Bytes) -> Result<Self, FrameError> {
        check("a frame", bytes.len(), FRAME_BYTES_MAX)?;
        let frame = wire::decode(bytes)?;
        frame.check_lengths(bytes.len())?;
        frame.check()?;
        Ok(frame)
    }

    /// The call's number in bytes that are no acceptable frame, so that their sender can be told; `None` where it
    /// cannot be read, or where the kind is none that begins a call.
    ///
    /// All other kinds may come from a callee, and unknown ones from anybody: a refusal of them would end whatever call
    /// its reader has begun under the same number.
    pub fn refusable_call(bytes: &[u8]) -> Option<CallNumber> {
        wire::refusable_call(bytes)
    }

    /// The frame's name in logs.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Invoke { .. } => "invoke",
            Self::HttpRequest { .. } => "http-request",
            Self::Reply { .. } => "reply",
            Self::Refuse { .. } => "refuse",
            Self::HttpResponse { .. } => "http-response",
            Self::Data { .. } => "data",
            Self::Credit { .. } => "credit",
            Self::Abort { .. } => "abort",
            Self::Stop { .. } => "stop",
            Self::Cancel { .. } => "cancel",
            Self::Release { .. } => "release",
        }
    }

    fn check(&self) -> Result<(), FrameError> {
        match self {
            Self::Invoke {
                head,
                rest,
                payload,
                ..
            } => {
                head.check()?;
                check_value(payload.len(), *rest)
            }
            Self::HttpRequest {
                head,
                method,
                uri,
                fields,
                ..
            } => {
                head.check()?;
                check("a method", method.len(), METHOD_BYTES_MAX)?;
                check("a URI", uri.len(), URI_BYTES_MAX)?;
                check("a count of header fields", fields.len(), HTTP_FIELDS_MAX)
            }
            Self::Reply { result, rest, .. } => check_value(result.len(), *rest),
            Self::HttpResponse { fields, status, .. } => {
                if !(100..=999).contains(status) {
                    return Err(FrameError::Malformed {
                        reason: format!("{status} is no status"),
                    });
                }
                check("a count of header fields", fields.len(), HTTP_FIELDS_MAX)
            }
            Self::Data {
                trailers: Some(fields),
                last,
                ..
            } => {
                if !last {
                    return Err(FrameError::Malformed {
                        reason: "trailers before the end of a stream".to_owned(),
                    });
                }
                check("a count of trailer fields", fields.len(), HTTP_FIELDS_MAX)
            }
            _ => Ok(()),
        }
    }

    /// Splits the frame's length into bulk and the rest, and holds each to its limit.
    fn check_lengths(&self, frame_bytes: usize) -> Result<(), FrameError> {
        check("a frame", frame_bytes, FRAME_BYTES_MAX)?;
        let (bulk, head_max) = match self {
            Self::Invoke { payload, .. } => (payload.len(), HEAD_BYTES_MAX),
            Self::Reply { result, .. } => (result.len(), HEAD_BYTES_MAX),
            Self::Data { bytes, .. } => (bytes.len(), HEAD_BYTES_MAX),
            // The invocation's head and that of the message.
            Self::HttpRequest { .. } => (0, 2 * HEAD_BYTES_MAX),
            _ => (0, HEAD_BYTES_MAX),
        };
        check("a payload", bulk, FRAME_PAYLOAD_BYTES_MAX)?;
        check("a head", frame_bytes - bulk, head_max)
    }
}

fn check(what: &'static str, bytes: usize, limit: usize) -> Result<(), FrameError> {
    if bytes > limit {
        return Err(FrameError::TooLarge { what, bytes, limit });
    }
    Ok(())
}

fn check_value(here: usize, rest: u32) -> Result<(), FrameError> {
    let bytes = here.saturating_add(rest as usize);
    check("a value", bytes, crate::limits::VALUE_BYTES_MAX)
}

#[cfg(test)]
mod tests;
