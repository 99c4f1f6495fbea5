//! The bytes that one end holds for the other.

use std::sync::Arc;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use trellis_protocol::frame::{STREAM_INITIAL_BYTES, rest_cost};
use trellis_protocol::limits::VALUE_BYTES_MAX;

/// The least budget: one of the longest values fits into each quarter.
pub const BUDGET_BYTES_MIN: usize = 4 * rest_cost(VALUE_BYTES_MAX as u32) as usize;

/// Three pools of bytes, a quarter for parameters, a quarter for results, and half for first frames and bodies.
///
/// Parameters keep their room until the handler has let go of them, and a handler may wait for a result: so results
/// have a pool of their own, which is held by nobody who waits for anything but bytes on their way.
#[derive(Debug)]
pub struct Budget {
    /// For parameters, taken whole and in turn.
    parameters: Arc<Semaphore>,
    /// For results, taken whole and in turn.
    results: Arc<Semaphore>,
    /// For first frames and bodies, taken at once or not at all.
    streams: Arc<Semaphore>,
    /// Below this, windows do not grow: slow readers must not take the room of those who begin.
    growth_floor: usize,
}

impl Budget {
    /// Divides so many bytes.
    pub fn new(bytes: usize) -> Self {
        Self {
            parameters: Arc::new(Semaphore::new(bytes / 4)),
            results: Arc::new(Semaphore::new(bytes / 4)),
            streams: Arc::new(Semaphore::new(bytes / 2)),
            growth_floor: bytes / 4,
        }
    }

    /// Room for the bytes that a call brings in its first frame.
    pub fn first(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let bytes = u32::try_from(bytes).ok()?;
        Arc::clone(&self.streams).try_acquire_many_owned(bytes).ok()
    }

    /// Room for the credit with which a body begins.
    pub fn window(&self) -> Option<OwnedSemaphorePermit> {
        let streams = Arc::clone(&self.streams);
        streams.try_acquire_many_owned(STREAM_INITIAL_BYTES).ok()
    }

    /// Room for a larger window.
    pub fn grow(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        if self.streams.available_permits() < self.growth_floor + bytes as usize {
            return None;
        }
        Arc::clone(&self.streams).try_acquire_many_owned(bytes).ok()
    }

    /// Bytes that nobody holds at present, of all pools.
    pub fn free(&self) -> usize {
        [&self.parameters, &self.results, &self.streams]
            .map(|pool| pool.available_permits())
            .iter()
            .sum()
    }

    /// Room for the rest of a call's parameters, once there is. Cancelling the wait loses the place in the queue.
    pub async fn parameters(&self, cost: u64) -> OwnedSemaphorePermit {
        take(&self.parameters, cost).await
    }

    /// No room, for what is paid elsewhere.
    pub fn nothing(&self) -> OwnedSemaphorePermit {
        let nothing = Arc::clone(&self.streams).try_acquire_many_owned(0);
        nothing.expect("none is always there, and the pool is never closed")
    }

    /// Room for the rest of a result, once there is.
    pub async fn result(&self, cost: u64) -> OwnedSemaphorePermit {
        take(&self.results, cost).await
    }
}

async fn take(pool: &Arc<Semaphore>, cost: u64) -> OwnedSemaphorePermit {
    let cost = u32::try_from(cost).unwrap_or(u32::MAX);
    let taken = Arc::clone(pool).acquire_many_owned(cost).await;
    taken.expect("the pool is never closed")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn windows_grow_while_half_is_free_and_begin_while_anything_is() {
        let budget = Budget::new(16 * STREAM_INITIAL_BYTES as usize);
        let mut held = Vec::new();
        while let Some(permit) = budget.grow(STREAM_INITIAL_BYTES) {
            held.push(permit);
        }
        assert_eq!(held.len(), 4);
        while let Some(permit) = budget.window() {
            held.push(permit);
        }
        assert_eq!(held.len(), 8);
        assert!(budget.first(1).is_none());
        drop(held.pop().unwrap());
        assert!(budget.first(1).is_some());
    }

    #[tokio::test]
    async fn a_value_waits_for_the_one_before_it() {
        let budget = Budget::new(400);
        let first = budget.parameters(60).await;
        let second = budget.parameters(60);
        tokio::pin!(second);
        assert!(futures::poll!(second.as_mut()).is_pending());
        drop(first);
        assert!(futures::poll!(second.as_mut()).is_ready());
    }
}
