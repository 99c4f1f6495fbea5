//! What a server does not permit.
//!
//! NATS says so beside the stream of messages, not in answer to anything. So whoever attempts something watches for a
//! complaint about its subject meanwhile. The complaint arrives before the answer to whatever was sent later, but by
//! another task, which may have no turn for a while on a busy machine, and the client library drops complaints that come
//! by the hundred. So an attempt waits for the complaint that is expected by what the server says of its permissions, and
//! for a moment where that is unknown and the subject is not [`Proven`]; and few such attempts are under way at once.

use std::collections::{HashMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::permissions::{Expectation, Permissions};

/// Subjects that are remembered as permitted. Beyond that all are forgotten, and proved again.
const PROVEN_MAX: usize = 4096;

/// Attempts at unproven subjects under way at once, fewer than the complaints that the client library keeps (128).
const UNPROVEN_MAX: usize = 64;

/// How long a complaint may take through the client library after the server's next answer has come, where nobody knows
/// whether there is one. On a busy machine the task that takes it may have to wait for some turns of other threads.
pub(crate) const COMPLAINT_WITHIN: Duration = Duration::from_millis(50);

/// The same where there must be one. If it does not come, the server permits more than it said.
pub(crate) const EXPECTED_COMPLAINT_WITHIN: Duration = Duration::from_secs(2);

/// What was attempted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Attempt {
    Publish,
    Subscribe,
}

type Key = (Attempt, String);

/// Complaints of one connection's servers.
#[derive(Debug, Default)]
pub(crate) struct Denied {
    watched: Mutex<HashMap<Key, Entry>>,
    /// Grows with each complaint.
    news: watch::Sender<u64>,
}

#[derive(Debug, Default)]
struct Entry {
    watchers: usize,
    complaints: u64,
}

/// Somebody's look-out for complaints about one subject, from its making on.
#[derive(Debug)]
pub(crate) struct Watch<'a> {
    denied: &'a Denied,
    key: Key,
    known: u64,
}

impl Denied {
    /// Takes what a server said, and says what it is about; `None` where it is something else.
    pub(crate) fn take(&self, said: &str) -> Option<(Attempt, String)> {
        let key = parse(said)?;
        if let Some(entry) = self.lock().get_mut(&key) {
            entry.complaints += 1;
        }
        self.news.send_modify(|news| *news += 1);
        Some(key)
    }

