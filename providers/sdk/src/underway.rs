//! The invocations that are under way: how long each may take, and how a shutdown waits for them.

use std::future::Future;

use bytes::Bytes;
use tokio::time::{Instant, sleep_until};
use tokio_util::task::TaskTracker;
use trellis_protocol::{Refusal, RefusalCode};

use crate::call::Call;

/// Counts the invocations under way, so that a shutdown can wait for them.
#[derive(Debug)]
pub struct Underway {
    /// What messages call the provider.
    provider: &'static str,
    /// What they call that which it asks.
    backend: &'static str,
    tracker: TaskTracker,
}

impl Underway {
    /// None yet, of a provider and a backend that messages call so: `the SQL provider`, `the database`.
    pub fn new(provider: &'static str, backend: &'static str) -> Self {
        Self {
            provider,
            backend,
            tracker: TaskTracker::new(),
        }
    }

    /// Works on a call until there is an answer, its deadline has passed or its caller has gone. The work is dropped
    /// where it stands then.
    ///
    /// # Errors
    /// That of the work; `deadline-exceeded` and `cancelled` where there is none; `draining` after [`drain`](Self::drain).
    pub async fn run(
        &self,
        call: &Call,
        work: impl Future<Output = Result<Bytes, Refusal>>,
    ) -> Result<Bytes, Refusal> {
        if self.tracker.is_closed() {
            return Err(Refusal::new(
                RefusalCode::Draining,
                format!("{} is shutting down", self.provider),
            ));
        }
        let _underway = self.tracker.token();
        tokio::select! {
            // An answer that is there counts, even if this task has its turn so late that the time is over, too.
            biased;
            answer = work => answer,
            () = sleep_until(Instant::from_std(call.deadline)) => Err(Refusal::new(
                RefusalCode::DeadlineExceeded,
                format!("{} did not answer `{}` in time", self.backend, call.operation),
            )),
            () = call.cancel.cancelled() => Err(Refusal::new(
                RefusalCode::Cancelled,
                format!("the caller of `{}` has gone", call.operation),
            )),
        }
    }

    /// Takes no further call, and waits until none is under way.
    pub async fn drain(&self) {
        self.tracker.close();
        self.tracker.wait().await;
    }

    /// How many are under way.
    pub fn count(&self) -> usize {
        self.tracker.len()
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::future::pending;
    use std::sync::Arc;
    use std::time::Duration;

    use tokio::sync::Notify;
    use tokio::time::timeout;

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    fn underway() -> Arc<Underway> {
        Arc::new(Underway::new("the provider", "the backend"))
    }

    #[tokio::test]
    async fn work_ends_with_its_answer_its_deadline_or_its_caller() {
        let underway = underway();
        let call = Call::for_tests("app", LONG);
        let answer = underway.run(&call, async { Ok(Bytes::from_static(b"a")) });
        assert_eq!(answer.await.unwrap(), "a");

        call.cancel.cancel();
        let refusal = underway.run(&call, pending()).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Cancelled);

        let call = Call::for_tests("app", Duration::from_millis(1));
        let refusal = underway.run(&call, pending()).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::DeadlineExceeded);
        assert!(refusal.message.starts_with("the backend did not answer"));
        assert_eq!(underway.count(), 0);
    }

    #[tokio::test]
    async fn an_answer_that_is_there_counts_whatever_else_has_come_meanwhile() {
        let underway = underway();
        let call = Call::for_tests("app", Duration::ZERO);
        call.cancel.cancel();
        for _ in 0..100 {
            let answer = underway.run(&call, async { Ok(Bytes::from_static(b"a")) });
            assert_eq!(answer.await.unwrap(), "a");
        }
    }

    #[tokio::test]
    async fn draining_waits_for_what_is_under_way_and_refuses_what_comes() {
        let (underway, finish) = (underway(), Arc::new(Notify::new()));
        let first = tokio::spawn({
            let (underway, finish) = (underway.clone(), finish.clone());
            async move {
                let work = async {
                    finish.notified().await;
                    Ok(Bytes::new())
                };
                underway.run(&Call::for_tests("app", LONG), work).await
            }
        });
        while underway.count() == 0 {
            tokio::task::yield_now().await;
        }
        let soon = Duration::from_millis(1);
        assert!(timeout(soon, underway.drain()).await.is_err());
        assert_eq!(underway.count(), 1);

        let second = Call::for_tests("app", LONG);
        let refusal = underway.run(&second, pending()).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Draining);
        assert_eq!(refusal.message, "the provider is shutting down");

        finish.notify_one();
        underway.drain().await;
        assert!(first.await.unwrap().is_ok());
    }
}
