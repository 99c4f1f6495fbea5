//! A subscription of core NATS: what comes is handled by the actor, a bounded number at once.
//!
//! Core NATS neither waits nor repeats, so a message that the actor cannot take now waits here, within limits; beyond
//! them it is given up, counted and logged. Messages are read all the time, so that the server never has to cut a
//! connection that other subscriptions share.
//!
//! States: *opening* (until the server has confirmed the subscription; repeated with growing pauses), *listening*,
//! *draining* (stopped: nothing new is taken, what is here is finished), ended.

use std::collections::VecDeque;
use std::time::Duration;

use async_nats::{Message, Subscriber};
use futures::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::backoff;
use crate::connection::Live;
use crate::delivery::{Delivery, NotHandled};
use crate::error::{Failure, shown};
use crate::losses::{Loss, Losses};
use crate::receivers::Status;
use crate::subject::Pattern;
use crate::trace;
use crate::wit::types::BrokerMessage;

/// Most messages, and most bytes, that wait for one actor's turn in one subscription.
pub(crate) const WAITING_MAX: usize = 1024;
pub(crate) const WAITING_BYTES_MAX: usize = 8 * 1024 * 1024;

/// First and longest pause before a subscription that could not be opened is tried again.
const OPEN_AFTER: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(15));

/// Time for one attempt to open.
const OPEN_WITHIN: Duration = Duration::from_secs(10);

/// Time for the server to stop sending after it was asked to.
const QUIET_WITHIN: Duration = Duration::from_secs(1);

/// How often losses that were kept from the log are told after all.
const REPORT_EVERY: Duration = Duration::from_secs(10);

/// Runs one subscription to its end.
pub(crate) async fn listen(
    delivery: Delivery,
    subject: Pattern,
    queue: Option<String>,
    status: watch::Sender<Status>,
) {
    let mut attempt = 0;
    while !delivery.stop.is_cancelled() {
        let opened = tokio::select! {
            () = delivery.stop.cancelled() => return,
            opened = open(&delivery, &subject, queue.as_deref()) => opened,
        };
        let failure = match opened {
            Ok(subscriber) => {
                attempt = 0;
                status.send_replace(Status::Active);
                tracing::info!(subject = subject.as_str(), queue, "subscribed");
                Listening::new(&delivery, &subject).run(subscriber).await;
                continue;
            }
            Err(failure) => failure,
        };
        tracing::warn!(subject = subject.as_str(), queue, error = %failure, "not subscribed, trying again");
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
    subject: &Pattern,
    queue: Option<&str>,
) -> Result<Subscriber, Failure> {
    let live: &Live = delivery.connection.up(Instant::now() + OPEN_WITHIN).await?;
    let complaint = live.watch_subscription(subject.as_str());
    let subject = subject.as_str().to_owned();
    let subscribed = match queue {
        Some(queue) => {
            let queue = queue.to_owned();
            live.client.queue_subscribe(subject.clone(), queue).await
        }
        None => live.client.subscribe(subject.clone()).await,
    };
    let subscriber = subscribed.map_err(|error| Failure::backend("subscribing", &error))?;
    live.confirm_subscription(&subject, complaint).await?;
    Ok(subscriber)
}

/// A subscription that is open.
struct Listening<'a> {
    delivery: &'a Delivery,
    subject: &'a Pattern,
    waiting: VecDeque<Message>,
    waiting_bytes: usize,
    handling: JoinSet<Result<(), NotHandled>>,
    losses: Losses,
}

impl<'a> Listening<'a> {
    fn new(delivery: &'a Delivery, subject: &'a Pattern) -> Self {
        Self {
            delivery,
            subject,
            waiting: VecDeque::new(),
            waiting_bytes: 0,
            handling: JoinSet::new(),
            losses: Losses::new(format!("messages on {subject:?}")),
        }
    }

    /// Ends when it was stopped and all is done, when it was killed, or when the subscription has ended by itself.
    async fn run(mut self, mut subscriber: Subscriber) {
        let mut report = tokio::time::interval(REPORT_EVERY);
        report.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut receiver = self.delivery.receiver.clone();
        // `None` while listening; when draining, until when messages may still arrive.
        let mut quiet_at: Option<Instant> = None;
        let mut open = true;
        loop {
            self.start();
            if !open && self.waiting.is_empty() && self.handling.is_empty() {
                return;
            }
            tokio::select! {
                () = self.delivery.kill.cancelled() => return,
                () = self.delivery.stop.cancelled(), if quiet_at.is_none() => {
                    quiet_at = Some(Instant::now() + QUIET_WITHIN);
                    // Asks the server to stop; what it has sent until then still comes. It may also be away.
                    let asked = subscriber.drain();
                    let _ = tokio::time::timeout(QUIET_WITHIN, asked).await;
                }
                () = tokio::time::sleep_until(quiet_at.unwrap_or_else(Instant::now)),
                    if open && quiet_at.is_some() => open = false,
                message = subscriber.next(), if open => match message {
                    Some(message) => self.take(message),
                    None => open = false,
                },
                Some(handled) = self.handling.join_next() => self.finish(handled),
                // More may be allowed at once now.
                Ok(()) = receiver.changed() => {}
                _ = report.tick() => self.losses.report(),
            }
        }
    }

    /// Keeps a message for its turn, or gives it up where too many wait.
    fn take(&mut self, message: Message) {
        if !self.subject.names(&message.subject) {
            // A wildcard of the operator's does not mean what belongs to the lattice or to somebody's inbox.
            return;
        }
        let bytes = bytes_of(&message);
        let is_full = self.waiting.len() >= WAITING_MAX
            || self.waiting_bytes.saturating_add(bytes) > WAITING_BYTES_MAX;
        // The first always has a place: it goes on at once, or is larger than everything that may wait.
        if is_full && !self.waiting.is_empty() {
            self.losses.count(Loss::Overflow, || {
                format!("{WAITING_MAX} messages or {WAITING_BYTES_MAX} bytes wait already")
            });
            return;
        }
        self.waiting_bytes += bytes;
        self.waiting.push_back(message);
    }

    /// Hands out as many messages as the actor may handle at once.
    fn start(&mut self) {
        while self.handling.len() < self.delivery.max_in_flight()
            && let Some(message) = self.waiting.pop_front()
        {
            self.waiting_bytes -= bytes_of(&message);
            let delivery = self.delivery.clone();
            let traceparent = trace::of(message.headers.as_ref());
            let message = BrokerMessage {
                subject: message.subject.into_string(),
                body: message.payload.into(),
                reply_to: message.reply.map(|reply| reply.into_string()),
            };
            self.handling
                .spawn(async move { delivery.deliver(message, traceparent).await });
        }
    }

    fn finish(&self, handled: Result<Result<(), NotHandled>, tokio::task::JoinError>) {
        match handled {
            Ok(Ok(())) => {}
            Ok(Err(error @ NotHandled::Failed(_))) => {
                self.losses
                    .count(Loss::Failed, || shown(&error.to_string()));
            }
            Ok(Err(error @ (NotHandled::Refused(_) | NotHandled::TooLarge { .. }))) => {
                self.losses
                    .count(Loss::Refused, || shown(&error.to_string()));
            }
            Err(error) => tracing::error!(%error, "handing out a message failed"),
        }
    }
}

fn bytes_of(message: &Message) -> usize {
    message.payload.len() + message.subject.len()
}
