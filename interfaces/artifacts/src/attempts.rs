//! [`Attempts`]: whether another one is made, and when.

use std::time::Duration;

use rand::Rng as _;

use crate::limits::ATTEMPTS_MAX;
use crate::progress::Progress;

/// Longest pause between two attempts.
const PAUSE_MAX: Duration = Duration::from_secs(8);

/// How often wrong bytes are fetched again: once can be an accident of the network, twice is a source's own fault.
const MISMATCHES_MAX: u32 = 1;

/// What the last attempt ended in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Another attempt could go better.
    Failed,
    /// All came, and it was not what had been announced.
    Mismatch,
    /// It would be the same again.
    Final,
}

/// The attempts of one transfer.
#[derive(Debug)]
pub(crate) struct Attempts {
    pause: Duration,
    made: u32,
    /// Without anything new.
    in_vain: u32,
    mismatches: u32,
}

impl Attempts {
    pub(crate) const fn new(first_pause: Duration) -> Self {
        Self {
            pause: first_pause,
            made: 1,
            in_vain: 1,
            mismatches: 0,
        }
    }

    /// The current attempt has brought something.
    pub(crate) const fn advanced(&mut self) {
        self.in_vain = 0;
    }

    /// Waits before another attempt, if one is to be made.
    pub(crate) async fn again(
        &mut self,
        outcome: Outcome,
        reason: impl FnOnce() -> String,
        progress: &(dyn Fn(Progress) + Send + Sync),
    ) -> bool {
        match outcome {
            Outcome::Final => return false,
            Outcome::Mismatch if self.mismatches >= MISMATCHES_MAX => return false,
            Outcome::Mismatch => self.mismatches += 1,
            Outcome::Failed if self.in_vain >= ATTEMPTS_MAX => return false,
            Outcome::Failed => {}
        }
        self.made += 1;
        self.in_vain += 1;
        progress(Progress::Retrying {
            attempt: self.made,
            reason: reason(),
        });
        let doublings = self.in_vain.saturating_sub(2).min(16);
        let pause = self.pause.saturating_mul(1 << doublings).min(PAUSE_MAX);
        // Hosts that lost one registry together do not come back to it together.
        let share = rand::rng().random_range(0.5..=1.0);
        tokio::time::sleep(pause.mul_f64(share)).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn again(attempts: &mut Attempts, outcome: Outcome) -> bool {
        attempts.again(outcome, String::new, &|_| {}).await
    }

    #[tokio::test]
    async fn five_in_vain_are_enough_and_progress_counts_anew() {
        let mut attempts = Attempts::new(Duration::ZERO);
        for _ in 1..ATTEMPTS_MAX {
            assert!(again(&mut attempts, Outcome::Failed).await);
        }
        assert!(!again(&mut attempts, Outcome::Failed).await);
        attempts.advanced();
        for _ in 0..ATTEMPTS_MAX {
            assert!(again(&mut attempts, Outcome::Failed).await);
        }
        assert!(!again(&mut attempts, Outcome::Failed).await);
    }

    #[tokio::test]
    async fn wrong_bytes_are_fetched_again_once_and_a_refusal_never() {
        let mut attempts = Attempts::new(Duration::ZERO);
        assert!(!again(&mut attempts, Outcome::Final).await);
        assert!(again(&mut attempts, Outcome::Mismatch).await);
        attempts.advanced();
        assert!(!again(&mut attempts, Outcome::Mismatch).await);
    }
}
