//! The way into a lattice: two NATS connections, checked before anybody relies on them.
//!
//! *Control* carries control requests, presence and the state's watches, *data* the frames between hosts, so that a
//! burst of calls delays neither a beat nor a revocation (D4). Each connection has its own inbox prefix: whoever may
//! subscribe to a shared one reads everybody's replies.
//!
//! The first connect is bounded by [`LatticeOptions::connect_timeout`] and fails with a type. From then on a connection
//! never gives up: it reconnects with jittered, growing pauses, and what it means for the state is the state's affair
//! (see [`Connection::reconnects`]).

mod options;
mod throttle;

pub use options::{LatticeOptions, ServerUrl, TlsOptions, UrlError};
pub(crate) use throttle::Throttle;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use async_nats::jetstream::context::AccountErrorKind;
use async_nats::jetstream::{self, ErrorCode};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, ServerAddr};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::Instant;
use trellis_claims::SigningKey;
use trellis_protocol::LatticeName;
use trellis_protocol::subject::Subjects;
use zeroize::Zeroizing;

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

/// Longest wait for an answer of JetStream's API.
pub const JETSTREAM_TIMEOUT: Duration = Duration::from_secs(5);

/// Longest wait, when closing, until a server has what was published.
pub const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Shortest pause before a connection attempt after a failed one.
const PAUSE_MIN: Duration = Duration::from_millis(50);

/// Longest pause between connection attempts, before jitter.
const PAUSE_MAX: Duration = Duration::from_secs(4);

/// Shortest time between two log lines about dropped messages of one connection.
const DROP_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// Longest credentials file, in bytes. Real ones have about two thousand.
const CREDS_BYTES_MAX: u64 = 64 * 1024;

/// Why a lattice cannot be reached. Each message says what was tried and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server was named.
    #[error("no NATS server is named; give at least one, such as `nats://127.0.0.1:4222`")]
    NoServer,
    /// A file named in the options cannot be read, or is not what it should be.
    #[error("cannot use {what} `{}`: {reason}", path.display())]
    File {
        /// What it should be.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The nkey seed is not one.
    #[error("cannot use the nkey seed: {reason}; it begins with `SU`")]
    Seed {
        /// What is wrong. Never the seed.
        reason: String,
    },
    /// No server answered in time.
    #[error("cannot reach NATS at {tried} within {} s: {source}; is a nats-server running there?", waited.as_secs_f32())]
    Unreachable {
        /// The servers, without passwords.
        tried: String,
        /// How long it was tried.
        waited: Duration,
        /// The last attempt's failure.
        source: async_nats::ConnectError,
    },
    /// A server answered and refused.
    #[error("NATS at {tried} refuses this identity: {source}; check the credentials file, nkey or password")]
    Refused {
        /// The servers, without passwords.
        tried: String,
        /// What the server or the signer said.
        source: async_nats::ConnectError,
    },
    /// A server answered, but not with TLS that is believed.
    #[error("cannot speak TLS to NATS at {tried}: {source}; check the CA, the client's certificate and key, and whether the server wants TLS first")]
    Tls {
        /// The servers, without passwords.
        tried: String,
        /// What failed.
        source: async_nats::ConnectError,
    },
    /// The server is too old.
    #[error("the nats-server at {tried} has version {found}, at least {}.{} is needed; upgrade it", SERVER_VERSION_MIN.0, SERVER_VERSION_MIN.1)]
    TooOld {
        /// The servers, without passwords.
        tried: String,
        /// The version it states.
        found: String,
    },
    /// The server, or the account on it, has no JetStream.
    #[error("the nats-server at {tried} has no JetStream{}: {reason}; start it with `-js`, or enable JetStream for the account", domain.as_ref().map(|d| format!(" in domain `{d}`")).unwrap_or_default())]
    NoJetStream {
        /// The servers, without passwords.
        tried: String,
        /// The JetStream domain that was asked.
        domain: Option<String>,
        /// What the server said.
        reason: String,
    },
}

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
            if tokio::time::timeout(FLUSH_TIMEOUT, client.flush()).await.is_err() {
                tracing::warn!(connection = name, "closed without handing on all that was published");
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
    let control = Role { name: "control", subscription: CONTROL_SUBSCRIPTION_MESSAGES };
    let control = establish(options, &identity, control, deadline, established).await?;
    check_version(options, &control)?;
    let data = Role { name: "data", subscription: DATA_SUBSCRIPTION_MESSAGES };
    let data = establish(options, &identity, data, deadline, watch::channel(0).0).await?;

    let jetstream = match &options.js_domain {
        Some(domain) => jetstream::with_domain(control.clone(), domain),
        None => jetstream::new(control.clone()),
    };
    let jetstream = with_timeout(jetstream);
    check_jetstream(options, &jetstream, deadline).await?;
    Ok(Connection { control, data, jetstream, subjects: options.subjects(), reconnects })
}

