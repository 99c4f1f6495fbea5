//! The time that one call has, and how it is divided.
//!
//! The actor must hear an answer before its own time is over, so we stop a little earlier, and the server a little
//! earlier than we: then it is the server that ends a slow statement, and the session stays good.

use std::time::{Duration, Instant};

use trellis_provider_sdk::Call;

/// Share of a call's time, and most of it, that is kept for the answer to travel.
const ANSWER_SHARE: u32 = 20;
const ANSWER_MAX: Duration = Duration::from_millis(250);

/// Shortest statement timeout that a server is told. A timeout of zero would be none at all.
const SERVER_MIN: Duration = Duration::from_millis(1);

/// A call's time.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Budget {
    /// What the caller gave.
    pub(crate) within: Duration,
    /// When we stop waiting.
    pub(crate) until: Instant,
}

impl Budget {
    pub(crate) fn of(call: &Call) -> Self {
        let within = call.time_left();
        let answer = (within / ANSWER_SHARE).min(ANSWER_MAX);
        Self {
            within,
            until: Instant::now() + within.saturating_sub(answer),
        }
    }

    /// The time that the server has from now on.
    pub(crate) fn server(&self) -> Allowed {
        let left = self.until.saturating_duration_since(Instant::now());
        Allowed(left.saturating_sub((left / ANSWER_SHARE).min(ANSWER_MAX)))
    }
}

/// The time that the server has for a statement.
///
/// Calls with the same deadline have nearly, but never quite, the same time left. What the server was told for one
/// serves the others too, so that it has to be told but once.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed(Duration);

impl Allowed {
    /// Whether a server that was told this timeout need not be told another: it is not later, and by at most an eighth
    /// earlier.
    pub(crate) fn is_served_by(self, told: Duration) -> bool {
        told <= self.0.max(SERVER_MIN) && told * 8 >= self.0 * 7
    }

    /// The timeout to tell it.
    pub(crate) fn timeout(self) -> Duration {
        stepped(self.0).max(SERVER_MIN)
    }
}

/// A duration in whole milliseconds, rounded down to one of sixteen steps between two powers of two, so that those that
/// follow are not just below it.
fn stepped(left: Duration) -> Duration {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let step = (millis.checked_ilog2().map_or(1, |log| 1 << log) / 16).max(1);
    Duration::from_millis(millis / step * step)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_step_is_at_most_a_sixteenth() {
        for millis in (0..100_000).step_by(7) {
            let stepped = stepped(Duration::from_millis(millis)).as_millis();
            assert!(stepped <= u128::from(millis));
            assert!(
                stepped * 17 >= u128::from(millis) * 16,
                "{millis} {stepped}"
            );
        }
    }

    #[test]
    fn what_was_told_serves_calls_of_about_the_same_time_and_no_shorter_ones() {
        let allowed = |millis| Allowed(Duration::from_millis(millis));
        for millis in (1..100_000).step_by(7) {
            let told = allowed(millis).timeout();
            assert!(allowed(millis).is_served_by(told), "{millis}");
            let longer = millis + millis / 16;
            assert!(allowed(longer).is_served_by(told), "{millis}");
            assert!(!allowed(millis * 2 + 1).is_served_by(told), "{millis}");
            let told = u64::try_from(told.as_millis()).unwrap();
            assert!(told == 1 || !allowed(told - 1).is_served_by(Duration::from_millis(told)));
        }
        // Around the border of a step, the lower one is told at most once.
        let mut told = allowed(8_200).timeout();
        let mut times = 0;
        for millis in (8_180..8_220).cycle().step_by(3).take(500) {
            if !allowed(millis).is_served_by(told) {
                told = allowed(millis).timeout();
                times += 1;
            }
        }
        assert_eq!(times, 1);
    }
}
