//! From a caller to a callee: who is meant, whether it is allowed, and where it runs.
//!
//! Every call of this host goes through here, whoever makes it: an actor, a provider, a peer host, an operator's `wash
//! call`. A callee is an actor or a provider on this host, or a peer host that runs it. Locality changes no semantics:
//! the same [`authority`] decides, and the same bytes go to the callee.

mod authority;
mod balance;
mod door;
mod inbound;
mod journey;
mod remote;

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use futures::future::join_all;
use tokio_util::task::TaskTracker;
use trellis_claims::TrustRoots;
use trellis_lattice::peer::Peers;
use trellis_lattice::routes::Routes;
use trellis_lattice::state::LatticeState;
use trellis_protocol::{EntityId, Hop, Lease, LinkName, Refusal, RefusalCode};
use trellis_provider_sdk::{HttpRequest, HttpResponse};

use crate::actor::Actor;
use crate::actor::instance::Lender;
use crate::invocation::Invocation;
use crate::observe::Observe;
use crate::observe::span::Tracer;
use crate::provider::RunningProvider;
use authority::Authority;
use balance::InFlight;
use door::HttpDoor;

pub(crate) use inbound::PeerGate;

/// Who served a call: handles that it gave out are good there and nowhere else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ServedBy {
    /// This host.
    Here,
    /// A peer host, in one of its incarnations.
    Peer { host: Arc<str>, incarnation: u64 },
}

/// The router of a host.
#[derive(Debug)]
pub struct Router {
    host: Arc<str>,
    state: LatticeState,
    authority: Authority,
    actors: RwLock<HashMap<EntityId, Arc<Actor>>>,
    providers: RwLock<HashMap<EntityId, Arc<RunningProvider>>>,
    peers: OnceLock<Remote>,
    in_flight: InFlight,
    instances: AtomicU64,
    draining: AtomicBool,
    tasks: TaskTracker,
    observe: Observe,
    tracer: Option<Arc<dyn Tracer>>,
}

/// The way to other hosts.
#[derive(Debug)]
struct Remote {
    peers: Peers,
    routes: Routes,
}

