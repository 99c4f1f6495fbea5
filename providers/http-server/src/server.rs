//! The provider: its links, and the listeners they make.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use tokio::sync::{Mutex, Semaphore};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_protocol::Operation;
use trellis_provider_sdk::http::INCOMING_HANDLER;
use trellis_provider_sdk::{
    Health, Link, LinkEnd, LinkError, LinkKey, Outbound, Provider, ProviderFactory, ProviderSetup,
    StartError,
};

use crate::config::{Config, RoutingMode};
use crate::link_config::{Claim, LinkConfig};
use crate::listener::{Listener, Listening};
use crate::route::{Route, RouteTable};
use crate::tls;

/// Time for connections to notice that they are aborted, after a shutdown's own time.
const ABORT_GRACE: Duration = Duration::from_millis(500);

/// Makes HTTP servers: the built-in provider `http-server`.
#[derive(Debug, Clone, Copy, Default)]
pub struct HttpServerFactory;

#[async_trait]
impl ProviderFactory for HttpServerFactory {
    fn name(&self) -> &'static str {
        "http-server"
    }

    fn serves(&self) -> &'static [&'static str] {
        &[]
    }

    fn calls(&self) -> &'static [&'static str] {
        &[INCOMING_HANDLER]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        Ok(HttpServer::start(setup).await?)
    }
}

/// What every connection of a server shares.
pub(crate) struct Server {
    pub(crate) config: Config,
    pub(crate) outbound: Arc<dyn Outbound>,
    /// What is called on actors; made once.
    pub(crate) operation: Operation,
    /// Places for open connections.
    pub(crate) connections: Arc<Semaphore>,
    /// Owns every task.
    pub(crate) tasks: TaskTracker,
    /// Listeners and connections are to end.
    pub(crate) stop: CancellationToken,
    /// What has not ended is dropped.
    pub(crate) abort: CancellationToken,
}

/// A running HTTP server.
pub struct HttpServer {
    server: Arc<Server>,
    /// Link changes take it one after another.
    state: Mutex<State>,
    /// Real addresses, for whoever asked for a free port.
    addresses: RwLock<Vec<(Option<LinkKey>, SocketAddr)>>,
}

#[derive(Default)]
struct State {
    links: HashMap<LinkKey, Held>,
    /// In path and host mode.
    shared: Option<Listener>,
}

/// What a link has.
struct Held {
    /// Of the newest link seen under this key, served or not.
    generation: u64,
    /// Nothing where the link cannot be served.
    route: Option<Arc<Route>>,
    /// In address mode.
    listener: Option<Listener>,
}

impl HttpServer {
    /// Starts a server. In path and host mode it listens from now on, in address mode once there are links.
    ///
    /// # Errors
    /// [`StartError::Config`] by the first key that is wrong, [`StartError::Backend`] where the shared address cannot be
    /// had.
    pub async fn start(setup: ProviderSetup) -> Result<Arc<Self>, StartError> {
        let config = Config::parse(&setup.config)?;
        let server = Arc::new(Server {
            outbound: setup.outbound,
            operation: Operation::new(INCOMING_HANDLER, "handle"),
            connections: Arc::new(Semaphore::new(config.limits.connections)),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
            abort: CancellationToken::new(),
            config,
        });
        let mut state = State::default();
        if let Some(routes) = shared_routes(&server.config, &state) {
            let address = server.config.default_address;
            let listening = Listening { routes, tls: None };
            let listener = Listener::open(&server, address, listening)
                .map_err(|error| StartError::Backend(refused(address, &error)))?;
            state.shared = Some(listener);
        }
        let this = Arc::new(Self {
            addresses: RwLock::new(state.addresses()),
            server,
            state: Mutex::new(state),
        });
        Ok(this)
    }

    /// The addresses listened on, with real ports. In path and host mode it is one.
    pub fn addresses(&self) -> Vec<SocketAddr> {
        let addresses = self
            .addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        addresses.iter().map(|(_, address)| *address).collect()
    }