    /// Watches for complaints about a subject from now on.
    pub(crate) fn watch(&self, attempt: Attempt, subject: &str) -> Watch<'_> {
        let key = (attempt, subject.to_owned());
        let mut watched = self.lock();
        let entry = watched.entry(key.clone()).or_default();
        entry.watchers += 1;
        let known = entry.complaints;
        drop(watched);
        Watch {
            denied: self,
            key,
            known,
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Entry>> {
        // The map is consistent between any two statements.
        self.watched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Watch<'_> {
    /// Whether there was a complaint.
    pub(crate) fn is_denied(&self) -> bool {
        let watched = self.denied.lock();
        watched
            .get(&self.key)
            .is_some_and(|entry| entry.complaints != self.known)
    }

    /// Waits until there is one.
    pub(crate) async fn denied(&self) {
        let mut news = self.denied.news.subscribe();
        while !self.is_denied() {
            if news.changed().await.is_err() {
                // The sender outlives `self`, so this cannot be; but waiting is right in any case.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let mut watched = self.denied.lock();
        if let Some(entry) = watched.get_mut(&self.key) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                watched.remove(&self.key);
            }
        }
    }
}

/// Subjects that may be published to, as far as one connection has learnt.
#[derive(Debug)]
pub(crate) struct Proven {
    known: Mutex<Known>,
    /// The server says that it forbids nothing, and has not contradicted itself since.
    everything: AtomicBool,
    unproven: Semaphore,
}

#[derive(Debug, Default)]
struct Known {
    /// Those that a message went to without a complaint.
    subjects: HashSet<String>,
    /// What the server says.
    permissions: Option<Permissions>,
    /// Counts what has made the server's last word worthless.
    changes: u64,
    /// The connection came back, and the server was not asked since.
    to_be_asked: bool,
}

impl Default for Proven {
    fn default() -> Self {
        Self {
            known: Mutex::default(),
            everything: AtomicBool::new(false),
            unproven: Semaphore::new(UNPROVEN_MAX),
        }
    }
}

impl Proven {
    /// What happens to a message to a subject.
    pub(crate) fn expectation(&self, subject: &str) -> Expectation {
        if self.everything() {
            return Expectation::Permitted;
        }
        let known = self.lock();
        let said = known.permissions.as_ref();
        match said.map_or(Expectation::Unknown, |said| said.expectation(subject)) {
            Expectation::Unknown if known.subjects.contains(subject) => Expectation::Permitted,
            expectation => expectation,
        }
    }

    /// Whether nothing is forbidden, a subscription neither.
    pub(crate) fn everything(&self) -> bool {
        self.everything.load(Ordering::Relaxed)
    }

    /// A turn for an attempt at a subject that is not proven.
    pub(crate) async fn turn(&self) -> Option<SemaphorePermit<'_>> {
        // It is never closed; a permit that is none would only mean one attempt too many.
        self.unproven.acquire().await.ok()
    }

    /// A message went to a subject without a complaint.
    pub(crate) fn insert(&self, subject: String) {
        let mut known = self.lock();
        if known
            .permissions
            .as_ref()
            .is_some_and(|said| said.expectation(&subject) == Expectation::Refused)
        {
            self.distrust(&mut known);
        }
        if known.subjects.len() >= PROVEN_MAX {
            known.subjects.clear();
        }
        known.subjects.insert(subject);
    }

    /// Whether the server should be asked what it permits, which is told to one who asks.
    pub(crate) fn is_to_be_asked(&self) -> bool {
        !self.everything() && std::mem::take(&mut self.lock().to_be_asked)
    }

    /// A number that is another once an answer to a question of now would be out of date.
    pub(crate) fn changes(&self) -> u64 {
        self.lock().changes
    }

    /// The server says what it permits, to a question of when [`Self::changes`] was this.
    pub(crate) fn learn(&self, permissions: Permissions, changes: u64) {
        let mut known = self.lock();
        if known.changes == changes {
            self.everything
                .store(permissions.are_unlimited(), Ordering::Relaxed);
            known.permissions = Some(permissions);
        }
    }

    /// A subject is not permitted, whatever was known before.
    pub(crate) fn contradict(&self, subject: &str) {
        let mut known = self.lock();
        known.subjects.remove(subject);
        if known
            .permissions
            .as_ref()
            .is_some_and(|said| said.expectation(subject) == Expectation::Permitted)
        {
            self.distrust(&mut known);
        }
    }

    /// Nobody knows any more what is permitted.
    pub(crate) fn forget(&self) {
        let mut known = self.lock();
        known.subjects.clear();
        known.to_be_asked = true;
        self.distrust(&mut known);
    }

    /// What the server says is not what it does. It is not asked again while the connection lives: it may say the same.
    fn distrust(&self, known: &mut Known) {
        self.everything.store(false, Ordering::Relaxed);
        known.permissions = None;
        known.changes += 1;
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        // What is known is consistent between any two statements.
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// `Permissions Violation for Publish to "subject"`, and likewise for a subscription, which may name its queue group.
fn parse(said: &str) -> Option<(Attempt, String)> {
    let rest = said.split_once("Permissions Violation for ")?.1;
    let (attempt, rest) = match rest.strip_prefix("Publish to ") {
        Some(rest) => (Attempt::Publish, rest),
        None => (Attempt::Subscribe, rest.strip_prefix("Subscription to ")?),
    };
    Some((attempt, unquoted(rest.strip_prefix('"')?)?))
}

/// What stands before the closing quotation mark, as it was before the server put it between quotation marks: those
/// within it, backslashes and characters that do not print have a backslash before them.
fn unquoted(text: &str) -> Option<String> {
    let mut unquoted = String::new();
    let mut rest = text.chars();
    loop {
        let escaped = match rest.next()? {
            '"' => return Some(unquoted),
            '\\' => rest.next()?,
            plain => {
                unquoted.push(plain);
                continue;
            }
        };
        let digits = match escaped {
            '"' | '\\' => {
                unquoted.push(escaped);
                continue;
            }
            'u' => 4,
            'U' => 8,
            // The rest are control characters and bytes that are no UTF-8, which no subject here has.
            _ => return None,
        };
        let (number, after) = rest.as_str().split_at_checked(digits)?;
        unquoted.push(char::from_u32(u32::from_str_radix(number, 16).ok()?)?);
        rest = after.chars();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_complaint_names_what_was_attempted_and_the_subject() {
        assert_eq!(
            parse("Permissions Violation for Publish to \"a.b\""),
            Some((Attempt::Publish, "a.b".to_owned()))
        );
        assert_eq!(
            parse("Permissions Violation for Subscription to \"a.>\" using queue \"q\""),
            Some((Attempt::Subscribe, "a.>".to_owned()))
        );
        assert_eq!(
            parse(r#"Permissions Violation for Publish to "a\"b.\\.\u200b.é""#),
            Some((Attempt::Publish, "a\"b.\\.\u{200b}.é".to_owned()))
        );
        assert_eq!(parse("Slow Consumer"), None);
        for broken in ["a", "\"a", r#""a\"#, r#""\u12"#, r#""\ud800""#, r#""\x07""#] {
            let said = format!("Permissions Violation for Publish to {broken}");
            assert_eq!(parse(&said), None, "{said}");
        }
    }

    #[tokio::test]
    async fn whoever_watches_a_subject_hears_of_complaints_about_it_and_of_no_other() {
        let denied = Denied::default();
        let complain = |subject: &str| {
            denied.take(&format!(
                "Permissions Violation for Publish to \"{subject}\""
            ))
        };
        assert!(complain("a").is_some());
        let (before, other) = (
            denied.watch(Attempt::Publish, "a"),
            denied.watch(Attempt::Publish, "b"),
        );
        let complaining = async {
            assert_eq!(denied.take("Slow Consumer"), None);
            assert!(!before.is_denied());
            assert!(complain("a").is_some());
        };
        tokio::join!(before.denied(), complaining);
        let after = denied.watch(Attempt::Publish, "a");
        assert!(before.is_denied() && !after.is_denied() && !other.is_denied());
        drop((before, after, other));
        assert!(denied.lock().is_empty());
    }

    fn said(permissions: &str) -> Permissions {
        let answer = format!(r#"{{"data":{{"permissions":{permissions}}}}}"#);
        Permissions::read(answer.as_bytes()).unwrap()
    }

    #[test]
    fn what_is_proven_is_bounded_and_forgotten_with_the_first_contradiction() {
        let proven = Proven::default();
        for number in 0..=PROVEN_MAX {
            proven.insert(number.to_string());
        }
        assert!(proven.lock().subjects.len() <= PROVEN_MAX);
        let last = PROVEN_MAX.to_string();
        assert_eq!(proven.expectation(&last), Expectation::Permitted);
        proven.contradict(&last);
        assert_eq!(proven.expectation(&last), Expectation::Unknown);
    }

    #[test]
    fn the_servers_word_holds_until_it_is_contradicted_and_it_is_asked_again_when_the_connection_was_lost()
     {
        let proven = Proven::default();
        proven.learn(said("null"), proven.changes());
        assert_eq!(proven.expectation("a"), Expectation::Permitted);
        assert!(proven.everything() && !proven.is_to_be_asked());
        proven.contradict("a");
        assert_eq!(proven.expectation("a"), Expectation::Unknown);
        assert!(!proven.is_to_be_asked());
        proven.forget();
        let asked_at = proven.changes();
        assert!(proven.is_to_be_asked() && !proven.is_to_be_asked());
        // The connection goes before the answer is read.
        proven.forget();
        proven.learn(said("null"), asked_at);
        assert_eq!(proven.expectation("a"), Expectation::Unknown);
        assert!(proven.is_to_be_asked());
    }

    #[test]
    fn a_complaint_that_was_expected_changes_nothing_and_one_that_stays_away_does() {
        let proven = Proven::default();
        proven.learn(said(r#"{"publish":{"deny":["a"]}}"#), proven.changes());
        proven.contradict("a");
        assert_eq!(proven.expectation("a"), Expectation::Refused);
        assert_eq!(proven.expectation("b"), Expectation::Permitted);
        assert!(!proven.everything() && !proven.is_to_be_asked());
        proven.insert("a".to_owned());
        assert_eq!(proven.expectation("a"), Expectation::Permitted);
        assert_eq!(proven.expectation("b"), Expectation::Unknown);
        assert!(!proven.is_to_be_asked());
    }
}
