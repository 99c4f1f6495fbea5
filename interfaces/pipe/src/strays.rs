//! How many frames the other end may send for nothing.
//!
//! Frames for calls that have just ended, and credit for what is sent already, cross what ended them on their way, so they
//! are no fault. But each costs the reader task its time and nothing else bounds them. So they are paid: every frame
//! that is of use, and every frame that this end writes, earns the other a few. What can be on its way at the same moment
//! is given in advance.

use std::sync::atomic::{AtomicI64, Ordering};

use trellis_protocol::frame::DATA_COST_BYTES;

use crate::error::PipeEnd;

/// Frames that one of use earns: no honest end has more to say to a frame than a credit, and a stop or cancel.
const EARNED_EACH: i64 = 2;

/// Frames beside data that one call may have on its way when it ends: credit, stop, cancel, abort.
const CALL_STRAYS: usize = 4;

pub(crate) struct Strays {
    left: AtomicI64,
    most: i64,
}

impl Strays {
    /// For an end that gives credit from so many bytes, and has so many calls both ways.
    pub(crate) fn new(budget_bytes: usize, calls: usize) -> Self {
        let data = budget_bytes / usize::try_from(DATA_COST_BYTES).unwrap_or(1).max(1);
        let most = data.saturating_add(calls.saturating_mul(CALL_STRAYS));
        let most = i64::try_from(most).unwrap_or(i64::MAX / 2);
        Self {
            left: AtomicI64::new(most),
            most,
        }
    }

    /// So many frames were written, or were of use.
    pub(crate) fn earn(&self, frames: usize) {
        let earned = i64::try_from(frames).unwrap_or(i64::MAX / 4) * EARNED_EACH;
        // What two tasks earn at the same moment may exceed the most by a little, until one earns again.
        let room = self.most - self.left.load(Ordering::Relaxed);
        self.left.fetch_add(earned.min(room), Ordering::Relaxed);
    }

    /// A frame came for nothing.
    pub(crate) fn spend(&self) -> Result<(), PipeEnd> {
        if self.left.fetch_sub(1, Ordering::Relaxed) > 0 {
            return Ok(());
        }
        Err(PipeEnd::broken(
            "it sends frame after frame for calls that are not there",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn strays_are_paid_by_frames_of_use_and_never_saved_beyond_the_beginning() {
        let strays = Strays::new(256, 1);
        strays.earn(100);
        for _ in 0..5 {
            assert!(strays.spend().is_ok());
        }
        strays.earn(1);
        for _ in 0..2 {
            assert!(strays.spend().is_ok());
        }
        assert!(strays.spend().is_err());
    }
}
