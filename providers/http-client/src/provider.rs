//! The provider: its links, each with a client of its own.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use async_trait::async_trait;
use rustls::RootCertStore;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_provider_sdk::outgoing::OUTGOING_HANDLER;
use trellis_provider_sdk::{
    Call, ConfigError, EntityId, HttpRequest, HttpResponse, Link, LinkEnd, LinkError, LinkKey,
    LinkName, Provider, ProviderFactory, ProviderSetup, Refusal, RefusalCode, StartError,
};

use crate::config::{Config, LinkConfig};
use crate::connect::Connector;
use crate::exchange::LinkClient;
use crate::fields;
use crate::pool::Pool;
use crate::resolve::{Resolver, SystemResolver};
use crate::tls;

/// How long the end of connections is waited for after their exchanges are over.
const CLOSE_MAX: Duration = Duration::from_secs(1);

/// Makes the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Factory;

#[async_trait]
impl ProviderFactory for Factory {
    fn name(&self) -> &'static str {
        "http-client"
    }

    fn serves(&self) -> &'static [&'static str] {
        &[OUTGOING_HANDLER]
    }

    fn calls(&self) -> &'static [&'static str] {
        &[]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        let client = HttpClient::start(&setup, Arc::new(SystemResolver::new())).await?;
        Ok(Arc::new(client))
    }
}

/// A running provider.
pub(crate) struct HttpClient {
    roots: RootCertStore,
    resolver: Arc<dyn Resolver>,
    links: RwLock<HashMap<LinkId, PutLink>>,
    /// Requests up to the last byte of their responses.
    exchanges: TaskTracker,
    /// Connections.
    tasks: TaskTracker,
    /// Fires when no new request is taken.
    draining: CancellationToken,
    /// Ends everything.
    cancel: CancellationToken,
}

/// Who calls, and by which of its links.
type LinkId = (EntityId, LinkName);

struct PutLink {
    key: LinkKey,
    config: LinkConfig,
    client: Arc<LinkClient>,
}

impl HttpClient {
    pub(crate) async fn start(
        setup: &ProviderSetup,
        resolver: Arc<dyn Resolver>,
    ) -> Result<Self, StartError> {
        let config = Config::parse(&setup.config)?;
        let mut roots = tls::system_roots().await;
        tls::add_files(&mut roots, &config.ca_files).await?;
        Ok(Self {
            roots,
            resolver,
            links: RwLock::default(),
            exchanges: TaskTracker::new(),
            tasks: TaskTracker::new(),
            draining: CancellationToken::new(),
            cancel: CancellationToken::new(),
        })
    }

    /// A client for a link's new configuration. The link's end ends what is under way by a former one, too.
    async fn client(
        &self,
        id: &LinkId,
        config: &LinkConfig,
    ) -> Result<Arc<LinkClient>, ConfigError> {
        let former = {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            links.get(id).map(|link| link.client.cancel.clone())
        };
        let mut roots = self.roots.clone();
        tls::add_files(&mut roots, &config.ca_files).await?;
        let limits = config.limits.clone();
        let client = Arc::new(LinkClient {
            rules: config.rules.clone(),
            connector: Connector {
                resolver: Arc::clone(&self.resolver),
                tls: tls::client_config(roots)?,
                allowed: config.addresses.clone(),
            },
            pool: Arc::new(Pool::new(limits.idle_connections, limits.idle_timeout)),
            slots: Arc::new(Semaphore::new(limits.requests)),
            limits,
            tasks: self.tasks.clone(),
            cancel: former.unwrap_or_else(|| self.cancel.child_token()),
        });
        self.sweep(&client);
        Ok(client)
    }

    /// Closes idle connections of a link for as long as the link has this configuration.
    fn sweep(&self, client: &Arc<LinkClient>) {
        let (pool, cancel) = (Arc::downgrade(&client.pool), client.cancel.clone());
        let every = (client.limits.idle_timeout / 2).max(Duration::from_millis(1));
        self.tasks.spawn(async move {
            loop {
                tokio::select! {
                    () = tokio::time::sleep(every) => {}
                    () = cancel.cancelled() => return,
                }
                match pool.upgrade() {
                    Some(pool) => pool.close_idle(),
                    None => return,
                }
            }
        });
    }

