//! The bytes of frames: kind bytes, arrays, and byte strings that are not copied.

use std::fmt;

use bytes::Bytes;
use serde::de::{DeserializeOwned, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::field::FieldsIn;
use super::{CallNumber, Field, Fields, Frame, FrameError, Stream};
use crate::refusal::{Refusal, RefusalCode};

const INVOKE: u8 = 1;
const HTTP_REQUEST: u8 = 2;
const REPLY: u8 = 3;
const REFUSE: u8 = 4;
const HTTP_RESPONSE: u8 = 5;
const DATA: u8 = 6;
const CREDIT: u8 = 7;
const ABORT: u8 = 8;
const STOP: u8 = 9;
const CANCEL: u8 = 10;
const RELEASE: u8 = 11;

/// Most bytes of a reason, which may quote the malformed frame.
const REASON_BYTES_MAX: usize = 256;

/// Bytes as MessagePack *bin*, borrowed from the frame.
pub(crate) struct Bin<'a>(pub(crate) &'a [u8]);

impl Serialize for Bin<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(self.0)
    }
}

impl<'de> Deserialize<'de> for Bin<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Borrowed;
        impl<'de> Visitor<'de> for Borrowed {
            type Value = Bin<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_borrowed_bytes<E>(self, bytes: &'de [u8]) -> Result<Bin<'de>, E> {
                Ok(Bin(bytes))
            }
        }
        deserializer.deserialize_bytes(Borrowed)
    }
}

impl Serialize for Field {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        (&self.name, Bin(&self.value)).serialize(serializer)
    }
}

impl Serialize for Stream {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u8(match self {
            Self::ToCallee => 0,
            Self::ToCaller => 1,
        })
    }
}

impl<'de> Deserialize<'de> for Stream {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        match u8::deserialize(deserializer)? {
            0 => Ok(Self::ToCallee),
            1 => Ok(Self::ToCaller),
            other => Err(serde::de::Error::custom(format_args!("stream {other}"))),
        }
    }
}

pub(super) fn encode(frame: &Frame) -> Result<Vec<u8>, FrameError> {
    match frame {
        Frame::Invoke {
            call,
            head,
            payload,
            rest,
        } => array(INVOKE, payload.len(), &(call, head, Bin(payload), rest)),
        Frame::HttpRequest {
            call,
            head,
            method,
            uri,
            fields,
            has_body,
        } => array(
            HTTP_REQUEST,
            0,
            &(call, head, method, uri, fields, has_body),
        ),
        Frame::Reply { call, result, rest } => {
            array(REPLY, result.len(), &(call, Bin(result), rest))
        }
        Frame::Refuse { call, refusal } => array(REFUSE, 0, &(call, refusal)),
        Frame::HttpResponse {
            call,
            status,
            fields,
            has_body,
        } => array(HTTP_RESPONSE, 0, &(call, status, fields, has_body)),
        Frame::Data {
            call,
            stream,
            sequence,
            bytes,
            last,
            trailers,
        } => {
            let body = (call, stream, sequence, Bin(bytes), last, trailers);
            array(DATA, bytes.len(), &body)
        }
        Frame::Credit {
            call,
            stream,
            bytes,
        } => array(CREDIT, 0, &(call, stream, bytes)),
        Frame::Abort {
            call,
            stream,
            refusal,
        } => array(ABORT, 0, &(call, stream, refusal)),
        Frame::Stop { call, stream } => array(STOP, 0, &(call, stream)),
        Frame::Cancel { call } => array(CANCEL, 0, &(call,)),
        Frame::Release { lease } => array(RELEASE, 0, &(lease,)),
    }
}

fn array<T: Serialize>(kind: u8, bulk: usize, body: &T) -> Result<Vec<u8>, FrameError> {
    let mut bytes = Vec::with_capacity(bulk + 512);
    bytes.push(kind);
    rmp_serde::encode::write(&mut bytes, body).map_err(|error| FrameError::Malformed {
        reason: error.to_string(),
    })?;
    Ok(bytes)
}

