//! A running provider.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_artifacts::Program;
use trellis_claims::provider::ProviderClaims;
use trellis_protocol::control::delivery::REASON_BYTES_MAX;
use trellis_protocol::control::{ProviderHealth, ProviderState};
use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, Lease, Refusal, RefusalCode};
use trellis_provider_sdk::{
    Call, Health, LinkError, Provider, ProviderFactory, ProviderSetup, StartError,
};

use super::outbound::ActorCalls;
use super::process::{IsolationOptions, LaunchError, Order, Phase, PhaseWatch, Placed, Supervised};
use super::table::{LinkPlace, LinkProgress, LinkTable, WantedLink};
use crate::invocation::{Invocation, deadline_exceeded};
use crate::observe::Observed;
use crate::router::Router;

/// Time that a provider has to start.
const START_MAX: Duration = Duration::from_secs(30);

/// Time that a provider has to say how it is.
const HEALTH_MAX: Duration = Duration::from_secs(2);

/// Time that a provider has to let go of handles.
const RELEASE_MAX: Duration = Duration::from_secs(5);

/// What a provider is started with.
#[derive(Debug, Clone)]
pub(crate) struct ProviderStart {
    pub(crate) id: EntityId,
    pub(crate) reference: String,
    pub(crate) config: BTreeMap<String, String>,
    pub(crate) config_names: Vec<String>,
    pub(crate) annotations: BTreeMap<String, String>,
}

/// What a reference leads to.
pub(crate) enum ProviderSource {
    /// A provider that this host was assembled with.
    BuiltIn(Arc<dyn ProviderFactory>),
    /// A file that is to run as a process.
    Program(PathBuf),
    /// The same, as it was fetched.
    Fetched(Box<Program>),
}

/// A program that was fetched, and where it is started from.
struct FetchedProgram {
    program: Program,
    /// Its copy, where it cannot be started from the cache.
    placed: Option<Placed>,
}

impl FetchedProgram {
    async fn lay_out(program: Program, name: &str) -> Self {
        // A file that an operator names is started where it lies.
        if program.claims.is_none() {
            return Self {
                program,
                placed: None,
            };
        }
        let (cached, name) = (program.path.clone(), name.to_owned());
        let placing = tokio::task::spawn_blocking(move || Placed::place(&cached, &name)).await;
        let placed = match placing {
            Ok(Ok(placed)) => placed,
            Ok(Err(error)) => {
                tracing::warn!(%error, "a provider is started from the cache, which its own user may not reach");
                None
            }
            Err(_) => None,
        };
        Self { program, placed }
    }

    fn path(&self) -> &Path {
        self.placed
            .as_ref()
            .map_or(&self.program.path, |placed| placed.path())
    }
}

/// Why a provider did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ProviderStartError {
    /// One that is built in refused.
    #[error("`{name}` does not start: {source}")]
    BuiltIn {
        name: &'static str,
        source: StartError,
    },
    /// A process did not come up.
    #[error("the provider does not start: {0}")]
    Process(#[from] LaunchError),
}

impl ProviderStartError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::BuiltIn {
                source: StartError::Config { .. },
                ..
            } => "config-invalid",
            Self::BuiltIn { .. } => "provider-failed",
            Self::Process(error) => error.code(),
        }
    }
}

/// A provider of this host, and what it has been told.
pub(crate) struct RunningProvider {
    pub(crate) id: EntityId,
    pub(crate) reference: String,
    /// The name of its kind: what its factory, or its process, says.
    pub(crate) name: String,
    pub(crate) config_names: Vec<String>,
    pub(crate) annotations: BTreeMap<String, String>,
    /// Whether it calls actors.
    pub(crate) is_caller: bool,
    seat: Seat,
    /// What was fetched to run it. It stays in the cache for as long as this does: the process may be started again.
    fetched: Option<FetchedProgram>,
    links: LinkTable,
    /// What it said last about how it is.
    said: Mutex<Option<Health>>,
    pub(super) stopping: CancellationToken,
    started: Instant,
    observed: OnceLock<Arc<Observed>>,
}

/// Where a provider sits.
enum Seat {
    /// In this process.
    Here(Arc<dyn Provider>),
    /// In one of its own.
    Process(Supervised),
}

/// Whom to speak to at the moment.
struct Spoken {
    provider: Arc<dyn Provider>,
    /// Of a process, which one; links are told to each anew. Zero for a provider in this process.
    incarnation: u64,
}

impl Seat {
    /// # Errors
    /// A refusal where nobody is there.
    fn spoken(&self) -> Result<Spoken, Refusal> {
        match self {
            Self::Here(provider) => Ok(Spoken {
                provider: Arc::clone(provider),
                incarnation: 0,
            }),
            Self::Process(process) => {
                let current = process.current()?;
                Ok(Spoken {
                    provider: current.door,
                    incarnation: current.incarnation,
                })
            }
        }
    }
}

