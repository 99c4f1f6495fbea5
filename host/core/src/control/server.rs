//! Takes requests from NATS and sends the answers back: one for each request, whatever it holds.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::{Client, HeaderMap, Message, StatusCode, Subject, Subscriber};
use futures::{FutureExt, StreamExt};
use tokio::sync::Semaphore;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_lattice::connection::settle;
use trellis_protocol::control::Ack;
use trellis_protocol::control::observe::BEAT_INTERVAL;
use trellis_protocol::limits::TRACEPARENT_BYTES_MAX;
use trellis_protocol::subject::Subjects;

use super::{Answer, Asked, Records, leaving, route};
use crate::host::HostInner;

/// Requests that are worked on at once. Further ones are refused.
const REQUESTS_MAX: usize = 256;

/// How long a host that leaves takes what NATS had already sent it, to refuse it with a sentence.
const LEAVING_MAX: Duration = Duration::from_millis(500);

/// How long one of many answers may wait for the connection.
const RECORD_MAX: Duration = Duration::from_secs(5);

/// The header that carries W3C trace context. Answers carry the request's own.
const TRACEPARENT: &str = "traceparent";

/// The control interface cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot subscribe to `{subject}`: {reason}")]
pub struct SubscribeError {
    subject: String,
    reason: String,
}

/// What serves the control interface.
pub(crate) struct Server {
    pub(crate) shared: Arc<HostInner>,
    pub(crate) client: Client,
    pub(crate) subjects: Subjects,
    /// Ends the intake; what has been taken is answered.
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// One of the intakes.
struct Intake {
    shared: Arc<HostInner>,
    client: Client,
    subjects: Subjects,
    room: Arc<Semaphore>,
    /// Requests that were passed over because of where their answers were to go.
    misdirected: Arc<AtomicU64>,
    cancel: CancellationToken,
    tasks: TaskTracker,
}

impl Server {
    /// Subscribes to everything that a host answers, and begins to answer.
    ///
    /// # Errors
    /// [`SubscribeError`] for the first subscription that NATS does not take.
    pub(crate) async fn start(self) -> Result<(), SubscribeError> {
        let mut subscriptions = Vec::new();
        let auctions = [
            ("component", self.shared.auctions.component),
            ("provider", self.shared.auctions.provider),
        ];
        let auctions = auctions
            .into_iter()
            .filter(|(_, takes_part)| *takes_part)
            .map(|(noun, _)| self.subjects.control(noun, "auction"));
        let plain = self.subjects.control_broadcast().into_iter();
        let plain = plain
            .chain(auctions)
            .chain(self.subjects.control_of_host(&self.shared.id));
        for subject in plain {
            let subscribed = self.client.subscribe(subject.clone()).await;
            subscriptions.push(subscribed.map_err(|error| failed(subject, &error))?);
        }
        for (subject, group) in self.subjects.control_queued() {
            let subscribed = self.client.queue_subscribe(subject.clone(), group).await;
            subscriptions.push(subscribed.map_err(|error| failed(subject, &error))?);
        }
        // Once the server has them, nobody is told that this host is not there.
        if let Err(error) = settle(&self.client).await {
            return Err(failed(self.subjects.control("host", "ping"), &*error));
        }
        let room = Arc::new(Semaphore::new(REQUESTS_MAX));
        let misdirected = Arc::default();
        for subscription in subscriptions {
            let intake = Intake {
                shared: Arc::clone(&self.shared),
                client: self.client.clone(),
                subjects: self.subjects.clone(),
                room: Arc::clone(&room),
                misdirected: Arc::clone(&misdirected),
                cancel: self.cancel.clone(),
                tasks: self.tasks.clone(),
            };
            self.tasks.spawn(intake.run(subscription));
        }
        Ok(())
    }
}

fn failed(subject: String, error: &dyn std::error::Error) -> SubscribeError {
    SubscribeError {
        subject,
        reason: error.to_string(),
    }
}

impl Intake {
    async fn run(self, mut subscription: Subscriber) {
        loop {
            let message = tokio::select! {
                biased;
                () = self.cancel.cancelled() => break,
                message = subscription.next() => message,
            };
            let Some(message) = message else {
                return;
            };
            self.take(message, route);
        }
        // What has arrived already is answered too. What the server sends until it reads that nobody listens any more is
        // lost; those who asked are not answered and ask again. Without NATS there is nothing to wait for.
        let rest = async {
            if subscription.drain().await.is_ok() {
                while let Some(message) = subscription.next().await {
                    self.take(message, leaving);
                }
            }
        };
        let _ = tokio::time::timeout(LEAVING_MAX, rest).await;
    }

