//! What the keys and values of the buckets mean.
//!
//! Anybody with access to NATS can write a bucket, and other tools do. What does not fit is skipped, with a reason, and
//! what it replaced is gone with it: a link that cannot be read is no link. Everything is bounded, so a hostile bucket
//! costs bounded memory.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trellis_protocol::control::lattice::{SECRET_PREFIX, check_config_name};
use trellis_protocol::control::proof::{DELETIONS_PER_SOURCE_MAX, SIGNATURE_BYTES_MAX};
use trellis_protocol::control::{Configuration, Map, PublicClaims, Request as _};
use trellis_protocol::{EntityId, Link};

use super::belief::StoredLink;

/// Largest value that is read or written, in bytes: what a NATS server lets pass, with its headers.
pub const VALUE_BYTES_MAX: usize = 768 * 1024;

/// Most keys of one bucket that are kept.
pub const ENTRIES_MAX: usize = 64 * 1024;

/// Most bytes of keys and values of one bucket that are kept.
pub const BUCKET_BYTES_MAX: usize = 64 * 1024 * 1024;

/// Most links of one source.
pub const LINKS_PER_SOURCE_MAX: usize = 1024;

/// Longest claims token, in bytes; the same limit holds where tokens are verified.
pub const TOKEN_BYTES_MAX: usize = 64 * 1024;

/// Longest subject key, in bytes; an nkey has 56.
pub const SUBJECT_BYTES_MAX: usize = 128;

/// Why an entry was skipped. The text names no value: it may hold a password.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Skip {
    #[error("not what this key holds: {0}")]
    Malformed(String),
    #[error("over the limit of {0}")]
    Limit(&'static str),
}

/// What became of an entry.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Applied {
    /// The content is another one now.
    Changed,
    /// It is as it was.
    Same,
    /// The key is none of ours, and need not be.
    Foreign,
}

/// The content of one bucket, built entry by entry.
pub(super) trait Content: Clone + Default + PartialEq + Send + Sync + 'static {
    /// Takes one entry in. `None` is a deletion. After a [`Skip`] the key has no value.
    fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<Applied, Skip>;
}

/// Keeps a content within its limits.
#[derive(Clone, Default)]
pub(super) struct Bounded<C> {
    pub(super) content: C,
    sizes: HashMap<Box<str>, usize>,
    bytes: usize,
}

impl<C: Content> Bounded<C> {
    /// Takes one entry in, unless the bucket would become too large with it.
    pub(super) fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<Applied, Skip> {
        self.bytes -= self.sizes.remove(key).unwrap_or(0);
        let Some(value) = value else {
            return self.content.apply(key, None);
        };
        let size = key.len() + value.len();
        let over = if value.len() > VALUE_BYTES_MAX {
            Some("bytes in a value")
        } else if self.sizes.len() >= ENTRIES_MAX {
            Some("keys in a bucket")
        } else if self.bytes + size > BUCKET_BYTES_MAX {
            Some("bytes in a bucket")
        } else {
            None
        };
        if let Some(limit) = over {
            self.content.apply(key, None)?;
            return Err(Skip::Limit(limit));
        }
        let applied = self.content.apply(key, Some(value));
        // A skipped entry counts too: part of it may have been kept.
        if applied != Ok(Applied::Foreign) {
            self.sizes.insert(key.into(), size);
            self.bytes += size;
        }
        applied
    }
}

/// Puts or removes one entry of a map, and says whether that changed anything.
fn replace<K: Ord, V: PartialEq>(map: &mut BTreeMap<K, V>, key: K, value: Option<V>) -> Applied {
    let same = map.get(&key) == value.as_ref();
    match value {
        Some(value) => map.insert(key, value),
        None => map.remove(&key),
    };
    if same {
        Applied::Same
    } else {
        Applied::Changed
    }
}

