//! How soon a provider process is started again, and when that is given up.
//!
//! Two kinds of trouble are told apart. A process that comes up and dies later (killed, out of memory, a defect that some
//! call meets) is worth restarting for as long as it does not happen without end: at most [`RESTARTS_MAX`] times in
//! [`RESTARTS_WITHIN`]. One that does not come up at all, or dies before it has served for [`SERVED_MIN`], will hardly do
//! better the next time: [`FAILED_STARTS_MAX`] of those in a row are enough.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause before a restart.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// After such a life the next pause is the first one again.
const LIFE_GOOD: Duration = Duration::from_secs(60);

/// A process that served for less counts as one that did not come up.
const SERVED_MIN: Duration = Duration::from_millis(500);

/// Starts in a row that may fail.
pub(super) const FAILED_STARTS_MAX: u32 = 5;

/// Restarts that are made within [`RESTARTS_WITHIN`].
const RESTARTS_MAX: usize = 120;

/// The time in which they are counted.
const RESTARTS_WITHIN: Duration = Duration::from_secs(600);

/// What to do about an end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    /// Start again after so long.
    After(Duration),
    /// Leave it; this is why.
    GiveUp(GaveUp),
}

/// Why a provider is not started again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(super) enum GaveUp {
    #[error("{FAILED_STARTS_MAX} starts in a row have failed")]
    Starts,
    #[error(
        "it has ended more than {RESTARTS_MAX} times within {} minutes",
        RESTARTS_WITHIN.as_secs() / 60
    )]
    Restarts,
}

/// What is remembered of former incarnations.
#[derive(Debug, Default)]
pub(super) struct Backoff {
    failed_starts: u32,
    step: u32,
    restarts: VecDeque<Instant>,
}

impl Backoff {
    /// An incarnation has ended after it was up for so long; `None` where it did not come up.
    pub(super) fn ended(&mut self, now: Instant, life: Option<Duration>) -> Next {
        match life {
            Some(life) if life >= SERVED_MIN => self.failed_starts = 0,
            _ => self.failed_starts += 1,
        }
        if life.is_some_and(|life| life >= LIFE_GOOD) {
            self.step = 0;
        }
        while self
            .restarts
            .front()
            .is_some_and(|then| now.saturating_duration_since(*then) >= RESTARTS_WITHIN)
        {
            self.restarts.pop_front();
        }
        if self.failed_starts >= FAILED_STARTS_MAX {
            return Next::GiveUp(GaveUp::Starts);
        }
        if self.restarts.len() >= RESTARTS_MAX {
            return Next::GiveUp(GaveUp::Restarts);
        }
        self.restarts.push_back(now);
        let pause = PAUSE_FIRST
            .saturating_mul(1 << self.step.min(16))
            .min(PAUSE_MAX);
        self.step += 1;
        // Several providers that lose the same backend at once come back one after the other.
        Next::After(pause.mul_f64(rand::random_range(0.5..=1.0)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn a_process_that_is_killed_every_second_for_a_minute_is_always_started_again() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        for n in 0..60 {
            let next = backoff.ended(start + n * SECOND, Some(SECOND));
            assert!(
                matches!(next, Next::After(pause) if pause <= PAUSE_MAX),
                "{n}: {next:?}"
            );
        }
    }

    #[test]
    fn pauses_grow_to_their_limit_and_begin_anew_after_a_good_life() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let mut longest = PAUSE_FIRST;
        for _ in 0..12 {
            let Next::After(pause) = backoff.ended(now, Some(SERVED_MIN)) else {
                panic!("given up");
            };
            assert!(pause <= longest && pause >= longest / 2, "{pause:?}");
            longest = (longest * 2).min(PAUSE_MAX);
        }
        let next = backoff.ended(now, Some(LIFE_GOOD));
        assert!(matches!(next, Next::After(pause) if pause <= PAUSE_FIRST));
    }

    #[test]
    fn starts_that_fail_in_a_row_are_given_up_and_a_short_life_is_such_a_start() {
        let now = Instant::now();
        for life in [None, Some(SERVED_MIN - Duration::from_millis(1))] {
            let mut backoff = Backoff::default();
            for _ in 1..FAILED_STARTS_MAX {
                assert!(matches!(backoff.ended(now, life), Next::After(_)));
            }
            assert_eq!(backoff.ended(now, life), Next::GiveUp(GaveUp::Starts));
        }
        let mut backoff = Backoff::default();
        for _ in 0..20 {
            assert!(matches!(backoff.ended(now, None), Next::After(_)));
            assert!(matches!(
                backoff.ended(now, Some(SERVED_MIN)),
                Next::After(_)
            ));
        }
    }

    #[test]
    fn restarts_without_end_are_given_up() {
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        for n in 0..u32::try_from(RESTARTS_MAX).unwrap_or(u32::MAX) {
            let next = backoff.ended(start + n * SECOND, Some(SECOND));
            assert!(matches!(next, Next::After(_)));
        }
        let last = start + RESTARTS_WITHIN - SECOND;
        assert_eq!(
            backoff.ended(last, Some(SECOND)),
            Next::GiveUp(GaveUp::Restarts)
        );
        let later = start + RESTARTS_WITHIN + SECOND;
        assert!(matches!(backoff.ended(later, Some(SECOND)), Next::After(_)));
    }
}
