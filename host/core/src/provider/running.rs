//! A running provider.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, Lease, LinkName, Refusal, RefusalCode};
use trellis_provider_sdk::{
    Call, Health, Link, LinkEnd, LinkError, Provider, ProviderFactory, ProviderSetup, StartError,
};

use super::outbound::ActorCalls;
use crate::invocation::{Invocation, deadline_exceeded};
use crate::router::Router;

/// Time that a provider has to start.
const START_MAX: Duration = Duration::from_secs(30);

/// Time that a provider has to take a link.
const LINK_MAX: Duration = Duration::from_secs(15);

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

/// A provider of this host, and what it has been told.
pub(crate) struct RunningProvider {
    pub(crate) id: EntityId,
    pub(crate) reference: String,
    pub(crate) name: &'static str,
    pub(crate) config_names: Vec<String>,
    pub(crate) annotations: BTreeMap<String, String>,
    provider: Arc<dyn Provider>,
    links: RwLock<HashMap<(LinkKey, End), LinkState>>,
    stopping: CancellationToken,
}

impl std::fmt::Debug for RunningProvider {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RunningProvider")
            .field("id", &self.id)
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}

/// Which end of a link the provider is, as part of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) enum End {
    Source,
    Target,
}

impl From<End> for LinkEnd {
    fn from(end: End) -> Self {
        match end {
            End::Source => Self::Source,
            End::Target => Self::Target,
        }
    }
}

/// A link as the state has it.
#[derive(Debug)]
pub(super) struct WantedLink {
    pub(super) link: Link,
    /// Why it cannot be put to the provider as it is.
    pub(super) usable: Result<(), LinkError>,
}

/// What a provider was told of a link, and what it answered.
#[derive(Debug, Clone)]
struct LinkState {
    /// As it was told last; as it is wanted, where it was not told yet.
    told: Link,
    outcome: Result<(), LinkError>,
}

impl RunningProvider {
    pub(crate) async fn start(
        factory: &dyn ProviderFactory,
        router: &Arc<Router>,
        (lattice, host): (String, String),
        start: ProviderStart,
    ) -> Result<Arc<Self>, StartError> {
        let setup = ProviderSetup {
            id: start.id.clone(),
            lattice,
            host,
            config: start.config,
            outbound: Arc::new(ActorCalls::new(start.id.clone(), Arc::clone(router))),
        };
        let provider = tokio::time::timeout(START_MAX, factory.start(setup))
            .await
            .map_err(|_| {
                StartError::Backend(format!("it did not start within {} s", START_MAX.as_secs()))
            })??;
        Ok(Arc::new(Self {
            id: start.id,
            reference: start.reference,
            name: factory.name(),
            config_names: start.config_names,
            annotations: start.annotations,
            provider,
            links: RwLock::default(),
            stopping: CancellationToken::new(),
        }))
    }

    /// Serves a call that the router has authorised.
    pub(crate) async fn invoke(&self, invocation: Invocation) -> Result<Bytes, Refusal> {
        self.check_link(&invocation.source, &invocation.link, &invocation)?;
        let (deadline, cancel) = (invocation.deadline, invocation.cancel.clone());
        let call = Call {
            id: invocation.id,
            source: invocation.source,
            link: invocation.link,
            operation: invocation.operation,
            type_hash: invocation.type_hash,
            payload: invocation.payload,
            deadline,
            cancel: cancel.clone(),
            lease: invocation.lease,
            depth: invocation.depth,
            chain: invocation.chain,
            traceparent: invocation.traceparent,
        };
        tokio::select! {
            biased;
            result = self.provider.invoke(call) => result,
            () = cancel.cancelled() => Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone")),
            () = tokio::time::sleep_until(deadline.into()) => Err(deadline_exceeded()),
            () = self.stopping.cancelled() => Err(Refusal::new(
                RefusalCode::OutcomeUnknown,
                format!("the provider `{}` was stopped during the call", self.id),
            )),
        }
    }

