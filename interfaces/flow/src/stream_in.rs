//! The receiving end of a stream: a queue that holds no more than the credit it gave.
//!
//! The reader task pushes, one consumer polls. Credit goes back as pieces are taken, in halves of the window, and the
//! window grows while the consumer keeps up and the budget allows.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;
use tokio::sync::OwnedSemaphorePermit;
use trellis_protocol::frame::{Fields, STREAM_INITIAL_BYTES, data_cost};
use trellis_protocol::limits::STREAM_WINDOW_BYTES;
use trellis_protocol::{Refusal, RefusalCode};

use crate::budget::Budget;

/// A piece below this is copied out of its message, so that a few bytes do not keep a whole read buffer alive.
const COPY_BELOW_BYTES: usize = 8 * 1024;

const _: () = assert!(STREAM_INITIAL_BYTES <= STREAM_WINDOW_BYTES);

/// A piece of a stream.
#[derive(Debug, PartialEq, Eq)]
pub struct Piece {
    /// What it brings.
    pub bytes: Bytes,
    /// Whether the stream ends here.
    pub last: bool,
    /// Trailers, which come behind the bytes.
    pub trailers: Option<Fields>,
}

/// Why a piece was not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Broken {
    /// A message was lost, or came twice, or out of order.
    Gap,
    /// The sender exceeds its credit.
    Credit,
    /// The stream has ended, or never began.
    Closed,
}

/// The receiving end of a stream. It is closed until it is opened.
#[derive(Debug, Default)]
pub struct StreamIn {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    queue: VecDeque<Piece>,
    next_sequence: u32,
    /// What the sender may still send.
    allowed: u64,
    /// What it may have on the way at most.
    window: u64,
    /// What was taken from the queue and not yet given back.
    owed: u64,
    /// Whether credit goes back; it does not for values, which are paid at once.
    refills: bool,
    open: bool,
    /// The last piece has come.
    ended: bool,
    failed: Option<Refusal>,
    waker: Option<Waker>,
    /// A credit message waits to be sent.
    credit_queued: bool,
    permits: Vec<OwnedSemaphorePermit>,
}

impl StreamIn {
    /// Takes a body, for which the sender has [`STREAM_INITIAL_BYTES`] of credit already.
    pub fn open_body(&self, window: OwnedSemaphorePermit) {
        self.open(u64::from(STREAM_INITIAL_BYTES), true, window);
    }

    /// Takes the rest of a value, whose whole cost is reserved. The credit is for the caller to send.
    pub fn open_value(&self, cost: u64, room: OwnedSemaphorePermit) {
        self.open(cost, false, room);
    }

    fn open(&self, window: u64, refills: bool, permit: OwnedSemaphorePermit) {
        let mut state = self.state();
        if state.failed.is_some() {
            return;
        }
        state.open = true;
        state.allowed = window;
        state.window = window;
        state.refills = refills;
        state.permits.push(permit);
    }

    /// Takes a piece from the reader task.
    ///
    /// # Errors
    /// [`Broken`], after which the stream has failed.
    pub fn push(&self, sequence: u32, piece: Piece) -> Result<(), Broken> {
        let mut state = self.state();
        let cost = data_cost(piece.bytes.len());
        let broken = if state.failed.is_some() || !state.open || state.ended {
            return Err(Broken::Closed);
        } else if sequence != state.next_sequence {
            Some(Broken::Gap)
        } else if cost > state.allowed {
            Some(Broken::Credit)
        } else {
            None
        };
        if let Some(broken) = broken {
            state.fail(broken.to_refusal());
            return Err(broken);
        }
        state.next_sequence = state.next_sequence.wrapping_add(1);
        state.allowed -= cost;
        state.ended = piece.last;
        state.queue.push_back(Piece {
            bytes: if piece.bytes.len() < COPY_BELOW_BYTES {
                Bytes::copy_from_slice(&piece.bytes)
            } else {
                piece.bytes
            },
            ..piece
        });
        state.wake();
        Ok(())
    }

