//! How soon a provider process is started again, and when that is given up.
//!
//! Two kinds of trouble are told apart. A process that comes up and dies later (killed, out of memory, a defect that some
//! call meets) is worth restarting for as long as it does not happen without end: at most [`RESTARTS_MAX`] times in
//! [`RESTARTS_WITHIN`]. One that does not come up at all will hardly do better the next time: [`FAILED_STARTS_MAX`] of
//! those in a row are enough. One that comes up and dies before it has served for [`SERVED_MIN`] may be no good, or may be
//! killed by somebody who does not wait for it to come up, so it is given [`SHORT_LIVES_MAX`] attempts.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// The first pause before a restart.
const PAUSE_FIRST: Duration = Duration::from_millis(100);

/// The longest pause before a restart.
const PAUSE_MAX: Duration = Duration::from_secs(10);

/// After such a life the next pause is the first one again.
const LIFE_GOOD: Duration = Duration::from_secs(60);

/// A process that served for less had a short life.
const SERVED_MIN: Duration = Duration::from_millis(500);

/// Starts in a row that may fail.
pub(super) const FAILED_STARTS_MAX: u32 = 5;

/// Lives in a row that may be short. Whoever kills a process at fixed times kills it shortly after it came up now and then,
/// and with pauses of [`PAUSE_MAX`] a minute has a dozen lives at most.
const SHORT_LIVES_MAX: u32 = 20;

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
    #[error("it has ended soon after its start {SHORT_LIVES_MAX} times in a row")]
    ShortLives,
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
    short_lives: u32,
    step: u32,
    restarts: VecDeque<Instant>,
}

impl Backoff {
    /// An incarnation has ended after it was up for so long; `None` where it did not come up.
    pub(super) fn ended(&mut self, now: Instant, life: Option<Duration>) -> Next {
        match life {
            None => self.failed_starts += 1,
            Some(life) if life < SERVED_MIN => {
                self.failed_starts = 0;
                self.short_lives += 1;
            }
            Some(_) => (self.failed_starts, self.short_lives) = (0, 0),
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
        if self.short_lives >= SHORT_LIVES_MAX {
            return Next::GiveUp(GaveUp::ShortLives);
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
    fn regression_a_process_that_is_killed_as_soon_as_it_is_up_is_not_given_up_within_a_minute() {
        // Kills came by the clock, and the pauses grew: five in a row met a process that had just come up.
        let (mut backoff, start) = (Backoff::default(), Instant::now());
        let mut now = start;
        while now < start + 60 * SECOND {
            let life = SERVED_MIN / 2;
            match backoff.ended(now, Some(life)) {
                Next::After(pause) => now += pause + life,
                Next::GiveUp(why) => panic!("{why} after {:?}", now - start),
            }
        }
    }

    #[test]
    fn starts_that_fail_in_a_row_are_given_up() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        for _ in 0..20 {
            assert!(matches!(backoff.ended(now, None), Next::After(_)));
            assert!(matches!(
                backoff.ended(now, Some(SERVED_MIN)),
                Next::After(_)
            ));
        }
        for _ in 1..FAILED_STARTS_MAX {
            assert!(matches!(backoff.ended(now, None), Next::After(_)));
        }
        assert_eq!(backoff.ended(now, None), Next::GiveUp(GaveUp::Starts));
    }

    #[test]
    fn short_lives_in_a_row_are_given_up_later_than_starts_that_fail() {
        let (mut backoff, now) = (Backoff::default(), Instant::now());
        let short = Some(SERVED_MIN - Duration::from_millis(1));
        for _ in 1..SHORT_LIVES_MAX {
            assert!(matches!(backoff.ended(now, short), Next::After(_)));
        }
        assert_eq!(backoff.ended(now, short), Next::GiveUp(GaveUp::ShortLives));
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
