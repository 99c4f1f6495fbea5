//! Keeps the providers of this host told of their links: whenever the lattice's state changes, each provider's links are
//! compared with what it was told, and the difference is delivered.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{Id, JoinSet};
use tokio_util::sync::CancellationToken;
use trellis_lattice::state::StateView;
use trellis_protocol::EntityId;
use trellis_protocol::control::delivery::{
    End as WireEnd, EndKind, EndState, LinkEnd, REASON_BYTES_MAX,
};
use trellis_protocol::control::lattice::SECRET_PREFIX;
use trellis_protocol::control::observe::{OBSERVE_NAMESPACE, OBSERVE_PACKAGE};
use trellis_protocol::link::Link as StateLink;
use trellis_provider_sdk::{Link, LinkError};

use super::running::RunningProvider;
use super::table::{End, LinkPlace, LinkProgress, WantedLink};
use crate::router::Router;

/// The package whose interfaces stand for leave to watch.
const LEAVE_TO_WATCH: (&str, &str) = (OBSERVE_NAMESPACE, OBSERVE_PACKAGE);

/// After so much time a link that a provider refused is offered again: its backend may have come up.
const RETRY: Duration = Duration::from_secs(5);

/// Runs until cancelled. `providers_changed` is notified whenever a provider has started.
///
/// Each provider is told on a task of its own, one at a time: one that is slow with its links delays no other's. What
/// changes meanwhile it is told afterwards.
pub(crate) async fn keep_linked(
    router: Arc<Router>,
    providers_changed: Arc<tokio::sync::Notify>,
    cancel: CancellationToken,
) {
    let mut changed = router.state().changed();
    let mut deliveries = Deliveries::default();
    let begin = |deliveries: &mut Deliveries, providers: Vec<_>| {
        let view = router.state().view();
        deliveries.begin(providers, |id| wanted(&view, id));
    };
    loop {
        changed.mark_unchanged();
        begin(&mut deliveries, router.providers());
        let retry = tokio::time::sleep(RETRY);
        tokio::pin!(retry);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return,
                alive = changed.changed() => if alive.is_err() { return } else { break },
                () = providers_changed.notified() => break,
                () = &mut retry => break,
                Some(provider) = deliveries.ended() => begin(&mut deliveries, vec![provider]),
            }
        }
    }
}

/// Providers that are being told of their links at the moment.
#[derive(Default)]
struct Deliveries {
    tasks: JoinSet<()>,
    /// By the task: its provider, and whether something has changed since it began.
    under_way: HashMap<Id, (Arc<RunningProvider>, Outdated)>,
}

/// Whether what a provider is being told is no longer the newest.
type Outdated = bool;

impl Deliveries {
    /// Begins to tell providers what is wanted now, or remembers to.
    fn begin(
        &mut self,
        providers: Vec<Arc<RunningProvider>>,
        wanted: impl Fn(&EntityId) -> HashMap<LinkPlace, WantedLink>,
    ) {
        for provider in providers {
            let mut under_way = self.under_way.values_mut();
            if let Some((_, outdated)) = under_way.find(|(other, _)| Arc::ptr_eq(other, &provider))
            {
                *outdated = true;
                continue;
            }
            let wanted = wanted(&provider.id);
            let task = self.tasks.spawn(deliver(Arc::clone(&provider), wanted));
            self.under_way.insert(task.id(), (provider, false));
        }
    }

    /// Waits for one to end that has to begin again; `None` where none is under way.
    async fn ended(&mut self) -> Option<Arc<RunningProvider>> {
        loop {
            let id = match self.tasks.join_next_with_id().await? {
                Ok((id, ())) => id,
                Err(error) => {
                    tracing::error!(%error, "telling a provider of its links failed, which is a fault of this software");
                    error.id()
                }
            };
            if let Some((provider, true)) = self.under_way.remove(&id) {
                return Some(provider);
            }
        }
    }
}

async fn deliver(provider: Arc<RunningProvider>, wanted: HashMap<LinkPlace, WantedLink>) {
    for (key, outcome) in provider.apply(wanted).await {
        match outcome {
            Ok(()) => {
                tracing::info!(provider_id = %provider.id, source_id = %key.source_id, link = %key.name, "link applied");
            }
            Err(error) => {
                tracing::warn!(provider_id = %provider.id, source_id = %key.source_id, link = %key.name, %error, "the provider did not take a link");
            }
        }
    }
}

/// How far each end of a link is at which a provider stands: what the state wants, held against what the provider was told.
pub(crate) fn link_ends(view: &StateView, provider: &RunningProvider) -> Vec<LinkEnd> {
    let told = provider.link_states();
    let given_up = provider.has_failed().then(|| {
        let condition = provider.condition();
        condition.and_then(|condition| condition.reason)
    });
    wanted(view, &provider.id)
        .into_iter()
        .map(|(place, wanted)| {
            let told = told.get(&place);
            let (state, error) = match &given_up {
                Some(reason) => (EndState::Failed, reason.clone()),
                None => end_state(&wanted, told),
            };
            LinkEnd {
                key: place.key,
                target: place.target,
                end: match place.end {
                    End::Source => WireEnd::Source,
                    End::Target => WireEnd::Target,
                },
                kind: EndKind::Provider,
                state,
                error: error.map(short),
                generation: told.map_or(0, |told| told.told.generation),
            }
        })
        .collect()
}