    /// Never waits, so that requests are looked at in the order in which they arrive.
    fn take(&self, message: Message, route: impl Fn(&str, &str, &Asked<'_>) -> Answer) {
        if let Some(reply) = &message.reply
            && !self.subjects.may_be_answered_at(reply)
        {
            let count = self.misdirected.fetch_add(1, Ordering::Relaxed) + 1;
            if count.is_power_of_two() {
                tracing::warn!(subject = %message.subject, %reply, count, "a control request was passed over: its answer would be a command or a piece of state");
            }
            return;
        }
        let replies = message.reply.clone().map(|subject| Replies {
            client: self.client.clone(),
            subject,
            traceparent: traceparent(&message),
        });
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(subject = %message.subject, "a control request was refused: too many at once");
            let busy = Ack::refused(format!(
                "this host works on {REQUESTS_MAX} control requests already; try again"
            ));
            // The refusal is for a client that waits. Where the connection has no room for it either, silence is all
            // that is left.
            if let Some(replies) = replies {
                self.tasks
                    .spawn(async move { replies.send(busy.to_bytes()).await });
            }
            return;
        };
        let answering = AssertUnwindSafe(|| self.answer(&message, route));
        let answer = std::panic::catch_unwind(answering).unwrap_or_else(|_| {
            tracing::error!(subject = %message.subject, "a control request panicked, which is a fault of this software");
            Answer::Now(fault())
        });
        let cancel = self.cancel.clone();
        self.tasks.spawn(async move {
            let bytes = match answer {
                Answer::Now(bytes) => bytes,
                // Where nobody waits, what was asked for is done all the same.
                Answer::Later(work) => match AssertUnwindSafe(work).catch_unwind().await {
                    Ok(bytes) => bytes,
                    Err(_) => {
                        tracing::error!(
                            "a control request panicked, which is a fault of this software"
                        );
                        fault()
                    }
                },
                Answer::Many { records, farewell } => {
                    // They go on for long, and those who give them bound how many there are.
                    drop(room);
                    return replies_each(replies, records, farewell, &cancel).await;
                }
                Answer::Silence => return,
            };
            if let Some(replies) = replies {
                replies.send(bytes).await;
            }
            drop(room);
        });
    }

