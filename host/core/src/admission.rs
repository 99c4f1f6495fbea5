//! Who may run now, who waits, and who is told at once that there is no room.
//!
//! Each actor has a number of permits, and behind them a short queue. Above all actors stands one budget for the host,
//! sized from its pool. Work at depth `d` of a chain of calls may fill at most the share `1 - 2^-(d+1)` of it, and only
//! outermost calls queue: so deeper work, which others wait for, always finds room or an answer, and no set of actors
//! that wait for each other can lock up the pool (D13).

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trellis_protocol::{Refusal, RefusalCode};

use crate::limits::{QUEUE_MAX, QUEUE_WAIT_MAX};

/// A counter of permits with a bounded queue behind it, first come, first served.
#[derive(Debug)]
pub(crate) struct Gate {
    inner: Mutex<Inner>,
    queue_max: usize,
}

#[derive(Debug)]
struct Inner {
    limit: usize,
    taken: usize,
    queue: VecDeque<oneshot::Sender<Permit>>,
}

/// A permit of a gate. Dropping it lets the next one in.
#[derive(Debug)]
pub(crate) struct Permit {
    gate: Option<Arc<Gate>>,
}

/// Why a gate did not open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Shut {
    Full,
    QueueFull,
    WaitedTooLong,
    Cancelled,
}

impl Gate {
    fn new(limit: usize, queue_max: usize) -> Arc<Self> {
        Arc::new(Self {
            inner: Mutex::new(Inner {
                limit,
                taken: 0,
                queue: VecDeque::new(),
            }),
            queue_max,
        })
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // Each critical section leaves the counters consistent at every step that could panic.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn try_enter(self: &Arc<Self>) -> Option<Permit> {
        let mut inner = self.lock();
        if inner.taken < inner.limit {
            inner.taken += 1;
            return Some(Permit {
                gate: Some(Arc::clone(self)),
            });
        }
        None
    }

    async fn enter(
        self: &Arc<Self>,
        until: Instant,
        cancel: &CancellationToken,
    ) -> Result<Permit, Shut> {
        let mut turn = {
            let mut inner = self.lock();
            if inner.taken < inner.limit {
                inner.taken += 1;
                return Ok(Permit {
                    gate: Some(Arc::clone(self)),
                });
            }
            if inner.queue.len() >= self.queue_max {
                // Those who gave up left their places behind.
                inner.queue.retain(|waiting| !waiting.is_closed());
                if inner.queue.len() >= self.queue_max {
                    return Err(Shut::QueueFull);
                }
            }
            let (sender, receiver) = oneshot::channel();
            inner.queue.push_back(sender);
            receiver
        };
        // If this future is dropped, or one of the other branches wins, a permit that is already in the channel is
        // dropped with it and goes to the next in the queue.
        tokio::select! {
            permit = &mut turn => permit.map_err(|_| Shut::Full),
            () = tokio::time::sleep_until(until.into()) => Err(Shut::WaitedTooLong),
            () = cancel.cancelled() => Err(Shut::Cancelled),
        }
    }

    /// Changes the number of permits. Those given out beyond a smaller number are not taken back.
    fn set_limit(self: &Arc<Self>, limit: usize) {
        let mut ready = Vec::new();
        {
            let mut inner = self.lock();
            inner.limit = limit;
            while inner.taken < inner.limit
                && let Some(waiting) = inner.queue.pop_front()
            {
                inner.taken += 1;
                ready.push(waiting);
            }
        }
        for waiting in ready {
            // A send that fails drops the permit, which lets the next one in.
            let _ = waiting.send(Permit {
                gate: Some(Arc::clone(self)),
            });
        }
    }

    fn taken(&self) -> usize {
        self.lock().taken
    }

    /// Those who wait; who gave up does not.
    fn waiting(&self) -> usize {
        let inner = self.lock();
        inner.queue.iter().filter(|one| !one.is_closed()).count()
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        let Some(gate) = self.gate.take() else {
            return;
        };
        loop {
            let next = {
                let mut inner = gate.lock();
                match inner.queue.pop_front() {
                    // The permit is handed on as it is: `taken` stays.
                    Some(next) if inner.taken <= inner.limit => next,
                    other => {
                        if let Some(waiting) = other {
                            inner.queue.push_front(waiting);
                        }
                        inner.taken -= 1;
                        return;
                    }
                }
            };
            let permit = Permit {
                gate: Some(Arc::clone(&gate)),
            };
            match next.send(permit) {
                Ok(()) => return,
                // The one who waited has gone. Its permit comes back and is offered to the next, without recursion.
                Err(mut permit) => permit.gate = None,
            }
        }
    }
}

