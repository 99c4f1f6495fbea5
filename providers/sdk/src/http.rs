//! The typed door for HTTP: requests and responses with streaming bodies.
//!
//! In process they are handed on as they are; to a peer host or a provider process they are encoded. A provider sees no
//! difference (D15).

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Empty, Full};
use trellis_protocol::{Refusal, RefusalCode};

/// Why a body ended before its end.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// The other side of the transfer went away or broke its framing.
    #[error("the body's sender went away: {reason}")]
    Disconnected {
        /// What was seen.
        reason: String,
    },
    /// Nothing arrived for too long.
    #[error("no body bytes arrived in time")]
    IdleTimeout,
    /// The body is larger than it may be.
    #[error("the body exceeds its limit of {limit_bytes} bytes")]
    TooLarge {
        /// The limit in bytes.
        limit_bytes: u64,
    },
    /// A host on the way refused to go on.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl From<BodyError> for Refusal {
    /// As the end of a body travels to where it cannot be handed on as it is.
    fn from(error: BodyError) -> Self {
        let code = match error {
            BodyError::Refused(refusal) => return refusal,
            BodyError::TooLarge { .. } => RefusalCode::TooLarge,
            BodyError::IdleTimeout => RefusalCode::DeadlineExceeded,
            BodyError::Disconnected { .. } => RefusalCode::Cancelled,
        };
        Self::new(code, error.to_string())
    }
}

/// A streaming body. Frames are data or trailers; polling it is what asks for more.
pub type Body = UnsyncBoxBody<Bytes, BodyError>;

/// A request to an actor. The URI carries scheme and authority where they are known.
pub type HttpRequest = ::http::Request<Body>;

/// A response of an actor.
pub type HttpResponse = ::http::Response<Body>;

/// The interface by which HTTP reaches an actor, without a version.
pub const INCOMING_HANDLER: &str = "wasi:http/incoming-handler";

/// A body without a byte.
pub fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed_unsync()
}

/// A body of bytes that are all there.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}
