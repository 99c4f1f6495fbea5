//! The sending end of a stream: credit that the reader gives, and the reasons to stop.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use trellis_protocol::frame::{DATA_COST_BYTES, data_cost, rest_cost};
use trellis_protocol::limits::{FRAME_PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX};
use trellis_protocol::{Refusal, RefusalCode};

use crate::BODY_IDLE;

/// Most credit that is believed, whatever the reader grants: that of the longest value.
const CREDIT_MAX: u64 = rest_cost(VALUE_BYTES_MAX as u32);

/// Pieces are not cut smaller than this for want of credit; the sender waits instead.
const PIECE_MIN_BYTES: usize = 4096;

/// The sending end of a stream. By default it has no credit yet.
#[derive(Debug, Default)]
pub struct StreamOut {
    state: Mutex<State>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct State {
    credit: u64,
    closed: Option<Refusal>,
}

impl StreamOut {
    /// One that begins with credit.
    pub fn with_credit(credit: u32) -> Self {
        let stream = Self::default();
        stream.grant(credit);
        stream
    }

    /// The reader can take more.
    pub fn grant(&self, credit: u32) {
        let mut state = self.state();
        state.credit = state
            .credit
            .saturating_add(u64::from(credit))
            .min(CREDIT_MAX);
        drop(state);
        self.changed.notify_one();
    }

    /// Nothing more is to be sent. The first reason stays.
    pub fn close(&self, reason: Refusal) {
        self.state().closed.get_or_insert(reason);
        self.changed.notify_one();
    }

    /// Whether nothing more is to be sent.
    pub fn is_closed(&self) -> bool {
        self.state().closed.is_some()
    }

    /// Waits until the stream is closed. One task only, and not beside [`Self::take`].
    pub async fn closed(&self) -> Refusal {
        loop {
            if let Some(reason) = self.state().closed.clone() {
                return reason;
            }
            self.changed.notified().await;
        }
    }

    /// Pays for a piece of at most `want` bytes, and says how many it may have. One task only.
    ///
    /// # Errors
    /// Why the stream is closed; `deadline-exceeded` where the reader takes nothing for [`BODY_IDLE`].
    pub async fn take(&self, want: usize) -> Result<usize, Refusal> {
        let waited = async {
            loop {
                if let Some(taken) = self.try_take(want)? {
                    return Ok(taken);
                }
                self.changed.notified().await;
            }
        };
        tokio::time::timeout(BODY_IDLE, waited)
            .await
            .unwrap_or_else(|_| {
                Err(Refusal::new(
                    RefusalCode::DeadlineExceeded,
                    format!(
                        "the reader of a stream took nothing for {} s",
                        BODY_IDLE.as_secs()
                    ),
                ))
            })
    }

    fn try_take(&self, want: usize) -> Result<Option<usize>, Refusal> {
        let want = want.min(FRAME_PAYLOAD_BYTES_MAX);
        let mut state = self.state();
        if let Some(reason) = &state.closed {
            return Err(reason.clone());
        }
        if state.credit < data_cost(want.min(PIECE_MIN_BYTES)) {
            return Ok(None);
        }
        let affordable = usize::try_from(state.credit - u64::from(DATA_COST_BYTES));
        let taken = want.min(affordable.unwrap_or(usize::MAX));
        state.credit -= data_cost(taken);
        Ok(Some(taken))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_sender_waits_for_credit_and_takes_no_more_than_it_has() {
        let stream = StreamOut::with_credit(8192);
        assert_eq!(stream.take(100_000).await.unwrap(), 8192 - 256);
        let waiting = stream.take(100);
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        stream.grant(355);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        stream.grant(1);
        assert_eq!(waiting.await.unwrap(), 100);
    }

    #[tokio::test(start_paused = true)]
    async fn a_reader_that_takes_nothing_ends_the_stream() {
        let stream = StreamOut::default();
        let refusal = stream.take(1).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::DeadlineExceeded);
    }

    #[tokio::test]
    async fn a_closed_stream_takes_nothing_whatever_its_credit() {
        let stream = StreamOut::with_credit(1_000_000);
        stream.close(Refusal::new(RefusalCode::Cancelled, "gone"));
        stream.close(Refusal::new(RefusalCode::Internal, "later"));
        assert_eq!(
            stream.take(1).await.unwrap_err().code,
            RefusalCode::Cancelled
        );
    }

    #[tokio::test]
    async fn a_frame_never_carries_more_than_its_payload() {
        let stream = StreamOut::with_credit(u32::MAX);
        assert_eq!(
            stream.take(usize::MAX).await.unwrap(),
            FRAME_PAYLOAD_BYTES_MAX
        );
    }
}