/// The budget of a host.
#[derive(Debug)]
pub(crate) struct HostBudget {
    slots: usize,
    taken: AtomicUsize,
    outermost: Arc<Gate>,
}

/// A slot of the host's budget.
#[derive(Debug)]
struct Slot(Arc<HostBudget>);

impl Drop for Slot {
    fn drop(&mut self) {
        self.0.taken.fetch_sub(1, Ordering::AcqRel);
    }
}

impl HostBudget {
    pub(crate) fn new(slots: u32) -> Arc<Self> {
        let slots = slots as usize;
        Arc::new(Self {
            slots,
            taken: AtomicUsize::new(0),
            outermost: Gate::new(share(slots, 0), QUEUE_MAX),
        })
    }

    /// All slots.
    pub(crate) fn slots(&self) -> usize {
        self.slots
    }

    /// Slots that are taken.
    pub(crate) fn taken(&self) -> usize {
        self.taken.load(Ordering::Relaxed)
    }

    fn take(self: &Arc<Self>, depth: u8) -> Option<Slot> {
        let most = share(self.slots, depth);
        self.taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                (taken < most).then_some(taken + 1)
            })
            .ok()
            .map(|_| Slot(Arc::clone(self)))
    }
}

/// The slots that work at a depth may fill.
fn share(slots: usize, depth: u8) -> usize {
    let shift = u32::from(depth) + 1;
    let reserved = slots.checked_shr(shift).unwrap_or(0);
    (slots - reserved).max(1)
}

/// The way into one actor.
#[derive(Debug)]
pub(crate) struct Admission {
    host: Arc<HostBudget>,
    gate: Arc<Gate>,
}

/// Leave to run one invocation, given back by dropping it.
#[derive(Debug)]
pub(crate) struct Admitted {
    _slot: Slot,
    _outermost: Option<Permit>,
    _actor: Permit,
}

impl Admission {
    pub(crate) fn new(host: Arc<HostBudget>, count: u32) -> Self {
        Self {
            host,
            gate: Gate::new(count as usize, QUEUE_MAX),
        }
    }

    pub(crate) fn set_count(&self, count: u32) {
        self.gate.set_limit(count as usize);
    }

    /// Invocations that run now.
    pub(crate) fn running(&self) -> usize {
        self.gate.taken()
    }

    /// Invocations that wait for a permit.
    pub(crate) fn queued(&self) -> usize {
        self.gate.waiting()
    }

    /// Lets an invocation in, or says at once that there is no room.
    ///
    /// # Errors
    /// `overloaded` where the permits or the host's share for this depth are taken and the queue is full, not open to
    /// nested calls, or slow; `deadline-exceeded` and `cancelled` where that came first.
    pub(crate) async fn enter(
        &self,
        depth: u8,
        deadline: Instant,
        cancel: &CancellationToken,
    ) -> Result<Admitted, Refusal> {
        if depth > 0 {
            let actor = self.gate.try_enter().ok_or_else(|| {
                overloaded("every permit of the actor is taken, and a nested call does not queue")
            })?;
            let slot = self
                .host
                .take(depth)
                .ok_or_else(|| overloaded("the host has no room for a call at this depth"))?;
            return Ok(Admitted {
                _slot: slot,
                _outermost: None,
                _actor: actor,
            });
        }
        let longest = Instant::now() + QUEUE_WAIT_MAX;
        let until = deadline.min(longest);
        let shut = |what: &'static str| {
            move |shut| match shut {
                Shut::Cancelled => Refusal::new(RefusalCode::Cancelled, "the caller has gone"),
                Shut::WaitedTooLong if deadline <= longest => Refusal::new(
                    RefusalCode::DeadlineExceeded,
                    "the deadline passed while the call waited for room",
                ),
                Shut::WaitedTooLong => overloaded(&format!(
                    "the call waited {} s for {what}",
                    QUEUE_WAIT_MAX.as_secs()
                )),
                Shut::QueueFull | Shut::Full => {
                    overloaded(&format!("{QUEUE_MAX} calls wait for {what} already"))
                }
            }
        };
        let actor = self
            .gate
            .enter(until, cancel)
            .await
            .map_err(shut("a permit of the actor"))?;
        let outermost = self
            .host
            .outermost
            .enter(until, cancel)
            .await
            .map_err(shut("room on the host"))?;
        let slot = self.host.take(0).ok_or_else(|| {
            overloaded(
                "nested calls have filled the host, and an outermost call may not add to that",
            )
        })?;
        Ok(Admitted {
            _slot: slot,
            _outermost: Some(outermost),
            _actor: actor,
        })
    }
}

