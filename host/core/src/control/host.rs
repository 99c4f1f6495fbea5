//! Hosts: who is there, what runs here, how far its links are, and the request to leave.

use trellis_protocol::control::{Envelope, StopHost};

use super::{Answer, Asked, accepted, answer};
use crate::host::StopRequest;

pub(super) fn ping(asked: &Asked<'_>) -> Answer {
    answer(asked.shared.description())
}

pub(super) fn inventory(asked: &Asked<'_>) -> Answer {
    let (inventory, left_out) = asked.shared.inventory_to_send();
    let message = left_out.map_or_else(String::new, |left_out| left_out.to_string());
    let envelope = Envelope {
        message,
        ..Envelope::answer(inventory)
    };
    Answer::Now(envelope.to_bytes())
}

pub(super) fn links(asked: &Asked<'_>) -> Answer {
    answer(asked.shared.link_ends())
}

/// The host leaves after this answer. What it ran is restored when it is started again.
pub(super) fn stop(asked: &Asked<'_>) -> Result<Answer, Answer> {
    let request: StopHost = asked.parse()?;
    asked.check_host(request.host_id.as_deref().unwrap_or_default())?;
    tracing::info!(timeout_ms = request.timeout, "an operator stops the host");
    asked.shared.stop_request.send_replace(Some(StopRequest {
        within: request.within(),
    }));
    Ok(accepted(""))
}
