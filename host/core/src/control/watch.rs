//! What spies and readers of logs have in common: leave to look, and answers that go on for a while.
//!
//! What is made readable is made where guests run, a record at a time, so that no flood of records keeps the runtime busy
//! that keeps this host in its lattice. A few of them wait for NATS; beyond that, whoever makes them waits, and what comes
//! meanwhile is dropped where it arises.

use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use serde::Serialize;
use tokio::runtime::Handle;
use tokio::sync::mpsc;
use tokio::time::Instant;
use trellis_claims::InterfaceName;
use trellis_protocol::control::observe::{
    End, EndReason, OBSERVE_NAMESPACE, OBSERVE_PACKAGE, SPY_INTERFACE, WITHIN_MAX, Watched,
};
use trellis_protocol::control::{Ack, Envelope};
use trellis_protocol::{EntityId, LinkName, Refusal, RefusalCode};

use super::Answer;
use crate::host::{HostInner, OPERATOR_ID, on};

/// Messages that are made readable in advance.
const READY_MAX: usize = 4;

/// Messages that are sent in a second for one request.
pub(super) const RECORDS_PER_SECOND: u32 = 200;

/// Whether operators may look at an id: a link from `wash` to it says so, for an interface of [`OBSERVE_PACKAGE`] and under
/// whatever name.
///
/// # Errors
/// `no-link` with the very command that allows it.
pub(super) fn check_leave(
    shared: &HostInner,
    id: &EntityId,
    interface: &'static str,
) -> Result<(), Refusal> {
    let operator = EntityId::new(OPERATOR_ID).expect("the constant is an id");
    let full: Arc<str> =
        Arc::from(format!("{OBSERVE_NAMESPACE}:{OBSERVE_PACKAGE}/{interface}").as_str());
    let name: InterfaceName = full.parse().expect("the constants are an interface");
    let view = shared.state.view();
    let links = view.links_from(&operator);
    let mut refused = None;
    for link in links {
        if link.target != *id || !link.covers(&name) {
            continue;
        }
        // The link is there. Whether it counts is for the authority to say, as with every call.
        match shared.router.target(&operator, &link.name, &full) {
            Ok(target) if target == *id => return Ok(()),
            Ok(_) => {}
            Err(refusal) => refused = Some(refusal),
        }
    }
    let default = LinkName::default();
    let is_taken = links
        .iter()
        .any(|link| link.name == default && link.covers(&name));
    Err(refused.unwrap_or_else(|| no_leave(id, interface, is_taken)))
}

/// Whether a link from `wash` to an id covers an interface, as far as this host has heard. It says nothing of claims.
pub(super) fn has_link(shared: &HostInner, id: &EntityId, interface: &str) -> bool {
    let operator = EntityId::new(OPERATOR_ID).expect("the constant is an id");
    let Ok(name) = interface.parse::<InterfaceName>() else {
        return false;
    };
    let view = shared.state.view();
    let mut links = view.links_from(&operator).iter();
    links.any(|link| link.target == *id && link.covers(&name))
}

fn no_leave(id: &EntityId, interface: &str, is_default_taken: bool) -> Refusal {
    // A source has one link of a name for an interface, so the second actor's needs a name of its own.
    let name = match is_default_taken {
        true => format!(" --link-name {id}"),
        false => String::new(),
    };
    let what = match interface {
        SPY_INTERFACE => "spy on",
        _ => "read the log of",
    };
    Refusal::new(
        RefusalCode::NoLink,
        format!("no link lets `{OPERATOR_ID}` {what} `{id}`"),
    )
    .with_remedy(format!(
        "`wash link put {OPERATOR_ID} {id} {OBSERVE_NAMESPACE} {OBSERVE_PACKAGE} --interface {interface}{name}` allows it"
    ))
}

/// Why an id cannot be looked at here.
pub(super) fn not_here(shared: &HostInner, id: &EntityId) -> Refusal {
    let mut hosts: Vec<_> = shared
        .routes
        .routes_to(id)
        .into_iter()
        .map(|route| route.host.to_string())
        .collect();
    hosts.sort();
    if hosts.is_empty() {
        return Refusal::new(
            RefusalCode::NoRoute,
            format!("no host of the lattice runs `{id}`"),
        );
    }
    let message = format!("`{id}` does not run on this host");
    Refusal::new(RefusalCode::NotHere, message)
        .with_remedy(format!("ask a host that runs it: {}", hosts.join(", ")))
}