impl std::fmt::Debug for RunningProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningProvider")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl RunningProvider {
    pub(crate) async fn start(
        source: ProviderSource,
        router: &Arc<Router>,
        (lattice, host): (String, String),
        isolation: IsolationOptions,
        start: ProviderStart,
    ) -> Result<Arc<Self>, ProviderStartError> {
        let outbound = Arc::new(ActorCalls::new(start.id.clone(), Arc::clone(router)));
        let (program, fetched) = match source {
            ProviderSource::BuiltIn(factory) => (Err(factory), None),
            ProviderSource::Program(path) => (Ok(path), None),
            ProviderSource::Fetched(program) => {
                let fetched = FetchedProgram::lay_out(*program, start.id.as_str()).await;
                (Ok(fetched.path().to_owned()), Some(fetched))
            }
        };
        let (seat, name, is_caller) = match program {
            Err(factory) => {
                let setup = ProviderSetup {
                    id: start.id.clone(),
                    lattice,
                    host,
                    config: start.config,
                    outbound,
                };
                let name = factory.name();
                let started = tokio::time::timeout(START_MAX, factory.start(setup)).await;
                let provider = started
                    .unwrap_or_else(|_| {
                        Err(StartError::Backend(format!(
                            "it did not start within {} s",
                            START_MAX.as_secs()
                        )))
                    })
                    .map_err(|source| ProviderStartError::BuiltIn { name, source })?;
                (
                    Seat::Here(provider),
                    name.to_owned(),
                    !factory.calls().is_empty(),
                )
            }
            Ok(path) => {
                let order = Order {
                    id: start.id.clone(),
                    path,
                    lattice,
                    host,
                    config: start.config,
                    outbound,
                    isolation,
                };
                let (process, hello) = Supervised::start(order).await?;
                (Seat::Process(process), hello.name, !hello.calls.is_empty())
            }
        };
        Ok(Arc::new(Self {
            links: LinkTable::new(start.id.clone()),
            id: start.id,
            reference: start.reference,
            name,
            config_names: start.config_names,
            annotations: start.annotations,
            is_caller,
            seat,
            fetched,
            said: Mutex::default(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            observed: OnceLock::new(),
        }))
    }

    /// What the archive says that it came in, if it came in one.
    pub(crate) fn claims(&self) -> Option<&ProviderClaims> {
        self.fetched.as_ref()?.program.claims.as_ref()
    }

    /// When it was started here.
    pub(crate) fn started(&self) -> Instant {
        self.started
    }

    /// What is noted of its id on this host.
    pub(crate) fn observed(&self, router: &Router) -> &Arc<Observed> {
        self.observed.get_or_init(|| router.observe().of(&self.id))
    }

    /// How often its process was started again; never, where it has none.
    pub(crate) fn restarts(&self) -> u64 {
        match &self.seat {
            Seat::Here(_) => 0,
            Seat::Process(process) => process.restarts(),
        }
    }

    /// Of a provider process: the phases it goes through.
    pub(crate) fn phases(&self) -> Option<PhaseWatch> {
        match &self.seat {
            Seat::Here(_) => None,
            Seat::Process(process) => Some(process.watch()),
        }
    }

    /// Whether it has been given up, so that another may take its place.
    pub(crate) fn has_failed(&self) -> bool {
        matches!(&self.seat, Seat::Process(process) if matches!(process.phase(), Phase::Failed(_)))
    }

    /// Serves a call that the router has authorised.
    pub(crate) async fn invoke(&self, invocation: Invocation) -> Result<Bytes, Refusal> {
        let provider = self.admit(&invocation)?;
        let (deadline, cancel) = (invocation.deadline, invocation.cancel.clone());
        let served = provider.invoke(call(invocation));
        self.within(deadline, &cancel, served).await
    }

    /// Whoever serves the call, if it may be served.
    pub(super) fn admit(&self, invocation: &Invocation) -> Result<Arc<dyn Provider>, Refusal> {
        let spoken = self.seat.spoken()?;
        self.links.check(spoken.incarnation, invocation)?;
        Ok(spoken.provider)
    }

    /// Ends with the call's deadline, its caller or the provider, whatever comes first.
    pub(super) async fn within<T>(
        &self,
        deadline: Instant,
        cancel: &CancellationToken,
        served: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        tokio::select! {
            biased;
            result = served => result,
            () = cancel.cancelled() => Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone")),
            () = tokio::time::sleep_until(deadline.into()) => Err(deadline_exceeded()),
            () = self.stopping.cancelled() => Err(stopped(&self.id)),
        }
    }

    /// Brings the provider's links to what is wanted. Gives back what each new or changed link came to.
    pub(super) async fn apply(
        &self,
        wanted: HashMap<LinkPlace, WantedLink>,
    ) -> Vec<(LinkKey, Result<(), LinkError>)> {
        match self.seat.spoken() {
            Ok(Spoken {
                provider,
                incarnation,
            }) => self.links.apply(&*provider, incarnation, wanted).await,
            // Nobody is there to be told. What former incarnations were told lets no call in.
            Err(_) => Vec::new(),
        }
    }

    pub(crate) async fn release(&self, lease: &Lease) {
        // A process that is gone holds nothing.
        if let Ok(spoken) = self.seat.spoken() {
            let _ = tokio::time::timeout(RELEASE_MAX, spoken.provider.release(lease)).await;
        }
    }

    pub(crate) async fn release_host(&self, host: &str) {
        if let Ok(spoken) = self.seat.spoken() {
            let _ = tokio::time::timeout(RELEASE_MAX, spoken.provider.release_host(host)).await;
        }
    }

    /// How it is; silence counts as failing.
    pub(crate) async fn health(&self) -> Health {
        let health = match self.seat.spoken() {
            Ok(spoken) => tokio::time::timeout(HEALTH_MAX, spoken.provider.health())
                .await
                .unwrap_or_else(|_| {
                    Health::Failing(format!("no answer within {} s", HEALTH_MAX.as_secs()))
                }),
            Err(refusal) => Health::Failing(refusal.message),
        };
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(health.clone());
        health
    }

    /// How it is as far as is known without asking: what becomes of its process, else what it said last.
    pub(crate) fn condition(&self) -> Option<ProviderHealth> {
        let phase = match &self.seat {
            Seat::Here(_) => None,
            Seat::Process(process) => Some(process.phase()),
        };
        let (state, reason) = match phase {
            Some(Phase::Failed(reason)) => (ProviderState::Failed, Some(reason.to_string())),
            Some(Phase::Restarting(reason)) => {
                (ProviderState::Restarting, Some(reason.to_string()))
            }
            _ => match &*self.said.lock().unwrap_or_else(PoisonError::into_inner) {
                Some(Health::Healthy) => (ProviderState::Healthy, None),
                Some(Health::Failing(reason)) => (ProviderState::Failing, Some(reason.clone())),
                None => return None,
            },
        };
        // It comes from the provider, and goes into every heartbeat.
        let reason = reason.map(|mut reason| {
            reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
            reason
        });
        Some(ProviderHealth { state, reason })
    }

    /// How far its links are: what it was told of each, and what it answered.
    pub(super) fn link_states(&self) -> HashMap<LinkPlace, LinkProgress> {
        let incarnation = self.seat.spoken().ok().map(|spoken| spoken.incarnation);
        self.links.progress(incarnation)
    }

    /// Shuts it down. What still runs when the time is over is told that its outcome is unknown. Says whether everything was
    /// finished in time: a provider that needed all of it has cut something off.
    pub(crate) async fn stop(&self, within: Duration) -> bool {
        let in_time = match &self.seat {
            Seat::Here(provider) => {
                // The provider keeps to the time by itself; the rest is for one that does not.
                let begin = Instant::now();
                let grace = within + Duration::from_secs(1);
                let ended = tokio::time::timeout(grace, provider.shutdown(within)).await;
                ended.is_ok() && begin.elapsed() < within
            }
            Seat::Process(process) => process.stop(within).await,
        };
        self.stopping.cancel();
        in_time
    }
}

