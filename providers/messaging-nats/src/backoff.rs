//! How long to wait before something is tried again: longer each time, up to a ceiling, and never in step with others.

use std::time::Duration;

use rand::Rng;

/// Doubles `first` with each attempt up to `most`, and gives back a random time between half of that and all of it.
pub(crate) fn delay(attempt: u32, first: Duration, most: Duration) -> Duration {
    let doubled = first.saturating_mul(2_u32.saturating_pow(attempt.min(16)));
    let whole = doubled.min(most);
    whole.mul_f64(rand::rng().random_range(0.5..=1.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_their_ceiling_and_are_spread() {
        let (first, most) = (Duration::from_millis(50), Duration::from_secs(5));
        for attempt in [0, 1, 5, 16, 17, u32::MAX] {
            let whole = first
                .saturating_mul(2_u32.saturating_pow(attempt.min(16)))
                .min(most);
            for _ in 0..100 {
                let delay = delay(attempt, first, most);
                assert!(delay >= whole / 2 && delay <= whole, "{attempt}: {delay:?}");
            }
        }
    }
}
