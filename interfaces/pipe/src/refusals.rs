//! Refusals that both directions give.

use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_protocol::{Refusal, RefusalCode};

pub(crate) fn overloaded(why: &str) -> Refusal {
    Refusal::new(RefusalCode::Overloaded, why)
}

pub(crate) fn deadline_exceeded() -> Refusal {
    Refusal::new(
        RefusalCode::DeadlineExceeded,
        "the deadline passed before there was an answer",
    )
}

pub(crate) fn too_large(what: &str, bytes: usize) -> Refusal {
    Refusal::new(
        RefusalCode::TooLarge,
        format!("{what} of {bytes} bytes exceed the limit of {VALUE_BYTES_MAX}"),
    )
}

pub(crate) fn gone() -> Refusal {
    Refusal::new(RefusalCode::Cancelled, "the caller has gone")
}
