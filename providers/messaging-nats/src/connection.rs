//! Connections to NATS: one for each server, identity and direction, made when first needed, shared by all links that agree.
//!
//! What is sent does not share a connection with what is received. The client library ends a connection over a message
//! that it cannot read (a header without a colon, a subject that is no UTF-8), and servers pass such messages on: whoever
//! may publish to a subject that is listened to can send one, and would cut off all that send.
//!
//! A connection mends itself, with growing and scattered pauses. It closes when the last link that uses it is gone.
//!
//! **What a confirmation says.** Core NATS confirms nothing. A message that is published here is followed by one to the
//! connection's own inbox; when that has come back, the server has read everything before it and handed it on. So `ok`
//! means that a server had it. It does not mean that anybody heard: for that there are streams.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, Event, Message, ServerError, StatusCode, jetstream};
use bytes::Bytes;
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};
use trellis_nats_connection::server::ANSWER_WITHIN;
use trellis_nats_connection::{Established, Server};
use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_provider_sdk::Health;

use crate::answers::Answers;
use crate::backoff;
use crate::denied::{Attempt, COMPLAINT_WITHIN, Denied, EXPECTED_COMPLAINT_WITHIN, Proven, Watch};
use crate::error::{Failure, shown};
use crate::inbox::{Expected, Inbox};
use crate::losses::{Loss, Losses};
use crate::permissions::{Expectation, Permissions};
use crate::trace;

/// Messages of one subscription that wait to be read. They are read at once, and sorted out there, by number and bytes;
/// this is what may come while the task that reads has no turn.
const SUBSCRIPTION_MESSAGES_MAX: usize = 1024;

/// First and longest pause before a lost connection is tried again.
const RECONNECT_AFTER: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(5));

/// How long a lost connection is waited for. One that has been away for longer fails its callers at once, so that an
/// actor which can do without does not pay for it with each call.
const BACK_WITHIN: Duration = Duration::from_secs(2);

/// How often somebody who waits for a lost connection looks whether it is back.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Where a server says what a user may do, and the time that it has for it.
const USER_INFO: &str = "$SYS.REQ.USER.INFO";
const PERMISSIONS_WITHIN: Duration = Duration::from_secs(1);

/// Time for what is queued to leave when a connection is closed.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// What the inboxes of this provider begin with, for those who write permissions.
const INBOX_PREFIX: &str = "_INBOX.trellis-messaging";

/// Room that an answer's body leaves in a value for its subject and the rest.
const REPLY_ROOM_BYTES: usize = 2048;

/// What a connection is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Direction {
    /// Links of actors that send.
    Out,
    /// Subscriptions.
    In,
}

impl Direction {
    fn other(self) -> Self {
        match self {
            Self::Out => Self::In,
            Self::In => Self::Out,
        }
    }
}

type Key = (Server, Direction);

/// All connections that are in use.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<Key, Weak<Connection>>>);

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    server: Server,
    live: Established<Live, Failure>,
    /// Who may answer on inboxes of this server; both directions have it in common.
    pub(crate) answers: Arc<Answers>,
}

/// What exists once it is connected.
#[derive(Debug)]
pub(crate) struct Live {
    pub(crate) client: Client,
    inbox: Inbox,
    events: Arc<Events>,
}

impl Connections {
    /// The connection to a server, connected or not.
    pub(crate) fn to(&self, server: &Server, direction: Direction) -> Arc<Connection> {
        let mut connections = self.lock();
        let known = |direction: Direction| {
            let key = (server.clone(), direction);
            connections.get(&key).and_then(Weak::upgrade)
        };
        if let Some(connection) = known(direction) {
            return connection;
        }
        let answers = known(direction.other()).map(|other| Arc::clone(&other.answers));
        connections.retain(|_, connection| connection.strong_count() > 0);
        let connection = Arc::new(Connection {
            server: server.clone(),
            live: Established::default(),
            answers: answers.unwrap_or_default(),
        });
        let key = (server.clone(), direction);
        connections.insert(key, Arc::downgrade(&connection));
        connection
    }

