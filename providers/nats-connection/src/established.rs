//! What exists once a connection is made, which happens when it is first needed.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::OnceCell;
use tokio::time::Instant;

/// How long an attempt that failed speaks for those who come after it. A server that refuses is asked no more often than
/// this, however often an actor calls.
pub const REFUSED_FOR: Duration = Duration::from_millis(250);

/// A connection that is made once, by whoever needs it first. Many may wait for one attempt.
#[derive(Debug)]
pub struct Established<T, E> {
    made: OnceCell<T>,
    /// The last attempt that failed, and when.
    refused: Mutex<Option<(Instant, E)>>,
}

impl<T, E> Default for Established<T, E> {
    fn default() -> Self {
        Self {
            made: OnceCell::new(),
            refused: Mutex::default(),
        }
    }
}

impl<T, E: Clone> Established<T, E> {
    /// What there is, if it was made.
    pub fn get(&self) -> Option<&T> {
        self.made.get()
    }

    /// What there is, made now if this is the first use. After a failure the next caller tries again, if not at once.
    ///
    /// # Errors
    /// Why it cannot be made, as the last attempt said.
    pub async fn get_or_try(&self, make: impl AsyncFnOnce() -> Result<T, E>) -> Result<&T, E> {
        let attempt = async || {
            if let Some((at, error)) = &*self.refused()
                && at.elapsed() < REFUSED_FOR
            {
                return Err(error.clone());
            }
            let made = make().await;
            *self.refused() = made
                .as_ref()
                .err()
                .map(|error| (Instant::now(), error.clone()));
            made
        };
        self.made.get_or_try_init(attempt).await
    }

    fn refused(&self) -> MutexGuard<'_, Option<(Instant, E)>> {
        // Every change is a single assignment.
        self.refused.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    #[tokio::test]
    async fn what_failed_is_not_tried_again_at_once_and_what_was_made_never() {
        let attempts = AtomicUsize::new(0);
        let established = Established::<usize, String>::default();
        let attempt = async || match attempts.fetch_add(1, Ordering::Relaxed) {
            0 => Err("no".to_owned()),
            number => Ok(number),
        };
        for _ in 0..10 {
            let made = established.get_or_try(attempt).await;
            assert_eq!(made, Err("no".to_owned()));
        }
        assert_eq!(attempts.load(Ordering::Relaxed), 1);
        assert_eq!(established.get(), None);
        tokio::time::sleep(REFUSED_FOR).await;
        for _ in 0..100 {
            assert_eq!(established.get_or_try(attempt).await, Ok(&1));
        }
        assert_eq!(attempts.load(Ordering::Relaxed), 2);
    }
}
