//! An in-memory host for a provider's tests.
//!
//! It starts the provider as a host would, hands it links and invocations, and stands in for the actors that the provider
//! calls: closures, whose calls are recorded. There is no lattice, no component and no authorisation here; what reaches a
//! provider through the harness is what a host would let through.
//!
//! ```text
//! let harness = Harness::new("cache").with_config("cluster_uris", url);
//! let provider = harness.start(&Factory).await?;
//! provider.link_put(harness.link_from("app", "wasi:keyvalue", &["store"], [("bucket", "b")])).await?;
//! let store = store::Client(harness.caller(&provider, "app"));
//! let bucket = store.open("default").await??;
//! ```

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::link::LinkKey;
use trellis_protocol::{
    EntityId, InvocationId, Lease, LinkName, Operation, Refusal, RefusalCode, limits,
};

use crate::call::Call;
use crate::http::{HttpRequest, HttpResponse};
use crate::interface::Caller;
use crate::link::{Link, LinkEnd};
use crate::outbound::{Outbound, OutboundCall};
use crate::outgoing::OUTGOING_HANDLER;
use crate::provider::{Provider, ProviderFactory, ProviderSetup, StartError};

/// The public key that stands for the host.
pub const HOST: &str = "NHARNESS";

type Answer<T> = Pin<Box<dyn Future<Output = Result<T, Refusal>> + Send>>;
type Function = dyn Fn(OutboundCall) -> Answer<Bytes> + Send + Sync;
type HttpHandler = dyn Fn(OutboundCall, HttpRequest) -> Answer<HttpResponse> + Send + Sync;

/// A host made of closures.
pub struct Harness {
    id: EntityId,
    config: BTreeMap<String, String>,
    actors: Arc<Actors>,
}

/// The actors that the provider under test can call.
#[derive(Default)]
struct Actors {
    functions: Mutex<HashMap<EntityId, Arc<Function>>>,
    handlers: Mutex<HashMap<EntityId, Arc<HttpHandler>>>,
    calls: Mutex<Vec<OutboundCall>>,
}

impl Harness {
    /// A harness whose provider has this id and no configuration.
    ///
    /// # Panics
    /// Where the text is no id, as everything here that takes names: a test with such a name is wrong.
    pub fn new(id: &str) -> Self {
        Self {
            id: entity(id),
            config: BTreeMap::new(),
            actors: Arc::default(),
        }
    }

    /// Adds a value to the provider's configuration.
    #[must_use]
    pub fn with_config(mut self, key: &str, value: impl Into<String>) -> Self {
        self.config.insert(key.to_owned(), value.into());
        self
    }

    /// Stands in for an actor's functions.
    pub fn actor<F, A>(&self, id: &str, function: F)
    where
        F: Fn(OutboundCall) -> A + Send + Sync + 'static,
        A: Future<Output = Result<Bytes, Refusal>> + Send + 'static,
    {
        let function = Arc::new(move |call| Box::pin(function(call)) as Answer<Bytes>);
        lock(&self.actors.functions).insert(entity(id), function);
    }

    /// Stands in for an actor's HTTP handler.
    pub fn http_actor<F, A>(&self, id: &str, handler: F)
    where
        F: Fn(OutboundCall, HttpRequest) -> A + Send + Sync + 'static,
        A: Future<Output = Result<HttpResponse, Refusal>> + Send + 'static,
    {
        let handler =
            Arc::new(move |call, request| Box::pin(handler(call, request)) as Answer<HttpResponse>);
        lock(&self.actors.handlers).insert(entity(id), handler);
    }

    /// Every call that the provider has made so far, those to unknown actors included, and forgets them.
    pub fn take_calls(&self) -> Vec<OutboundCall> {
        std::mem::take(&mut *lock(&self.actors.calls))
    }

    /// What a provider is started with.
    pub fn setup(&self) -> ProviderSetup {
        ProviderSetup {
            id: self.id.clone(),
            lattice: "default".to_owned(),
            host: HOST.to_owned(),
            config: self.config.clone(),
            outbound: self.outbound(),
        }
    }

    /// The way to the actors.
    pub fn outbound(&self) -> Arc<dyn Outbound> {
        self.actors.clone()
    }

    /// Starts a provider.
    ///
    /// # Errors
    /// The factory's.
    pub async fn start(
        &self,
        factory: &dyn ProviderFactory,
    ) -> Result<Arc<dyn Provider>, StartError> {
        factory.start(self.setup()).await
    }

    /// The default link by which an actor calls the provider, for interfaces of one package (`wasi:keyvalue`).
    pub fn link_from<'a>(
        &self,
        actor: &str,
        package: &str,
        interfaces: &[&str],
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Link {
        let actor = entity(actor);
        self.link(
            actor,
            self.id.clone(),
            LinkEnd::Target,
            package,
            interfaces,
            config,
        )
    }

    /// The default link by which the provider calls an actor.
    pub fn link_to<'a>(
        &self,
        actor: &str,
        package: &str,
        interfaces: &[&str],
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Link {
        let actor = entity(actor);
        self.link(
            self.id.clone(),
            actor,
            LinkEnd::Source,
            package,
            interfaces,
            config,
        )
    }

