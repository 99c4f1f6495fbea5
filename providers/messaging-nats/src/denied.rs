//! What a server does not permit.
//!
//! NATS says so beside the stream of messages, not in answer to anything. The complaint arrives before the answer to
//! whatever was sent later, so who compares the count of complaints about a subject before and after learns whether it
//! was meant.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::watch;

/// Subjects that are remembered. Beyond that all are forgotten: only complaints of this moment matter.
const SUBJECTS_MAX: usize = 1024;

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    Publish,
    Subscribe,
}

/// Complaints of one connection's servers.
#[derive(Debug, Default)]
pub(crate) struct Denied {
    counts: Mutex<HashMap<(Attempt, String), u64>>,
    /// Grows with each complaint.
    news: watch::Sender<u64>,
}

impl Denied {
    /// Takes what a server said; `false` where it is about something else.
    pub(crate) fn take(&self, said: &str) -> bool {
        let Some((attempt, subject)) = parse(said) else {
            return false;
        };
        let mut counts = self.lock();
        if counts.len() >= SUBJECTS_MAX {
            counts.clear();
        }
        *counts.entry((attempt, subject.to_owned())).or_default() += 1;
        drop(counts);
        self.news.send_modify(|news| *news += 1);
        true
    }

    /// Complaints so far.
    pub(crate) fn count(&self, attempt: Attempt, subject: &str) -> u64 {
        let key = (attempt, subject.to_owned());
        self.lock().get(&key).copied().unwrap_or(0)
    }

    /// Waits until there is another complaint than the `known` ones.
    pub(crate) async fn changed(&self, attempt: Attempt, subject: &str, known: u64) {
        let mut news = self.news.subscribe();
        while self.count(attempt, subject) == known {
            if news.changed().await.is_err() {
                // The sender is a field of `self`, so this cannot be; but waiting is right in any case.
                std::future::pending::<()>().await;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(Attempt, String), u64>> {
        // The map is consistent between any two statements.
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `Permissions Violation for Publish to "subject"`, and likewise for a subscription, which may name its queue group.
fn parse(said: &str) -> Option<(Attempt, &str)> {
    let rest = said.split_once("Permissions Violation for ")?.1;
    let (attempt, rest) = match rest.strip_prefix("Publish to ") {
        Some(rest) => (Attempt::Publish, rest),
        None => (Attempt::Subscribe, rest.strip_prefix("Subscription to ")?),
    };
    let subject = rest.strip_prefix('"')?.split('"').next()?;
    Some((attempt, subject))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_what_was_attempted_and_the_subject() {
        assert_eq!(
            parse("Permissions Violation for Publish to \"a.b\""),
            Some((Attempt::Publish, "a.b"))
        );
        assert_eq!(
            parse("Permissions Violation for Subscription to \"a.>\" using queue \"q\""),
            Some((Attempt::Subscribe, "a.>"))
        );
        assert_eq!(parse("Slow Consumer"), None);
        assert_eq!(parse("Permissions Violation for Publish to a"), None);
    }

    #[tokio::test]
    async fn whoever_waits_for_a_complaint_hears_of_it() {
        let denied = Denied::default();
        let known = denied.count(Attempt::Publish, "a");
        let waiting = denied.changed(Attempt::Publish, "a", known);
        let complaining = async {
            assert!(!denied.take("Slow Consumer"));
            assert!(denied.take("Permissions Violation for Publish to \"b\""));
            assert!(denied.take("Permissions Violation for Publish to \"a\""));
        };
        tokio::join!(waiting, complaining);
        assert_eq!(denied.count(Attempt::Publish, "a"), 1);
    }
}