#[cfg(test)]
impl RunningProvider {
    /// A process that was started without a router.
    pub(super) fn of_process(id: EntityId, process: Supervised) -> Self {
        Self::seated(id, Seat::Process(process))
    }

    /// One in this process that no factory made.
    pub(super) fn of_built_in(id: EntityId, provider: Arc<dyn Provider>) -> Self {
        Self::seated(id, Seat::Here(provider))
    }

    fn seated(id: EntityId, seat: Seat) -> Self {
        Self {
            links: LinkTable::new(id.clone()),
            id,
            reference: "test".to_owned(),
            name: "test".to_owned(),
            config_names: Vec::new(),
            annotations: BTreeMap::new(),
            is_caller: true,
            seat,
            fetched: None,
            said: Mutex::default(),
            stopping: CancellationToken::new(),
            started: Instant::now(),
            observed: OnceLock::new(),
        }
    }
}

/// What a caller is told whose call was cut off.
pub(super) fn stopped(provider: &EntityId) -> Refusal {
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        format!("the provider `{provider}` was stopped during the call"),
    )
}

/// A call as a provider sees it.
pub(super) fn call(invocation: Invocation) -> Call {
    Call {
        id: invocation.id,
        source: invocation.source,
        link: invocation.link,
        operation: invocation.operation,
        type_hash: invocation.type_hash,
        payload: invocation.payload,
        deadline: invocation.deadline,
        cancel: invocation.cancel,
        lease: invocation.lease,
        depth: invocation.depth,
        chain: invocation.chain,
        traceparent: invocation.traceparent,
    }
}
