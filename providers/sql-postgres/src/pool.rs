//! Connections that links share.
//!
//! A pool has as many places as its configuration says. Who wants a session takes a place first, and waits for one where
//! all are taken, together with a bounded number of others; then takes a session that is idle, or connects. Nothing
//! is connected before it is wanted.
//!
//! A session comes back only if nothing can be left in it ([`Borrowed::finish`]). Whatever else happens to a borrowed
//! session (its caller has gone, the time is over, a row limit was passed), dropping it asks the server to cancel what
//! runs and closes the connection; its place is free once that is done.

use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use rand::Rng as _;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_postgres::error::SqlState;
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_util::task::TaskTracker;
use trellis_provider_sdk::{EntityId, Health};

use crate::config::{PoolConfig, TlsMode};
use crate::connection::ConnectError;
use crate::error::Failure;
use crate::session::Session;
use crate::statement::Trace;
use crate::tls;

/// Most calls that wait for a session of one pool.
const WAITING_MAX: usize = 1024;

/// Time after which a session that nobody used is closed.
const IDLE_MAX: Duration = Duration::from_secs(300);

/// Time during which a server that has no room for a connection, or is only starting, is asked again.
const CROWDED_WITHIN: Duration = Duration::from_secs(2);

/// First and longest pause between two such attempts, before jitter.
const CROWDED_PAUSE: Duration = Duration::from_millis(20);
const CROWDED_PAUSE_MAX: Duration = Duration::from_millis(320);

/// All pools that are in use.
#[derive(Debug, Default)]
pub(crate) struct Pools(Mutex<HashMap<PoolConfig, Weak<Pool>>>);

/// One pool.
#[derive(Debug)]
pub(crate) struct Pool {
    config: PoolConfig,
    address: String,
    places: Arc<Semaphore>,
    waiting: AtomicUsize,
    state: Mutex<State>,
    /// Sessions that are taking their leave.
    leaving: TaskTracker,
}

#[derive(Default)]
struct State {
    /// The session used last is the last one.
    idle: Vec<Session>,
    tls: Option<MakeRustlsConnect>,
    /// Why the last attempt to connect failed, until one succeeds.
    failing: Option<String>,
    closed: bool,
}

impl std::fmt::Debug for State {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("State")
            .field("idle", &self.idle.len())
            .field("failing", &self.failing)
            .finish_non_exhaustive()
    }
}

impl Pools {
    /// The pool for a configuration.
    pub(crate) fn of(&self, config: &PoolConfig) -> Arc<Pool> {
        let mut pools = lock(&self.0);
        if let Some(pool) = pools.get(config).and_then(Weak::upgrade) {
            return pool;
        }
        pools.retain(|_, pool| pool.strong_count() > 0);
        let pool = Arc::new(Pool {
            address: format!("{}:{}", config.server.host, config.server.port),
            places: Arc::new(Semaphore::new(config.size)),
            config: config.clone(),
            waiting: AtomicUsize::new(0),
            state: Mutex::default(),
            leaving: TaskTracker::new(),
        });
        pools.insert(config.clone(), Arc::downgrade(&pool));
        pool
    }

    /// Failing while a server does not take connections.
    pub(crate) fn health(&self) -> Health {
        let failing: Vec<_> = self
            .live()
            .iter()
            .filter_map(|pool| pool.state().failing.clone())
            .collect();
        match failing.first() {
            None => Health::Healthy,
            Some(reason) => Health::Failing(format!(
                "{} databases cannot be reached, the first: {reason}",
                failing.len()
            )),
        }
    }

    /// Closes all sessions that are idle, and waits for those that leave.
    pub(crate) async fn close(&self) {
        let pools = self.live();
        for pool in &pools {
            pool.close_idle();
            pool.leaving.close();
        }
        for pool in pools {
            pool.leaving.wait().await;
        }
        lock(&self.0).clear();
    }

    fn live(&self) -> Vec<Arc<Pool>> {
        lock(&self.0).values().filter_map(Weak::upgrade).collect()
    }
}

impl Pool {
    /// A session for an actor.
    ///
    /// Waits without end, so the caller bounds it.
    pub(crate) async fn borrow(self: &Arc<Self>, owner: &EntityId) -> Result<Borrowed, Failure> {
        let place = self.place().await?;
        let session = match self.take_idle(owner) {
            Some(session) => session,
            None => self.connect(owner).await?,
        };
        let mut borrowed = Borrowed {
            pool: self.clone(),
            session: Some(session),
            place: Some(place),
            runtime: Handle::current(),
        };
        let session = borrowed.session();
        if session.owner.as_ref().is_some_and(|former| former != owner) {
            session.wipe().await?;
        }
        session.owner = Some(owner.clone());
        Ok(borrowed)
    }