    /// Where a link is served, with the real port; nothing where it is not.
    pub fn address_of(&self, key: &LinkKey) -> Option<SocketAddr> {
        let addresses = self
            .addresses
            .read()
            .unwrap_or_else(PoisonError::into_inner);
        addresses
            .iter()
            .find(|(of, _)| of.as_ref().is_none_or(|of| of == key))
            .map(|(_, address)| *address)
    }

    fn publish(&self, state: &State) {
        *self
            .addresses
            .write()
            .unwrap_or_else(PoisonError::into_inner) = state.addresses();
    }

    /// Puts a link that is newer than what is held of it.
    async fn apply(&self, state: &mut State, link: &Link) -> Result<(), LinkError> {
        if !link.interfaces.iter().any(|name| name == INCOMING_HANDLER) {
            return Err(LinkError::Backend {
                reason: format!(
                    "http-server calls `{INCOMING_HANDLER}` alone, which the link does not cover"
                ),
            });
        }
        let config = LinkConfig::parse(&link.config, &self.server.config)?;
        state.check_conflict(&link.key, &config.claim)?;
        let tls = match &config.tls {
            Some(files) => Some(tls::acceptor(files).await?),
            None => None,
        };
        let route = Arc::new(Route {
            target: link.target.clone(),
            link: link.key.name.clone(),
            claim: config.claim,
            policy: config.policy,
        });
        let listener = match route.claim {
            Claim::Address(address) => Some(self.listen(state, link, &route, address, tls).await?),
            Claim::Path(_) | Claim::Host(_) => None,
        };
        let held = Held {
            generation: link.generation,
            route: Some(route),
            listener,
        };
        state.links.insert(link.key.clone(), held);
        Ok(())
    }

    /// The listener of a link in address mode: the one it has, if the address stays, else a new one.
    async fn listen(
        &self,
        state: &mut State,
        link: &Link,
        route: &Arc<Route>,
        address: SocketAddr,
        tls: Option<TlsAcceptor>,
    ) -> Result<Listener, LinkError> {
        let listening = Listening {
            routes: RouteTable::One(Some(route.clone())),
            tls,
        };
        let former = state.links.get_mut(&link.key).and_then(|held| {
            let claim = held.route.take().map(|route| route.claim.clone());
            Some((claim?, held.listener.take()?))
        });
        match former {
            Some((claim, listener)) if claim == route.claim => {
                listener.replace(listening);
                return Ok(listener);
            }
            // First, since the new address may overlap with it.
            Some((_, listener)) => listener.close().await,
            None => {}
        }
        Listener::open(&self.server, address, listening).map_err(|error| {
            // One of ours may have the port under another address.
            let holder = state.links.values().find_map(|held| {
                let taken = held.listener.as_ref()?.address();
                (taken.port() == address.port()).then_some(held.route.as_ref())?
            });
            match holder {
                Some(holder) if error.kind() == io::ErrorKind::AddrInUse => LinkError::Conflict {
                    resource: route.claim.describe(),
                    holder: holder.target.clone(),
                },
                _ => LinkError::Backend {
                    reason: refused(address, &error),
                },
            }
        })
    }

    /// Lets go of what a link serves, and remembers that it was seen.
    async fn withdraw(&self, state: &mut State, key: &LinkKey, generation: u64) {
        let held = Held {
            generation,
            route: None,
            listener: None,
        };
        let former = state.links.insert(key.clone(), held);
        if let Some(listener) = former.and_then(|held| held.listener) {
            listener.close().await;
        }
    }

    /// Makes a change of links hold for the shared listener, and known.
    fn settle(&self, state: &State) {
        if let Some(listener) = &state.shared
            && let Some(routes) = shared_routes(&self.server.config, state)
        {
            listener.replace(Listening { routes, tls: None });
        }
        self.publish(state);
    }
}

impl Drop for HttpServer {
    fn drop(&mut self) {
        // Whoever wanted requests to finish has called `shutdown`.
        self.server.stop.cancel();
        self.server.abort.cancel();
    }
}