    /// Ends the stream early. What has come before is still delivered; the first reason stays.
    pub fn fail(&self, reason: Refusal) {
        let mut state = self.state();
        if !state.ended {
            state.fail(reason);
        }
    }

    /// The next piece; `None` after the last. Says in `credit_due` whether a credit message should be queued, which the
    /// caller must do then.
    pub fn poll_next(
        &self,
        cx: &mut Context<'_>,
        budget: &Budget,
        credit_due: &mut bool,
    ) -> Poll<Option<Result<Piece, Refusal>>> {
        let mut state = self.state();
        let Some(piece) = state.queue.pop_front() else {
            if state.ended {
                return Poll::Ready(None);
            }
            if let Some(reason) = &state.failed {
                return Poll::Ready(Some(Err(reason.clone())));
            }
            state.waker = Some(cx.waker().clone());
            return Poll::Pending;
        };
        if state.refills && !state.ended {
            state.owed += data_cost(piece.bytes.len());
            state.grow(budget);
            if state.owed >= state.window / 2 && !state.credit_queued {
                state.credit_queued = true;
                *credit_due = true;
            }
        }
        Poll::Ready(Some(Ok(piece)))
    }

    /// Whether the stream has failed, by a look that takes nothing off it. One task only, as for [`Self::poll_next`].
    pub fn poll_failure(&self, cx: &mut Context<'_>) -> Poll<Refusal> {
        let mut state = self.state();
        if let Some(reason) = &state.failed {
            return Poll::Ready(reason.clone());
        }
        state.waker = Some(cx.waker().clone());
        Poll::Pending
    }

    /// The credit that is due, once the message for it is about to be sent.
    pub fn take_credit(&self) -> u32 {
        let mut state = self.state();
        state.credit_queued = false;
        if state.ended || state.failed.is_some() {
            return 0;
        }
        let credit = u32::try_from(state.owed).unwrap_or(u32::MAX);
        state.owed -= u64::from(credit);
        state.allowed += u64::from(credit);
        credit
    }

    /// Lets go of everything that was not read. Gives back the room, and whether the sender should be told.
    pub fn abandon(&self) -> (Vec<OwnedSemaphorePermit>, bool) {
        let mut state = self.state();
        let tell = state.open && !state.ended && state.failed.is_none();
        state.fail(Refusal::new(
            RefusalCode::Cancelled,
            "the stream's reader has gone",
        ));
        state.queue.clear();
        (std::mem::take(&mut state.permits), tell)
    }

    /// Whether the sender was never given any credit. What it sends then is not a matter of time.
    pub fn is_unpaid(&self) -> bool {
        let state = self.state();
        !state.open && state.failed.is_none()
    }

    /// Whether everything was read.
    pub fn is_read(&self) -> bool {
        let state = self.state();
        state.ended && state.queue.is_empty()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn fail(&mut self, reason: Refusal) {
        self.failed.get_or_insert(reason);
        self.wake();
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }

    /// Doubles the window, up to its limit.
    fn grow(&mut self, budget: &Budget) {
        let room = u64::from(STREAM_WINDOW_BYTES).saturating_sub(self.window);
        let by = self.window.min(room);
        let Ok(by_bytes) = u32::try_from(by) else {
            return;
        };
        if by == 0 {
            return;
        }
        if let Some(permit) = budget.grow(by_bytes) {
            self.permits.push(permit);
            self.window += by;
            self.owed += by;
        }
    }
}

impl Broken {
    /// What the reader of the stream is told.
    pub fn to_refusal(self) -> Refusal {
        let what = match self {
            Self::Gap => "a message of the stream was lost",
            Self::Credit => "the stream's sender exceeds its credit",
            Self::Closed => "the stream is closed",
        };
        Refusal::new(RefusalCode::OutcomeUnknown, what)
    }
}

#[cfg(test)]
mod tests;
