//! One moment of a lattice's state, as this host has it: immutable, shared, cheap to ask.
//!
//! A decision takes one view and asks it everything, so that its answers belong together. Nothing in it is proof: links
//! are believed as far as the host finds them inside the claims, and tokens once the host has verified them (D1).

use std::collections::BTreeMap;
use std::sync::Arc;

use trellis_claims::InterfaceName;
use trellis_protocol::control::{Map, PublicClaims};
use trellis_protocol::{EntityId, Link, LinkName};

use super::belief::{LinkIndex, StoredLink};
use super::bucket::Bucket;
use super::content::{ConfigData, LatticeData, TrellisData};

/// A snapshot. See [`LatticeState::view`](super::LatticeState::view).
#[derive(Debug, Clone, Default)]
pub struct StateView {
    pub(super) generation: u64,
    pub(super) applied: [u64; 3],
    pub(super) lattice: Arc<LatticeData>,
    pub(super) index: Arc<LinkIndex>,
    pub(super) config: Arc<ConfigData>,
    pub(super) trellis: Arc<TrellisData>,
}

impl StateView {
    /// Counts the changes of content that this process has seen. Means nothing to another process.
    pub fn generation(&self) -> u64 {
        self.generation
    }

    /// How far the state has been followed, as one number that beats and invocations carry (D8).
    ///
    /// It is the sum of what was applied of the three buckets. Each of them only grows, so whoever has the smaller sum
    /// certainly lacks something; whoever has the larger one may still lack something of one bucket, and then decides
    /// without waiting. That is safe, because the number can only delay a refusal and never grants.
    pub fn sequence(&self) -> u64 {
        self.applied
            .iter()
            .fold(0, |sum, applied| sum.saturating_add(*applied))
    }

    /// The last revision of a bucket that is in this view.
    pub fn applied(&self, bucket: Bucket) -> u64 {
        self.applied[bucket.index()]
    }

    /// Every link that is stored, ordered by source, whether it takes effect or not.
    pub fn links(&self) -> impl Iterator<Item = &Arc<Link>> {
        self.stored_links().map(|stored| &stored.link)
    }

    /// Every link that is stored, ordered by source, with what it is signed with.
    pub fn stored_links(&self) -> impl Iterator<Item = &StoredLink> {
        self.lattice
            .sources
            .values()
            .flat_map(|source| source.links.iter())
    }

    /// The links of a source that take effect.
    pub fn links_from(&self, source: &EntityId) -> &[Arc<Link>] {
        self.index
            .sources
            .get(source)
            .map_or(&[], |source| &source.links)
    }

    /// The links to a target that take effect.
    pub fn links_to(&self, target: &EntityId) -> &[Arc<Link>] {
        self.index.targets.get(target).map_or(&[], Vec::as_slice)
    }

    /// The link by which a source calls an interface under a name, whatever the interface's version.
    ///
    /// Two look-ups by hash, then a comparison for each link of that source and name.
    pub fn link_for(
        &self,
        source: &EntityId,
        name: &LinkName,
        interface: &InterfaceName,
    ) -> Option<&Arc<Link>> {
        let named = self.index.sources.get(source)?.by_name.get(name)?;
        named.iter().find(|link| link.covers(interface))
    }

    /// The reference that a component's or provider's id was last started with.
    pub fn component_url(&self, id: &EntityId) -> Option<&str> {
        let url = self.lattice.sources.get(id)?.url.as_str();
        (!url.is_empty()).then_some(url)
    }

    /// A named configuration.
    pub fn config(&self, name: &str) -> Option<&Arc<Map>> {
        self.config.configs.get(name)
    }

    /// A named reference to a secret, as it was put. It says where the secret is, not what it is.
    pub fn secret_reference(&self, name: &str) -> Option<&Arc<Map>> {
        self.config.secrets.get(name)
    }

    /// The names of all configurations, in order.
    pub fn config_names(&self) -> impl Iterator<Item = &str> {
        self.config.configs.keys().map(|name| &**name)
    }

    /// Several named configurations in one, later ones winning.
    ///
    /// # Errors
    /// The first name that there is no configuration of.
    pub fn merged_config(
        &self,
        names: &[String],
    ) -> Result<BTreeMap<String, String>, MissingConfig> {
        let mut merged = BTreeMap::new();
        for name in names {
            let config = self
                .config(name)
                .ok_or_else(|| MissingConfig { name: name.clone() })?;
            merged.extend(
                config
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone())),
            );
        }
        Ok(merged)
    }

    /// The whole claims token of an id, as it was put. Not verified.
    pub fn token(&self, id: &EntityId) -> Option<&str> {
        self.trellis.holders.get(id)?.token.as_deref()
    }

    /// The subject key that holds an id, by the bucket's word.
    pub fn holder(&self, id: &EntityId) -> Option<&str> {
        self.trellis
            .holders
            .get(id)
            .map(|holder| holder.subject.as_str())
    }

    /// Every id that is held, ordered, with its subject key.
    pub fn holders(&self) -> impl Iterator<Item = (&EntityId, &str)> {
        self.trellis
            .holders
            .iter()
            .map(|(id, holder)| (id, holder.subject.as_str()))
    }

    /// The public claims of everything signed, ordered by subject.
    pub fn claims(&self) -> impl Iterator<Item = &Arc<PublicClaims>> {
        self.lattice.claims.values()
    }

    /// The public claims of one subject key.
    pub fn claims_of(&self, subject: &str) -> Option<&Arc<PublicClaims>> {
        self.lattice.claims.get(subject)
    }
}

/// There is no configuration of this name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("there is no configuration `{name}`")]
pub struct MissingConfig {
    /// The name.
    pub name: String,
}
