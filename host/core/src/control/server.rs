//! Takes requests from NATS and sends the answers back.

use std::sync::Arc;

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_lattice::connection::settle;
use trellis_protocol::control::Ack;
use trellis_protocol::limits::TRACEPARENT_BYTES_MAX;
use trellis_protocol::subject::Subjects;

use super::{Answer, Asked, route};
use crate::host::Shared;

/// Requests that are worked on at once. Further ones are refused.
const REQUESTS_MAX: usize = 256;

/// The control interface cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("cannot subscribe to `{subject}`: {reason}")]
pub struct SubscribeError {
    subject: String,
    reason: String,
}

/// What serves the control interface.
pub(crate) struct Server {
    pub(crate) shared: Arc<Shared>,
    pub(crate) client: Client,
    pub(crate) subjects: Subjects,
    /// Ends the intake; what has been taken is answered.
    pub(crate) cancel: CancellationToken,
    pub(crate) tasks: TaskTracker,
}

/// One of the intakes.
struct Intake {
    shared: Arc<Shared>,
    client: Client,
    subjects: Subjects,
    room: Arc<Semaphore>,
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
        let auctions = ["component", "provider"].map(|noun| self.subjects.control(noun, "auction"));
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
        for subscription in subscriptions {
            let intake = Intake {
                shared: Arc::clone(&self.shared),
                client: self.client.clone(),
                subjects: self.subjects.clone(),
                room: Arc::clone(&room),
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
                () = self.cancel.cancelled() => return,
                message = subscription.next() => message,
            };
            let Some(message) = message else {
                return;
            };
            self.take(message);
        }
    }

    /// Never waits, so that requests are looked at in the order in which they arrive.
    fn take(&self, message: Message) {
        let Ok(room) = Arc::clone(&self.room).try_acquire_owned() else {
            tracing::warn!(subject = %message.subject, "a control request was refused: too many at once");
            let busy = Ack::refused(format!(
                "this host works on {REQUESTS_MAX} control requests already; try again"
            ));
            // The refusal is for a client that waits. Where the connection has no room for it either, silence is all
            // that is left.
            if let Some(reply) = message.reply {
                let client = self.client.clone();
                self.tasks.spawn(async move {
                    let _ = client.publish(reply, busy.to_bytes().into()).await;
                });
            }
            return;
        };
        let answer = match self.subjects.parse_control(&message.subject) {
            Some(request) => {
                let asked = Asked {
                    shared: &self.shared,
                    argument: request.argument,
                    body: &message.payload,
                    traceparent: traceparent(&message),
                };
                route(request.noun, request.verb, &asked)
            }
            None => super::refused("this is no control request"),
        };
        let (Some(reply), client) = (message.reply, self.client.clone()) else {
            // Nobody waits, but what was asked for is done.
            if let Answer::Later(work) = answer {
                self.tasks.spawn(async move {
                    work.await;
                    drop(room);
                });
            }
            return;
        };
        self.tasks.spawn(async move {
            let bytes = match answer {
                Answer::Now(bytes) => bytes,
                Answer::Later(work) => work.await,
                Answer::Silence => return,
            };
            let bytes = sendable(bytes, client.server_info().max_payload);
            if let Err(error) = client.publish(reply, bytes.into()).await {
                tracing::warn!(%error, "a control request was not answered");
            }
            drop(room);
        });
    }
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

fn traceparent(message: &Message) -> Option<Arc<str>> {
    let value = message.headers.as_ref()?.get("traceparent")?.as_str();
    (value.len() <= TRACEPARENT_BYTES_MAX).then(|| Arc::from(value))
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
