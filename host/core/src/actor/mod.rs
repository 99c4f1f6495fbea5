//! An actor on this host: a verified, compiled component under an id, ready to be called.
//!
//! Each call gets a fresh instance from the pool, under the actor's memory limit and the caller's deadline. [`grants`]
//! decides whether a component may start, [`prepared`] makes it ready, [`instance`] is one running guest, [`function`] and
//! [`http`] call it, and [`stop`] says why it stopped.

mod function;
pub(crate) mod grants;
mod http;
pub(crate) mod instance;
pub(crate) mod output;
pub(crate) mod prepared;
mod stop;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio_util::task::TaskTracker;
use trellis_claims::{ActorClaims, VerifiedComponent};
use trellis_protocol::EntityId;

pub use grants::MissingGrants;
pub use prepared::{PrepareError, Runtime};

use crate::admission::{Admission, HostBudget};
use crate::engine::Engine;
use crate::limits::{MEMORY_BYTES_DEFAULT, MEMORY_BYTES_MAX};
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
    /// Linear memory of one instance in bytes; the default limit where `None`.
    pub memory_bytes_max: Option<usize>,
}

impl ActorSettings {
    /// The limit that holds, in bytes.
    pub(crate) fn memory_limit_bytes(&self) -> usize {
        self.memory_bytes_max
            .unwrap_or(MEMORY_BYTES_DEFAULT)
            .min(MEMORY_BYTES_MAX)
    }
}

/// A running actor.
#[derive(Debug)]
pub struct Actor {
    /// Its id in the lattice.
    pub id: EntityId,
    /// The reference that it was started from.
    pub reference: String,
    verified: VerifiedComponent,
    prepared: Prepared,
    engine: Engine,
    admission: Admission,
    /// The CPU share's one turn of this actor.
    turn: Arc<Semaphore>,
    count: AtomicU32,
    memory_bytes_max: AtomicUsize,
    settings: RwLock<Settings>,
    /// Guests that outlive the head of their response.
    tasks: TaskTracker,
}

#[derive(Debug, Clone, Default)]
struct Settings {
    config: Arc<[String]>,
    annotations: BTreeMap<String, String>,
}

impl Actor {
    pub(crate) fn new(
        id: EntityId,
        reference: String,
        (verified, prepared): (VerifiedComponent, Prepared),
        engine: Engine,
        budget: Arc<HostBudget>,
        settings: ActorSettings,
    ) -> Arc<Self> {
        let actor = Self {
            id,
            reference,
            verified,
            prepared,
            engine,
            admission: Admission::new(budget, settings.count),
            turn: Arc::new(Semaphore::new(1)),
            count: AtomicU32::new(0),
            memory_bytes_max: AtomicUsize::new(MEMORY_BYTES_DEFAULT),
            settings: RwLock::default(),
            tasks: TaskTracker::new(),
        };
        actor.apply(settings);
        Arc::new(actor)
    }

    /// Changes what can be changed without another component.
    pub(crate) fn apply(&self, settings: ActorSettings) {
        self.admission.set_count(settings.count);
        self.count.store(settings.count, Ordering::Relaxed);
        self.memory_bytes_max
            .store(settings.memory_limit_bytes(), Ordering::Relaxed);
        *self
            .settings
            .write()
            .unwrap_or_else(PoisonError::into_inner) = Settings {
            config: settings.config.into(),
            annotations: settings.annotations,
        };
    }

    /// Whether its instances could start with these settings.
    ///
    /// # Errors
    /// [`PrepareError::Memory`].
    pub(crate) fn check(&self, settings: &ActorSettings) -> Result<(), PrepareError> {
        self.prepared.check_memory(settings.memory_limit_bytes())
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

    /// Names of its configurations.
    pub fn config(&self) -> Arc<[String]> {
        Arc::clone(&self.read_settings().config)
    }

    /// What its manager wrote.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.read_settings().annotations.clone()
    }

    pub(crate) fn memory_bytes_max(&self) -> usize {
        self.memory_bytes_max.load(Ordering::Relaxed)
    }

    /// The functions that can be called on it, as `interface#function`.
    pub fn exports(&self) -> impl Iterator<Item = String> + '_ {
        self.prepared.export_names()
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
