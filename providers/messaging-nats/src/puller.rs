//! A pull consumer of JetStream: a message is acknowledged after the actor has handled it, so each is handled at least
//! once, and more often where an acknowledgement was lost.
//!
//! No more is pulled than the actor may handle at once, so nothing waits here while its time runs out; while the actor
//! works, the server is told so. What was not handled comes again, later each time and as often as the consumer's
//! `max_deliver` says; what no call can carry does not.
//!
//! A message that the client library cannot read ends the connection, and with it the delivery of all that came behind it.
//! So after a loss messages are pulled one by one for a while: then such a message takes no other along.

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
use crate::trace;
use crate::wit::types::BrokerMessage;

/// How long one request for messages stands. It is repeated for as long as the link lasts.
const PULL_FOR: Duration = Duration::from_secs(5);

/// First and longest pause before a consumer that cannot be had is tried again.
const OPEN_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// Time for one attempt to open.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// How long messages are pulled one by one after the connection was lost: until what was lost with it has come again, at
/// least and at most for these times.
const CAUTIOUS_FOR: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(120));

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
    let mut cautious_until = None;
    while !delivery.stop.is_cancelled() {
        let opened = tokio::select! {
            () = delivery.stop.cancelled() => return,
            opened = open(&delivery, &place) => opened,
        };
        let outcome = match opened {
            Ok((consumer, lost)) => {
                status.send_replace(Status::Active);
                tracing::info!(stream = place.stream, consumer = place.consumer, "pulling");
                let began = Instant::now();
                let pulling = Pulling::new(&delivery, &place, &consumer, &mut cautious_until);
                let pulled = pulling.run(lost).await;
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

async fn open(
    delivery: &Delivery,
    place: &Place,
) -> Result<(PullConsumer, watch::Receiver<u64>), Failure> {
    let live = delivery.connection.up(Instant::now() + OPEN_WITHIN).await?;
    let lost = live.losses();
    let context = live.jetstream(place.js_domain.as_deref());
    let found = context
        .get_consumer_from_stream::<pull::Config, _, _>(&place.consumer, &place.stream)
        .await;
    let consumer = found.map_err(|error| Failure::backend("looking up the consumer", &error))?;
    match consumer.cached_info().config.ack_policy {
        AckPolicy::Explicit => Ok((consumer, lost)),
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
    cautious_until: &'a mut Option<Instant>,
    handling: JoinSet<Option<Unhandled>>,
    losses: Losses,
    repeats: Losses,
}

/// A message that was not handled.
struct Unhandled {
    why: NotHandled,
    comes_again: bool,
}

impl<'a> Pulling<'a> {
    fn new(
        delivery: &'a Delivery,
        place: &Place,
        consumer: &'a PullConsumer,
        cautious_until: &'a mut Option<Instant>,
    ) -> Self {
        let what = format!(
            "messages of the stream {}, consumer {}",
            place.stream, place.consumer
        );
        Self {
            delivery,
            consumer,
            cautious_until,
            handling: JoinSet::new(),
            repeats: Losses::for_now(what.clone()),
            losses: Losses::new(what),
        }
    }

    /// Ends when it was stopped and all is done, or killed; an error says why it cannot go on.
    async fn run(mut self, mut lost: watch::Receiver<u64>) -> Result<(), Failure> {
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
                // The server has forgotten what it was asked for. An error cannot be: the connection is held.
                Ok(()) = lost.changed() => {
                    batch = None;
                    let (least, most) = CAUTIOUS_FOR;
                    let cautious_for = (2 * self.ack_wait()).clamp(least, most);
                    *self.cautious_until = Some(Instant::now() + cautious_for);
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
        let is_cautious = self
            .cautious_until
            .is_some_and(|until| Instant::now() < until);
        let requested = self
            .consumer
            .batch()
            .max_messages(if is_cautious { 1 } else { room })
            .expires(PULL_FOR)
            .messages()
            .await;
        requested.map_err(|error| Failure::backend("pulling", &error))
    }

    /// Time in which the consumer wants to hear of a message.
    fn ack_wait(&self) -> Duration {
        match self.consumer.cached_info().config.ack_wait {
            Duration::ZERO => ACK_WAIT_DEFAULT,
            ack_wait => ack_wait,
        }
    }

    fn start(&mut self, message: Message) {
        let ack_wait = self.ack_wait();
        let config = &self.consumer.cached_info().config;
        let (delivery, max_deliver) = (self.delivery.clone(), config.max_deliver);
        self.handling
            .spawn(async move { handle(&delivery, message, ack_wait, max_deliver).await });
    }

    fn finish(&self, handled: Result<Option<Unhandled>, tokio::task::JoinError>) {
        let Unhandled { why, comes_again } = match handled {
            Ok(None) => return,
            Ok(Some(unhandled)) => unhandled,
            Err(error) => {
                tracing::error!(%error, "handing out a message failed");
                return;
            }
        };
        let loss = match why {
            NotHandled::Failed(_) => Loss::Failed,
            NotHandled::Refused(_) | NotHandled::TooLarge { .. } => Loss::Refused,
        };
        let of = match comes_again {
            true => &self.repeats,
            false => &self.losses,
        };
        of.count(loss, || shown(&why.to_string()));
    }
}

/// Delivers one message, and says to the stream what came of it.
async fn handle(
    delivery: &Delivery,
    message: Message,
    ack_wait: Duration,
    max_deliver: i64,
) -> Option<Unhandled> {
    let delivered = message.info().map_or(1, |info| info.delivered.max(1));
    let (message, acker) = message.split();
    let traceparent = trace::of(message.headers.as_ref());
    let message = BrokerMessage {
        subject: message.subject.into_string(),
        body: message.payload.into(),
        // The reply subject of a stream's message is for acknowledgements, which are the provider's business.
        reply_to: None,
    };
    let handling = delivery.deliver(message, traceparent);
    tokio::pin!(handling);
    let mut progress = tokio::time::interval((ack_wait / 3).max(PROGRESS_MIN));
    progress.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    progress.reset();
    let outcome = loop {
        tokio::select! {
            outcome = &mut handling => break outcome,
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
            let attempt = u32::try_from(delivered - 1).unwrap_or(u32::MAX);
            AckKind::Nak(Some(backoff::delay(attempt, first, most)))
        }
    };
    if !matches!(
        tokio::time::timeout(ACK_WITHIN, acker.ack_with(kind)).await,
        Ok(Ok(()))
    ) {
        tracing::warn!("an acknowledgement was not sent, the message will come again");
    }
    outcome.err().map(|why| Unhandled {
        comes_again: !why.is_permanent() && (max_deliver <= 0 || delivered < max_deliver),
        why,
    })
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
