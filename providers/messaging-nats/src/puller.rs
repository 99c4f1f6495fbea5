//! A pull consumer of JetStream: a message is acknowledged after the actor has handled it, so each is handled at least
//! once, and more often where an acknowledgement was lost.
//!
//! No more is pulled than the actor may handle at once, so nothing waits here while its time runs out; while the actor
//! works, the server is told so. What was not handled comes again, later each time; what could never be handled does not.

use std::time::Duration;

use async_nats::jetstream::consumer::pull::Batch;
use async_nats::jetstream::consumer::{AckPolicy, Consumer, pull};
use async_nats::jetstream::{AckKind, Message};
use futures::{FutureExt, StreamExt};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff;
use crate::delivery::{Delivery, NotHandled};
use crate::error::{Failure, shown};
use crate::losses::{Loss, Losses};
use crate::receivers::Status;
use crate::wit::types::BrokerMessage;

/// How long one request for messages stands. It is repeated for as long as the link lasts.
const PULL_FOR: Duration = Duration::from_secs(5);

/// First and longest pause before a consumer that cannot be had is tried again.
const OPEN_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// Time for one attempt to open.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// First and longest time after which a message that was not handled comes again.
const REDELIVER_AFTER: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));

/// Time in which a consumer without one of its own wants to hear of a message.
const ACK_WAIT_DEFAULT: Duration = Duration::from_secs(30);

/// Shortest pause between two signs of work on one message.
const PROGRESS_MIN: Duration = Duration::from_millis(250);

/// Time for an acknowledgement to leave, where the connection is choked.
const ACK_WITHIN: Duration = Duration::from_secs(5);

/// Where to pull from.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) js_domain: Option<String>,
    pub(crate) stream: String,
    pub(crate) consumer: String,
}

type PullConsumer = Consumer<pull::Config>;

/// Pulls from one consumer until it is stopped.
pub(crate) async fn pull(delivery: Delivery, place: Place, status: watch::Sender<Status>) {
    let mut attempt = 0;
    while !delivery.stop.is_cancelled() {
        let opened = tokio::select! {
            () = delivery.stop.cancelled() => return,
            opened = open(&delivery, &place) => opened,
        };
        let outcome = match opened {
            Ok(consumer) => {
                status.send_replace(Status::Active);
                tracing::info!(stream = place.stream, consumer = place.consumer, "pulling");
                let began = Instant::now();
                let pulled = Pulling::new(&delivery, &place, &consumer).run().await;
                if began.elapsed() > PULL_FOR {
                    attempt = 0;
                }
                pulled
            }
            Err(failure) => Err(failure),
        };
        let Err(failure) = outcome else { return };
        tracing::warn!(stream = place.stream, consumer = place.consumer, error = %failure, "not pulling, trying again");
        status.send_replace(Status::Failing(failure.to_string()));
        let (first, most) = OPEN_AFTER;
        tokio::select! {
            () = delivery.stop.cancelled() => return,
            () = tokio::time::sleep(backoff::delay(attempt, first, most)) => {}
        }
        attempt += 1;
    }
}

async fn open(delivery: &Delivery, place: &Place) -> Result<PullConsumer, Failure> {
    let live = delivery.connection.up(Instant::now() + OPEN_WITHIN).await?;
    let context = live.jetstream(place.js_domain.as_deref());
    let found = context
        .get_consumer_from_stream::<pull::Config, _, _>(&place.consumer, &place.stream)
        .await;
    let consumer = found.map_err(|error| Failure::backend("looking up the consumer", &error))?;
    match consumer.cached_info().config.ack_policy {
        AckPolicy::Explicit => Ok(consumer),
        _ => Err(Failure::Backend {
            attempted: "looking up the consumer",
            reason: "its acknowledgement policy is not `explicit`".to_owned(),
        }),
    }
}

/// A consumer that is open.
struct Pulling<'a> {
    delivery: &'a Delivery,
    consumer: &'a PullConsumer,
    handling: JoinSet<Option<NotHandled>>,
    losses: Losses,
}

impl<'a> Pulling<'a> {
    fn new(delivery: &'a Delivery, place: &Place, consumer: &'a PullConsumer) -> Self {
        let what = format!(
            "messages of the stream {}, consumer {}",
            place.stream, place.consumer
        );
        Self {
            delivery,
            consumer,
            handling: JoinSet::new(),
            losses: Losses::new(what),
        }
    }

