//! Waiting for conditions, with a deadline and never with hope alone.

use std::time::{Duration, Instant};

/// Longest wait for a condition. Generous, since it is only waited for in full by a test that fails.
pub const WITHIN: Duration = Duration::from_secs(20);

/// Time between two looks at a condition.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Looks until `look` finds something, and gives it back.
///
/// # Panics
/// Where it is not found within [`WITHIN`].
pub async fn eventually<T>(what: &str, look: impl AsyncFnMut() -> Option<T>) -> T {
    eventually_within(WITHIN, what, look).await
}

/// As [`eventually`], with a deadline of its own.
///
/// # Panics
/// Where it is not found in time.
pub async fn eventually_within<T>(
    within: Duration,
    what: &str,
    mut look: impl AsyncFnMut() -> Option<T>,
) -> T {
    let deadline = Instant::now() + within;
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(
            Instant::now() < deadline,
            "never came true within {within:?}: {what}"
        );
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// Waits for a future.
///
/// # Panics
/// Where it is not done in time.
pub async fn in_time<T>(within: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(within, future).await {
        Ok(done) => done,
        Err(_) => panic!("not done within {within:?}: {what}"),
    }
}
