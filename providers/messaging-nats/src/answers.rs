//! Subjects on which actors may answer although no link names them.
//!
//! Whoever sends a request waits in an inbox, and inboxes are reserved: otherwise any actor could publish to any of them.
//! So the provider remembers for a while which actor was handed which inbox with a message, and lets that actor publish
//! there. Other reserved subjects are not opened so: a message that asks for its answer on a subject of the lattice would
//! make its receiver forge commands.

use std::collections::{HashMap, VecDeque};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use trellis_provider_sdk::EntityId;

use crate::subject;

/// How long an actor may answer after it was handed a message.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Most inboxes that are remembered for one connection; the oldest are forgotten first.
pub(crate) const ANSWERS_MAX: usize = 16 * 1024;

/// Who may answer where.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<Table>);

type Key = (EntityId, String);

#[derive(Debug, Default)]
struct Table {
    until: HashMap<Key, Instant>,
    /// In the order of their ends. A key that was renewed stands here again.
    order: VecDeque<(Instant, Key)>,
}

impl Answers {
    /// Lets an actor answer on a subject, if it is somebody's inbox.
    pub(crate) fn allow(&self, actor: &EntityId, reply_to: &str) {
        if !subject::is_inbox(reply_to) || subject::check(reply_to).is_err() {
            return;
        }
        let now = Instant::now();
        let key = (actor.clone(), reply_to.to_owned());
        let mut table = self.lock();
        while table
            .order
            .front()
            .is_some_and(|(until, _)| *until < now || table.order.len() >= ANSWERS_MAX)
        {
            table.forget_oldest();
        }
        let until = now + ANSWER_WITHIN;
        table.until.insert(key.clone(), until);
        table.order.push_back((until, key));
    }

    /// Whether an actor may.
    pub(crate) fn may(&self, actor: &EntityId, reply_to: &str) -> bool {
        let key = (actor.clone(), reply_to.to_owned());
        self.lock()
            .until
            .get(&key)
            .is_some_and(|until| Instant::now() <= *until)
    }

    fn lock(&self) -> MutexGuard<'_, Table> {
        // Should the two halves ever differ, answers are refused too early, and nothing worse.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn forget_oldest(&mut self) {
        if let Some((until, key)) = self.order.pop_front()
            && self.until.get(&key) == Some(&until)
        {
            self.until.remove(&key);
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn actor(id: &str) -> EntityId {
        EntityId::new(id).unwrap()
    }

    #[test]
    fn only_who_was_handed_an_inbox_may_answer_there() {
        let answers = Answers::default();
        answers.allow(&actor("a"), "_INBOX.x.1");
        assert!(answers.may(&actor("a"), "_INBOX.x.1"));
        assert!(!answers.may(&actor("b"), "_INBOX.x.1"));
        assert!(!answers.may(&actor("a"), "_INBOX.x.2"));
    }

    #[test]
    fn a_message_cannot_open_another_reserved_subject_or_a_wildcard() {
        let answers = Answers::default();
        for reply_to in [
            "wasmbus.ctl.v1.default.host.stop.N",
            "$JS.API.STREAM.DELETE.x",
            "trellis.rpc.v1.x",
            "_R_.x",
            "_INBOX.>",
            "_INBOX.a b",
        ] {
            answers.allow(&actor("a"), reply_to);
            assert!(!answers.may(&actor("a"), reply_to), "{reply_to}");
        }
    }

    #[test]
    fn the_oldest_are_forgotten_when_there_are_too_many() {
        let answers = Answers::default();
        for number in 0..=ANSWERS_MAX {
            answers.allow(&actor("a"), &format!("_INBOX.{number}"));
        }
        assert!(!answers.may(&actor("a"), "_INBOX.0"));
        assert!(answers.may(&actor("a"), "_INBOX.1"));
        assert!(answers.may(&actor("a"), &format!("_INBOX.{ANSWERS_MAX}")));
        let table = answers.lock();
        assert!(table.order.len() <= ANSWERS_MAX && table.until.len() <= ANSWERS_MAX);
    }
}
