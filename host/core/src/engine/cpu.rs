//! How spinning guests share the processor.
//!
//! A guest that merely yields to the scheduler is polled again before anything that waits for input. So a guest that has
//! run for [`FREE_SLICES`] without waiting must take a permit for each further slice. Permits are for half of the
//! processors at most, so other work always has the rest; they are fair by actor, since an actor contends with one guest
//! at a time, whatever number of guests it has spinning (D14).

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::limits::{EPOCH_INTERVAL, FREE_SLICES};

/// The host's permits for guests that spin.
#[derive(Debug)]
pub(crate) struct CpuShare {
    permits: Arc<Semaphore>,
    /// Guests that have taken permits. One that took its permits and then waits for the host does not come back to give
    /// them up, so whoever waits long enough takes them from there.
    holders: Mutex<Vec<Weak<Mutex<Turn>>>>,
}

/// What a guest holds while it runs a slice beyond its free ones: its actor's turn, and a permit of the host.
type Held = (OwnedSemaphorePermit, OwnedSemaphorePermit);

/// A guest's present slice.
#[derive(Debug, Default)]
struct Turn {
    held: Option<Held>,
    /// When the slice began: after the guest had waited for it.
    since: Option<Instant>,
}

/// A slice ends after one interval. What is held for longer than this is held by a guest that does not run.
const HELD_MAX: Duration = EPOCH_INTERVAL.saturating_mul(3);

impl CpuShare {
    pub(crate) fn of_this_machine() -> Self {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        Self::new((processors / 2).max(1))
    }

    fn new(permits: usize) -> Self {
        Self {
            permits: Arc::new(Semaphore::new(permits)),
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
        holders.retain(|turn| {
            let Some(turn) = turn.upgrade() else {
                return false;
            };
            let mut turn = lock(&turn);
            if turn.since.is_some_and(|since| since.elapsed() > HELD_MAX) {
                turn.held = None;
            }
            // A guest that comes back for another slice is noted again.
            turn.held.is_some()
        });
    }

    fn note_holder(&self, turn: &Arc<Mutex<Turn>>) {
        let mut holders = self.holders.lock().unwrap_or_else(PoisonError::into_inner);
        let noted = holders
            .iter()
            .any(|holder| std::ptr::eq(holder.as_ptr(), Arc::as_ptr(turn)));
        if !noted {
            holders.push(Arc::downgrade(turn));
        }
    }
}

/// Counts one guest's slices and makes it wait for its turn.
#[derive(Debug)]
pub(crate) struct SliceClock {
    share: Arc<CpuShare>,
    /// One permit for each actor: the guest that contends for it.
    of_actor: Arc<Semaphore>,
    slices: u32,
    turn: Arc<Mutex<Turn>>,
}

impl SliceClock {
    pub(crate) fn new(share: Arc<CpuShare>, of_actor: Arc<Semaphore>) -> Self {
        Self {
            share,
            of_actor,
            slices: 0,
            turn: Arc::default(),
        }
    }

    /// The guest has used up a slice: what it must wait for before the next.
    pub(crate) fn slice_ended(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send>> {
        {
            let mut turn = lock(&self.turn);
            // Epochs pass while a guest waits for the host, too. A slice that seems longer than one can be says that it
            // did. Its wait for this very slice does not count: the more guests spin, the longer that is.
            let waited = turn.since.is_some_and(|since| since.elapsed() > HELD_MAX);
            self.slices = if waited { 1 } else { self.slices + 1 };
            turn.held = None;
        }
        let (of_actor, share) = (Arc::clone(&self.of_actor), Arc::clone(&self.share));
        let turn = Arc::clone(&self.turn);
        let is_free = self.slices <= FREE_SLICES;
        Box::pin(async move {
            tokio::task::yield_now().await;
            // Neither semaphore is ever closed; were one, the guest would go on without a permit.
            let held = if is_free {
                None
            } else if let Some(of_actor) = share.acquire(&of_actor).await
                && let Some(permit) = share.acquire(&share.permits).await
            {
                Some((of_actor, permit))
            } else {
                None
            };
            let holds = held.is_some();
            *lock(&turn) = Turn {
                held,
                since: Some(Instant::now()),
            };
            if holds {
                share.note_holder(&turn);
            }
        })
    }

    /// The guest waits for something else, or is done: others may have the processor.
    pub(crate) fn let_go(&self) {
        lock(&self.turn).held = None;
    }

    /// The same for a part of the host that is not handed the clock itself.
    pub(crate) fn giving_up(&self) -> GiveUp {
        GiveUp(Arc::clone(&self.turn))
    }
}

/// Lets go of a guest's present slice.
#[derive(Debug)]
pub(crate) struct GiveUp(Arc<Mutex<Turn>>);

impl GiveUp {
    pub(crate) fn let_go(&self) {
        lock(&self.0).held = None;
    }
}

fn lock(turn: &Mutex<Turn>) -> MutexGuard<'_, Turn> {
    turn.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn two_spinners_of_one_actor_count_as_one_and_both_go_on() {
        let share = Arc::new(CpuShare::new(1));
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
        let share = Arc::new(CpuShare::new(1));
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

    /// Runs a guest until it has used up its free slices and holds a permit.
    async fn spin(guest: &mut SliceClock) {
        for _ in 0..=FREE_SLICES {
            guest.slice_ended().await;
        }
    }

    #[tokio::test]
    async fn a_guest_that_spins_on_keeps_the_permit_of_its_present_slice() {
        let share = Arc::new(CpuShare::new(1));
        let mut guest = SliceClock::new(Arc::clone(&share), Arc::new(Semaphore::new(1)));
        let mut before = Instant::now();
        spin(&mut guest).await;
        let until = Instant::now() + 4 * HELD_MAX;
        while Instant::now() < until {
            std::thread::sleep(EPOCH_INTERVAL / 5);
            let slice = Instant::now();
            guest.slice_ended().await;
            share.take_back();
            let available = share.permits.available_permits();
            if before.elapsed() > HELD_MAX {
                // The test itself was held up, which looks as if its guest had waited for the host.
                spin(&mut guest).await;
            } else {
                assert_eq!(available, 0);
            }
            before = slice;
        }
        assert_eq!(
            share.holders.lock().expect("no panic").len(),
            1,
            "one guest is noted once"
        );
        drop(guest);
        share.take_back();
        assert_eq!(share.permits.available_permits(), 1);
    }

    #[tokio::test]
    async fn waiting_for_a_slice_does_not_make_the_next_ones_free() {
        let share = Arc::new(CpuShare::new(1));
        let mut guest = SliceClock::new(Arc::clone(&share), Arc::new(Semaphore::new(1)));
        spin(&mut guest).await;
        // Somebody else has the permit for longer than a guest would wait for its host.
        guest.let_go();
        let elsewhere = Arc::clone(&share.permits).acquire_owned().await;
        let next = guest.slice_ended();
        let back = async {
            tokio::time::sleep(2 * HELD_MAX).await;
            drop(elsewhere);
        };
        tokio::join!(next, back);
        assert_eq!(share.permits.available_permits(), 0);
        guest.slice_ended().await;
        assert_eq!(share.permits.available_permits(), 0, "not a free slice");
    }
}
