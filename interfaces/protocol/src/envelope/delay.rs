//! How long a message was on its way beyond the usual, without a common clock.

/// How fast two machines' clocks may drift apart: one part in so many, that is 244 ppm. Ordinary quartz keeps 100.
const DRIFT: u64 = 4096;

/// The smallest difference between arrival and sending that one incarnation of a sender has shown.
///
/// Both clocks count milliseconds from starts of their own, so the difference itself means nothing; how far a message
/// exceeds the smallest is its delay. The floor rises by one part in 4,096 of the time that passes, since clocks drift
/// and the smallest difference of yesterday would call every message of today late. Whoever holds a message back for
/// a minute gains a quarter of a second in an hour by that.
#[derive(Debug, Clone, Copy, Default)]
pub struct DelayFloor {
    lowest: Option<(i64, u64)>,
}

impl DelayFloor {
    /// Takes note of a message and gives back its delay in milliseconds.
    pub fn observe(&mut self, arrived_ms: u64, sent_ms: u64) -> u64 {
        // Far-off values come from a sender that lies; whatever they make of its own floor harms its own calls alone.
        let difference = difference(arrived_ms, sent_ms);
        let lowest = match self.lowest {
            Some((lowest, at)) => {
                let drift = arrived_ms.saturating_sub(at) / DRIFT;
                lowest.saturating_add_unsigned(drift)
            }
            None => difference,
        };
        if difference <= lowest {
            self.lowest = Some((difference, arrived_ms));
            return 0;
        }
        difference.abs_diff(lowest)
    }
}

fn difference(arrived_ms: u64, sent_ms: u64) -> i64 {
    let clamp = |ms: u64| i64::try_from(ms).unwrap_or(i64::MAX);
    clamp(arrived_ms) - clamp(sent_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_message_is_on_time_and_a_held_back_one_is_late() {
        let mut floor = DelayFloor::default();
        assert_eq!(floor.observe(1_000_000, 5_000), 0);
        assert_eq!(floor.observe(1_000_100, 5_098), 2);
        assert_eq!(floor.observe(1_030_100, 5_100), 29_993);
    }

    #[test]
    fn a_quicker_message_lowers_the_floor() {
        let mut floor = DelayFloor::default();
        assert_eq!(floor.observe(1_000, 900), 0);
        assert_eq!(floor.observe(1_000, 950), 0);
        assert_eq!(floor.observe(1_000, 900), 50);
    }

    #[test]
    fn a_day_of_drift_makes_nobody_late() {
        let mut floor = DelayFloor::default();
        let day = 24 * 3600 * 1000;
        assert_eq!(floor.observe(10, 0), 0);
        // The sender's clock runs 200 ppm slow.
        assert_eq!(floor.observe(day, day - day / 5000), 0);
    }

    #[test]
    fn hostile_times_overflow_nothing() {
        let mut floor = DelayFloor::default();
        floor.observe(0, u64::MAX);
        floor.observe(u64::MAX, 0);
        floor.observe(u64::MAX, u64::MAX);
        floor.observe(0, 0);
    }
}
