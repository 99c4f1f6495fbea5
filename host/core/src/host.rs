//! The life of a host: it starts, joins its lattice, restores what it ran, serves, drains and leaves.
//!
//! ```text
//! start:  state directory → engine → control runtime → connect → state, synchronised → router
//!         → presence → peers → control interface → heartbeats → restore
//! stop:   refuse peers, say "draining" → no more commands → providers that call actors → actors idle
//!         → peers → other providers → `host_stopped`, goodbye → connections closed
//! ```
//!
//! Guests and providers run on the runtime that calls [`Host::start`]; everything that keeps the host in its lattice runs
//! on a runtime of its own, [`control_runtime`] (D14). All tasks belong to the host and end with it: after
//! [`Host::stop`], or in disorder when the last owner drops it.
//!
//! The host runs nothing that it does not verify, and believes its copy of the lattice's state only as far as claims bear
//! it out. Who may do what is decided in [`router`](crate::router), what operators may ask in `control`.

mod actor_error;
mod actors;
mod commands;
mod content;
mod control_runtime;
mod fetching;
mod foreign;
mod inner;
mod inventory;
mod link_ends;
mod obituary;
mod options;
mod progress;
mod providers;
mod reach;
mod restoration;
mod retired;
mod scaler;
mod shutdown;
mod starting;
mod state_dir;
mod watch;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch as watch_channel};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_artifacts::{Artifacts, LatticeStore};
use trellis_claims::{HostCertificate, KeyError, KeyKind, TokenError, UnixTime};
use trellis_lattice::connection::{ConnectError, Connection, connect};
use trellis_lattice::peer::{PeerLimits, PeerOptions, PeerStartError, Peers};
use trellis_lattice::presence::{Presence, PresenceOptions, PresenceStartError};
use trellis_lattice::routes::Routes;
use trellis_lattice::state::{LatticeState, OpenError};
use trellis_protocol::control::host::SOFTWARE;
use trellis_protocol::control::{HostInventory, HostStats};
use trellis_protocol::event::{EventData, HostStarted};

pub use options::{HostOptions, SHUTDOWN_TIMEOUT_DEFAULT};
pub use state_dir::StateDirError;

pub(crate) use actors::{OtherReference, Wanted};
pub(crate) use commands::Purpose;
pub(crate) use control_runtime::on;
use inner::Auctions;
pub(crate) use inner::{HostInner, OPERATOR_ID};
pub(crate) use inventory::VERSION;
pub(crate) use link_ends::outside_claims;
pub(crate) use providers::WantedProvider;

use crate::actor::Runtime;
use crate::admission::HostBudget;
use crate::artifact::Allowed;
use crate::control::{self, Signatures, SubscribeError};
use crate::engine::{Engine, EngineError};
use crate::event::Events;
use crate::observe::{Readiness, ReadinessCheck};
use crate::provider::keep_linked;
use crate::restore::RunningFile;
use crate::router::{PeerGate, Router};
use commands::Commands;
use control_runtime::{ControlRuntime, Ended};
use retired::Retired;
use state_dir::StateDir;