    fn link<'a>(
        &self,
        source_id: EntityId,
        target: EntityId,
        end: LinkEnd,
        package: &str,
        interfaces: &[&str],
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
    ) -> Link {
        let (namespace, name) = package.split_once(':').unwrap_or((package, ""));
        Link {
            key: LinkKey {
                source_id,
                name: LinkName::default(),
                wit_namespace: namespace.to_owned(),
                wit_package: name.to_owned(),
            },
            target,
            interfaces: interfaces
                .iter()
                .map(|interface| format!("{package}/{interface}"))
                .collect(),
            end,
            config: config
                .into_iter()
                .map(|(key, value)| (key.to_owned(), value.to_owned()))
                .collect(),
            generation: 1,
        }
    }

    /// Calls the provider as an actor's first instance, by the default link and with the default deadline.
    pub fn caller(&self, provider: &Arc<dyn Provider>, source: &str) -> ProviderCaller {
        ProviderCaller {
            provider: provider.clone(),
            source: entity(source),
            link: LinkName::default(),
            lease: lease(1),
            within: limits::DEADLINE_DEFAULT,
            cancel: CancellationToken::new(),
        }
    }
}

/// A configuration of these keys and values.
pub fn values(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

/// The lease of one of the harness's instances.
pub fn lease(instance: u64) -> Lease {
    Lease {
        host: Arc::from(HOST),
        instance,
    }
}

/// An actor's instance that calls the provider under test, for a generated client to go through.
#[derive(Clone)]
pub struct ProviderCaller {
    /// The provider.
    pub provider: Arc<dyn Provider>,
    /// The actor.
    pub source: EntityId,
    /// The link it calls by.
    pub link: LinkName,
    /// Its instance, which holds the handles that it gets.
    pub lease: Lease,
    /// Time that each call has.
    pub within: Duration,
    /// Cancels all of its calls.
    pub cancel: CancellationToken,
}

impl ProviderCaller {
    /// The same actor by another link.
    #[must_use]
    pub fn by_link(mut self, name: &str) -> Self {
        self.link = LinkName::new(name).expect("a test names links properly");
        self
    }

    /// Another instance of the same actor.
    #[must_use]
    pub fn as_instance(mut self, instance: u64) -> Self {
        self.lease = lease(instance);
        self
    }

    /// The same with another deadline.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// An invocation by this instance, as a host would hand it to the provider.
    pub fn invocation(&self, operation: &Operation, type_hash: u64, payload: Bytes) -> Call {
        Call {
            id: InvocationId::random(),
            source: self.source.clone(),
            link: self.link.clone(),
            operation: operation.clone(),
            type_hash,
            payload,
            deadline: Instant::now() + self.within,
            cancel: self.cancel.clone(),
            lease: self.lease.clone(),
            depth: 0,
            chain: Arc::default(),
            traceparent: None,
        }
    }
}

impl ProviderCaller {
    /// Sends an HTTP request out of the actor, as a host would hand it to the provider.
    ///
    /// Waits for the head no longer than the deadline, like a host.
    ///
    /// # Errors
    /// The provider's refusal, or `deadline-exceeded`.
    pub async fn http(&self, request: HttpRequest) -> Result<HttpResponse, Refusal> {
        let operation = Operation::new(OUTGOING_HANDLER, "handle");
        let call = self.invocation(&operation, 0, Bytes::new());
        match tokio::time::timeout(self.within, self.provider.http(call, request)).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::new(
                RefusalCode::DeadlineExceeded,
                format!("`{operation}` did not answer in time"),
            )),
        }
    }
}

impl Caller for ProviderCaller {
    /// Waits no longer than the deadline, like a host.
    async fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let call = self.invocation(operation, type_hash, payload);
        match tokio::time::timeout(self.within, self.provider.invoke(call)).await {
            Ok(answer) => answer,
            Err(_) => Err(Refusal::new(
                RefusalCode::DeadlineExceeded,
                format!("`{operation}` did not answer in time"),
            )),
        }
    }
}

impl Actors {
    fn no_route(call: &OutboundCall) -> Refusal {
        let message = format!("no actor `{}` in the harness", call.target);
        Refusal::new(RefusalCode::NoRoute, message)
    }
}

#[async_trait]
impl Outbound for Actors {
    async fn invoke(&self, call: OutboundCall) -> Result<Bytes, Refusal> {
        lock(&self.calls).push(call.clone());
        let function = lock(&self.functions).get(&call.target).cloned();
        match function {
            Some(function) => function(call).await,
            None => Err(Self::no_route(&call)),
        }
    }

    async fn http(
        &self,
        call: OutboundCall,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        lock(&self.calls).push(call.clone());
        let handler = lock(&self.handlers).get(&call.target).cloned();
        match handler {
            Some(handler) => handler(call, request).await,
            None => Err(Self::no_route(&call)),
        }
    }
}

fn entity(id: &str) -> EntityId {
    EntityId::new(id).expect("a test names actors and providers properly")
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Each guarded value is consistent between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
