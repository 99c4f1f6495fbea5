//! `wasmcloud:messaging/consumer`: an actor publishes, and asks.

use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use serde::Deserialize;
use tokio::time::Instant;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::Call;

use crate::Messaging;
use crate::config::PublishAck;
use crate::connection::Live;
use crate::error::{Answer, Failure, shown};
use crate::sender::Sender;
use crate::wit::consumer::Consumer;
use crate::wit::types::BrokerMessage;

/// How long before its deadline a call is answered, so that its actor still hears why: a tenth of the time that it has,
/// and this at most.
const ANSWER_EARLIER_MAX: Duration = Duration::from_millis(200);

#[async_trait]
impl Consumer for Messaging {
    async fn request(
        &self,
        call: &Call,
        subject: String,
        body: ByteList,
        timeout_ms: u32,
    ) -> Answer<BrokerMessage> {
        let sender = self.senders.of(call)?;
        let requested = async {
            sender.check_subject(&call.source, &subject)?;
            let mut until = until(call);
            // Zero is no time of its own: the call's deadline is what counts.
            if timeout_ms > 0 {
                let own = Duration::from_millis(timeout_ms.into());
                until = until.min(Instant::now() + own);
            }
            let live = sender.connection.up(until).await?;
            live.request(subject, body.into(), trace(call), until).await
        };
        let answered = requested.await.map(|message| BrokerMessage {
            subject: message.subject.into_string(),
            body: message.payload.into(),
            reply_to: message.reply.map(|reply| reply.into_string()),
        });
        Ok(told(call, answered))
    }

    async fn publish(&self, call: &Call, msg: BrokerMessage) -> Answer<()> {
        let sender = self.senders.of(call)?;
        Ok(told(call, publish(call, &sender, msg).await))
    }
}

async fn publish(call: &Call, sender: &Sender, message: BrokerMessage) -> Result<(), Failure> {
    sender.check_subject(&call.source, &message.subject)?;
    if let Some(reply_to) = &message.reply_to {
        sender.check_subject(&call.source, reply_to)?;
    }
    let until = until(call);
    let live = sender.connection.up(until).await?;
    let is_answer = sender
        .connection
        .answers
        .may(&call.source, &message.subject);
    match sender.config.ack {
        // No stream keeps what goes to somebody's inbox.
        PublishAck::Stream if !is_answer => {
            publish_to_stream(live, message, trace(call), until).await
        }
        _ => {
            let body = Bytes::from(message.body);
            live.publish(message.subject, message.reply_to, body, trace(call), until)
                .await
        }
    }
}

/// What a stream answers to whoever publishes to it with a reply subject.
#[derive(Deserialize)]
struct StreamAnswer {
    stream: Option<String>,
    error: Option<StreamError>,
}

#[derive(Deserialize)]
struct StreamError {
    description: Option<String>,
}

async fn publish_to_stream(
    live: &Live,
    message: BrokerMessage,
    traceparent: Option<&str>,
    until: Instant,
) -> Result<(), Failure> {
    let stream = |reason: String| Failure::Stream { reason };
    if message.reply_to.is_some() {
        let reason = "a message that a stream confirms cannot have a `reply-to`";
        return Err(stream(reason.to_owned()));
    }
    let answer = match live
        .request(message.subject, message.body.into(), traceparent, until)
        .await
    {
        Ok(answer) => answer,
        Err(Failure::NoResponders { subject }) => {
            return Err(stream(format!(
                "none has the subject `{}`",
                shown(&subject)
            )));
        }
        Err(Failure::TimedOut { .. }) => return Err(Failure::Unconfirmed),
        Err(failure) => return Err(failure),
    };
    let answer: StreamAnswer = serde_json::from_slice(&answer.payload)
        .map_err(|_| stream("somebody else answered".to_owned()))?;
    match (answer.stream, answer.error) {
        (Some(_), None) => Ok(()),
        (_, Some(error)) => Err(stream(shown(&error.description.unwrap_or_default()))),
        (None, None) => Err(stream("somebody else answered".to_owned())),
    }
}

/// The trace that a call belongs to.
fn trace(call: &Call) -> Option<&str> {
    call.traceparent.as_deref()
}

/// Until when an answer is worth anything.
fn until(call: &Call) -> Instant {
    let left = call.time_left();
    Instant::now() + left - (left / 10).min(ANSWER_EARLIER_MAX)
}

fn told<T>(call: &Call, outcome: Result<T, Failure>) -> Result<T, String> {
    outcome.map_err(|failure| {
        if failure.is_backend() {
            tracing::warn!(actor_id = %call.source, link = %call.link, error = %failure, "a message was not sent");
        }
        failure.to_string()
    })
}
