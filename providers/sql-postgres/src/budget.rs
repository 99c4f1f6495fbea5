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

    /// The statement timeout for the server from now on.
    pub(crate) fn server(&self) -> Duration {
        let left = self.until.saturating_duration_since(Instant::now());
        stepped(left.saturating_sub((left / ANSWER_SHARE).min(ANSWER_MAX))).max(SERVER_MIN)
    }
}

/// A duration in whole milliseconds, rounded down to one of sixteen steps between two powers of two.
///
/// Calls with the same deadline have nearly, but never quite, the same time left. By steps they ask for the same
/// timeout, which then has to be sent but once.
fn stepped(left: Duration) -> Duration {
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let step = (millis.checked_ilog2().map_or(1, |log| 1 << log) / 16).max(1);
    Duration::from_millis(millis / step * step)
}

#[cfg(test)]
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
    fn calls_with_the_same_deadline_have_the_same_step() {
        let steps: Vec<_> = (29_300..29_690)
            .map(|millis| stepped(Duration::from_millis(millis)))
            .collect();
        assert!(steps.iter().all(|step| *step == steps[0]));
    }
}
