//! Streams with credit: the flow control that calls between hosts and calls to provider processes share.
//!
//! A stream is a body, or the rest of a value too long for one frame. Its sender spends the credit that its reader gives,
//! so neither a slow reader nor a hostile sender makes anybody hold more than was agreed; and what is agreed comes out of
//! one byte [`budget`] for all calls.
//!
//! ```text
//! http body ─▶ send_body ─ StreamOut ─▶ Carrier ~~~▶ the other's reader task ─▶ StreamIn ─ Reader ─▶ Arriving: http body
//!                              ▲                                                   │
//!                              └──────────────────── credit ◀─────────────────── Source
//! ```
//!
//! [`stream_out`] and [`stream_in`] are the two ends of a stream, [`sending`] and [`arriving`] what a call does with them,
//! [`message`] the heads of HTTP messages. How frames travel is not known here: a [`Carrier`] takes them, and a
//! [`Source`] says where the credit for them goes.

pub mod arriving;
pub mod budget;
pub mod message;
pub mod sending;
pub mod stream_in;
pub mod stream_out;

use std::time::Duration;

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use trellis_protocol::{Refusal, RefusalCode};

pub use arriving::{Arriving, Reader, Settle, Source};
pub use budget::Budget;
pub use sending::{Carrier, abort, send_body, send_rest};
pub use stream_in::{Broken, Piece, StreamIn};
pub use stream_out::StreamOut;

/// How long a body may bring no byte, and a reader take none, before it is given up.
pub const BODY_IDLE: Duration = Duration::from_secs(30);

/// The body of a request or response of a call. Polling it asks for more; dropping it stops the sender.
pub type FlowBody = UnsyncBoxBody<Bytes, Refusal>;

fn idle() -> Refusal {
    Refusal::new(
        RefusalCode::DeadlineExceeded,
        format!("a body brought no byte for {} s", BODY_IDLE.as_secs()),
    )
}