    async fn place(&self) -> Result<OwnedSemaphorePermit, Failure> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Ok(place);
        }
        /// Counts one who waits, for as long as it lives.
        struct Waiting<'a>(&'a AtomicUsize);
        impl Drop for Waiting<'_> {
            fn drop(&mut self) {
                self.0.fetch_sub(1, Ordering::Relaxed);
            }
        }
        let waiting = self.waiting.fetch_add(1, Ordering::Relaxed);
        let _waiting = Waiting(&self.waiting);
        if waiting >= WAITING_MAX {
            return Err(Failure::Overloaded {
                size: self.config.size,
                waiting,
            });
        }
        let place = self.places.clone().acquire_owned().await;
        Ok(place.expect("nobody closes the semaphore"))
    }

    /// An idle session, best one that the actor used before.
    fn take_idle(&self, owner: &EntityId) -> Option<Session> {
        let mut state = self.state();
        state.idle.retain(|session| !session.is_closed());
        let own = |session: &Session| session.owner.as_ref() == Some(owner);
        let at = state.idle.iter().rposition(own);
        match at {
            Some(at) => Some(state.idle.remove(at)),
            None => state.idle.pop(),
        }
    }

    /// A new session. Where the server has no room for one it is asked again for a while, and a session that comes back
    /// meanwhile will do.
    async fn connect(&self, owner: &EntityId) -> Result<Session, Failure> {
        let give_up = Instant::now() + CROWDED_WITHIN;
        let mut pause = CROWDED_PAUSE;
        loop {
            let error = match self.connect_once().await {
                Ok(session) => {
                    self.state().failing = None;
                    return Ok(session);
                }
                Err(error) => error,
            };
            let failure = error.failure(&self.address, self.config.connect_timeout);
            if !error.is_crowded() || Instant::now() + pause >= give_up {
                self.state().failing = Some(failure.to_string());
                return Err(failure);
            }
            let jitter = rand::rng().random_range(0.5..1.5);
            tokio::time::sleep(pause.mul_f64(jitter)).await;
            pause = (pause * 2).min(CROWDED_PAUSE_MAX);
            if let Some(session) = self.take_idle(owner) {
                return Ok(session);
            }
        }
    }

    async fn connect_once(&self) -> Result<Session, Unconnected> {
        let tls = self.tls().map_err(Unconnected::Tls)?;
        let connecting = Session::connect(&self.config.server, tls);
        match tokio::time::timeout(self.config.connect_timeout, connecting).await {
            Ok(outcome) => outcome.map_err(Unconnected::Error),
            Err(_) => Err(Unconnected::TimedOut),
        }
    }

    /// What TLS connections are made with, read when it is first wanted.
    fn tls(&self) -> Result<Option<MakeRustlsConnect>, String> {
        let TlsMode::Required { ca_file } = &self.config.server.tls else {
            return Ok(None);
        };
        if let Some(tls) = &self.state().tls {
            return Ok(Some(tls.clone()));
        }
        let tls = tls::connector(ca_file.as_deref())?;
        self.state().tls = Some(tls.clone());
        Ok(Some(tls))
    }

    /// Keeps a session for the next caller, and lets go of those that nobody wanted for long.
    fn give_back(self: &Arc<Self>, mut session: Session, runtime: &Handle) {
        session.idle_since = Instant::now();
        let mut state = self.state();
        let mut leaving: Vec<Session> = Vec::new();
        if state.closed {
            leaving.push(session);
        } else {
            state.idle.push(session);
            let stale = |session: &mut Session| session.idle_since.elapsed() > IDLE_MAX;
            leaving.extend(state.idle.extract_if(.., stale));
        }
        drop(state);
        for session in leaving {
            self.leaving.spawn_on(session.close(), runtime);
        }
    }

    fn close_idle(&self) {
        let idle = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.idle)
        };
        for session in idle {
            self.leaving.spawn(session.close());
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        let idle = std::mem::take(&mut state.idle);
        // The last link has gone. Without a runtime the sessions end without a word, which does no harm either.
        if let Ok(runtime) = Handle::try_current() {
            for session in idle {
                self.leaving.spawn_on(session.close(), &runtime);
            }
        }
    }
}

/// A session while somebody uses it.
#[derive(Debug)]
pub(crate) struct Borrowed {
    pool: Arc<Pool>,
    session: Option<Session>,
    place: Option<OwnedSemaphorePermit>,
    runtime: Handle,
}

impl Borrowed {
    /// The session.
    pub(crate) fn session(&mut self) -> &mut Session {
        self.session
            .as_mut()
            .expect("a session is there until it is finished or dropped")
    }

    /// Gives the session back after a statement has run to its end, well or not.
    pub(crate) fn finish<T>(mut self, outcome: &Result<T, Failure>, trace: Trace) {
        let usable = match outcome {
            Ok(_) => true,
            Err(failure) => failure.leaves_session_usable(),
        };
        let ended = usable || matches!(outcome, Err(Failure::OpenTransaction));
        let Some(session) = (if ended { self.session.take() } else { None }) else {
            // Something may still be under way: dropping it cancels that.
            return;
        };
        if usable && trace == Trace::None && !session.is_closed() {
            self.pool.give_back(session, &self.runtime);
        } else {
            let place = self.place.take();
            let leave = async move {
                session.close().await;
                drop(place);
            };
            self.pool.leaving.spawn_on(leave, &self.runtime);
        }
    }
}

impl Drop for Borrowed {
    fn drop(&mut self) {
        if let Some(session) = self.session.take() {
            let place = self.place.take();
            let leave = async move {
                session.abandon().await;
                drop(place);
            };
            self.pool.leaving.spawn_on(leave, &self.runtime);
        }
    }
}

/// Why an attempt to connect failed.
enum Unconnected {
    Tls(String),
    TimedOut,
    Error(ConnectError),
}

impl Unconnected {
    /// Whether the server may take a connection in a moment.
    fn is_crowded(&self) -> bool {
        let Self::Error(ConnectError::Server(error)) = self else {
            return false;
        };
        error.code().is_some_and(|code| {
            [SqlState::TOO_MANY_CONNECTIONS, SqlState::CANNOT_CONNECT_NOW].contains(code)
        })
    }

    fn failure(&self, address: &str, within: Duration) -> Failure {
        let connect = |reason| Failure::Connect {
            address: address.to_owned(),
            reason,
        };
        match self {
            Self::Tls(reason) => connect(reason.clone()),
            Self::TimedOut => connect(format!("no answer within {} ms", within.as_millis())),
            Self::Error(ConnectError::Network(error)) => connect(error.to_string()),
            Self::Error(ConnectError::Server(error)) => Failure::of_connect(address, error),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single assignment or call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
