//! An actor on this host: a verified, compiled component under an id, ready to be called.
//!
//! Each call gets a fresh instance from the pool, under the actor's memory limit and the caller's deadline. [`grants`]
//! decides whether a component may start, [`prepared`] makes it ready, [`instance`] is one running guest, [`function`] and
//! [`http`] call it, and [`stop`] says why it stopped.

mod function;
pub(crate) mod grants;
mod http;
pub(crate) mod instance;
pub(crate) mod limits;
pub(crate) mod output;
pub(crate) mod prepared;
mod stop;
mod warm;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use trellis_claims::{ActorClaims, VerifiedComponent};
use trellis_protocol::EntityId;

pub use grants::MissingGrants;
pub use limits::ComponentLimits;
pub use prepared::{PrepareError, Runtime};

use crate::admission::{Admission, HostBudget};
use crate::engine::Engine;
use crate::observe::Observed;
use crate::router::Router;
use prepared::Prepared;

/// What an actor is started with.
#[derive(Debug, Clone, Default)]
pub struct ActorSettings {
    /// Permits: how many of its instances may run at once.
    pub count: u32,
    /// Names of its configurations, later ones first in a look-up.
    pub config: Vec<String>,
    /// What its manager wrote; echoed word for word in events and inventories.
    pub annotations: BTreeMap<String, String>,
    /// What each instance may use.
    pub limits: ComponentLimits,
}

/// A running actor.
#[derive(Debug)]
pub struct Actor {
    /// Its id in the lattice.
    pub id: EntityId,
    /// The reference that it was started from.
    pub reference: String,
    /// That reference with the digest of what was fetched, where it comes from anywhere else than a file.
    pub(crate) resolved: String,
    verified: VerifiedComponent,
    prepared: Prepared,
    engine: Engine,
    admission: Admission,
    /// The CPU share's one turn of this actor.
    turn: Arc<Semaphore>,
    count: AtomicU32,
    memory_bytes_max: AtomicUsize,
    /// Seconds that an invocation may take; zero where it has no limit of its own.
    execution_seconds_max: AtomicU32,
    settings: RwLock<Settings>,
    /// When another scaler's version last failed to take its place.
    not_replaced: Mutex<Option<Instant>>,
    /// Guests that outlive the head of their response.
    tasks: TaskTracker,
    started: Instant,
    observed: OnceLock<Arc<Observed>>,
}

#[derive(Debug, Clone, Default)]
struct Settings {
    config: Arc<[String]>,
    annotations: BTreeMap<String, String>,
    limits: ComponentLimits,
}

impl Actor {
    pub(crate) fn new(
        id: EntityId,
        (reference, resolved): (String, String),
        (verified, prepared): (VerifiedComponent, Prepared),
        engine: Engine,
        budget: Arc<HostBudget>,
        settings: ActorSettings,
    ) -> Arc<Self> {
        let actor = Self {
            id,
            reference,
            resolved,
            verified,
            prepared,
            engine,
            admission: Admission::new(budget, settings.count),
            turn: Arc::new(Semaphore::new(1)),
            count: AtomicU32::new(0),
            memory_bytes_max: AtomicUsize::new(0),
            execution_seconds_max: AtomicU32::new(0),
            settings: RwLock::default(),
            not_replaced: Mutex::default(),
            tasks: TaskTracker::new(),
            started: Instant::now(),
            observed: OnceLock::new(),
        };
        actor.apply(settings);
        Arc::new(actor)
    }

    /// Changes what can be changed without another component.
    pub(crate) fn apply(&self, settings: ActorSettings) {
        self.admission.set_count(settings.count);
        self.count.store(settings.count, Ordering::Relaxed);
        self.memory_bytes_max
            .store(settings.limits.memory_bytes(), Ordering::Relaxed);
        let seconds = settings.limits.execution_seconds_max.unwrap_or(0);
        self.execution_seconds_max.store(seconds, Ordering::Relaxed);
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Settings {
            config: settings.config.into(),
            annotations: settings.annotations,
            limits: settings.limits,
        };
    }

    /// Whether its instances could start with these settings.
    ///
    /// # Errors
    /// [`PrepareError::Memory`].
    pub(crate) fn check(&self, settings: &ActorSettings) -> Result<(), PrepareError> {
        self.prepared.check_memory(settings.limits.memory_bytes())
    }

    /// What its claims say.
    pub fn claims(&self) -> &ActorClaims {
        &self.verified.claims
    }

    /// Its claims as a token, for others to verify.
    pub fn token(&self) -> &str {
        &self.verified.token
    }

    /// Hash of its component without the claims.
    pub fn content_hash(&self) -> String {
        self.verified.content_hash.to_string()
    }

    /// Its permits.
    pub fn count(&self) -> u32 {
        self.count.load(Ordering::Relaxed)
    }

    /// Invocations that run now.
    pub fn running(&self) -> usize {
        self.admission.running()
    }

    /// Invocations that wait for a permit.
    pub(crate) fn queued(&self) -> usize {
        self.admission.queued()
    }

    /// When it was started here, in this version.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// What is noted of its id on this host.
    pub(crate) fn observed(&self, router: &Router) -> &Arc<Observed> {
        self.observed.get_or_init(|| router.observe().of(&self.id))
    }

    /// Names of its configurations.
    pub fn config(&self) -> Arc<[String]> {
        Arc::clone(&self.read_settings().config)
    }

    /// What its manager wrote.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.read_settings().annotations.clone()
    }

    /// What was set as limits of its instances.
    pub fn limits(&self) -> ComponentLimits {
        self.read_settings().limits
    }

    pub(crate) fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    /// The time that an invocation that begins now may take, if that is limited beside its deadline.
    pub(crate) fn execution_time_max(&self) -> Option<Duration> {
        let seconds = self.execution_seconds_max.load(Ordering::Relaxed);
        (seconds > 0).then(|| Duration::from_secs(u64::from(seconds)))
    }

    /// The functions that can be called on it, as `interface#function`.
    pub fn exports(&self) -> impl Iterator<Item = String> + '_ {
        self.prepared.export_names()
    }

    /// Notes that another scaler's version was to take its place, and failed.
    pub(crate) fn note_not_replaced(&self) {
        *self.lock_not_replaced() = Some(Instant::now());
    }

    /// When that was, once.
    pub(crate) fn take_not_replaced(&self) -> Option<Instant> {
        self.lock_not_replaced().take()
    }

    fn lock_not_replaced(&self) -> std::sync::MutexGuard<'_, Option<Instant>> {
        self.not_replaced
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    fn read_settings(&self) -> std::sync::RwLockReadGuard<'_, Settings> {
        self.settings.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits until no invocation runs; `false` where the time was not enough.
    pub(crate) async fn idle(&self, within: Duration) -> bool {
        let drained = async {
            while self.admission.running() > 0 {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
            self.tasks.close();
            self.tasks.wait().await;
        };
        tokio::time::timeout(within, drained).await.is_ok()
    }
}