/// Opens the control connection alone: for clients that ask hosts and never read the state themselves.
///
/// # Errors
/// As [`connect`], JetStream aside.
pub async fn connect_control(options: &LatticeOptions) -> Result<Client, ConnectError> {
    let identity = Identity::read(options).await?;
    let deadline = Instant::now() + options.connect_timeout;
    let role = Role { name: "control", subscription: CONTROL_SUBSCRIPTION_MESSAGES };
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

/// How we prove who we are, read once from the files that the options name.
struct Identity {
    creds: Option<Zeroizing<String>>,
    /// The public key, where it is known before the server asks for a proof.
    key: Option<String>,
}

impl Identity {
    async fn read(options: &LatticeOptions) -> Result<Self, ConnectError> {
        if options.urls.is_empty() {
            return Err(ConnectError::NoServer);
        }
        for (what, path) in [
            ("the CA file", &options.tls.ca),
            ("the client certificate", &options.tls.cert),
            ("the client certificate's key", &options.tls.key),
        ] {
            if let Some(path) = path {
                readable(what, path).await?;
            }
        }
        if let Some(path) = &options.creds_file {
            let creds = read_creds(path).await?;
            let seed = creds.lines().map(str::trim).find(|line| line.starts_with("SU"));
            let key = seed.and_then(|seed| SigningKey::from_seed(seed).ok());
            let key = key.map(|key| key.public().to_string());
            return Ok(Self { creds: Some(creds), key });
        }
        let key = match &options.nkey_seed {
            Some(seed) => {
                let key = SigningKey::from_seed(seed.trim())
                    .map_err(|error| ConnectError::Seed { reason: error.to_string() })?;
                Some(key.public().to_string())
            }
            None => None,
        };
        Ok(Self { creds: None, key })
    }

    /// An inbox prefix that nobody else has: the key where there is one, so that permissions can name it.
    fn inbox_prefix(&self) -> String {
        match &self.key {
            Some(key) => format!("_INBOX_{key}"),
            None => format!("_INBOX_{:032x}", rand::rng().random::<u128>()),
        }
    }
}

async fn readable(what: &'static str, path: &std::path::Path) -> Result<(), ConnectError> {
    match tokio::fs::metadata(path).await {
        Ok(meta) if meta.is_file() => Ok(()),
        Ok(_) => Err(file_error(what, path, "it is not a file")),
        Err(error) => Err(file_error(what, path, error)),
    }
}

async fn read_creds(path: &std::path::Path) -> Result<Zeroizing<String>, ConnectError> {
    const WHAT: &str = "the credentials file";
    let meta = tokio::fs::metadata(path).await.map_err(|error| file_error(WHAT, path, error))?;
    if !meta.is_file() || meta.len() > CREDS_BYTES_MAX {
        return Err(file_error(WHAT, path, "it is no file, or too large for one with credentials"));
    }
    let text = tokio::fs::read_to_string(path)
        .await
        .map_err(|error| file_error(WHAT, path, error))?;
    Ok(Zeroizing::new(text))
}

fn file_error(
    what: &'static str,
    path: &std::path::Path,
    reason: impl std::fmt::Display,
) -> ConnectError {
    ConnectError::File { what, path: path.to_owned(), reason: reason.to_string() }
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
    let addresses: Vec<ServerAddr> = options.urls.iter().map(|url| url.address().clone()).collect();
    let mut settings = ConnectOptions::new()
        .name(format!("{} {}", options.name, role.name))
        .custom_inbox_prefix(identity.inbox_prefix())
        .ping_interval(PING_INTERVAL)
        .client_capacity(CLIENT_COMMANDS)
        .subscription_capacity(role.subscription)
        .max_reconnects(None)
        .reconnect_delay_callback(pause)
        .event_callback(report(role.name, established));
    if let Some(creds) = &identity.creds {
        settings = settings.credentials(creds).map_err(|error| ConnectError::File {
            what: "the credentials file",
            path: options.creds_file.clone().unwrap_or_default(),
            reason: error.to_string(),
        })?;
    } else if let Some(seed) = &options.nkey_seed {
        settings = settings.nkey(seed.trim().to_owned());
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
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        // One attempt may take all the time there is, but never none: the deadline may have passed while the other
        // connection was made.
        let settings = settings.clone().connection_timeout(left.max(PAUSE_MIN));
        let error = match settings.connect(addresses.as_slice()).await {
            Ok(client) => return Ok(client),
            Err(error) => error,
        };
        let tried = options.servers();
        match error.kind() {
            ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => {
                return Err(ConnectError::Refused { tried, source: error });
            }
            ConnectErrorKind::Tls => return Err(ConnectError::Tls { tried, source: error }),
            _ => {}
        }
        attempt += 1;
        let wait = pause(attempt + 1);
        if Instant::now() + wait >= deadline {
            return Err(ConnectError::Unreachable { tried, waited: started.elapsed(), source: error });
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
    let throttle = Throttle::new(DROP_LOG_INTERVAL);
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
                if throttle.permits() {
                    tracing::warn!(connection, subscription, dropped, "messages are dropped: too slow");
                }
            }
            Event::ServerError(error) => tracing::warn!(connection, %error, "NATS reports an error"),
            Event::ClientError(error) => tracing::debug!(connection, %error, "connection attempt failed"),
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
    Err(ConnectError::TooOld { tried: options.servers(), found: client.server_info().version })
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
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_a_ceiling_and_the_first_attempt_has_none() {
        assert_eq!(pause(0), Duration::ZERO);
        assert_eq!(pause(1), Duration::ZERO);
        for _ in 0..100 {
            assert!((PAUSE_MIN / 2..PAUSE_MIN * 2).contains(&pause(2)));
            assert!((PAUSE_MAX / 2..PAUSE_MAX * 2).contains(&pause(usize::MAX)));
        }
    }

    #[test]
    fn without_a_key_no_two_connections_share_an_inbox_prefix() {
        let identity = Identity { creds: None, key: None };
        assert_ne!(identity.inbox_prefix(), identity.inbox_prefix());
        let identity = Identity { creds: None, key: Some("UKEY".into()) };
        assert_eq!(identity.inbox_prefix(), "_INBOX_UKEY");
    }

    #[tokio::test]
    async fn no_server_at_all_is_said_at_once() {
        let options = LatticeOptions { urls: Vec::new(), ..LatticeOptions::default() };
        assert!(matches!(connect(&options).await, Err(ConnectError::NoServer)));
    }
}