    fn answer(
        &self,
        message: &Message,
        route: impl Fn(&str, &str, &Asked<'_>) -> Answer,
    ) -> Answer {
        let Some(request) = self.subjects.parse_control(&message.subject) else {
            return super::refused("this is no control request");
        };
        let asked = Asked {
            shared: &self.shared,
            argument: request.argument,
            body: &message.payload,
            traceparent: traceparent(message),
        };
        super::proof::guarded(&self.shared, message, &request, || {
            route(request.noun, request.verb, &asked)
        })
    }
}

/// Sends records until they end, the host leaves, or NATS takes none for long.
async fn replies_each(
    replies: Option<Replies>,
    mut records: Records,
    farewell: Vec<u8>,
    cancel: &CancellationToken,
) {
    let Some(replies) = replies else {
        return;
    };
    // NATS says so where nobody listens to a message that could be answered.
    let inbox = replies.client.new_inbox();
    let Ok(mut unheard) = replies.client.subscribe(inbox.clone()).await else {
        return;
    };
    let mut beat = tokio::time::interval(BEAT_INTERVAL);
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat.reset();
    let still_there = Ack::accepted("").to_bytes();
    loop {
        let record = tokio::select! {
            () = cancel.cancelled() => {
                let _ = tokio::time::timeout(LEAVING_MAX, replies.send(farewell)).await;
                return;
            }
            Some(answer) = unheard.next() => {
                if answer.status == Some(StatusCode::NO_RESPONDERS) {
                    return;
                }
                continue;
            }
            record = records.next() => record,
            _ = beat.tick() => Some(still_there.clone()),
        };
        let Some(record) = record else {
            return;
        };
        // Where the connection is down its queue fills, and whoever asked is gone when it is up again.
        let asking = replies.send_asking(record, inbox.clone());
        let sent = tokio::time::timeout(RECORD_MAX, asking).await;
        if sent.is_err() {
            return;
        }
    }
}

/// The way back to whoever asked.
struct Replies {
    client: Client,
    subject: Subject,
    traceparent: Option<Arc<str>>,
}

impl Replies {
    /// Sends one of many. Where nobody listens, NATS answers that to the inbox.
    async fn send_asking(&self, bytes: Vec<u8>, inbox: String) {
        let bytes = sendable(bytes, self.client.server_info().max_payload);
        let subject = self.subject.clone();
        let sent = self
            .client
            .publish_with_reply(subject, inbox, bytes.into())
            .await;
        if let Err(error) = sent {
            tracing::debug!(%error, "one of many answers was not sent");
        }
    }

    async fn send(&self, bytes: Vec<u8>) {
        let bytes = sendable(bytes, self.client.server_info().max_payload);
        let subject = self.subject.clone();
        let sent = match &self.traceparent {
            Some(traceparent) => {
                let mut headers = HeaderMap::new();
                headers.insert(TRACEPARENT, &**traceparent);
                self.client
                    .publish_with_headers(subject, headers, bytes.into())
                    .await
            }
            None => self.client.publish(subject, bytes.into()).await,
        };
        if let Err(error) = sent {
            tracing::warn!(%error, "a control request was not answered");
        }
    }
}

fn fault() -> Vec<u8> {
    Ack::refused("the request could not be carried out, which is a fault of this host's software; its log says more")
        .to_bytes()
}

/// An answer that NATS would not carry becomes a refusal that says so, because whoever asked would wait in vain.
fn sendable(answer: Vec<u8>, most_bytes: usize) -> Vec<u8> {
    if answer.len() <= most_bytes {
        return answer;
    }
    tracing::warn!(
        bytes = answer.len(),
        most_bytes,
        "an answer is too large for NATS"
    );
    Ack::refused(format!(
        "the answer has {} bytes, and this NATS server carries at most {most_bytes} in a message; raise its `max_payload`",
        answer.len()
    ))
    .to_bytes()
}

/// Only what looks like trace context is passed on: the text becomes a header again.
fn traceparent(message: &Message) -> Option<Arc<str>> {
    let value = message.headers.as_ref()?.get(TRACEPARENT)?.as_str();
    let plain = value.bytes().all(|b| b.is_ascii_hexdigit() || b == b'-');
    (plain && value.len() <= TRACEPARENT_BYTES_MAX).then(|| Arc::from(value))
}

#[cfg(test)]
mod tests {
    use super::sendable;

    #[test]
    fn the_largest_answer_is_sent_and_one_byte_more_becomes_a_refusal() {
        assert_eq!(sendable(vec![b'x'; 300], 300), [b'x'; 300]);
        let refusal = sendable(vec![b'x'; 301], 300);
        assert!(refusal.starts_with(b"{\"success\":false"));
        assert!(refusal.len() < 300);
    }
}