/// Longest wait at start until the copy of the lattice's state is complete.
pub const SYNCHRONISE_MAX: Duration = Duration::from_secs(60);

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum HostError {
    /// The key is none of a host.
    #[error("the host's key cannot be used")]
    Key(#[from] KeyError),
    /// The certificate is not believed, by this host's own trust roots, or is another host's.
    #[error("the host's certificate is not valid: {0}")]
    Certificate(#[from] TokenError),
    /// The certificate is another host's.
    #[error("the certificate is for the host {found}, this one is {host}")]
    OtherCertificate {
        /// This host.
        host: String,
        /// The host that the certificate names.
        found: String,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    StateDir(#[from] StateDirError),
    /// The engine cannot be set up.
    #[error(transparent)]
    Engine(#[from] EngineError),
    /// The runtime for control cannot be made, or has ended early.
    #[error("the host's control runtime cannot run: {0}")]
    Runtime(String),
    /// Nothing can be fetched: the cache or the certificates cannot be used.
    #[error(transparent)]
    Artifacts(#[from] trellis_artifacts::OpenError),
    /// The lattice cannot be reached.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// The lattice's state cannot be opened.
    #[error(transparent)]
    State(#[from] OpenError),
    /// The lattice's state was not complete in time.
    #[error("the lattice's state was not complete within {} s; is JetStream healthy?", after.as_secs())]
    NotSynchronised {
        /// How long it was waited for.
        after: Duration,
    },
    /// The host cannot present itself to others.
    #[error(transparent)]
    Presence(#[from] PresenceStartError),
    /// Calls between hosts cannot be taken.
    #[error(transparent)]
    Peers(#[from] PeerStartError),
    /// The control interface cannot be served.
    #[error(transparent)]
    Control(#[from] SubscribeError),
}

impl From<Ended> for HostError {
    fn from(ended: Ended) -> Self {
        Self::Runtime(ended.to_string())
    }
}

/// What an operator asked for by `host.stop`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StopRequest {
    /// The time for work in flight, where one was asked for.
    pub within: Option<Duration>,
}

/// A running host.
#[derive(Debug)]
pub struct Host {
    shared: Arc<HostInner>,
    peers: Peers,
    connection: Connection,
    /// Ends what listens for commands, before anything else ends.
    intake: CancellationToken,
    intake_tasks: TaskTracker,
    readiness: ReadinessCheck,
    control: ControlRuntime,
    _state_dir: StateDir,
}

impl Host {
    /// Starts a host and joins its lattice. What it ran before is restored beside this, and told by events.
    ///
    /// The runtime that this is called on is the one on which guests and providers will run; it needs several threads.
    /// Dropping the future stops what has been started.
    ///
    /// # Errors
    /// [`HostError`], by cause. Nothing is left behind but the state directory.
    pub async fn start(options: HostOptions) -> Result<Arc<Self>, HostError> {
        let started = Instant::now();
        options.host_key.public().expect_kind(KeyKind::Host)?;
        check_certificate(&options)?;
        let state_dir = StateDir::open(&options.state_dir)?;
        let incarnation = state_dir.next_incarnation()?;
        let runtime = Runtime::new(Engine::new(Some(&state_dir.path().join("aot")))?)?;
        let control =
            ControlRuntime::start().map_err(|error| HostError::Runtime(error.to_string()))?;

        let nats = options.nats.clone();
        let connection = control.run(async move { connect(&nats).await }).await??;
        let trust = Arc::new(options.trust.clone());
        let signatures = Arc::new(Signatures::open(
            state_dir.path(),
            &connection,
            Arc::clone(&trust),
            options.require_signed,
        ));
        let (opening, belief) = (connection.clone(), signatures.belief());
        let state = control
            .run(async move { LatticeState::open_with(&opening, belief).await })
            .await??;
        tokio::time::timeout(SYNCHRONISE_MAX, state.synchronised())
            .await
            .map_err(|_| HostError::NotSynchronised {
                after: SYNCHRONISE_MAX,
            })?;

        let artifact_options = options.artifact_options(state_dir.path());
        let allowed = Allowed::by(&artifact_options);
        let store = LatticeStore {
            context: connection.jetstream.clone(),
            lattice: connection.lattice().to_string(),
        };
        let artifacts = Artifacts::open(artifact_options, Some(store))?;
        artifacts.set_registries(&options.registries);

        let id: Arc<str> = Arc::from(options.host_key.public().as_str());
        let name = options.name();
        let private_paths = options.all_private_paths();
        let labels = options.all_labels();
        let tracer = options.tracer.clone();
        let router = Router::new(Arc::clone(&id), state.clone(), Arc::clone(&trust), tracer);
        let guests = Handle::current();
        let presence = PresenceOptions {
            client: connection.control.clone(),
            subjects: connection.subjects().clone(),
            key: Arc::clone(&options.host_key),
            certificate: options.certificate.clone(),
            trust: Arc::clone(&trust),
            incarnation,
            name: name.clone(),
            labels: labels.clone(),
        };
        let presence = control.run(Presence::start(presence)).await??;
        let routes = presence.routes();
        let peers = PeerOptions {
            client: connection.data.clone(),
            subjects: connection.subjects().clone(),
            key: Arc::clone(&options.host_key),
            incarnation,
            routes: routes.clone(),
            limits: PeerLimits::default(),
        };
        let gate = Arc::new(PeerGate::new(&router, guests.clone()));
        let peers = control.run(Peers::start(peers, gate)).await??;
        router.join(peers.clone(), routes.clone());

        let (tasks, cancel) = (TaskTracker::new(), CancellationToken::new());
        let (events, publishing) = Events::new(
            connection.control.clone(),
            connection.subjects().clone(),
            Arc::clone(&id),
            cancel.clone(),
        );
        tasks.spawn_on(publishing, control.handle());
        let (running, former) = RunningFile::open(state_dir.path(), !options.restore);
        let shared = Arc::new(HostInner {
            id,
            name,
            lattice: connection.lattice().to_string(),
            js_domain: options.nats.js_domain.clone(),
            nats_server: options.nats.urls.first().map(ToString::to_string),
            auctions: Auctions {
                component: options.component_auctions,
                provider: options.provider_auctions,
            },
            is_certified: options.certificate.is_some(),
            started,
            labels: RwLock::new(labels),
            trust,
            signatures,
            artifacts,
            allowed,
            provider_dir: options.provider_dir,
            provider_user: options.provider_user,
            private_paths,
            factories: options.provider_factories,
            provider_aliases: options.provider_aliases,
            budget: HostBudget::new(runtime.engine().instances()),
            runtime,
            router,
            state,
            routes,
            presence: Mutex::new(Some(presence)),
            reconnects: connection.reconnects(),
            events,
            running: Arc::new(running),
            commands: Commands::new(control.handle().clone(), tasks.clone()),
            providers_changed: Arc::new(Notify::new()),
            fetching: Arc::new(Semaphore::new(crate::limits::FETCHES_MAX)),
            preparing: Arc::new(Semaphore::new(
                std::thread::available_parallelism().map_or(1, usize::from),
            )),
            retired: Retired::default(),
            guests,
            stop_request: watch_channel::Sender::new(None),
            tasks,
            cancel,
        });
        let host = Self {
            shared: Arc::clone(&shared),
            peers,
            connection: connection.clone(),
            intake: CancellationToken::new(),
            intake_tasks: TaskTracker::new(),
            readiness: ReadinessCheck::default(),
            control,
            _state_dir: state_dir,
        };
        host.begin(former).await?;
        Ok(Arc::new(host))
    }

    /// Starts what runs for as long as the host does.
    async fn begin(&self, former: crate::restore::Running) -> Result<(), HostError> {
        let shared = &self.shared;
        shared.tasks.spawn_on(
            keep_linked(
                Arc::clone(&shared.router),
                Arc::clone(&shared.providers_changed),
                shared.cancel.clone(),
            ),
            &shared.guests,
        );
        shared.events.publish(&EventData::HostStarted(HostStarted {
            friendly_name: shared.name.clone(),
            labels: shared.labels(),
            uptime_seconds: shared.started.elapsed().as_secs(),
            version: inventory::VERSION.to_owned(),
            software: Some(SOFTWARE.to_owned()),
        }));
        let links = Arc::clone(shared.signatures.links());
        shared
            .tasks
            .spawn_on(links.keep(shared.cancel.clone()), self.control.handle());
        // Before any command: what an operator asks for now comes after what ran before.
        restoration::restore(shared, former);
        let server = control::Server {
            shared: Arc::clone(shared),
            client: self.connection.control.clone(),
            subjects: self.connection.subjects().clone(),
            cancel: self.intake.clone(),
            tasks: self.intake_tasks.clone(),
        };
        self.control.run(server.start()).await??;
        let (watched, connection) = (Arc::clone(shared), self.connection.clone());
        self.control
            .run(async move { watch::start(&watched, connection) })
            .await?;
        tracing::info!(
            host_id = %shared.id,
            name = shared.name,
            lattice = shared.lattice,
            "the host serves"
        );
        Ok(())
    }

    /// Its public key.
    pub fn id(&self) -> &str {
        &self.shared.id
    }

    /// Its name for people.
    pub fn friendly_name(&self) -> &str {
        &self.shared.name
    }

    /// What it runs.
    pub fn inventory(&self) -> HostInventory {
        self.shared.inventory()
    }

    /// Its labels.
    pub fn labels(&self) -> BTreeMap<String, String> {
        self.shared.labels()
    }

    /// The other hosts of the lattice, as this one knows them.
    pub fn routes(&self) -> Routes {
        self.shared.routes.clone()
    }

    /// Its copy of the lattice's state.
    pub fn state(&self) -> LatticeState {
        self.shared.state.clone()
    }

    /// How many messages of other hosts, and of those who would be some, were dropped or refused since the start, by reason.
    pub fn rejected(&self) -> Vec<(&'static str, u64)> {
        let presence = self
            .shared
            .presence
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let beats = presence.as_ref().map(Presence::rejected);
        let mut counts = beats.unwrap_or_default();
        counts.extend(self.peers.rejected());
        counts
    }

    /// Its numbers: what `host.stats` answers.
    pub fn stats(&self) -> HostStats {
        self.shared.stats()
    }

    /// Its numbers as OpenMetrics text, of the media type [`METRICS_CONTENT_TYPE`](crate::observe::METRICS_CONTENT_TYPE).
    pub fn metrics(&self) -> String {
        self.shared.metrics()
    }

    /// Whether it can do its work now: it takes work, NATS is there, the state is synchronised, and a message just went to
    /// NATS and back. Takes a second at most; asked more often than once a second, it says the same again.
    pub async fn readiness(&self) -> Readiness {
        self.readiness.ask(&self.shared, &self.connection).await
    }

    /// Waits until an operator asks the host to stop. The host goes on until [`Self::stop`] is called.
    pub async fn stop_requested(&self) -> StopRequest {
        let mut requests = self.shared.stop_request.subscribe();
        loop {
            if let Some(request) = *requests.borrow_and_update() {
                return request;
            }
            if requests.changed().await.is_err() {
                // The sender lives in `shared`, which `self` holds.
                std::future::pending::<()>().await;
            }
        }
    }
}

impl Drop for Host {
    /// Ends the tasks of a host that was not stopped.
    fn drop(&mut self) {
        self.intake.cancel();
        self.shared.cancel.cancel();
        self.shared.router.forget_all();
    }
}

fn check_certificate(options: &HostOptions) -> Result<(), HostError> {
    let host = options.host_key.public();
    let Some(certificate) = &options.certificate else {
        tracing::warn!(
            "this host has no certificate: it runs alone, no other host calls it or is called by it"
        );
        return Ok(());
    };
    let lattice = options.nats.lattice.as_str();
    let certificate =
        HostCertificate::verify(certificate, lattice, &options.trust, UnixTime::now())?;
    if certificate.subject != *host {
        return Err(HostError::OtherCertificate {
            host: host.to_string(),
            found: certificate.subject.to_string(),
        });
    }
    Ok(())
}