    /// Refuses calls over a link that the provider has not taken, with its own reason.
    fn check_link(
        &self,
        source: &EntityId,
        name: &LinkName,
        invocation: &Invocation,
    ) -> Result<(), Refusal> {
        let links = self.links.read().unwrap_or_else(PoisonError::into_inner);
        let unversioned = invocation
            .operation
            .interface
            .split('@')
            .next()
            .unwrap_or_default();
        let state = links.iter().find_map(|((key, end), state)| {
            let this = *end == End::Target
                && key.source_id == *source
                && key.name == *name
                && state.told.interfaces.iter().any(|i| i == unversioned);
            this.then_some(state)
        });
        match state {
            Some(LinkState {
                outcome: Ok(()), ..
            }) => Ok(()),
            Some(LinkState {
                outcome: Err(error),
                ..
            }) => Err(Refusal::new(
                RefusalCode::ProviderFailed,
                format!("the provider `{}` did not take the link: {error}", self.id),
            )
            .with_remedy("mend the link's configuration; the provider tries again by itself")),
            None => Err(Refusal::new(
                RefusalCode::Overloaded,
                format!("the provider `{}` has not taken the link yet", self.id),
            )),
        }
    }

    /// Brings the provider's links to what is wanted. Gives back what each new or changed link came to.
    pub(super) async fn apply(
        &self,
        wanted: HashMap<(LinkKey, End), WantedLink>,
    ) -> Vec<(LinkKey, Result<(), LinkError>)> {
        let known: Vec<_> = self
            .links
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .iter()
            .map(|(key, state)| (key.clone(), state.clone()))
            .collect();
        for ((key, end), _) in &known {
            if !wanted.contains_key(&(key.clone(), *end)) {
                // Refused from this moment, whatever the provider still does about it.
                self.forget(key, *end);
                let deleted = self.provider.link_delete(key, (*end).into());
                if tokio::time::timeout(LINK_MAX, deleted).await.is_err() {
                    tracing::warn!(provider_id = %self.id, ?key, "the provider did not let go of a link in time");
                }
            }
        }
        let mut outcomes = Vec::new();
        for ((key, end), WantedLink { mut link, usable }) in wanted {
            let before = known
                .iter()
                .find(|(known, _)| known.0 == key && known.1 == end)
                .map(|(_, state)| state);
            let (told, outcome) = match usable {
                Ok(()) => {
                    if let Some(before) = before {
                        link.generation = before.told.generation;
                        let unchanged = link == before.told;
                        if unchanged && before.outcome.is_ok() {
                            continue;
                        }
                        if !unchanged {
                            link.generation += 1;
                        }
                    }
                    let put = self.provider.link_put(link.clone());
                    let outcome = tokio::time::timeout(LINK_MAX, put)
                        .await
                        .unwrap_or_else(|_| {
                            Err(LinkError::Backend {
                                reason: format!("no answer within {} s", LINK_MAX.as_secs()),
                            })
                        });
                    (link, outcome)
                }
                // Callers are told the reason. What the provider was told before, it is not told to forget.
                Err(error) => (before.map_or(link, |state| state.told.clone()), Err(error)),
            };
            let news = before.is_none_or(|before| before.outcome != outcome || before.told != told);
            self.links
                .write()
                .unwrap_or_else(PoisonError::into_inner)
                .insert(
                    (key.clone(), end),
                    LinkState {
                        told,
                        outcome: outcome.clone(),
                    },
                );
            if news {
                outcomes.push((key, outcome));
            }
        }
        outcomes
    }

    fn forget(&self, key: &LinkKey, end: End) {
        self.links
            .write()
            .unwrap_or_else(PoisonError::into_inner)
            .remove(&(key.clone(), end));
    }

    pub(crate) async fn release(&self, lease: &Lease) {
        let _ = tokio::time::timeout(RELEASE_MAX, self.provider.release(lease)).await;
    }

    pub(crate) async fn release_host(&self, host: &str) {
        let _ = tokio::time::timeout(RELEASE_MAX, self.provider.release_host(host)).await;
    }