/// The time that was asked for, within bounds.
pub(super) fn within(asked_ms: Option<u32>, default: Duration) -> Duration {
    asked_ms
        .map_or(default, |ms| Duration::from_millis(u64::from(ms)))
        .min(WITHIN_MAX)
}

/// Answers with what a task makes, until it ends. The task runs where guests run, and is ended with the answer.
pub(super) fn series<F>(guests: &Handle, accepted: String, work: impl FnOnce(Sender) -> F) -> Answer
where
    F: Future<Output = ()> + Send + 'static,
{
    let (sender, messages) = mpsc::channel(READY_MAX);
    let work = on(guests, work(Sender::new(sender)));
    let rest = futures::stream::unfold((messages, work), |(mut messages, work)| async move {
        let message = messages.recv().await?;
        Some((message, (messages, work)))
    });
    let first = futures::stream::iter([Ack::accepted(accepted).to_bytes()]);
    Answer::Many {
        records: first.chain(rest).boxed(),
        farewell: end(EndReason::HostStopping, 0),
    }
}

fn end(reason: EndReason, dropped: u64) -> Vec<u8> {
    Envelope::answer(Watched::<()>::End(End {
        end: reason,
        dropped,
    }))
    .to_bytes()
}

/// Where records go, no more in a second than [`RECORDS_PER_SECOND`].
pub(super) struct Sender {
    queue: mpsc::Sender<Vec<u8>>,
    second: Instant,
    sent: u32,
}

impl Sender {
    fn new(queue: mpsc::Sender<Vec<u8>>) -> Self {
        Self {
            queue,
            second: Instant::now(),
            sent: 0,
        }
    }

    /// Hands a record on; `false` where nobody takes it any more.
    pub(super) async fn record<T: Serialize>(&mut self, record: T) -> bool {
        let now = Instant::now();
        if now.duration_since(self.second) >= Duration::from_secs(1) {
            (self.second, self.sent) = (now, 0);
        } else if self.sent >= RECORDS_PER_SECOND {
            tokio::time::sleep_until(self.second + Duration::from_secs(1)).await;
            (self.second, self.sent) = (Instant::now(), 0);
        }
        self.sent += 1;
        let message = Envelope::answer(Watched::Record(record)).to_bytes();
        self.queue.send(message).await.is_ok()
    }

    /// Says that the time is over.
    pub(super) async fn end(self, dropped: u64) {
        // Whoever asked may have stopped listening.
        let _ = self.queue.send(end(EndReason::Time, dropped)).await;
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_refusal_is_the_command_that_allows_it() {
        let id = EntityId::new("hello").unwrap();
        assert_eq!(
            no_leave(&id, "spy", false).to_string(),
            "no-link: no link lets `wash` spy on `hello` (`wash link put wash hello trellis observe --interface spy` allows it)"
        );
        assert_eq!(
            no_leave(&id, "logs", true).to_string(),
            "no-link: no link lets `wash` read the log of `hello` (`wash link put wash hello trellis observe --interface logs --link-name hello` allows it)"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn no_more_is_sent_in_a_second_than_the_rate() {
        let (queue, mut messages) = mpsc::channel(10_000);
        let mut sender = Sender::new(queue);
        let begin = Instant::now();
        for number in 0..RECORDS_PER_SECOND * 3 {
            assert!(sender.record(number).await);
        }
        let took = begin.elapsed();
        assert!(
            (Duration::from_secs(2)..Duration::from_secs(3)).contains(&took),
            "{took:?}"
        );
        drop(sender);
        let mut count = 0;
        while messages.recv().await.is_some() {
            count += 1;
        }
        assert_eq!(count, RECORDS_PER_SECOND * 3);
    }

    #[tokio::test]
    async fn a_series_begins_with_its_acknowledgement_and_ends_with_its_reason() {
        let answer = series(
            &Handle::current(),
            "go".to_owned(),
            |mut sender| async move {
                sender.record("a").await;
                sender.end(2).await;
            },
        );
        let Answer::Many { records, farewell } = answer else {
            panic!("a series is many answers");
        };
        let texts: Vec<_> = records
            .map(|bytes| String::from_utf8(bytes).unwrap())
            .collect()
            .await;
        assert_eq!(
            texts,
            [
                r#"{"success":true,"message":"go"}"#,
                r#"{"success":true,"message":"","response":"a"}"#,
                r#"{"success":true,"message":"","response":{"end":"time","dropped":2}}"#,
            ]
        );
        let farewell = String::from_utf8(farewell).unwrap();
        assert!(farewell.contains(r#""end":"host-stopping""#), "{farewell}");
    }
}