    fn remove(&self, id: &LinkId) -> Option<PutLink> {
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(id)
    }

    fn link(&self, call: &Call) -> Option<Arc<LinkClient>> {
        let id = (call.source.clone(), call.link.clone());
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        links.get(&id).map(|link| Arc::clone(&link.client))
    }
}

#[async_trait]
impl Provider for HttpClient {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        if link.end != LinkEnd::Target {
            return Err(LinkError::Config {
                key: "target".to_owned(),
                reason: "http-client calls nobody; it is the target of a link".to_owned(),
            });
        }
        if !link.interfaces.iter().any(|name| name == OUTGOING_HANDLER) {
            return Err(LinkError::Config {
                key: "interfaces".to_owned(),
                reason: format!(
                    "http-client serves `{OUTGOING_HANDLER}` alone, which the link does not cover"
                ),
            });
        }
        let id = (link.key.source_id.clone(), link.key.name.clone());
        let prepared = async {
            let config = LinkConfig::parse(&link.config)?;
            let client = self.client(&id, &config).await?;
            Ok::<_, ConfigError>((config, client))
        };
        let (config, client) = match prepared.await {
            Ok(prepared) => prepared,
            Err(error) => {
                // What the link allowed before is not what it allows now.
                if let Some(former) = self.remove(&id) {
                    former.client.pool.close();
                }
                return Err(error.into());
            }
        };
        let mut links = self.links.write().unwrap_or_else(PoisonError::into_inner);
        if links.get(&id).is_some_and(|former| former.config == config) {
            return Ok(());
        }
        let key = link.key;
        let former = links.insert(
            id,
            PutLink {
                key,
                config,
                client,
            },
        );
        // What is under way goes on to its end, by the rules that it began with.
        if let Some(former) = former {
            former.client.pool.close();
        }
        Ok(())
    }

    async fn link_delete(&self, key: &LinkKey, end: LinkEnd) {
        let id = (key.source_id.clone(), key.name.clone());
        let is_this = {
            let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
            links.get(&id).is_some_and(|link| link.key == *key)
        };
        if end == LinkEnd::Target
            && is_this
            && let Some(link) = self.remove(&id)
        {
            link.client.pool.close();
            link.client.cancel.cancel();
        }
    }

    async fn http(&self, call: Call, mut request: HttpRequest) -> Result<HttpResponse, Refusal> {
        if self.draining.is_cancelled() {
            return Err(Refusal::new(
                RefusalCode::Draining,
                "the provider is shutting down",
            ));
        }
        let Some(client) = self.link(&call) else {
            return Err(Refusal::new(
                RefusalCode::NoLink,
                format!("no link `{}` of `{}`", call.link, call.source),
            ));
        };
        let Ok(slot) = Arc::clone(&client.slots).try_acquire_owned() else {
            return Err(Refusal::new(
                RefusalCode::Overloaded,
                format!(
                    "the link has its {} requests under way",
                    client.limits.requests
                ),
            )
            .with_remedy("`requests_max` of the link allows more"));
        };
        fields::continue_trace(request.headers_mut(), call.traceparent.as_deref());
        let counted = (slot, self.exchanges.token());
        Ok(client
            .send(request, call.deadline, counted)
            .await
            .unwrap_or_else(trellis_provider_sdk::OutgoingError::into_response))
    }

    async fn shutdown(&self, within: Duration) {
        self.draining.cancel();
        self.exchanges.close();
        // What is left after the time is cut off.
        let _ = tokio::time::timeout(within, self.exchanges.wait()).await;
        self.cancel.cancel();
        self.tasks.close();
        let _ = tokio::time::timeout(CLOSE_MAX, self.tasks.wait()).await;
    }
}
