//! A running host from the inside: what its commands, its control server and its watches work on.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Instant;

use tokio::runtime::Handle;
use tokio::sync::{Notify, Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_artifacts::Artifacts;
use trellis_claims::TrustRoots;
use trellis_lattice::presence::Presence;
use trellis_lattice::routes::Routes;
use trellis_lattice::state::LatticeState;
use trellis_protocol::EntityId;
use trellis_protocol::event::{EventData, LabelsChanged};
use trellis_protocol::presence::{PresenceError, RosterActor, RosterProvider};
use trellis_provider_sdk::ProviderFactory;

use super::StopRequest;
use super::commands::Commands;
use super::retired::Retired;
use crate::actor::Runtime;
use crate::admission::HostBudget;
use crate::artifact::Allowed;
use crate::control::Signatures;
use crate::event::Events;
use crate::restore::RunningFile;
use crate::router::Router;

/// The source of calls that operators make over the control interface. No actor or provider may have this id.
pub(crate) const OPERATOR_ID: &str = "wash";

/// Which auctions a host takes part in.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Auctions {
    pub(crate) component: bool,
    pub(crate) provider: bool,
}

/// A host from the inside.
pub(crate) struct HostInner {
    /// Its public key.
    pub(crate) id: Arc<str>,
    /// Its name for people.
    pub(crate) name: String,
    pub(crate) lattice: String,
    pub(crate) js_domain: Option<String>,
    /// The NATS server as it was named, without a password.
    pub(crate) nats_server: Option<String>,
    /// Which auctions it takes part in.
    pub(crate) auctions: Auctions,
    /// Whether other hosts believe this one.
    pub(crate) is_certified: bool,
    pub(crate) started: Instant,
    pub(crate) labels: RwLock<BTreeMap<String, String>>,
    pub(crate) trust: Arc<TrustRoots>,
    /// Which commands and links are believed.
    pub(crate) signatures: Arc<Signatures>,
    /// Where components and providers are had from.
    pub(crate) artifacts: Artifacts,
    /// What references may name.
    pub(crate) allowed: Allowed,
    pub(crate) provider_dir: Option<PathBuf>,
    pub(crate) provider_user: Option<String>,
    pub(crate) private_paths: Vec<PathBuf>,
    pub(crate) factories: Vec<Arc<dyn ProviderFactory>>,
    pub(crate) provider_aliases: BTreeMap<String, String>,
    pub(crate) runtime: Runtime,
    pub(crate) budget: Arc<HostBudget>,
    pub(crate) router: Arc<Router>,
    pub(crate) state: LatticeState,
    pub(crate) routes: Routes,
    /// Gone once the host has said goodbye.
    pub(crate) presence: Mutex<Option<Presence>>,
    /// How often the control connection was established, the first time included.
    pub(crate) reconnects: watch::Receiver<u64>,
    pub(crate) events: Events,
    pub(crate) running: Arc<RunningFile>,
    pub(crate) commands: Commands,
    /// Versions of actors that were replaced and still run.
    pub(crate) retired: Retired,
    pub(crate) providers_changed: Arc<Notify>,
    /// Bounds how many artifacts are fetched, and how many components lie in memory before they are compiled.
    pub(crate) fetching: Arc<Semaphore>,
    /// Bounds how many components are verified and compiled at once.
    pub(crate) preparing: Arc<Semaphore>,
    /// Where guests and providers run.
    pub(crate) guests: Handle,
    pub(crate) stop_request: watch::Sender<Option<StopRequest>>,
    pub(crate) tasks: TaskTracker,
    /// Ends what only listens; work that has begun goes on.
    pub(crate) cancel: CancellationToken,
}

impl std::fmt::Debug for HostInner {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("HostInner")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

impl HostInner {
    pub(crate) fn labels(&self) -> BTreeMap<String, String> {
        self.labels
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Tells the lattice what this host runs now.
    pub(crate) fn roster_changed(&self) {
        let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(presence) = &*presence else {
            return;
        };
        // Looked at under the lock, so that a later look never comes before an earlier one.
        let mut actors: Vec<_> = self
            .router
            .actors()
            .iter()
            .map(|actor| RosterActor {
                id: actor.id.clone(),
                subject: actor.claims().subject.clone(),
                content_hash: actor.claims().content_hash,
                count: actor.count(),
            })
            .collect();
        actors.sort_by(|a, b| a.id.cmp(&b.id));
        let mut providers: Vec<_> = self
            .router
            .providers()
            .iter()
            // One that was given up serves nobody: other hosts shall look for another.
            .filter(|provider| !provider.has_failed())
            .map(|provider| RosterProvider {
                id: provider.id.clone(),
                name: provider.name.clone(),
            })
            .collect();
        providers.sort_by(|a, b| a.id.cmp(&b.id));
        if let Err(error) = presence.set_roster(actors, providers) {
            tracing::error!(%error, "other hosts do not learn what this host runs");
        }
    }

    /// Changes the labels, here and for everybody.
    pub(crate) fn change_labels(
        &self,
        change: impl FnOnce(&mut BTreeMap<String, String>),
    ) -> Result<(), PresenceError> {
        let presence = self.presence.lock().unwrap_or_else(PoisonError::into_inner);
        let mut labels = self.labels();
        change(&mut labels);
        if let Some(presence) = &*presence {
            presence.set_labels(labels.clone())?;
        }
        labels.clone_into(&mut self.labels.write().unwrap_or_else(PoisonError::into_inner));
        self.events
            .publish(&EventData::LabelsChanged(LabelsChanged {
                host_id: self.id.to_string(),
                labels,
            }));
        Ok(())
    }

    /// Whether another host says that it runs a provider under an id.
    pub(crate) fn is_provider_elsewhere(&self, id: &EntityId) -> bool {
        self.routes.hosts().iter().any(|host| {
            host.roster
                .providers
                .iter()
                .any(|provider| provider.id == *id)
        })
    }
}
