//! Every limit of the wire, in one place, with its unit and its reason.

use std::time::Duration;

/// Largest frame, in bytes, that travels as one record between two hosts or over a provider's socket.
///
/// A Noise message ends at 65,535 bytes with its tag, and a session will carry each record as one such message; 60 KiB
/// leaves room for the envelope around it.
pub const FRAME_BYTES_MAX: usize = 60 * 1024;

/// Most payload bytes, in bytes, that one frame carries beside its own fields.
///
/// An invocation's head is bounded by [`HEAD_BYTES_MAX`]; what is left of a frame after it is payload.
pub const FRAME_PAYLOAD_BYTES_MAX: usize = 40 * 1024;

/// Largest invocation or HTTP message head, in bytes, encoded.
pub const HEAD_BYTES_MAX: usize = 16 * 1024;

const _: () = assert!(HEAD_BYTES_MAX + FRAME_PAYLOAD_BYTES_MAX < FRAME_BYTES_MAX);

/// Largest encoded parameter list or result of one invocation, in bytes.
///
/// Larger data is a stream. The limit bounds what a host buffers for a caller that it has not yet admitted.
pub const VALUE_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Deepest nesting of an encoded value. WIT types nest by definition, not by data, so real ones stay far below.
pub const VALUE_DEPTH_MAX: usize = 64;

/// Most elements of one list, and most entries of one map, in an encoded value.
pub const VALUE_LENGTH_MAX: usize = 1024 * 1024;

/// Deepest chain of invocations: an actor that calls an actor that calls an actor (D13).
pub const DEPTH_MAX: u8 = 16;

/// Longest id of an actor, provider, link or lattice, in bytes: one NATS token of reasonable size.
pub const ID_BYTES_MAX: usize = 128;

/// Longest `namespace:package/interface@version`, in bytes.
pub const INTERFACE_BYTES_MAX: usize = 256;

/// Longest function name of an operation, in bytes.
pub const FUNCTION_BYTES_MAX: usize = 128;

/// Longest message or remedy in a refusal, in bytes; longer text is cut at a character boundary.
pub const REFUSAL_TEXT_BYTES_MAX: usize = 2 * 1024;

/// Longest `traceparent`, in bytes. The W3C format of today is 55 bytes.
pub const TRACEPARENT_BYTES_MAX: usize = 128;

/// Time an invocation has, where nobody asked for less: until the head of the response.
pub const DEADLINE_DEFAULT: Duration = Duration::from_secs(30);

/// Longest deadline that a caller can ask for.
pub const DEADLINE_MAX: Duration = Duration::from_secs(600);

/// Unread body bytes that a sender may have on the way for one stream before it waits for credit.
pub const STREAM_WINDOW_BYTES: u32 = 256 * 1024;

/// Most fields in the head of an HTTP message that crosses hosts.
pub const HTTP_FIELDS_MAX: usize = 128;
