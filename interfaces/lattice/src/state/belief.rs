//! Which links of the state take effect (D1).
//!
//! Whoever can write the bucket can put a link into it. A host that insists on signatures hands a [`LinkBelief`] to its
//! copy of the state, which asks it whenever links have changed, and once more when time alone may have changed an
//! answer. What is not believed stays in the copy, so that it can be listed, and is found by no look-up: no call goes
//! over it, and no provider is told of it.
//!
//! This module knows no key and no rule; [`super`] keeps what a link was signed with beside it.

use std::collections::HashMap;
use std::fmt;
use std::ops::Deref;
use std::sync::Arc;
use std::time::Duration;

use trellis_claims::UnixTime;
use trellis_protocol::{EntityId, Link, LinkName};

use super::content::{LatticeData, Source};

/// How often it is looked whether time has changed what is believed.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// A link of the state, and the token that came with it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredLink {
    /// The link.
    pub link: Arc<Link>,
    /// What it is signed with, not verified.
    pub signature: Option<Arc<str>>,
}

impl Deref for StoredLink {
    type Target = Link;

    fn deref(&self) -> &Link {
        &self.link
    }
}

/// What is believed of one source's links.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Believed {
    /// For each link, in order, whether it takes effect.
    pub links: Vec<bool>,
    /// The first moment at which the answer may be another one though nothing was written.
    pub again_at: Option<UnixTime>,
}

/// Decides what takes effect. Asked from the task that follows the state, so it answers from memory.
pub trait LinkBelief: fmt::Debug + Send + Sync {
    /// Judges every link of one source, and learns what its signed deletions, and the links themselves, say about which
    /// ones are out of date.
    fn judge(&self, source: &EntityId, links: &[StoredLink], deletions: &[Arc<str>]) -> Believed;

    /// When a link was signed, in milliseconds since 1970, if it is believed. Learns nothing.
    fn stands(&self, link: &Link, signature: Option<&str>) -> Option<u64>;
}

/// The links of one source that take effect, for look-ups.
#[derive(Debug)]
pub(super) struct SourceIndex {
    /// What it was made of.
    of: Arc<Source>,
    pub(super) links: Vec<Arc<Link>>,
    pub(super) by_name: HashMap<LinkName, Vec<Arc<Link>>>,
    again_at: Option<UnixTime>,
}

/// Links by both ends, hashed: every call looks one up.
#[derive(Debug, Default)]
pub(super) struct LinkIndex {
    pub(super) sources: HashMap<EntityId, Arc<SourceIndex>>,
    pub(super) targets: HashMap<EntityId, Vec<Arc<Link>>>,
}

impl SourceIndex {
    /// Where a bucket holds two links for one interface the first one that is believed counts, as look-ups go in order.
    fn new(id: &EntityId, source: &Arc<Source>, belief: Option<&dyn LinkBelief>) -> Self {
        let believed = belief.map(|belief| belief.judge(id, &source.links, &source.deletions));
        let takes_effect = |place: usize| {
            let Some(believed) = &believed else {
                return true;
            };
            believed.links.get(place).is_some_and(|believed| *believed)
        };
        let mut index = Self {
            of: Arc::clone(source),
            links: Vec::new(),
            by_name: HashMap::new(),
            again_at: believed.as_ref().and_then(|believed| believed.again_at),
        };
        for (place, stored) in source.links.iter().enumerate() {
            if takes_effect(place) {
                let link = &stored.link;
                let named = index.by_name.entry(link.name.clone()).or_default();
                named.push(Arc::clone(link));
                index.links.push(Arc::clone(link));
            }
        }
        index
    }
}

impl LinkIndex {
    /// Makes the index of a content. What has not changed since `former` is taken from there.
    pub(super) fn new(
        data: &LatticeData,
        former: &Self,
        belief: Option<&dyn LinkBelief>,
        now: UnixTime,
    ) -> Self {
        let mut index = Self::default();
        for (id, source) in &data.sources {
            let kept = former.sources.get(id).filter(|former| {
                Arc::ptr_eq(&former.of, source) && former.again_at.is_none_or(|at| now < at)
            });
            let of_source = kept.map_or_else(
                || Arc::new(SourceIndex::new(id, source, belief)),
                Arc::clone,
            );
            for link in &of_source.links {
                let targets = index.targets.entry(link.target.clone()).or_default();
                targets.push(Arc::clone(link));
            }
            index.sources.insert(id.clone(), of_source);
        }
        index
    }

    /// Whether time alone may have changed it.
    pub(super) fn is_due(&self, now: UnixTime) -> bool {
        let mut sources = self.sources.values();
        sources.any(|source| source.again_at.is_some_and(|at| at <= now))
    }
}