    /// Ends when it was stopped and all is done, or killed; an error says why it cannot go on.
    async fn run(mut self) -> Result<(), Failure> {
        let mut batch: Option<Batch> = None;
        let (mut draining, mut failed) = (false, None);
        loop {
            let room = self
                .delivery
                .max_in_flight()
                .saturating_sub(self.handling.len());
            if batch.is_none() && room > 0 && !draining && failed.is_none() {
                match self.request(room).await {
                    Ok(requested) => batch = Some(requested),
                    Err(failure) => failed = Some(failure),
                }
            }
            if (draining || failed.is_some()) && self.handling.is_empty() {
                return failed.filter(|_| !draining).map_or(Ok(()), Err);
            }
            tokio::select! {
                () = self.delivery.kill.cancelled() => return Ok(()),
                () = self.delivery.stop.cancelled(), if !draining => {
                    draining = true;
                    give_back(batch.take()).await;
                }
                Some(handled) = self.handling.join_next() => self.finish(handled),
                message = next(&mut batch) => match message {
                    Some(Ok(message)) => self.start(message),
                    Some(Err(error)) => {
                        batch = None;
                        failed = Some(Failure::backend("pulling", &*error));
                    }
                    None => batch = None,
                },
            }
        }
    }

    async fn request(&self, room: usize) -> Result<Batch, Failure> {
        self.delivery
            .connection
            .up(Instant::now() + OPEN_WITHIN)
            .await?;
        let requested = self
            .consumer
            .batch()
            .max_messages(room)
            .expires(PULL_FOR)
            .messages()
            .await;
        requested.map_err(|error| Failure::backend("pulling", &error))
    }

    fn start(&mut self, message: Message) {
        let ack_wait = self.consumer.cached_info().config.ack_wait;
        let ack_wait = match ack_wait.is_zero() {
            true => ACK_WAIT_DEFAULT,
            false => ack_wait,
        };
        let delivery = self.delivery.clone();
        self.handling
            .spawn(async move { handle(&delivery, message, ack_wait).await });
    }

    fn finish(&self, handled: Result<Option<NotHandled>, tokio::task::JoinError>) {
        match handled {
            Ok(None) => {}
            Ok(Some(error)) if error.is_permanent() => {
                self.losses
                    .count(Loss::Refused, || shown(&error.to_string()));
            }
            Ok(Some(error)) => {
                let error = shown(&error.to_string());
                tracing::debug!(
                    error,
                    "a message was not handled, the stream will send it again"
                );
            }
            Err(error) => tracing::error!(%error, "handing out a message failed"),
        }
    }
}

/// Delivers one message, and says to the stream what came of it.
async fn handle(delivery: &Delivery, message: Message, ack_wait: Duration) -> Option<NotHandled> {
    let delivered_before = message
        .info()
        .map_or(0, |info| info.delivered.saturating_sub(1));
    let (message, acker) = message.split();
    let delivered = delivery.deliver(BrokerMessage {
        subject: message.subject.into_string(),
        body: message.payload.into(),
        // The reply subject of a stream's message is for acknowledgements, which are the provider's business.
        reply_to: None,
    });
    tokio::pin!(delivered);
    let mut progress = tokio::time::interval((ack_wait / 3).max(PROGRESS_MIN));
    progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    progress.reset();
    let outcome = loop {
        tokio::select! {
            outcome = &mut delivered => break outcome,
            _ = progress.tick() => {
                let _ = tokio::time::timeout(ACK_WITHIN, acker.ack_with(AckKind::Progress)).await;
            }
        }
    };
    let kind = match &outcome {
        Ok(()) => AckKind::Ack,
        Err(error) if error.is_permanent() => AckKind::Term,
        Err(_) => {
            let (first, most) = REDELIVER_AFTER;
            let attempt = u32::try_from(delivered_before).unwrap_or(u32::MAX);
            AckKind::Nak(Some(backoff::delay(attempt, first, most)))
        }
    };
    if !matches!(
        tokio::time::timeout(ACK_WITHIN, acker.ack_with(kind)).await,
        Ok(Ok(()))
    ) {
        tracing::warn!("an acknowledgement was not sent, the message will come again");
    }
    outcome.err()
}

/// Lets the stream hand out again at once what has come and was not begun.
async fn give_back(batch: Option<Batch>) {
    let Some(mut batch) = batch else { return };
    while let Some(Some(Ok(message))) = batch.next().now_or_never() {
        let _ = tokio::time::timeout(ACK_WITHIN, message.ack_with(AckKind::Nak(None))).await;
    }
}

async fn next(batch: &mut Option<Batch>) -> Option<Result<Message, async_nats::Error>> {
    match batch {
        Some(batch) => batch.next().await,
        None => std::future::pending().await,
    }
}