    /// Failing while any connection that was up is down.
    pub(crate) fn health(&self) -> Health {
        let down = self
            .live()
            .iter()
            .filter_map(|connection| connection.live.get())
            .filter(|live| live.client.connection_state() != State::Connected)
            .count();
        match down {
            0 => Health::Healthy,
            down => Health::Failing(format!("{down} connections to NATS are down")),
        }
    }

    /// Lets what is queued leave.
    pub(crate) async fn close(&self) {
        for connection in self.live() {
            if let Some(live) = connection.live.get()
                && live.client.connection_state() == State::Connected
                && !matches!(
                    tokio::time::timeout(FLUSH_WITHIN, live.client.flush()).await,
                    Ok(Ok(()))
                )
            {
                tracing::warn!("a connection to NATS closed before all that was queued had left");
            }
        }
        self.lock().clear();
    }

    fn live(&self) -> Vec<Arc<Connection>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Weak<Connection>>> {
        // The map is consistent between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// The client, connected now if this is the first use. Many may wait for one attempt; after a failure the next
    /// caller tries again, if not at once.
    pub(crate) async fn live(&self, until: Instant) -> Result<&Live, Failure> {
        let connecting = self
            .live
            .get_or_try(async || Live::connect(&self.server).await);
        match timeout_at(until, connecting).await {
            Ok(live) => live,
            Err(_) => Err(Failure::NotConnected),
        }
    }

    /// The same, and the connection is up.
    pub(crate) async fn up(&self, until: Instant) -> Result<&Live, Failure> {
        let live = self.live(until).await?;
        let until = live
            .down_since()
            .map_or(until, |since| until.min(since + BACK_WITHIN));
        while live.client.connection_state() != State::Connected {
            if Instant::now() >= until {
                return Err(Failure::NotConnected);
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        Ok(live)
    }
}

impl Live {
    async fn connect(server: &Server) -> Result<Self, Failure> {
        let refused = |error: &dyn std::error::Error| Failure::backend("connecting to NATS", error);
        let events = Arc::new(Events {
            denied: Denied::default(),
            proven: Proven::default(),
            losses: Losses::new("messages to a connection's subscriptions"),
            down_since: Mutex::default(),
            lost: watch::Sender::default(),
        });
        let heard = events.clone();
        let (first, most) = RECONNECT_AFTER;
        let options = server
            .options("trellis messaging-nats")
            .map_err(|e| refused(&e))?
            .custom_inbox_prefix(INBOX_PREFIX)
            .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
            .reconnect_delay_callback(move |attempts| {
                let attempt = u32::try_from(attempts).unwrap_or(u32::MAX);
                backoff::delay(attempt.saturating_sub(1), first, most)
            })
            .event_callback(move |event| {
                let heard = heard.clone();
                async move { heard.take(event) }
            });
        let client = options
            .connect(server.addresses.as_slice())
            .await
            .map_err(|e| refused(&e))?;
        tracing::info!(?server, "connected to NATS");
        let live = Self {
            inbox: Inbox::open(&client).await?,
            client,
            events,
        };
        live.learn_permissions(Instant::now() + PERMISSIONS_WITHIN)
            .await;
        Ok(live)
    }

    /// Changes with each loss of the connection from now on.
    pub(crate) fn losses(&self) -> watch::Receiver<u64> {
        self.events.lost.subscribe()
    }

    /// Since when the connection is down; `None` while it is up, and for the moment until its loss is told.
    fn down_since(&self) -> Option<Instant> {
        match self.client.connection_state() {
            State::Connected => None,
            _ => *self.events.down_since(),
        }
    }

    /// JetStream in a domain.
    pub(crate) fn jetstream(&self, domain: Option<&str>) -> jetstream::Context {
        let builder = jetstream::context::ContextBuilder::new().timeout(ANSWER_WITHIN);
        match domain {
            Some(domain) => builder.domain(domain).build(self.client.clone()),
            None => builder.build(self.client.clone()),
        }
    }

    /// Publishes a message and waits until the server has read it.
    pub(crate) async fn publish(
        &self,
        subject: String,
        reply_to: Option<String>,
        body: Bytes,
        traceparent: Option<&str>,
        until: Instant,
    ) -> Result<(), Failure> {
        self.check_size(&body)?;
        let proven = &self.events.proven;
        if proven.is_to_be_asked() {
            self.learn_permissions(until.min(Instant::now() + PERMISSIONS_WITHIN))
                .await;
        }
        let expectation = proven.expectation(&subject);
        let _turn = match expectation {
            Expectation::Permitted => None,
            _ => match timeout_at(until, proven.turn()).await {
                Ok(turn) => turn,
                Err(_) => return Err(Failure::NotConnected),
            },
        };
        let complaint = self.events.denied.watch(Attempt::Publish, &subject);
        let (expected, lost) = (self.inbox.expect()?, self.losses());
        self.send(subject.clone(), reply_to, body, traceparent, until)
            .await?;
        self.confirm(expected, lost, until).await?;
        // The complaint, if there was one, came first, but by another task.
        let within = match expectation {
            Expectation::Permitted => {
                tokio::task::yield_now().await;
                return match complaint.is_denied() {
                    false => Ok(()),
                    true => Err(Failure::Denied { subject }),
                };
            }
            Expectation::Unknown => COMPLAINT_WITHIN,
            Expectation::Refused => EXPECTED_COMPLAINT_WITHIN,
        };
        let complaint_until = Instant::now() + within;
        match timeout_at(until.min(complaint_until), complaint.denied()).await {
            Ok(()) => Err(Failure::Denied { subject }),
            Err(_) if until < complaint_until => Err(Failure::Unconfirmed),
            Err(_) => {
                proven.insert(subject);
                Ok(())
            }
        }
    }

    /// Sends a request and waits for the first answer, until the time given.
    pub(crate) async fn request(
        &self,
        subject: String,
        body: Bytes,
        traceparent: Option<&str>,
        until: Instant,
    ) -> Result<Message, Failure> {
        self.check_size(&body)?;
        let complaint = self.events.denied.watch(Attempt::Publish, &subject);
        let began = Instant::now();
        let mut expected = self.inbox.expect()?;
        let address = expected.address.clone();
        self.send(subject.clone(), Some(address), body, traceparent, until)
            .await?;
        let answer = tokio::select! {
            answer = timeout_at(until, expected.arrive()) => answer,
            () = complaint.denied() => {
                return Err(Failure::Denied { subject: subject.clone() });
            }
        };
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Failure::NotConnected),
            Err(_) => {
                return Err(Failure::TimedOut {
                    subject: subject.clone(),
                    within_ms: began.elapsed().as_millis(),
                });
            }
        };
        if answer.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(Failure::NoResponders { subject });
        }
        let (bytes, limit) = (answer.payload.len(), VALUE_BYTES_MAX - REPLY_ROOM_BYTES);
        match bytes <= limit {
            true => Ok(answer),
            false => Err(Failure::Reply { bytes, limit }),
        }
    }