impl State {
    fn addresses(&self) -> Vec<(Option<LinkKey>, SocketAddr)> {
        let own = self.links.iter().filter_map(|(key, held)| {
            let listener = held.listener.as_ref()?;
            Some((Some(key.clone()), listener.address()))
        });
        let shared = self
            .shared
            .iter()
            .map(|listener| (None, listener.address()));
        own.chain(shared).collect()
    }

    fn check_conflict(&self, key: &LinkKey, claim: &Claim) -> Result<(), LinkError> {
        if matches!(claim, Claim::Address(address) if address.port() == 0) {
            return Ok(());
        }
        let holder = self
            .links
            .iter()
            .filter(|(of, _)| *of != key)
            .filter_map(|(_, held)| held.route.as_ref())
            .find(|route| route.claim == *claim);
        match holder {
            Some(route) => Err(LinkError::Conflict {
                resource: claim.describe(),
                holder: route.target.clone(),
            }),
            None => Ok(()),
        }
    }
}

/// The table of the shared listener, in the modes that have one.
fn shared_routes(config: &Config, state: &State) -> Option<RouteTable> {
    let routes = state.links.values().filter_map(|held| held.route.clone());
    match config.routing_mode {
        RoutingMode::Address => None,
        RoutingMode::Path => Some(RouteTable::paths(routes)),
        RoutingMode::Host => Some(RouteTable::hosts(config.header.clone(), routes)),
    }
}

fn refused(address: SocketAddr, error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::AddrInUse => format!("{address} is in use by another program"),
        io::ErrorKind::AddrNotAvailable => format!("{address} is no address of this machine"),
        io::ErrorKind::PermissionDenied => {
            format!(
                "{address} may not be listened on without more rights (ports below 1024 need them)"
            )
        }
        _ => format!("cannot listen on {address}: {error}"),
    }
}

#[async_trait]
impl Provider for HttpServer {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        if link.end == LinkEnd::Target {
            return Err(LinkError::Backend {
                reason: "http-server serves no interface; it is the source of its links".to_owned(),
            });
        }
        let mut state = self.state.lock().await;
        if self.server.stop.is_cancelled() {
            return Err(LinkError::Backend {
                reason: "the server is shutting down".to_owned(),
            });
        }
        if let Some(held) = state.links.get(&link.key) {
            // What failed may succeed when it comes again; what is served, or older, changes nothing.
            let is_new = link.generation > held.generation
                || (link.generation == held.generation && held.route.is_none());
            if !is_new {
                return Ok(());
            }
        }
        let outcome = self.apply(&mut state, &link).await;
        if outcome.is_err() {
            self.withdraw(&mut state, &link.key, link.generation).await;
        }
        self.settle(&state);
        outcome
    }

    async fn link_delete(&self, key: &LinkKey, end: LinkEnd) {
        if end == LinkEnd::Target {
            return;
        }
        let mut state = self.state.lock().await;
        if let Some(listener) = state.links.remove(key).and_then(|held| held.listener) {
            listener.close().await;
        }
        self.settle(&state);
    }

    async fn health(&self) -> Health {
        if self.server.stop.is_cancelled() {
            Health::Failing("shutting down".to_owned())
        } else {
            Health::Healthy
        }
    }

    async fn shutdown(&self, within: Duration) {
        // Listeners and connections derive from this token; the links need not be walked.
        self.server.stop.cancel();
        self.server.tasks.close();
        let finished = tokio::time::timeout(within, self.server.tasks.wait()).await;
        match finished {
            Ok(()) => tracing::info!("every request finished before shutdown"),
            Err(_elapsed) => {
                tracing::warn!(
                    tasks = self.server.tasks.len(),
                    "requests are cut off by shutdown"
                );
                self.server.abort.cancel();
                let _ = tokio::time::timeout(ABORT_GRACE, self.server.tasks.wait()).await;
            }
        }
        let mut state = self.state.lock().await;
        *state = State::default();
        self.publish(&state);
    }
}