/// Reads what a key should hold; on failure its former value is removed first.
fn read<T, K: Ord, V: PartialEq>(
    map: &mut BTreeMap<K, V>,
    key: K,
    read: Result<T, String>,
    keep: impl FnOnce(T) -> V,
) -> Result<Applied, Skip> {
    match read {
        Ok(value) => Ok(replace(map, key, Some(keep(value)))),
        Err(reason) => {
            map.remove(&key);
            Err(Skip::Malformed(reason))
        }
    }
}

fn json<'a, T: Deserialize<'a>>(value: &'a [u8]) -> Result<T, String> {
    // The place of a fault is told, its text is not: it could be a password.
    serde_json::from_slice(value).map_err(|error| {
        format!(
            "no such JSON (line {}, column {})",
            error.line(),
            error.column()
        )
    })
}

/// The links of a source, what was signed about deleted ones, and where it was last started from.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) url: String,
    pub(super) links: Vec<StoredLink>,
    /// Tokens, not verified.
    pub(super) deletions: Vec<Arc<str>>,
}

/// `LATTICEDATA_…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct LatticeData {
    pub(super) sources: BTreeMap<EntityId, Arc<Source>>,
    pub(super) claims: BTreeMap<Box<str>, Arc<PublicClaims>>,
}

/// The value of a `COMPONENT_…` key. Links are read one by one, so one bad link costs itself alone.
#[derive(Deserialize)]
struct StoredSource {
    #[serde(default)]
    url: String,
    #[serde(default)]
    links: Vec<serde_json::Value>,
    /// Signed deletions. Whatever does not look like some is none: other tools know nothing of this key.
    #[serde(default)]
    trellis: serde_json::Value,
}

/// A signed deletion as it is stored. The name is there for whoever replaces it; the token alone counts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct StoredDeletion {
    pub(super) name: String,
    pub(super) package: String,
    pub(super) signature: String,
}

/// The key of a source's own object under which its signed deletions stand.
pub(super) const DELETIONS: &str = "deleted";

/// The signed deletions of a source's value, as many as are kept.
pub(super) fn read_deletions(trellis: &serde_json::Value) -> Vec<StoredDeletion> {
    let listed = trellis.get(DELETIONS).and_then(|list| list.as_array());
    listed
        .into_iter()
        .flatten()
        .filter_map(|entry| StoredDeletion::deserialize(entry).ok())
        .filter(|entry| entry.signature.len() <= SIGNATURE_BYTES_MAX)
        .take(DELETIONS_PER_SOURCE_MAX)
        .collect()
}

impl Content for LatticeData {
    fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<Applied, Skip> {
        if let Some(id) = key.strip_prefix("COMPONENT_") {
            let id = EntityId::new(id).map_err(|error| Skip::Malformed(error.to_string()))?;
            return match value {
                None => Ok(replace(&mut self.sources, id, None)),
                Some(value) => self.apply_source(id, value),
            };
        }
        if let Some(subject) = key.strip_prefix("CLAIMS_") {
            let subject: Box<str> = subject.into();
            return match value {
                None => Ok(replace(&mut self.claims, subject, None)),
                Some(value) => {
                    let claims = json::<PublicClaims>(value).and_then(|claims| {
                        (*claims.subject == *subject)
                            .then_some(claims)
                            .ok_or_else(|| "its subject is another one than the key's".to_owned())
                    });
                    read(&mut self.claims, subject, claims, Arc::new)
                }
            };
        }
        // `LINKDEF_…` and `REFMAP_…` are leftovers of older hosts; others may be of newer ones.
        Ok(Applied::Foreign)
    }
}