    /// How it is; silence counts as failing.
    pub(crate) async fn health(&self) -> Health {
        tokio::time::timeout(HEALTH_MAX, self.provider.health())
            .await
            .unwrap_or_else(|_| {
                Health::Failing(format!("no answer within {} s", HEALTH_MAX.as_secs()))
            })
    }

    /// Shuts it down. What still runs when the time is over is told that its outcome is unknown. Says whether everything was
    /// finished in time: a provider that needed all of it has cut something off.
    pub(crate) async fn stop(&self, within: Duration) -> bool {
        // The provider keeps to the time by itself; the rest is for one that does not.
        let begin = Instant::now();
        let grace = within + Duration::from_secs(1);
        let ended = tokio::time::timeout(grace, self.provider.shutdown(within))
            .await
            .is_ok();
        self.stopping.cancel();
        ended && begin.elapsed() < within
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;

    use super::*;

    /// Notes the generations of the links that it is told.
    #[derive(Default)]
    struct Notes(Mutex<Vec<u64>>);

    #[async_trait]
    impl Provider for Notes {
        async fn link_put(&self, link: Link) -> Result<(), LinkError> {
            self.0.lock().unwrap().push(link.generation);
            Ok(())
        }

        async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {}

        async fn shutdown(&self, _: Duration) {}
    }

    fn wanted(usable: Result<(), LinkError>) -> HashMap<(LinkKey, End), WantedLink> {
        let key = LinkKey {
            source_id: EntityId::new("actor").unwrap(),
            name: LinkName::default(),
            wit_namespace: "wasi".to_owned(),
            wit_package: "keyvalue".to_owned(),
        };
        let link = Link {
            key: key.clone(),
            target: EntityId::new("kv").unwrap(),
            interfaces: vec!["wasi:keyvalue/store".to_owned()],
            end: LinkEnd::Target,
            config: BTreeMap::new(),
            generation: 1,
        };
        [((key, End::Target), WantedLink { link, usable })].into()
    }

    fn invocation() -> Invocation {
        Invocation {
            id: trellis_protocol::InvocationId::random(),
            source: EntityId::new("actor").unwrap(),
            target: EntityId::new("kv").unwrap(),
            operation: trellis_protocol::Operation::new("wasi:keyvalue/store@0.2.0-draft", "open"),
            link: LinkName::default(),
            deadline: Instant::now() + Duration::from_secs(1),
            depth: 1,
            type_hash: 0,
            idempotent: false,
            lease: Lease {
                host: Arc::from("N"),
                instance: 1,
            },
            chain: Arc::default(),
            traceparent: None,
            cancel: CancellationToken::new(),
            payload: Bytes::new(),
        }
    }

    #[tokio::test]
    async fn a_link_whose_configuration_is_missing_is_refused_by_that_reason_until_it_is_there() {
        let notes = Arc::new(Notes::default());
        let running = RunningProvider {
            id: EntityId::new("kv").unwrap(),
            reference: "kv".to_owned(),
            name: "kv",
            config_names: Vec::new(),
            annotations: BTreeMap::new(),
            provider: Arc::clone(&notes) as Arc<dyn Provider>,
            links: RwLock::default(),
            stopping: CancellationToken::new(),
        };
        let code = |running: &RunningProvider| {
            let call = invocation();
            let checked = running.check_link(&call.source, &call.link, &call);
            checked.err().map(|refusal| refusal.code)
        };
        assert_eq!(code(&running), Some(RefusalCode::Overloaded));
        let missing = || {
            Err(LinkError::Config {
                key: "shop".to_owned(),
                reason: "this named configuration does not exist".to_owned(),
            })
        };
        assert_eq!(running.apply(wanted(missing())).await.len(), 1);
        assert_eq!(code(&running), Some(RefusalCode::ProviderFailed));
        assert!(
            running.apply(wanted(missing())).await.is_empty(),
            "it is told once"
        );
        assert!(notes.0.lock().unwrap().is_empty());
        assert_eq!(running.apply(wanted(Ok(()))).await.len(), 1);
        assert_eq!(code(&running), None);
        assert_eq!(*notes.0.lock().unwrap(), [1]);
    }
}
