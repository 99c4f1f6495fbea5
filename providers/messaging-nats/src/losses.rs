//! Messages that were given up, or have to come again: counted, and told to the log without flooding it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// At most one line in this time for each subscription.
const LOG_EVERY: Duration = Duration::from_secs(10);

/// Why a message was given up, or comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Loss {
    /// It came faster than the provider read.
    Unread,
    /// Too many waited for the actor already.
    Overflow,
    /// The actor answered with an error.
    Failed,
    /// The call was refused.
    Refused,
}

/// The losses of one subscription.
#[derive(Debug)]
pub(crate) struct Losses {
    what: String,
    /// What became of them.
    fate: &'static str,
    counts: [AtomicU64; 4],
    unsaid: Mutex<Unsaid>,
}

#[derive(Debug, Default)]
struct Unsaid {
    messages: u64,
    last_said: Option<Instant>,
    reason: String,
}

impl Losses {
    /// None yet, of what is named.
    pub(crate) fn new(what: impl Into<String>) -> Self {
        Self::with_fate(what, "messages were given up")
    }

    /// None yet of those that were not handled, and which a stream will send again.
    pub(crate) fn for_now(what: impl Into<String>) -> Self {
        Self::with_fate(what, "messages were not handled and come again")
    }

    fn with_fate(what: impl Into<String>, fate: &'static str) -> Self {
        Self {
            what: what.into(),
            fate,
            counts: Default::default(),
            unsaid: Mutex::default(),
        }
    }

    /// One more.
    pub(crate) fn count(&self, loss: Loss, reason: impl FnOnce() -> String) {
        self.counts[loss as usize].fetch_add(1, Ordering::Relaxed);
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        unsaid.messages += 1;
        let now = Instant::now();
        unsaid.reason = reason();
        if unsaid.last_said.is_none_or(|last| now - last >= LOG_EVERY) {
            self.say(&mut unsaid, now);
        }
    }

    /// Says what was left unsaid for a while; called now and then.
    pub(crate) fn report(&self) {
        let mut unsaid = self.unsaid.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        if unsaid.messages > 0 && unsaid.last_said.is_none_or(|last| now - last >= LOG_EVERY) {
            self.say(&mut unsaid, now);
        }
    }

    fn say(&self, unsaid: &mut Unsaid, now: Instant) {
        let of = |loss: Loss| self.counts[loss as usize].load(Ordering::Relaxed);
        tracing::warn!(
            what = self.what,
            messages = unsaid.messages,
            unread = of(Loss::Unread),
            overflow = of(Loss::Overflow),
            failed = of(Loss::Failed),
            refused = of(Loss::Refused),
            last_reason = unsaid.reason,
            "{}",
            self.fate
        );
        unsaid.messages = 0;
        unsaid.last_said = Some(now);
    }
}

impl Drop for Losses {
    fn drop(&mut self) {
        let unsaid = self
            .unsaid
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        if unsaid.messages > 0 {
            tracing::warn!(
                what = self.what,
                messages = unsaid.messages,
                last_reason = unsaid.reason,
                "{}",
                self.fate
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_loss_is_counted_and_few_are_said() {
        let losses = Losses::new("test");
        for _ in 0..1000 {
            losses.count(Loss::Overflow, || "full".to_owned());
        }
        let counted = losses.counts[Loss::Overflow as usize].load(Ordering::Relaxed);
        assert_eq!(counted, 1000);
        let unsaid = losses.unsaid.lock().expect("no panic");
        assert_eq!(unsaid.messages, 999);
        assert_eq!(unsaid.reason, "full");
    }
}
