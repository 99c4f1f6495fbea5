//! Sends what nobody's own task can: refusals by the reader task, and what a dropped caller or reader leaves to be said.
//!
//! The queue has no bound of its own, since `Drop` cannot wait; every signal in it holds a permit of something that has
//! one: a call, a stream's window, or a place among the refusals. A stream has at most one credit signal in it.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_util::sync::CancellationToken;
use trellis_protocol::Refusal;
use trellis_protocol::frame::{CallNumber, Frame, Stream};

use super::body::Reading;
use super::exchange::Exchange;
use super::remote::Remote;

/// Most refusals by the reader task that wait to be sent. Beyond that they are counted; the callers' deadlines tell.
pub(super) const REFUSALS_MAX: usize = 1024;

/// Something to be said to a peer.
pub(super) struct Signal {
    pub(super) to: Arc<Remote>,
    pub(super) call: CallNumber,
    pub(super) say: Say,
    /// Given back when it has been said.
    pub(super) permits: Vec<OwnedSemaphorePermit>,
}

pub(super) enum Say {
    Credit(Reading),
    Stop(Stream),
    Cancel,
    Refuse(Refusal),
}

pub(super) async fn run(
    exchange: Arc<Exchange>,
    mut signals: mpsc::UnboundedReceiver<Signal>,
    cancel: CancellationToken,
) {
    loop {
        let signal = tokio::select! {
            () = cancel.cancelled() => return,
            signal = signals.recv() => signal,
        };
        let Some(signal) = signal else { return };
        let call = signal.call;
        let frame = match signal.say {
            Say::Credit(reading) => {
                let bytes = reading.stream_in().take_credit();
                if bytes == 0 {
                    continue;
                }
                Frame::Credit {
                    call,
                    stream: reading.stream(),
                    bytes,
                }
            }
            Say::Stop(stream) => Frame::Stop { call, stream },
            Say::Cancel => Frame::Cancel { call },
            Say::Refuse(refusal) => Frame::Refuse { call, refusal },
        };
        if let Err(error) = exchange.send(&signal.to, &frame).await {
            tracing::debug!(%error, kind = frame.kind(), "cannot tell a peer");
        }
        drop(signal.permits);
    }
}
