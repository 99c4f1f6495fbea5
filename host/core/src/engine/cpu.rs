//! How spinning guests share the processor.
//!
//! A guest that merely yields to the scheduler is polled again before anything that waits for input. So a guest that has
//! run for [`FREE_SLICES`] without waiting must take a permit for each further slice. Permits are for half of the
//! processors at most, so other work always has the rest; they are fair by actor, since an actor contends with one guest
//! at a time, whatever number of guests it has spinning (D14).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{EPOCH_INTERVAL, FREE_SLICES};

/// The host's permits for guests that spin.
#[derive(Debug)]
pub(crate) struct CpuShare {
    permits: Arc<Semaphore>,
    /// Who holds one, since when. A guest that took a permit and then waits for the host does not come back to give it
    /// up, so whoever waits long enough takes it from there.
    holders: Mutex<Vec<Holder>>,
}

/// Where a guest keeps its permits, and since when it has them.
type Holder = (Weak<Mutex<Option<Held>>>, Instant);

/// A slice ends after one interval. What is held for longer than this is held by a guest that does not run.
const HELD_MAX: Duration = EPOCH_INTERVAL.saturating_mul(3);

impl CpuShare {
    pub(crate) fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            permits: Arc::new(Semaphore::new((processors / 2).max(1))),
            holders: Mutex::new(Vec::new()),
        }
    }

    /// Waits for a semaphore, taking back what waiting guests hold.
    async fn acquire(&self, semaphore: &Arc<Semaphore>) -> Option<OwnedSemaphorePermit> {
        let mut permit = std::pin::pin!(Arc::clone(semaphore).acquire_owned());
        loop {
            match tokio::time::timeout(HELD_MAX, permit.as_mut()).await {
                Ok(permit) => return permit.ok(),
                Err(_) => self.take_back(),
            }
        }
    }

    fn take_back(&self) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        holders.retain(|(held, since)| {
            let Some(held) = held.upgrade() else {
                return false;
            };
            let overdue = since.elapsed() > HELD_MAX;
            if overdue {
                held.lock().unwrap_or_else(PoisonError::into_inner).take();
            }
            !overdue
        });
    }

    fn note_holder(&self, held: &Arc<Mutex<Option<Held>>>) {
        self.holders
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push((Arc::downgrade(held), Instant::now()));
    }
}

/// What a guest holds while it runs a slice beyond its free ones.
type Held = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// Counts one guest's slices and makes it wait for its turn.
#[derive(Debug)]
pub(crate) struct SliceClock {
    share: Arc<CpuShare>,
    /// One permit for each actor: the guest that contends for it.
    turn: Arc<Semaphore>,
    slices: u32,
    last: Option<Instant>,
    held: Arc<Mutex<Option<Held>>>,
}

impl SliceClock {
    pub(crate) fn new(share: Arc<CpuShare>, turn: Arc<Semaphore>) -> Self {
        Self {
            share,
            turn,
            slices: 0,
            last: None,
            held: Arc::new(Mutex::new(None)),
        }
    }

    /// The guest has used up a slice: what it must wait for before the next.
    pub(crate) fn slice_ended(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        let now = Instant::now();
        // Epochs pass while a guest waits for the host, too. Time between two of its own slices means that it did.
        let waited = self
            .last
            .is_some_and(|last| now.duration_since(last) > 3 * EPOCH_INTERVAL);
        self.slices = if waited { 1 } else { self.slices + 1 };
        self.last = Some(now);
        self.let_go();
        if self.slices <= FREE_SLICES {
            return Box::pin(tokio::task::yield_now());
        }
        let (turn, share) = (Arc::clone(&self.turn), Arc::clone(&self.share));
        let held = Arc::clone(&self.held);
        Box::pin(async move {
            tokio::task::yield_now().await;
            // Neither semaphore is ever closed; were one, the guest would go on without a permit.
            if let Some(turn) = share.acquire(&turn).await
                && let Some(permit) = share.acquire(&share.permits).await
            {
                *held.lock().unwrap_or_else(PoisonError::into_inner) = Some((turn, permit));
                share.take_back();
                share.note_holder(&held);
            }
        })
    }

    /// The guest waits for something else, or is done: others may have the processor.
    pub(crate) fn let_go(&self) {
        self.held
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_spinners_of_one_actor_count_as_one_and_both_go_on() {
        let share = Arc::new(CpuShare {
            permits: Arc::new(Semaphore::new(1)),
            holders: Mutex::new(Vec::new()),
        });
        let turn = Arc::new(Semaphore::new(1));
        let mut a = SliceClock::new(Arc::clone(&share), Arc::clone(&turn));
        let mut b = SliceClock::new(Arc::clone(&share), turn);
        for _ in 0..10 {
            a.slice_ended().await;
            b.slice_ended().await;
        }
    }

    #[tokio::test]
    async fn a_permit_that_its_guest_does_not_use_is_taken_back() {
        let share = Arc::new(CpuShare {
            permits: Arc::new(Semaphore::new(1)),
            holders: Mutex::new(Vec::new()),
        });
        let mut idle = SliceClock::new(Arc::clone(&share), Arc::new(Semaphore::new(1)));
        for _ in 0..=FREE_SLICES {
            idle.slice_ended().await;
        }
        assert_eq!(share.permits.available_permits(), 0);
        let mut other = SliceClock::new(Arc::clone(&share), Arc::new(Semaphore::new(1)));
        for _ in 0..=FREE_SLICES {
            other.slice_ended().await;
        }
    }
}