fn end_state(wanted: &WantedLink, told: Option<&LinkProgress>) -> (EndState, Option<String>) {
    if let Err(error) = &wanted.usable {
        return (EndState::Failed, Some(error.to_string()));
    }
    let waits = |why: &str| (EndState::Pending, Some(why.to_owned()));
    let Some(told) = told else {
        return waits("the provider has not answered yet");
    };
    if !told.is_present {
        return waits("the provider's process has been started anew, or will be");
    }
    let mut newest = wanted.link.clone();
    newest.generation = told.told.generation;
    if newest != told.told {
        return waits("the provider has not answered to the last change yet");
    }
    match &told.outcome {
        Ok(()) => (EndState::Applied, None),
        Err(error) => (EndState::Failed, Some(error.to_string())),
    }
}

/// Reasons come from providers, which may say what they like.
fn short(mut reason: String) -> String {
    reason.truncate(reason.floor_char_boundary(REASON_BYTES_MAX));
    reason
}

/// The links of a provider as the state has them, with configuration resolved.
fn wanted(view: &StateView, id: &EntityId) -> HashMap<LinkPlace, WantedLink> {
    let as_source = view.links_from(id).iter().map(|link| (link, End::Source));
    let as_target = view.links_to(id).iter().map(|link| (link, End::Target));
    as_source
        .chain(as_target)
        // Leave to watch is between operators and the host; the provider serves nothing for it.
        .filter(|(link, _)| (&*link.wit_namespace, &*link.wit_package) != LEAVE_TO_WATCH)
        .map(|(link, end)| {
            let place = LinkPlace {
                key: link.key(),
                end,
                target: link.target.clone(),
            };
            (place, resolve(view, link, end))
        })
        .collect()
}

fn resolve(view: &StateView, link: &StateLink, end: End) -> WantedLink {
    let names = match end {
        End::Source => &link.source_config,
        End::Target => &link.target_config,
    };
    let (config, usable) = match view.merged_config(names) {
        Ok(config) => (config, Ok(())),
        Err(missing) => {
            let reason = if missing.name.starts_with(SECRET_PREFIX) {
                "this is a reference to a secret, which this host cannot look up"
            } else {
                "this named configuration does not exist"
            };
            let error = LinkError::Config {
                key: missing.name,
                reason: reason.into(),
            };
            (BTreeMap::default(), Err(error))
        }
    };
    let link = Link {
        key: link.key(),
        target: link.target.clone(),
        interfaces: link.interface_names().collect(),
        end: end.into(),
        config,
        generation: 1,
    };
    WantedLink { link, usable }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::sync::Mutex;

    use async_trait::async_trait;
    use tokio::sync::Notify;
    use trellis_protocol::LinkName;
    use trellis_protocol::link::LinkKey;
    use trellis_provider_sdk::{LinkEnd, Provider};

    use super::*;

    /// Notes links; the first waits until it is let go.
    #[derive(Default)]
    struct Slow {
        notes: Mutex<Vec<String>>,
        gate: Option<Notify>,
    }

    #[async_trait]
    impl Provider for Slow {
        async fn link_put(&self, link: Link) -> Result<(), LinkError> {
            if let Some(gate) = &self.gate {
                gate.notified().await;
            }
            self.notes.lock().unwrap().push(link.key.name.to_string());
            Ok(())
        }

        async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {}

        async fn shutdown(&self, _: Duration) {}
    }

    fn link_of(name: &str) -> impl Fn(&EntityId) -> HashMap<LinkPlace, WantedLink> {
        let key = LinkKey {
            source_id: EntityId::new("actor").unwrap(),
            name: LinkName::new(name).unwrap(),
            wit_namespace: "wasi".to_owned(),
            wit_package: "keyvalue".to_owned(),
        };
        move |id| {
            let link = Link {
                key: key.clone(),
                target: id.clone(),
                interfaces: Vec::new(),
                end: LinkEnd::Target,
                config: BTreeMap::default(),
                generation: 1,
            };
            let place = LinkPlace {
                key: key.clone(),
                end: End::Target,
                target: id.clone(),
            };
            let usable = Ok(());
            [(place, WantedLink { link, usable })].into()
        }
    }

    #[tokio::test]
    async fn a_provider_that_is_slow_with_a_link_delays_no_other_and_is_told_of_what_changed_meanwhile()
     {
        let slow = Arc::new(Slow {
            gate: Some(Notify::new()),
            ..Slow::default()
        });
        let quick = Arc::new(Slow::default());
        let running = |id, provider: &Arc<Slow>| {
            let provider = Arc::clone(provider) as Arc<dyn Provider>;
            Arc::new(RunningProvider::of_built_in(
                EntityId::new(id).unwrap(),
                provider,
            ))
        };
        let both = vec![running("slow", &slow), running("quick", &quick)];
        let mut deliveries = Deliveries::default();
        for name in ["first", "second", "third"] {
            deliveries.begin(both.clone(), link_of(name));
            let done = tokio::time::timeout(Duration::from_millis(50), deliveries.ended()).await;
            assert!(done.is_err(), "nobody has to begin again");
        }
        assert_eq!(*quick.notes.lock().unwrap(), ["first", "second", "third"]);
        assert!(slow.notes.lock().unwrap().is_empty());
        let gate = slow.gate.as_ref().unwrap();
        gate.notify_one();
        let again = deliveries.ended().await.unwrap();
        assert_eq!(again.id.as_str(), "slow");
        deliveries.begin(vec![again], link_of("third"));
        gate.notify_one();
        assert!(deliveries.ended().await.is_none());
        assert_eq!(*slow.notes.lock().unwrap(), ["first", "third"]);
        assert!(deliveries.under_way.is_empty());
    }
}