pub(super) fn decode(frame: &Bytes) -> Result<Frame, FrameError> {
    let Some((&kind, body)) = frame.split_first() else {
        return Err(malformed("no kind"));
    };
    // Byte strings come out as slices of `body`, which is itself a slice of `frame`.
    let own = |bin: Bin<'_>| frame.slice_ref(bin.0);
    let own_fields = |fields: FieldsIn<'_>| -> Fields {
        let own_field = |(name, value): (&str, Bin<'_>)| Field {
            name: name.to_owned(),
            value: frame.slice_ref(value.0),
        };
        fields.0.into_iter().map(own_field).collect()
    };
    Ok(match kind {
        INVOKE => {
            let (call, head, payload, rest) = from_array(body)?;
            Frame::Invoke {
                call,
                head,
                payload: own(payload),
                rest,
            }
        }
        HTTP_REQUEST => {
            let (call, head, method, uri, fields, has_body) = from_array(body)?;
            let fields = own_fields(fields);
            Frame::HttpRequest {
                call,
                head,
                method,
                uri,
                fields,
                has_body,
            }
        }
        REPLY => {
            let (call, result, rest) = from_array(body)?;
            Frame::Reply {
                call,
                result: own(result),
                rest,
            }
        }
        REFUSE => {
            let (call, refusal) = from_array_owned(body).or_else(|_| unknown_code(body))?;
            Frame::Refuse { call, refusal }
        }
        HTTP_RESPONSE => {
            let (call, status, fields, has_body) = from_array(body)?;
            Frame::HttpResponse {
                call,
                status,
                fields: own_fields(fields),
                has_body,
            }
        }
        DATA => {
            let (call, stream, sequence, bytes, last, trailers) = from_array(body)?;
            let trailers: Option<FieldsIn<'_>> = trailers;
            let trailers = trailers.map(own_fields);
            Frame::Data {
                call,
                stream,
                sequence,
                bytes: own(bytes),
                last,
                trailers,
            }
        }
        CREDIT => {
            let (call, stream, bytes) = from_array_owned(body)?;
            Frame::Credit {
                call,
                stream,
                bytes,
            }
        }
        ABORT => {
            let (call, stream, refusal) = from_array_owned(body)?;
            Frame::Abort {
                call,
                stream,
                refusal,
            }
        }
        STOP => {
            let (call, stream) = from_array_owned(body)?;
            Frame::Stop { call, stream }
        }
        CANCEL => {
            let (call,) = from_array_owned(body)?;
            Frame::Cancel { call }
        }
        RELEASE => {
            let (lease,) = from_array_owned(body)?;
            Frame::Release { lease }
        }
        kind => return Err(FrameError::UnknownKind { kind }),
    })
}

pub(super) fn refusable_call(bytes: &[u8]) -> Option<CallNumber> {
    let (&kind, mut body) = bytes.split_first()?;
    // Only the caller sends these. What a callee sends bears a number of its reader's own calls, and a refusal that came
    // back would end the call that has it there.
    if !matches!(kind, INVOKE | HTTP_REQUEST) {
        return None;
    }
    rmp::decode::read_array_len(&mut body)
        .ok()
        .filter(|n| *n > 0)?;
    rmp::decode::read_int(&mut body).ok()
}

fn from_array_owned<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, FrameError> {
    from_array(bytes)
}

/// Reads a refusal whose code this version does not know. The call ends all the same, and says so.
fn unknown_code(body: &[u8]) -> Result<(CallNumber, Refusal), FrameError> {
    let (call, (code, message, remedy)): (_, (&str, &str, Option<&str>)) = from_array(body)?;
    let refusal = Refusal::new(RefusalCode::Internal, format!("{code}: {message}"));
    Ok(match remedy {
        Some(remedy) => (call, refusal.with_remedy(remedy)),
        None => (call, refusal),
    })
}

/// Reads one value that takes up all of `bytes`.
pub(crate) fn from_array<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, FrameError> {
    // Every length is held against the bytes there are before serde reserves space for it.
    crate::value::check(bytes).map_err(malformed)?;
    rmp_serde::from_slice(bytes).map_err(malformed)
}

fn malformed(reason: impl fmt::Display) -> FrameError {
    let mut reason = reason.to_string();
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    FrameError::Malformed { reason }
}