impl Router {
    pub(crate) fn new(
        host: Arc<str>,
        state: LatticeState,
        trust: Arc<TrustRoots>,
        tracer: Option<Arc<dyn Tracer>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            host,
            authority: Authority::new(trust),
            state,
            actors: RwLock::default(),
            providers: RwLock::default(),
            peers: OnceLock::new(),
            in_flight: InFlight::default(),
            instances: AtomicU64::new(1),
            draining: AtomicBool::new(false),
            tasks: TaskTracker::new(),
            observe: Observe::default(),
            tracer,
        })
    }

    /// Opens the way to other hosts. Called once, when the host has joined its lattice.
    pub(crate) fn join(&self, peers: Peers, routes: Routes) {
        // A second call would mean two lattices in one host, which nobody can start.
        let _ = self.peers.set(Remote { peers, routes });
    }

    /// Finds the callee of a link.
    ///
    /// # Errors
    /// `no-link` and `not-granted`, with what would allow the call.
    pub(crate) fn target(
        &self,
        source: &EntityId,
        link: &LinkName,
        interface: &Arc<str>,
    ) -> Result<EntityId, Refusal> {
        self.authority
            .decide(self, source, link, interface)
            .map(|decision| decision.target.clone())
            .inspect_err(|refusal| self.observe.no_way(source, link, interface, refusal))
    }

    /// Calls a function, wherever the callee runs.
    ///
    /// # Errors
    /// A [`Refusal`] where the call was not carried out.
    pub(crate) async fn invoke(
        self: &Arc<Self>,
        mut invocation: Invocation,
    ) -> Result<(Bytes, ServedBy), Refusal> {
        let journey = self.begin(&mut invocation, None);
        let result = async {
            invocation.check_depth()?;
            self.authorise(&invocation)?;
            if self.serves(&invocation.target) {
                let result = self.invoke_here(invocation).await?;
                return Ok((result, ServedBy::Here));
            }
            self.invoke_remote(invocation).await
        };
        journey.ended(self, result.await)
    }

    /// Calls whoever gave a handle.
    ///
    /// # Errors
    /// `bad-handle` where the lender's incarnation is gone, and as [`Self::invoke`].
    pub(crate) async fn invoke_lender(
        self: &Arc<Self>,
        mut invocation: Invocation,
        lender: &ServedBy,
    ) -> Result<Bytes, Refusal> {
        let journey = self.begin(&mut invocation, None);
        let result = async {
            invocation.check_depth()?;
            self.authorise(&invocation)?;
            match lender {
                ServedBy::Here => self.invoke_here(invocation).await,
                ServedBy::Peer { host, incarnation } => {
                    self.invoke_at(invocation, host, *incarnation).await
                }
            }
        };
        journey.ended(self, result.await)
    }

    /// Hands on an HTTP request, wherever its target runs: to an actor as `wasi:http/incoming-handler`, to a provider as
    /// `wasi:http/outgoing-handler`.
    ///
    /// # Errors
    /// A [`Refusal`] where there is no response.
    pub(crate) async fn http(
        self: &Arc<Self>,
        mut invocation: Invocation,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        let journey = self.begin(&mut invocation, Some(&request));
        let result = async {
            invocation.check_depth()?;
            let door = HttpDoor::of(&invocation.operation)?;
            self.authorise(&invocation)?;
            if self.serves(&invocation.target) {
                return self.http_here(door, invocation, request).await;
            }
            self.http_remote(invocation, request).await
        };
        journey.ended(self, result.await)
    }

    /// Hands on a request that has been authorised to what runs here.
    async fn http_here(
        self: &Arc<Self>,
        door: HttpDoor,
        invocation: Invocation,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        let target = &invocation.target;
        match door {
            HttpDoor::Actor => {
                if let Some(actor) = self.actor(target) {
                    let visit = actor.observed(self).enters(&invocation, Some(&request));
                    return visit.ended(actor.http(self, invocation, request).await);
                }
            }
            HttpDoor::Provider => {
                if let Some(provider) = self.provider(target) {
                    let visit = provider.observed(self).enters(&invocation, Some(&request));
                    return visit.ended(provider.http(invocation, request).await);
                }
            }
        }
        if self.runs(target) {
            return Err(door.refuses(&invocation));
        }
        Err(not_here(target))
    }

    fn authorise(&self, invocation: &Invocation) -> Result<(), Refusal> {
        let decision = self.authority.decide(
            self,
            &invocation.source,
            &invocation.link,
            &invocation.operation.interface,
        )?;
        if decision.target == invocation.target {
            return Ok(());
        }
        Err(Refusal::new(
            RefusalCode::NoLink,
            format!(
                "the link `{}` of `{}` for `{}` leads to `{}`, not to `{}`",
                invocation.link,
                invocation.source,
                invocation.operation.interface,
                decision.target,
                invocation.target
            ),
        ))
    }

    async fn invoke_here(self: &Arc<Self>, invocation: Invocation) -> Result<Bytes, Refusal> {
        if let Some(actor) = self.actor(&invocation.target) {
            let visit = actor.observed(self).enters(&invocation, None);
            return visit.ended(actor.call(self, invocation).await);
        }
        if let Some(provider) = self.provider(&invocation.target) {
            let visit = provider.observed(self).enters(&invocation, None);
            return visit.ended(provider.invoke(invocation).await);
        }
        Err(not_here(&invocation.target))
    }

    /// Releases what an instance held, without keeping anybody waiting.
    pub(crate) fn release(self: &Arc<Self>, lease: Lease, lenders: Vec<Lender>) {
        let router = Arc::clone(self);
        self.tasks.spawn(async move {
            for (target, lender) in lenders {
                if !matches!(lender, Some(ServedBy::Peer { .. }))
                    && let Some(provider) = router.provider(&target)
                {
                    provider.release(&lease).await;
                }
                let Some(remote) = router.peers.get() else {
                    continue;
                };
                match lender {
                    Some(ServedBy::Here) => {}
                    Some(ServedBy::Peer { host, .. }) => {
                        remote.peers.release(&host, lease.clone()).await;
                    }
                    // Whoever knows nothing of the lease ignores it.
                    None => {
                        for route in remote.routes.routes_to(&target) {
                            remote.peers.release(&route.host, lease.clone()).await;
                        }
                    }
                }
            }
        });
    }

    /// Releases what a holder on another host held here. A provider that is slow with it delays no other.
    pub(crate) async fn release_lease(&self, lease: &Lease) {
        let providers = self.providers();
        join_all(providers.iter().map(|provider| provider.release(lease))).await;
    }

    /// Releases what all instances of a lost host held here, at all providers at once.
    pub(crate) async fn release_host(&self, host: &str) {
        let providers = self.providers();
        join_all(providers.iter().map(|provider| provider.release_host(host))).await;
    }

    pub(crate) fn new_lease(&self) -> Lease {
        Lease {
            host: Arc::clone(&self.host),
            instance: self.instances.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// The chain for calls that the callee of an invocation makes.
    pub(crate) fn extended_chain(&self, invocation: &Invocation) -> Arc<[Hop]> {
        // An outermost call by a provider of this host needs no record of how it came in: the provider is the source.
        invocation
            .chain
            .iter()
            .cloned()
            .chain(std::iter::once(Hop {
                id: invocation.source.clone(),
                host: Arc::clone(&invocation.lease.host),
            }))
            .collect()
    }

    /// This host's public key.
    pub(crate) fn host(&self) -> &Arc<str> {
        &self.host
    }

    /// What is noted of whatever runs here.
    pub(crate) fn observe(&self) -> &Observe {
        &self.observe
    }

    /// Messages of other hosts that were dropped or refused, by reason.
    pub(crate) fn rejected(&self) -> Vec<(&'static str, u64)> {
        let remote = self.peers.get();
        remote.map_or(Vec::new(), |remote| remote.peers.rejected())
    }

    pub(crate) fn state(&self) -> &LatticeState {
        &self.state
    }

    pub(crate) fn is_draining(&self) -> bool {
        self.draining.load(Ordering::Acquire)
    }

    /// Refuses calls from other hosts from now on.
    pub(crate) fn drain(&self) {
        self.draining.store(true, Ordering::Release);
    }

    /// Lets go of everything that runs. Providers hold the router they call by, so neither would be dropped otherwise.
    pub(crate) fn forget_all(&self) {
        write(&self.actors).clear();
        write(&self.providers).clear();
    }

    /// Waits for what was started on the side.
    pub(crate) async fn finish(&self, within: Duration) {
        self.tasks.close();
        let _ = tokio::time::timeout(within, self.tasks.wait()).await;
    }

    fn runs(&self, id: &EntityId) -> bool {
        read(&self.actors).contains_key(id) || read(&self.providers).contains_key(id)
    }

    /// A running actor of this host.
    pub fn actor(&self, id: &EntityId) -> Option<Arc<Actor>> {
        read(&self.actors).get(id).cloned()
    }

    /// All running actors of this host.
    pub fn actors(&self) -> Vec<Arc<Actor>> {
        read(&self.actors).values().cloned().collect()
    }

    pub(crate) fn insert_actor(&self, actor: Arc<Actor>) {
        write(&self.actors).insert(actor.id.clone(), actor);
        self.authority.forget();
    }

    pub(crate) fn remove_actor(&self, id: &EntityId) -> Option<Arc<Actor>> {
        let removed = write(&self.actors).remove(id);
        self.authority.forget();
        removed
    }

    pub(crate) fn provider(&self, id: &EntityId) -> Option<Arc<RunningProvider>> {
        read(&self.providers).get(id).cloned()
    }

    pub(crate) fn providers(&self) -> Vec<Arc<RunningProvider>> {
        read(&self.providers).values().cloned().collect()
    }

    pub(crate) fn insert_provider(&self, provider: Arc<RunningProvider>) {
        write(&self.providers).insert(provider.id.clone(), provider);
        self.authority.forget();
    }

    pub(crate) fn remove_provider(&self, id: &EntityId) -> Option<Arc<RunningProvider>> {
        let removed = write(&self.providers).remove(id);
        self.authority.forget();
        removed
    }
}

fn not_here(target: &EntityId) -> Refusal {
    Refusal::new(
        RefusalCode::NotHere,
        format!("`{target}` does not run on this host"),
    )
}

fn read<T>(lock: &RwLock<T>) -> std::sync::RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> std::sync::RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}