    /// Waits until the server has read everything that was sent, and says whether it refused a subscription meanwhile.
    pub(crate) async fn confirm_subscription(
        &self,
        subject: &str,
        complaint: Watch<'_>,
    ) -> Result<(), Failure> {
        let until = Instant::now() + ANSWER_WITHIN;
        let lost = self.losses();
        self.confirm(self.inbox.expect()?, lost, until).await?;
        if self.events.proven.everything() {
            tokio::task::yield_now().await;
        } else {
            // It has come if this returns early, and is looked for below in any case.
            let _ = tokio::time::timeout(COMPLAINT_WITHIN, complaint.denied()).await;
        }
        match complaint.is_denied() {
            false => Ok(()),
            true => Err(Failure::Denied {
                subject: subject.to_owned(),
            }),
        }
    }

    /// Watches for a complaint about a subscription that is about to be made.
    pub(crate) fn watch_subscription(&self, subject: &str) -> Watch<'_> {
        self.events.denied.watch(Attempt::Subscribe, subject)
    }

    /// Asks the server what this user may do. Most may do everything, and then no message needs to wait for a complaint.
    async fn learn_permissions(&self, until: Instant) {
        let proven = &self.events.proven;
        let changes = proven.changes();
        let asked = self.request(USER_INFO.to_owned(), Bytes::new(), None, until);
        // A server that does not say is taken for one that forbids something.
        if let Ok(message) = asked.await
            && let Some(permissions) = Permissions::read(&message.payload)
        {
            proven.learn(permissions, changes);
        }
    }

    /// Waits for a sign of the server that it has read everything before; what was on its way when the connection went is
    /// not waited for.
    async fn confirm(
        &self,
        mut expected: Expected,
        mut lost: watch::Receiver<u64>,
        until: Instant,
    ) -> Result<(), Failure> {
        let until = until.min(Instant::now() + ANSWER_WITHIN);
        let echo = self.client.publish(expected.address.clone(), Bytes::new());
        match timeout_at(until, echo).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Failure::Unconfirmed),
        }
        let arrived = async {
            tokio::select! {
                biased;
                arrived = expected.arrive() => arrived.is_some(),
                _ = lost.changed() => false,
            }
        };
        match timeout_at(until, arrived).await {
            Ok(true) => Ok(()),
            Ok(false) | Err(_) => Err(Failure::Unconfirmed),
        }
    }

    /// Queues a message; an error says that nothing was sent.
    async fn send(
        &self,
        subject: String,
        reply_to: Option<String>,
        body: Bytes,
        traceparent: Option<&str>,
        until: Instant,
    ) -> Result<(), Failure> {
        let header = trace::header(traceparent, body.len(), self.client.max_payload());
        let client = &self.client;
        let sent = async {
            match (reply_to, header) {
                (Some(reply_to), None) => client.publish_with_reply(subject, reply_to, body).await,
                (None, None) => client.publish(subject, body).await,
                (Some(reply_to), Some(header)) => {
                    client
                        .publish_with_reply_and_headers(subject, reply_to, header, body)
                        .await
                }
                (None, Some(header)) => client.publish_with_headers(subject, header, body).await,
            }
        };
        match timeout_at(until, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Failure::backend("publishing", &error)),
            Err(_) => Err(Failure::NotConnected),
        }
    }

    fn check_size(&self, body: &Bytes) -> Result<(), Failure> {
        let limit = self.client.max_payload();
        match body.len() <= limit {
            true => Ok(()),
            false => Err(Failure::Payload {
                bytes: body.len(),
                limit,
            }),
        }
    }
}

