//! The links of a running provider: what it was told of each, and what it answered. They decide which calls reach it.

use std::collections::HashMap;
use std::sync::{PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

use trellis_protocol::link::LinkKey;
use trellis_protocol::{EntityId, Refusal, RefusalCode};
use trellis_provider_sdk::{Link, LinkEnd, LinkError, Provider};

use crate::invocation::Invocation;

/// Time that a provider has to take a link.
const LINK_MAX: Duration = Duration::from_secs(15);

/// What a link of a provider is known by. Several links of one key may lead from it to different targets.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct LinkPlace {
    pub(super) key: LinkKey,
    pub(super) end: End,
    pub(super) target: EntityId,
}

impl LinkPlace {
    /// Whether a provider, which is told of key and end alone when a link goes, cannot tell the two apart.
    fn is_like(&self, other: &Self) -> bool {
        (&self.key, self.end) == (&other.key, other.end)
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
    /// The incarnation that was told.
    incarnation: u64,
}

/// How far a link of a provider is.
#[derive(Debug, Clone)]
pub(super) struct LinkProgress {
    /// As it was told last.
    pub(super) told: Link,
    pub(super) outcome: Result<(), LinkError>,
    /// Whether it is the present incarnation that was told.
    pub(super) is_present: bool,
}

/// What one provider was told of its links.
pub(super) struct LinkTable {
    /// Whose links they are.
    provider: EntityId,
    links: RwLock<Links>,
}

type Links = HashMap<LinkPlace, LinkState>;

impl LinkTable {
    pub(super) fn new(provider: EntityId) -> Self {
        Self {
            provider,
            links: RwLock::default(),
        }
    }

    /// Refuses calls over a link that the provider has not taken, with its own reason.
    pub(super) fn check(&self, incarnation: u64, invocation: &Invocation) -> Result<(), Refusal> {
        let links = self.read();
        let unversioned = invocation
            .operation
            .interface
            .split('@')
            .next()
            .unwrap_or_default();
        let state = links.iter().find_map(|(place, state)| {
            let this = place.end == End::Target
                && place.key.source_id == invocation.source
                && place.key.name == invocation.link
                && state.incarnation == incarnation
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
                format!(
                    "the provider `{}` did not take the link: {error}",
                    self.provider
                ),
            )
            .with_remedy("mend the link's configuration; the provider tries again by itself")),
            None => Err(Refusal::new(
                RefusalCode::Overloaded,
                format!(
                    "the provider `{}` has not taken the link yet",
                    self.provider
                ),
            )),
        }
    }

    /// Tells an incarnation of the provider what is wanted and was not told to it. Gives back what each new or changed link
    /// came to.
    pub(super) async fn apply(
        &self,
        provider: &dyn Provider,
        incarnation: u64,
        wanted: HashMap<LinkPlace, WantedLink>,
    ) -> Vec<(LinkKey, Result<(), LinkError>)> {
        let mut known = self.read().clone();
        let gone: Vec<_> = known
            .keys()
            .filter(|place| !wanted.contains_key(*place))
            .cloned()
            .collect();
        for place in gone {
            // Refused from this moment, whatever the provider still does about it.
            self.forget(&place);
            let Some(state) = known.remove(&place) else {
                continue;
            };
            if state.incarnation != incarnation {
                continue;
            }
            let deleted = provider.link_delete(&place.key, place.end.into());
            if tokio::time::timeout(LINK_MAX, deleted).await.is_err() {
                tracing::warn!(provider_id = %self.provider, key = ?place.key, "the provider did not let go of a link in time");
            }
            // It let go of whatever it had under that key, so the others have to be told again.
            for other in known.keys().filter(|other| other.is_like(&place)) {
                self.forget(other);
            }
            known.retain(|other, _| !other.is_like(&place));
        }
        let mut outcomes = Vec::new();
        for (place, WantedLink { mut link, usable }) in wanted {
            let before = known.get(&place);
            let (told, outcome) = match usable {
                Ok(()) => {
                    if let Some(before) = before {
                        link.generation = before.told.generation;
                        let unchanged = link == before.told && before.incarnation == incarnation;
                        if unchanged && before.outcome.is_ok() {
                            continue;
                        }
                        if !unchanged {
                            link.generation += 1;
                        }
                    }
                    let put = provider.link_put(link.clone());
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
            let key = place.key.clone();
            let state = LinkState {
                told,
                outcome: outcome.clone(),
                incarnation,
            };
            self.write().insert(place, state);
            if news {
                outcomes.push((key, outcome));
            }
        }
        outcomes
    }

    /// How far each link is that was put to the provider, for its present incarnation where there is one.
    pub(super) fn progress(&self, incarnation: Option<u64>) -> HashMap<LinkPlace, LinkProgress> {
        let links = self.read();
        let progress = links.iter().map(|(place, state)| {
            let progress = LinkProgress {
                told: state.told.clone(),
                outcome: state.outcome.clone(),
                is_present: incarnation == Some(state.incarnation),
            };
            (place.clone(), progress)
        });
        progress.collect()
    }

    fn forget(&self, place: &LinkPlace) {
        self.write().remove(place);
    }

    fn read(&self) -> RwLockReadGuard<'_, Links> {
        self.links.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write(&self) -> RwLockWriteGuard<'_, Links> {
        self.links.write().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;
