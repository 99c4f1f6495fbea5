//! At most one log line in a while about something that may happen thousands of times.

use std::sync::Mutex;
use std::time::{Duration, Instant};

/// Permits once per interval.
#[derive(Debug)]
pub(crate) struct Throttle {
    interval: Duration,
    last: Mutex<Option<Instant>>,
}

impl Throttle {
    /// Permits the first time, and again each time the interval has passed since the last permission.
    pub(crate) fn new(interval: Duration) -> Self {
        Self {
            interval,
            last: Mutex::new(None),
        }
    }

    /// Whether now is one of those times.
    pub(crate) fn permits(&self) -> bool {
        let mut last = self
            .last
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if last.is_some_and(|last| last.elapsed() < self.interval) {
            return false;
        }
        *last = Some(Instant::now());
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_permits_once_per_interval() {
        let throttle = Throttle::new(Duration::from_secs(3600));
        assert!(throttle.permits());
        assert!(!throttle.permits());
        let throttle = Throttle::new(Duration::ZERO);
        assert!(throttle.permits() && throttle.permits());
    }
}