/// What happens on a connection beside its messages.
#[derive(Debug)]
struct Events {
    denied: Denied,
    proven: Proven,
    losses: Losses,
    down_since: Mutex<Option<Instant>>,
    /// Grows with each loss of the connection.
    lost: watch::Sender<u64>,
}

impl Events {
    fn take(&self, event: Event) {
        match event {
            Event::Connected => {
                *self.down_since() = None;
                tracing::info!("the connection to NATS is up");
            }
            Event::Disconnected => {
                self.down_since().get_or_insert_with(Instant::now);
                self.lost.send_modify(|lost| *lost += 1);
                // Another server may have other permissions for the same user.
                self.proven.forget();
                tracing::warn!("the connection to NATS is lost");
            }
            Event::SlowConsumer(_) => self.losses.count(Loss::Unread, String::new),
            Event::ServerError(ServerError::Other(said)) => {
                if let Some((Attempt::Publish, subject)) = self.denied.take(&said) {
                    self.proven.contradict(&subject);
                }
                tracing::warn!(said = shown(&said), "NATS complains");
            }
            other => tracing::debug!(event = shown(&other.to_string()), "NATS says"),
        }
    }

    fn down_since(&self) -> MutexGuard<'_, Option<Instant>> {
        // Every change is a single assignment.
        self.down_since
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}