fn overloaded(why: &str) -> Refusal {
    Refusal::new(RefusalCode::Overloaded, why).with_remedy(
        "try again a little later; `wash scale` gives an actor more permits, another host more room",
    )
}

/// The time that an answer should tell its client to wait after `overloaded`.
pub const RETRY_AFTER: Duration = Duration::from_secs(1);

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(1)
    }

    #[test]
    fn deeper_work_has_a_larger_share() {
        assert_eq!(share(1000, 0), 500);
        assert_eq!(share(1000, 1), 750);
        assert_eq!(share(1000, 2), 875);
        assert_eq!(share(1000, 200), 1000);
        assert_eq!(share(1, 0), 1);
    }

    #[tokio::test]
    async fn the_last_permit_is_given_and_the_next_caller_waits_for_it() {
        let admission = Arc::new(Admission::new(HostBudget::new(100), 1));
        let cancel = CancellationToken::new();
        let first = admission.enter(0, soon(), &cancel).await.unwrap();
        let waiting = {
            let (admission, cancel) = (Arc::clone(&admission), cancel.clone());
            tokio::spawn(async move { admission.enter(0, soon(), &cancel).await.map(drop) })
        };
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(first);
        waiting.await.unwrap().unwrap();
        assert_eq!(admission.running(), 0);
    }

    #[tokio::test]
    async fn a_full_queue_refuses_at_once_and_opens_again() {
        let admission = Arc::new(Admission::new(HostBudget::new(10), 1));
        let cancel = CancellationToken::new();
        let running = admission.enter(0, soon(), &cancel).await.unwrap();
        let mut waiting = Vec::new();
        for _ in 0..QUEUE_MAX {
            let (admission, cancel) = (Arc::clone(&admission), cancel.clone());
            waiting.push(tokio::spawn(async move {
                admission.enter(0, soon(), &cancel).await.map(drop)
            }));
        }
        while admission.gate.lock().queue.len() < QUEUE_MAX {
            tokio::task::yield_now().await;
        }
        let refusal = admission.enter(0, soon(), &cancel).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Overloaded);
        drop(running);
        for waiting in waiting {
            waiting.await.unwrap().unwrap();
        }
        assert!(admission.enter(0, soon(), &cancel).await.is_ok());
    }

    #[tokio::test]
    async fn those_who_gave_up_do_not_keep_their_place() {
        let admission = Admission::new(HostBudget::new(10), 1);
        let cancel = CancellationToken::new();
        let running = admission.enter(0, soon(), &cancel).await.unwrap();
        for _ in 0..3 {
            let past = Instant::now();
            let refusal = admission.enter(0, past, &cancel).await.unwrap_err();
            assert_eq!(refusal.code, RefusalCode::DeadlineExceeded);
        }
        drop(running);
        assert_eq!(admission.running(), 0);
        assert!(admission.enter(0, soon(), &cancel).await.is_ok());
    }

    #[tokio::test]
    async fn nested_calls_never_wait() {
        let admission = Admission::new(HostBudget::new(10), 1);
        let cancel = CancellationToken::new();
        let _running = admission.enter(0, soon(), &cancel).await.unwrap();
        let refusal = admission.enter(1, soon(), &cancel).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Overloaded);
    }

    #[tokio::test]
    async fn outermost_calls_leave_room_for_nested_ones() {
        let host = HostBudget::new(4);
        let outer = Admission::new(Arc::clone(&host), 100);
        let inner = Admission::new(host, 100);
        let cancel = CancellationToken::new();
        let _a = outer.enter(0, soon(), &cancel).await.unwrap();
        let _b = outer.enter(0, soon(), &cancel).await.unwrap();
        let past = Instant::now() + Duration::from_millis(5);
        assert!(outer.enter(0, past, &cancel).await.is_err());
        assert!(inner.enter(1, soon(), &cancel).await.is_ok());
    }

    #[tokio::test]
    async fn a_larger_count_lets_those_in_who_wait() {
        let admission = Arc::new(Admission::new(HostBudget::new(100), 0));
        let cancel = CancellationToken::new();
        let waiting = {
            let admission = Arc::clone(&admission);
            tokio::spawn(async move { admission.enter(0, soon(), &cancel).await.map(drop) })
        };
        tokio::task::yield_now().await;
        admission.set_count(1);
        waiting.await.unwrap().unwrap();
    }
}
