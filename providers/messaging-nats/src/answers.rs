//! Subjects on which actors may answer although no link names them.
//!
//! Whoever sends a request waits in an inbox, and inboxes are reserved: otherwise any actor could publish to any of them.
//! So the provider remembers for a while which actor was handed which inbox with a message, and lets that actor publish
//! there. Other reserved subjects are not opened so: a message that asks for its answer on a subject of the lattice would
//! make its receiver forge commands.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use trellis_provider_sdk::EntityId;

use crate::subject;

/// How long an actor may answer after it was handed a message.
pub(crate) const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Most inboxes that are remembered for one actor on one connection; the oldest are forgotten first. Each actor has its
/// own, so that a flood of requests to one costs no other its answers.
pub(crate) const ANSWERS_MAX: usize = 4096;

/// Who may answer where.
#[derive(Debug, Default)]
pub(crate) struct Answers(Mutex<HashMap<EntityId, Table>>);

/// The inboxes of one actor.
#[derive(Debug, Default)]
struct Table {
    until: HashMap<Arc<str>, Instant>,
    /// In the order of their ends. An inbox that was renewed stands here again.
    order: VecDeque<(Instant, Arc<str>)>,
}

impl Answers {
    /// Lets an actor answer on a subject, if it is somebody's inbox.
    pub(crate) fn allow(&self, actor: &EntityId, reply_to: &str) {
        if !subject::is_inbox(reply_to) || subject::check(reply_to).is_err() {
            return;
        }
        let now = Instant::now();
        let mut tables = self.lock();
        if !tables.contains_key(actor) {
            // Actors come and go; what those that went were allowed has ended some time ago.
            tables.retain(|_, table| table.order.back().is_some_and(|(until, _)| *until >= now));
        }
        tables.entry(actor.clone()).or_default().add(reply_to, now);
    }

    /// Whether an actor may.
    pub(crate) fn may(&self, actor: &EntityId, reply_to: &str) -> bool {
        self.lock()
            .get(actor)
            .and_then(|table| table.until.get(reply_to))
            .is_some_and(|until| Instant::now() <= *until)
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<EntityId, Table>> {
        // Should the two halves of a table ever differ, answers are refused too early, and nothing worse.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Table {
    fn add(&mut self, inbox: &str, now: Instant) {
        while self
            .order
            .front()
            .is_some_and(|(until, _)| *until < now || self.order.len() >= ANSWERS_MAX)
        {
            self.forget_oldest();
        }
        let (inbox, until) = (Arc::<str>::from(inbox), now + ANSWER_WITHIN);
        self.until.insert(Arc::clone(&inbox), until);
        self.order.push_back((until, inbox));
    }

    fn forget_oldest(&mut self) {
        if let Some((until, inbox)) = self.order.pop_front()
            && self.until.get(&inbox) == Some(&until)
        {
            self.until.remove(&inbox);
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
        let tables = answers.lock();
        let table = &tables[&actor("a")];
        assert!(table.order.len() <= ANSWERS_MAX && table.until.len() <= ANSWERS_MAX);
    }

    #[test]
    fn a_flood_of_requests_to_one_actor_costs_no_other_its_answers() {
        let answers = Answers::default();
        answers.allow(&actor("quiet"), "_INBOX.quiet");
        for number in 0..=4 * ANSWERS_MAX {
            answers.allow(&actor("flooded"), &format!("_INBOX.{number}"));
        }
        assert!(answers.may(&actor("quiet"), "_INBOX.quiet"));
    }
}
