//! The way into a lattice: two NATS connections, checked before anybody relies on them.
//!
//! *Control* carries control requests, presence and the state's watches, *data* the frames between hosts, so that a
//! burst of calls delays neither a beat nor a revocation (D4). Each connection has its own inbox prefix: whoever may
//! subscribe to a shared one reads everybody's replies.
//!
//! The first connect is bounded by [`LatticeOptions::connect_timeout`] and fails with a type. From then on a connection
//! never gives up: it reconnects with jittered, growing pauses, and what it means for the state is the state's affair
//! (see [`Connection::reconnects`]).

mod error;
#[cfg(test)]
pub(crate) mod fixture;
mod identity;
mod options;
mod settle;
mod throttle;

pub use error::ConnectError;
pub use options::{CONNECT_TIMEOUT_DEFAULT, LatticeOptions, ServerUrl, TlsOptions, UrlError};
pub use settle::settle;
pub(crate) use throttle::Throttle;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::AccountErrorKind;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::Instant;
use trellis_protocol::LatticeName;
use trellis_protocol::subject::Subjects;

use identity::Identity;
use options::Login;

/// Oldest NATS server that is supported: consumers with several filters and compressed streams are from here on.
pub const SERVER_VERSION_MIN: (i64, i64) = (2, 10);

/// Messages that wait in a subscription of the control connection before further ones are dropped.
///
/// The client drops by count. Control messages are small and replays are flow-controlled by the server, so the count is
/// chosen for a watch that replays a large bucket in one go.
pub const CONTROL_SUBSCRIPTION_MESSAGES: usize = 16 * 1024;

/// Messages that wait in a subscription of the data connection before further ones are dropped.
///
/// Frames are at most 60 KiB and streams are paid with credit, so that a full subscription means a reader that has
/// stopped; the worst case stays below 240 MiB.
pub const DATA_SUBSCRIPTION_MESSAGES: usize = 4 * 1024;

/// Commands that wait for the connection's writer before a publisher has to wait.
pub const CLIENT_COMMANDS: usize = 4 * 1024;

/// How often a connection asks its server for a sign of life. Two unanswered ones end it, so a dead path is noticed
/// within three times this.
pub const PING_INTERVAL: Duration = Duration::from_secs(5);

/// Longest time for one attempt to connect to one server, name look-up and TLS included, once a connection was lost.
pub const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait for an answer of JetStream's API.
pub const JETSTREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait, when closing, until a server has what was published.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Shortest pause before a connection attempt after a failed one.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause between connection attempts, before jitter.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Shortest time between two log lines of one kind about one connection.
const LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Two connections to one lattice. Cloning shares them.
#[derive(Clone)]
pub struct Connection {
    /// Control requests, presence, events, and the state's watches.
    pub control: Client,
    /// Frames between hosts, and nothing else.
    pub data: Client,
    /// JetStream over the control connection, in the domain that the options name.
    pub jetstream: jetstream::Context,
    subjects: Subjects,
    reconnects: watch::Receiver<u64>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection")
            .field("lattice", self.lattice())
            .field("connected", &*self.reconnects.borrow())
            .finish_non_exhaustive()
    }
}

impl Connection {
    /// The lattice's name.
    pub fn lattice(&self) -> &LatticeName {
        self.subjects.lattice()
    }

    /// The lattice's subjects.
    pub fn subjects(&self) -> &Subjects {
        &self.subjects
    }

    /// Counts how often the control connection has been established; 1 from the start. A change means that messages may
    /// have been missed.
    pub fn reconnects(&self) -> watch::Receiver<u64> {
        self.reconnects.clone()
    }

    /// Hands on what was published, unsubscribes everything, and closes both connections.
    ///
    /// A connection that is down at the moment closes without handing anything on, after [`FLUSH_TIMEOUT`].
    pub async fn close(&self) {
        for (name, client) in [("data", &self.data), ("control", &self.control)] {
            if tokio::time::timeout(FLUSH_TIMEOUT, client.flush())
                .await
                .is_err()
            {
                tracing::warn!(
                    connection = name,
                    "closed without handing on all that was published"
                );
            }
            if let Err(error) = client.drain().await {
                tracing::debug!(connection = name, %error, "the connection was closed already");
            }
        }
    }
}