impl LatticeData {
    fn apply_source(&mut self, id: EntityId, value: &[u8]) -> Result<Applied, Skip> {
        let stored: StoredSource = match json(value) {
            Ok(stored) => stored,
            Err(reason) => {
                self.sources.remove(&id);
                return Err(Skip::Malformed(reason));
            }
        };
        let deletions = read_deletions(&stored.trellis).into_iter();
        let mut source = Source {
            url: stored.url,
            links: Vec::new(),
            deletions: deletions.map(|entry| entry.signature.into()).collect(),
        };
        let mut skipped = None;
        for link in stored.links {
            if source.links.len() == LINKS_PER_SOURCE_MAX {
                skipped = Some(Skip::Limit("links of a source"));
                break;
            }
            match read_link(&id, link) {
                Ok(link) => source.links.push(link),
                Err(reason) => skipped = Some(Skip::Malformed(reason)),
            }
        }
        let applied = replace(&mut self.sources, id, Some(Arc::new(source)));
        skipped.map_or(Ok(applied), Err)
    }
}

/// Reads one link of a source, and checks it as a `link.put` is checked.
pub(super) fn read_link(source: &EntityId, value: serde_json::Value) -> Result<StoredLink, String> {
    // A signature that cannot be read is none; whether a link without one counts is decided elsewhere.
    let signature = value["trellis"]["signature"]
        .as_str()
        .filter(|token| token.len() <= SIGNATURE_BYTES_MAX)
        .map(Arc::from);
    let link: Link = serde_json::from_value(value).map_err(|error| format!("a link: {error}"))?;
    link.check()?;
    if link.source_id != *source {
        return Err("a link of another source than the key's".to_owned());
    }
    Ok(StoredLink {
        link: Arc::new(link),
        signature,
    })
}

/// `CONFIGDATA_…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ConfigData {
    pub(super) configs: BTreeMap<Box<str>, Arc<Map>>,
    /// References to secrets, by the names that they are put and got by.
    pub(super) secrets: BTreeMap<Box<str>, Arc<Map>>,
}

impl Content for ConfigData {
    fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<Applied, Skip> {
        // References to secrets are not configurations: nobody may have one by naming it in a link.
        let kept = if key.starts_with(SECRET_PREFIX) {
            &mut self.secrets
        } else {
            &mut self.configs
        };
        let Some(value) = value else {
            return Ok(replace(kept, key.into(), None));
        };
        let config = check_config_name(key).and_then(|()| json::<Configuration>(value));
        let config = config.and_then(|config| {
            config
                .check()
                .map(|()| config)
                .map_err(|error| error.to_string())
        });
        read(kept, key.into(), config, |config| Arc::new(config.0))
    }
}

/// Who holds an id. The value of a `TOKEN_…` key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Holder {
    /// The subject key that took the id first.
    pub(super) subject: String,
    /// Its claims token, whole; a provider without claims has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<String>,
}

impl Holder {
    pub(super) fn check(&self) -> Result<(), String> {
        let subject = &self.subject;
        if subject.is_empty()
            || subject.len() > SUBJECT_BYTES_MAX
            || !subject.bytes().all(|b| b.is_ascii_alphanumeric())
        {
            return Err("its subject is no key".to_owned());
        }
        if self
            .token
            .as_ref()
            .is_some_and(|token| token.len() > TOKEN_BYTES_MAX)
        {
            return Err(format!("its token has more than {TOKEN_BYTES_MAX} bytes"));
        }
        Ok(())
    }
}

/// `TRELLIS_…`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct TrellisData {
    pub(super) holders: BTreeMap<EntityId, Arc<Holder>>,
}

impl Content for TrellisData {
    fn apply(&mut self, key: &str, value: Option<&[u8]>) -> Result<Applied, Skip> {
        let Some(id) = key.strip_prefix("TOKEN_") else {
            return Ok(Applied::Foreign);
        };
        let id = EntityId::new(id).map_err(|error| Skip::Malformed(error.to_string()))?;
        let Some(value) = value else {
            return Ok(replace(&mut self.holders, id, None));
        };
        let holder = json::<Holder>(value).and_then(|holder| holder.check().map(|()| holder));
        read(&mut self.holders, id, holder, Arc::new)
    }
}

#[cfg(test)]
mod tests;
