//! Connections to Redis: one for each distinct server, shared by all links that agree on it.
//!
//! Each has a supervisor, a task of its own: it connects, drives the connection, asks whether the server is there, and
//! connects again, with random pauses that grow. Calls read its state and put questions to the connection of the
//! moment:
//!
//! ```text
//!        connected                    closed by the server, or a PING unanswered
//! Down ─────────────▶ Up ────────────────────────────────────────────────────────▶ Down
//! ```
//!
//! A question whose connection is lost is never asked again, unless it only reads: nobody knows whether the server
//! heard it. The supervisor ends with the last link or open bucket that uses the connection.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use rand::Rng as _;
use redis::aio::MultiplexedConnection;
use redis::{Pipeline, Value};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use trellis_provider_sdk::{Call, Health};

use crate::connect::{Driver, connect};
use crate::error::{Effect, Failure};
use crate::server::{Address, Server};
use crate::tls;

/// Pause between two looks at a quiet connection. With `response_timeout_ms` it bounds how long a server that has
/// stopped is believed to be there.
const HEARTBEAT: Duration = Duration::from_secs(2);

/// Shortest pause before connecting again; each further attempt may wait up to twice as long as the one before.
const RECONNECT_DELAY_MIN: Duration = Duration::from_millis(20);

/// A connection that stood this long was good: the next attempt after it comes at once.
const STEADY_AFTER: Duration = Duration::from_secs(2);

/// How long after a loss calls still wait for the next connection. Later ones fail at once.
const PATIENCE: Duration = Duration::from_secs(1);

/// The part of its time that a call waits for a connection at most, as a divisor.
const PATIENCE_PART: u32 = 4;

/// A connection that is away this long makes the provider failing.
const FAILING_AFTER: Duration = Duration::from_secs(5);

/// What a call keeps of its time so that the actor still hears the answer: a tenth, within these bounds.
const ANSWER_MARGIN: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(250));

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Fault {
    /// No attempt has ended yet.
    #[error("not connected yet")]
    Untried,
    /// The way there, or what answers there, is not as it should be.
    #[error("{0}")]
    Unreachable(String),
    /// The server has as many clients as it takes.
    #[error("the server has reached its limit of clients")]
    Full,
    /// The server is there and does not let us in.
    #[error("the server denies access: {0}")]
    Denied(String),
    /// The root certificates cannot be used.
    #[error("the file of root certificates {0}")]
    Certificates(String),
}

/// All connections that are in use.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<Server, Weak<Connection>>>);

/// One connection, whether it stands or not.
#[derive(Debug)]
pub(crate) struct Connection {
    server: Server,
    state: watch::Receiver<State>,
    doubt: Arc<Notify>,
    supervisor: JoinHandle<()>,
}

#[derive(Clone)]
enum State {
    Down {
        since: Instant,
        fault: Fault,
    },
    Up {
        number: u64,
        client: MultiplexedConnection,
    },
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Down { fault, .. } => write!(f, "down: {fault}"),
            Self::Up { number, .. } => write!(f, "up, the {number}. of its kind"),
        }
    }
}

impl Connections {
    /// The connection to a server, which is being made if this is the first use.
    pub(crate) fn of(&self, server: &Server) -> Arc<Connection> {
        let mut connections = self.lock();
        if let Some(connection) = connections.get(server).and_then(Weak::upgrade) {
            return connection;
        }
        connections.retain(|_, connection| connection.strong_count() > 0);
        let connection = Arc::new(Connection::supervised(server.clone()));
        connections.insert(server.clone(), Arc::downgrade(&connection));
        connection
    }

    /// Failing while a connection in use is away for longer than a moment, and while one is denied.
    pub(crate) fn health(&self) -> Health {
        let connections: Vec<_> = self.lock().values().filter_map(Weak::upgrade).collect();
        let faults: Vec<_> = connections
            .iter()
            .filter_map(|connection| connection.complaint())
            .collect();
        match faults.is_empty() {
            true => Health::Healthy,
            false => Health::Failing(faults.join("; ")),
        }
    }