/// Opens both connections and checks the server.
///
/// Cancelling it closes what was opened.
///
/// # Errors
/// [`ConnectError`], at the latest after [`LatticeOptions::connect_timeout`] and one JetStream request.
pub async fn connect(options: &LatticeOptions) -> Result<Connection, ConnectError> {
    let identity = Identity::read(options).await?;
    let deadline = Instant::now() + options.connect_timeout;
    let (established, reconnects) = watch::channel(0);
    let control = Role {
        name: "control",
        subscription: CONTROL_SUBSCRIPTION_MESSAGES,
    };
    let control = establish(options, &identity, control, deadline, established).await?;
    check_version(options, &control)?;
    let data = Role {
        name: "data",
        subscription: DATA_SUBSCRIPTION_MESSAGES,
    };
    let data = establish(options, &identity, data, deadline, watch::channel(0).0).await?;

    let jetstream = match &options.js_domain {
        Some(domain) => jetstream::with_domain(control.clone(), domain),
        None => jetstream::new(control.clone()),
    };
    let jetstream = with_timeout(jetstream);
    check_jetstream(options, &jetstream, deadline).await?;
    Ok(Connection {
        control,
        data,
        jetstream,
        subjects: options.subjects(),
        reconnects,
    })
}

/// Opens the control connection alone: for clients that ask hosts and never read the state themselves.
///
/// # Errors
/// As [`connect`], JetStream aside.
pub async fn connect_control(options: &LatticeOptions) -> Result<Client, ConnectError> {
    let identity = Identity::read(options).await?;
    let deadline = Instant::now() + options.connect_timeout;
    let role = Role {
        name: "control",
        subscription: CONTROL_SUBSCRIPTION_MESSAGES,
    };
    let client = establish(options, &identity, role, deadline, watch::channel(0).0).await?;
    check_version(options, &client)?;
    Ok(client)
}

fn with_timeout(mut context: jetstream::Context) -> jetstream::Context {
    context.set_timeout(JETSTREAM_TIMEOUT);
    context
}

/// What one of the connections is for.
struct Role {
    name: &'static str,
    subscription: usize,
}

/// Connects, again and again until the deadline.
async fn establish(
    options: &LatticeOptions,
    identity: &Identity,
    role: Role,
    deadline: Instant,
    established: watch::Sender<u64>,
) -> Result<Client, ConnectError> {
    let started = Instant::now();
    let addresses: Vec<ServerAddr> = options
        .urls
        .iter()
        .map(|url| url.address().clone())
        .collect();
    let mut settings = ConnectOptions::new()
        .name(format!("{} {}", options.name, role.name))
        .custom_inbox_prefix(identity.inbox_prefix())
        .ping_interval(PING_INTERVAL)
        .connection_timeout(ATTEMPT_TIMEOUT)
        .client_capacity(CLIENT_COMMANDS)
        .subscription_capacity(role.subscription)
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .event_callback(report(role.name, established));
    if let Some(creds) = &identity.creds {
        settings = settings
            .credentials(creds)
            .map_err(|error| ConnectError::File {
                what: "the credentials file",
                path: options.creds_file.clone().unwrap_or_default(),
                reason: error.to_string(),
            })?;
    } else if let Some(seed) = &options.nkey_seed {
        settings = settings.nkey(seed.trim().to_owned());
    } else {
        settings = match options.login() {
            Some(Login::Password { user, password }) => {
                settings.user_and_password(user.to_string(), password.to_string())
            }
            Some(Login::Token(token)) => settings.token(token.to_string()),
            None => settings,
        };
    }
    if let Some(ca) = &options.tls.ca {
        settings = settings.add_root_certificates(ca.clone()).require_tls(true);
    }
    if let (Some(cert), Some(key)) = (&options.tls.cert, &options.tls.key) {
        settings = settings.add_client_certificate(cert.clone(), key.clone());
    }
    if options.tls.first {
        settings = settings.require_tls(true).tls_first();
    }

    let mut attempt = 0;
    let mut reason = "no answer".to_owned();
    loop {
        let connecting = settings.clone().connect(addresses.as_slice());
        let tried = options.servers();
        match tokio::time::timeout_at(deadline, connecting).await {
            Ok(Ok(client)) => return Ok(client),
            Ok(Err(error)) => match error.kind() {
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                    return Err(ConnectError::Refused {
                        tried,
                        source: error,
                    });
                }
                ConnectErrorKind::Tls => {
                    return Err(ConnectError::Tls {
                        tried,
                        source: error,
                    });
                }
                _ => reason = error.to_string(),
            },
            Err(_) => {
                return Err(ConnectError::Unreachable {
                    tried,
                    waited: started.elapsed(),
                    reason,
                });
            }
        }
        attempt += 1;
        let wait = pause(attempt + 1);
        if Instant::now() + wait >= deadline {
            return Err(ConnectError::Unreachable {
                tried,
                waited: started.elapsed(),
                reason,
            });
        }
        tokio::time::sleep(wait).await;
    }
}

