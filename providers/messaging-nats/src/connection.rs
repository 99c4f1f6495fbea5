//! Connections to NATS: one for each server and identity, made when first needed, shared by all links that agree.
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
use async_nats::{Client, ConnectOptions, Event, Message, ServerError, StatusCode, jetstream};
use bytes::Bytes;
use tokio::sync::OnceCell;
use tokio::time::{Instant, timeout_at};
use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_provider_sdk::Health;

use crate::answers::Answers;
use crate::backoff;
use crate::denied::{Attempt, Denied};
use crate::error::{Failure, shown};
use crate::inbox::{Expected, Inbox};
use crate::losses::{Loss, Losses};
use crate::server::{Identity, Server};

/// Time for a connection to come up, and for a server to confirm. A call's own deadline may be shorter.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Commands that may wait for a server that is away, for each connection; further ones wait before they are queued.
const QUEUED_COMMANDS_MAX: usize = 1024;

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

/// Time for what is queued to leave when a connection is closed.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// What the inboxes of this provider begin with, for those who write permissions.
const INBOX_PREFIX: &str = "_INBOX.trellis-messaging";

/// Room that an answer's body leaves in a value for its subject and the rest.
const REPLY_ROOM_BYTES: usize = 2048;

/// All connections that are in use.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<Server, Weak<Connection>>>);

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    server: Server,
    live: OnceCell<Live>,
    /// Who may answer on inboxes of this server.
    pub(crate) answers: Answers,
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
    pub(crate) fn to(&self, server: &Server) -> Arc<Connection> {
        let mut connections = self.lock();
        if let Some(connection) = connections.get(server).and_then(Weak::upgrade) {
            return connection;
        }
        connections.retain(|_, connection| connection.strong_count() > 0);
        let connection = Arc::new(Connection {
            server: server.clone(),
            live: OnceCell::new(),
            answers: Answers::default(),
        });
        connections.insert(server.clone(), Arc::downgrade(&connection));
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Weak<Connection>>> {
        // The map is consistent between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// The client, connected now if this is the first use. Many may wait for one attempt; after a failure the next
    /// caller tries again.
    pub(crate) async fn live(&self, until: Instant) -> Result<&Live, Failure> {
        let connecting = self.live.get_or_try_init(|| Live::connect(&self.server));
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
            losses: Losses::new("messages to a connection's subscriptions"),
            down_since: Mutex::default(),
        });
        let heard = events.clone();
        let (first, most) = RECONNECT_AFTER;
        let mut options = ConnectOptions::new()
            .name("trellis messaging-nats")
            .custom_inbox_prefix(INBOX_PREFIX)
            .connection_timeout(ANSWER_WITHIN)
            .request_timeout(Some(ANSWER_WITHIN))
            .client_capacity(QUEUED_COMMANDS_MAX)
            .subscription_capacity(SUBSCRIPTION_MESSAGES_MAX)
            .reconnect_delay_callback(move |attempts| {
                let attempt = u32::try_from(attempts).unwrap_or(u32::MAX);
                backoff::delay(attempt.saturating_sub(1), first, most)
            })
            .event_callback(move |event| {
                let heard = heard.clone();
                async move { heard.take(event) }
            });
        options = match &server.identity {
            Identity::Anonymous => options,
            Identity::Password { user, password } => {
                options.user_and_password(user.clone(), password.clone())
            }
            Identity::Token(token) => options.token(token.clone()),
            Identity::Credentials(text) => options.credentials(text).map_err(|e| refused(&e))?,
            Identity::Nkey(seed) => options.nkey(seed.clone()),
        };
        if let Some(file) = &server.tls_ca_file {
            options = options.add_root_certificates(file.clone());
        }
        let addresses = server
            .uris
            .iter()
            .map(|uri| uri.parse())
            .collect::<Result<Vec<async_nats::ServerAddr>, _>>()
            .map_err(|e| refused(&e))?;
        let client = options.connect(addresses).await.map_err(|e| refused(&e))?;
        tracing::info!(?server, "connected to NATS");
        let inbox = Inbox::open(&client).await?;
        Ok(Self {
            client,
            inbox,
            events,
        })
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
        until: Instant,
    ) -> Result<(), Failure> {
        self.check_size(&body)?;
        let known = self.events.denied.count(Attempt::Publish, &subject);
        let expected = self.inbox.expect()?;
        self.send(subject.clone(), reply_to, body, until).await?;
        self.confirm(expected, until).await?;
        // The complaint, if there was one, came first, but went by another task, which now has its turn.
        tokio::task::yield_now().await;
        match self.events.denied.count(Attempt::Publish, &subject) == known {
            true => Ok(()),
            false => Err(Failure::Denied { subject }),
        }
    }

    /// Sends a request and waits for the first answer, until the time given.
    pub(crate) async fn request(
        &self,
        subject: String,
        body: Bytes,
        until: Instant,
    ) -> Result<Message, Failure> {
        self.check_size(&body)?;
        let (known, began) = (
            self.events.denied.count(Attempt::Publish, &subject),
            Instant::now(),
        );
        let mut expected = self.inbox.expect()?;
        let address = expected.address.clone();
        self.send(subject.clone(), Some(address), body, until)
            .await?;
        let answer = tokio::select! {
            answer = timeout_at(until, expected.arrive()) => answer,
            () = self.events.denied.changed(Attempt::Publish, &subject, known) => {
                return Err(Failure::Denied { subject });
            }
        };
        let answer = match answer {
            Ok(Some(answer)) => answer,
            Ok(None) => return Err(Failure::NotConnected),
            Err(_) => {
                return Err(Failure::TimedOut {
                    subject,
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
        known: u64,
    ) -> Result<(), Failure> {
        let until = Instant::now() + ANSWER_WITHIN;
        self.confirm(self.inbox.expect()?, until).await?;
        tokio::task::yield_now().await;
        match self.events.denied.count(Attempt::Subscribe, subject) == known {
            true => Ok(()),
            false => Err(Failure::Denied {
                subject: subject.to_owned(),
            }),
        }
    }

    /// Complaints about a subscription so far.
    pub(crate) fn denied_subscriptions(&self, subject: &str) -> u64 {
        self.events.denied.count(Attempt::Subscribe, subject)
    }

    async fn confirm(&self, mut expected: Expected, until: Instant) -> Result<(), Failure> {
        let until = until.min(Instant::now() + ANSWER_WITHIN);
        let echo = self.client.publish(expected.address.clone(), Bytes::new());
        match timeout_at(until, echo).await {
            Ok(Ok(())) => {}
            Ok(Err(_)) | Err(_) => return Err(Failure::Unconfirmed),
        }
        match timeout_at(until, expected.arrive()).await {
            Ok(Some(_)) => Ok(()),
            Ok(None) | Err(_) => Err(Failure::Unconfirmed),
        }
    }

    /// Queues a message; an error says that nothing was sent.
    async fn send(
        &self,
        subject: String,
        reply_to: Option<String>,
        body: Bytes,
        until: Instant,
    ) -> Result<(), Failure> {
        let sent = async {
            match reply_to {
                Some(reply_to) => {
                    self.client
                        .publish_with_reply(subject, reply_to, body)
                        .await
                }
                None => self.client.publish(subject, body).await,
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
    losses: Losses,
    down_since: Mutex<Option<Instant>>,
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
                tracing::warn!("the connection to NATS is lost");
            }
            Event::SlowConsumer(_) => self.losses.count(Loss::Unread, String::new),
            Event::ServerError(ServerError::Other(said)) => {
                self.denied.take(&said);
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