    /// Ends all of them, whoever still holds one.
    pub(crate) fn close(&self) {
        for connection in self.lock().values().filter_map(Weak::upgrade) {
            connection.supervisor.abort();
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Weak<Connection>>> {
        // The map is consistent between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    fn supervised(server: Server) -> Self {
        let (sender, state) = watch::channel(State::Down {
            since: Instant::now(),
            fault: Fault::Untried,
        });
        let doubt = Arc::new(Notify::new());
        let supervisor = tokio::spawn(supervise(server.clone(), sender, doubt.clone()));
        Self {
            server,
            state,
            doubt,
            supervisor,
        }
    }

    /// Puts questions to the server, all in one go, and gives back an answer to each.
    ///
    /// Dropping the future leaves the connection as it is: an answer that nobody waits for is passed over.
    ///
    /// # Errors
    /// [`Failure::Unavailable`], [`Failure::Denied`], [`Failure::Lost`], [`Failure::Silent`]. Refusals of single
    /// commands stand among the answers.
    pub(crate) async fn ask(
        &self,
        questions: &Pipeline,
        effect: Effect,
        deadline: Instant,
    ) -> Result<Vec<Value>, Failure> {
        let (mut tries, mut lost) = (0, None);
        loop {
            let (number, mut client) = self.client(lost, deadline).await?;
            let within = deadline
                .saturating_duration_since(Instant::now())
                .min(self.server.response_timeout);
            let answers = client.send_packed_commands(questions, 0, questions.len());
            match timeout(within, answers).await {
                Ok(Ok(answers)) if answers.len() == questions.len() => return Ok(answers),
                Ok(Ok(_)) => return Err(Failure::Unexpected),
                Ok(Err(error)) => {
                    tracing::debug!(server = %self.server.target.address, %error, "a question was lost");
                    if effect == Effect::Writes || tries >= self.server.read_retries {
                        return Err(Failure::Lost { effect });
                    }
                    (tries, lost) = (tries + 1, Some(number));
                }
                Err(_) => {
                    self.doubt.notify_one();
                    return Err(Failure::Silent { within, effect });
                }
            }
        }
    }

    /// The connection of the moment, or, shortly after a loss, the next one. One that is known as lost does not count.
    async fn client(
        &self,
        lost: Option<u64>,
        deadline: Instant,
    ) -> Result<(u64, MultiplexedConnection), Failure> {
        let now = Instant::now();
        let patience = (deadline.saturating_duration_since(now) / PATIENCE_PART).min(PATIENCE);
        let mut state = self.state.clone();
        loop {
            let fault = match &*state.borrow_and_update() {
                State::Up { number, client } if Some(*number) != lost => {
                    return Ok((*number, client.clone()));
                }
                State::Up { .. } => Fault::Untried,
                State::Down {
                    fault: Fault::Denied(reason),
                    ..
                } => {
                    return Err(Failure::Denied {
                        reason: reason.clone(),
                    });
                }
                State::Down { since, fault } if since.elapsed() >= PATIENCE => {
                    return Err(self.unavailable(fault.clone()));
                }
                State::Down { fault, .. } => fault.clone(),
            };
            match timeout_at(now + patience, state.changed()).await {
                Ok(Ok(())) => {}
                Ok(Err(_)) | Err(_) => return Err(self.unavailable(fault)),
            }
        }
    }

    fn unavailable(&self, fault: Fault) -> Failure {
        Failure::Unavailable {
            address: self.server.target.address.clone(),
            fault,
        }
    }

    /// Where it leads.
    pub(crate) fn address(&self) -> &Address {
        &self.server.target.address
    }

    /// Why there is no connection, once the first attempt has ended; `None` where there is one, and where `within` has
    /// passed before that.
    pub(crate) async fn first_fault(&self, within: Duration) -> Option<Fault> {
        let mut state = self.state.clone();
        let tried = |state: &State| {
            !matches!(
                state,
                State::Down {
                    fault: Fault::Untried,
                    ..
                }
            )
        };
        match &*timeout(within, state.wait_for(tried)).await.ok()?.ok()? {
            State::Down { fault, .. } => Some(fault.clone()),
            State::Up { .. } => None,
        }
    }

    /// Whether the server does not let us in at this moment, and why.
    pub(crate) fn denied(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Down {
                fault: Fault::Denied(reason),
                ..
            } => Some(reason.clone()),
            _ => None,
        }
    }

    fn complaint(&self) -> Option<String> {
        match &*self.state.borrow() {
            State::Down { since, fault }
                if since.elapsed() >= FAILING_AFTER || matches!(fault, Fault::Denied(_)) =>
            {
                Some(format!(
                    "Redis at {} is unavailable since {} s: {fault}",
                    self.address(),
                    since.elapsed().as_secs()
                ))
            }
            _ => None,
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.supervisor.abort();
    }
}

/// When the work for a call must have an answer, so that the actor still hears it.
pub(crate) fn deadline(call: &Call) -> Instant {
    let (least, most) = ANSWER_MARGIN;
    let left = call.time_left();
    Instant::now() + left.saturating_sub((left / 10).clamp(least, most))
}

async fn supervise(server: Server, state: watch::Sender<State>, doubt: Arc<Notify>) {
    let address = &server.target.address;
    let (mut since, mut number, mut attempt) = (Instant::now(), 0, 0);
    loop {
        let fault = match establish(&server).await {
            Ok((client, driver)) => {
                number += 1;
                let began = Instant::now();
                tracing::info!(server = %address, number, "connected to Redis");
                state.send_replace(State::Up {
                    number,
                    client: client.clone(),
                });
                let fault = keep(client, driver, &server, &doubt).await;
                tracing::warn!(server = %address, number, %fault, "the connection to Redis is lost");
                since = Instant::now();
                if began.elapsed() >= STEADY_AFTER {
                    attempt = 0;
                }
                fault
            }
            Err(fault) => {
                // Said once for each reason, however often it is met.
                let known =
                    matches!(&*state.borrow(), State::Down { fault: known, .. } if *known == fault);
                if !known {
                    tracing::warn!(server = %address, %fault, "no connection to Redis");
                }
                fault
            }
        };
        state.send_replace(State::Down { since, fault });
        sleep(pause(attempt, server.reconnect_delay_max)).await;
        attempt = attempt.saturating_add(1);
    }
}

/// A random pause below a bound that doubles: many hosts that lose one server do not come back all at once.
fn pause(attempt: u32, longest: Duration) -> Duration {
    let bound = RECONNECT_DELAY_MIN
        .saturating_mul(1 << attempt.min(16))
        .min(longest);
    rand::rng().random_range(bound / 2..=bound)
}

async fn establish(server: &Server) -> Result<(MultiplexedConnection, Driver), Fault> {
    let making = async {
        let tls = match server.target.address {
            Address::Tcp { tls: true, .. } => {
                let ca_file = server.tls_ca_file.clone();
                // Read each time: certificates are renewed.
                let read = tokio::task::spawn_blocking(move || tls::connector(ca_file.as_deref()));
                let read = read
                    .await
                    .map_err(|error| Fault::Unreachable(error.to_string()))?;
                Some(read.map_err(Fault::Certificates)?)
            }
            _ => None,
        };
        connect(&server.target, tls.as_ref()).await
    };
    timeout(server.connect_timeout, making)
        .await
        .unwrap_or_else(|_| {
            Err(Fault::Unreachable(format!(
                "no answer within {} ms",
                server.connect_timeout.as_millis()
            )))
        })
}

/// Drives a connection until it is lost, and says why. When this returns, whatever waits on it is told at once.
async fn keep(
    mut client: MultiplexedConnection,
    mut driver: Driver,
    server: &Server,
    doubt: &Notify,
) -> Fault {
    let closed = || Fault::Unreachable("the server closed the connection".to_owned());
    let mut ping = Pipeline::new();
    ping.cmd("PING");
    loop {
        tokio::select! {
            () = &mut driver => return closed(),
            () = sleep(HEARTBEAT) => {}
            () = doubt.notified() => {}
        }
        // Whatever it answers, it is there.
        let answer = timeout(
            server.response_timeout,
            client.send_packed_commands(&ping, 0, 1),
        );
        tokio::select! {
            () = &mut driver => return closed(),
            answer = answer => match answer {
                Ok(Ok(_)) => {}
                Ok(Err(_)) => return closed(),
                Err(_) => return Fault::Unreachable(format!(
                    "the server was silent for {} ms",
                    server.response_timeout.as_millis()
                )),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_grow_to_their_bound_and_differ() {
        let longest = Duration::from_secs(1);
        for attempt in 0..40 {
            let pause = pause(attempt, longest);
            assert!(
                pause >= RECONNECT_DELAY_MIN / 2 && pause <= longest,
                "{pause:?}"
            );
        }
        assert!(pause(0, longest) <= RECONNECT_DELAY_MIN);
        assert!(pause(u32::MAX, longest) >= longest / 2);
        let pauses: std::collections::HashSet<_> = (0..20).map(|_| pause(16, longest)).collect();
        assert!(pauses.len() > 1);
        // Configured shorter than the shortest.
        assert!(pause(9, Duration::from_millis(10)) <= Duration::from_millis(10));
    }
}