/// The pause before an attempt, counted from one: none before the first, then growing to a ceiling, half of it jitter.
fn pause(attempt: usize) -> Duration {
    if attempt <= 1 {
        return Duration::ZERO;
    }
    let doublings = u32::try_from(attempt - 2).unwrap_or(u32::MAX).min(16);
    let pause = PAUSE_MIN.saturating_mul(1 << doublings).min(PAUSE_MAX);
    pause.mul_f64(rand::rng().random_range(0.5..1.5))
}

/// Tells the log, and whoever waits for reconnects, what happens to a connection.
fn report(
    connection: &'static str,
    established: watch::Sender<u64>,
) -> impl Fn(Event) -> std::future::Ready<()> + Send + Sync + 'static {
    let dropped = Arc::new(AtomicU64::new(0));
    let drop_log = Throttle::new(LOG_INTERVAL);
    let attempt_log = Throttle::new(LOG_INTERVAL);
    move |event| {
        match event {
            Event::Connected => {
                established.send_modify(|count| *count += 1);
                tracing::info!(connection, "connected to NATS");
            }
            Event::Disconnected => tracing::warn!(connection, "lost NATS, reconnecting"),
            Event::LameDuckMode => tracing::warn!(connection, "the NATS server is shutting down"),
            Event::SlowConsumer(subscription) => {
                let dropped = dropped.fetch_add(1, Ordering::Relaxed) + 1;
                if drop_log.permits() {
                    tracing::warn!(
                        connection,
                        subscription,
                        dropped,
                        "messages are dropped: too slow"
                    );
                }
            }
            Event::ServerError(error) => {
                tracing::warn!(connection, %error, "NATS reports an error")
            }
            // Most often a server that is still down; but it may also refuse us from now on.
            Event::ClientError(error) if attempt_log.permits() => {
                tracing::warn!(connection, %error, "cannot connect to NATS, trying on");
            }
            Event::ClientError(error) => {
                tracing::debug!(connection, %error, "cannot connect to NATS")
            }
            Event::Draining | Event::Closed => tracing::debug!(connection, "{event}"),
        }
        std::future::ready(())
    }
}

fn check_version(options: &LatticeOptions, client: &Client) -> Result<(), ConnectError> {
    let (major, minor) = SERVER_VERSION_MIN;
    if client.is_server_compatible(major, minor, 0) {
        return Ok(());
    }
    Err(ConnectError::TooOld {
        tried: options.servers(),
        found: client.server_info().version,
    })
}

/// Asks for the account's JetStream; a cluster that is still electing a leader is asked again until the deadline.
async fn check_jetstream(
    options: &LatticeOptions,
    jetstream: &jetstream::Context,
    deadline: Instant,
) -> Result<(), ConnectError> {
    loop {
        let error = match jetstream.query_account().await {
            Ok(_) => return Ok(()),
            Err(error) => error,
        };
        let never = match error.kind() {
            AccountErrorKind::JetStreamUnavailable => true,
            AccountErrorKind::JetStream(error) => matches!(
                error.error_code(),
                ErrorCode::JETSTREAM_NOT_ENABLED | ErrorCode::JETSTREAM_NOT_ENABLED_FOR_ACCOUNT
            ),
            _ => false,
        };
        if never || Instant::now() + PAUSE_MAX / 8 >= deadline {
            return Err(ConnectError::NoJetStream {
                tried: options.servers(),
                domain: options.js_domain.clone(),
                reason: error.to_string(),
            });
        }
        tokio::time::sleep(PAUSE_MAX / 8).await;
    }
}

#[cfg(test)]
mod tests;
