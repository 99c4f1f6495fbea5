//! Changing the state: each write reads its key from the leader, decides, and writes only what nobody else has changed.
//!
//! Every write answers with the key's revision; [`LatticeState::applied`] waits until this host's own view has it. A
//! write that changes nothing writes nothing. All of them are bounded in time and attempts, and cancel-safe: a cancelled
//! one has happened wholly or not at all.
//!
//! Values keep what this project does not know in them (other tools' keys and links), and a value that is not even of
//! the right shape is left alone: it is somebody else's, and an error says which key.

mod actor;
mod error;

pub use error::WriteError;

use serde_json::{Map, Value, json};
use trellis_protocol::control::lattice::check_config_name;
use trellis_protocol::control::proof::DELETIONS_PER_SOURCE_MAX;
use trellis_protocol::control::{
    Configuration, MAP_VALUE_BYTES_MAX, PublicClaims, REFERENCE_BYTES_MAX, Request, SignedDeletion,
    SignedLink,
};
use trellis_protocol::link::LinkKey;
use trellis_protocol::subject::{claims_key, component_key, token_key};
use trellis_protocol::{EntityId, Link};

use super::LatticeState;
use super::bucket::{self, Bucket, Edit};
use super::content::{
    DELETIONS, Holder, LINKS_PER_SOURCE_MAX, StoredDeletion, VALUE_BYTES_MAX, read_deletions,
    read_link,
};

/// What a deletion of a link did.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeletedLink {
    /// The revision of the source's key; 0 where it never had a link.
    pub revision: u64,
    /// The links that were there.
    pub links: Vec<Link>,
}

impl LatticeState {
    /// Puts a link. One with the same source, target, name and package is replaced.
    ///
    /// # Errors
    /// [`WriteError::Invalid`], [`WriteError::Conflict`], [`WriteError::UnknownConfig`], and what any write can meet.
    pub async fn put_link(&self, link: &Link) -> Result<u64, WriteError> {
        self.put_signed_link(&link.clone().into()).await
    }

    /// As [`put_link`](Self::put_link), with what the link is signed with.
    ///
    /// Where signatures are insisted on, a stored link that is not believed stands in nobody's way, and one that was
    /// signed later is not replaced.
    ///
    /// # Errors
    /// As [`put_link`](Self::put_link), and [`WriteError::Superseded`].
    pub async fn put_signed_link(&self, signed: &SignedLink) -> Result<u64, WriteError> {
        signed.check()?;
        let (link, belief) = (&signed.link, self.shared.belief.as_deref());
        for name in link.source_config.iter().chain(&link.target_config) {
            self.require_config(name).await?;
        }
        let at = belief.and_then(|belief| belief.stands(link, signed.signature()));
        let wanted = serde_json::to_value(signed).map_err(|error| WriteError::Invalid {
            reason: error.to_string(),
        })?;
        self.edit_source(&link.source_id, |key, source| {
            let links = links(key, source)?;
            let mut place = None;
            for (index, stored) in links.iter().enumerate() {
                let Ok(other) = read_link(&link.source_id, stored.clone()) else {
                    continue;
                };
                if other.key() != link.key() {
                    continue;
                }
                let stands = belief.map(|belief| belief.stands(&other, other.signature.as_deref()));
                if stands == Some(None) && other.target != link.target {
                    continue;
                }
                if let Some(Some(later)) = stands
                    && other.target == link.target
                    && at.is_some_and(|at| at < later)
                {
                    return Err(WriteError::Superseded {
                        source_id: link.source_id.clone(),
                        name: link.name.to_string(),
                    });
                }
                if other.target == link.target {
                    place = Some(index);
                } else if let Some(interface) = shared_interface(&other, link) {
                    return Err(WriteError::Conflict {
                        source_id: link.source_id.clone(),
                        name: link.name.to_string(),
                        interface,
                        target: other.target.clone(),
                    });
                }
            }
            match place {
                Some(index) => links[index] = wanted.clone(),
                None if links.len() >= LINKS_PER_SOURCE_MAX => {
                    return Err(WriteError::TooLarge {
                        key: key.to_owned(),
                        what: "links of one source",
                        limit: LINKS_PER_SOURCE_MAX,
                    });
                }
                None => links.push(wanted.clone()),
            }
            Ok(())
        })
        .await
    }

    /// Deletes a link, whatever its target. Deleting one that is not there succeeds.
    ///
    /// # Errors
    /// What any write can meet.
    pub async fn delete_link(&self, key: &LinkKey) -> Result<DeletedLink, WriteError> {
        self.delete_signed_link(&key.clone().into()).await
    }

    /// As [`delete_link`](Self::delete_link), and keeps what was signed about it in the links' place, so that nobody can
    /// put them back who only kept them.
    ///
    /// # Errors
    /// What any write can meet.
    pub async fn delete_signed_link(
        &self,
        signed: &SignedDeletion,
    ) -> Result<DeletedLink, WriteError> {
        signed.check()?;
        let key = &signed.key;
        let mut deleted = Vec::new();
        let revision = self
            .edit_source(&key.source_id, |name, source| {
                deleted.clear();
                links(name, source)?.retain(|stored| {
                    match read_link(&key.source_id, stored.clone()) {
                        Ok(stored) if stored.key() == *key => {
                            deleted.push(Link::clone(&stored.link));
                            false
                        }
                        _ => true,
                    }
                });
                if let Some(signature) = signed.signature() {
                    keep_deletion(source, key, signature);
                }
                Ok(())
            })
            .await?;
        Ok(DeletedLink {
            revision,
            links: deleted,
        })
    }

    /// Notes where a component or provider was last started from. Its links stay.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] where the reference is longer than [`REFERENCE_BYTES_MAX`], and what any write can meet.
    pub async fn put_component_url(&self, id: &EntityId, url: &str) -> Result<u64, WriteError> {
        if url.len() > REFERENCE_BYTES_MAX {
            let reason = format!("the reference has more than {REFERENCE_BYTES_MAX} bytes");
            return Err(WriteError::Invalid { reason });
        }
        self.edit_source(id, |_, source| {
            source.insert("url".to_owned(), json!(url));
            Ok(())
        })
        .await
    }

    /// Puts a named configuration in place of what it held.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] for a name that is no key, [`WriteError::TooLarge`], and what any write can meet.
    pub async fn put_config(&self, name: &str, config: &Configuration) -> Result<u64, WriteError> {
        check_name(name)?;
        config.check()?;
        let value = encode(name, config)?;
        self.put(Bucket::ConfigData, name, value).await
    }

    /// Deletes a named configuration. Deleting one that is not there succeeds.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] for a name that is no key, and what any write can meet.
    pub async fn delete_config(&self, name: &str) -> Result<u64, WriteError> {
        check_name(name)?;
        bucket::edit(self.store(Bucket::ConfigData), name, |_| Ok(Edit::Delete)).await
    }

    /// Puts what is public of an actor's or provider's claims, under their subject.
    ///
    /// # Errors
    /// [`WriteError::Invalid`] where the subject is no key or a text is too long, and what any write can meet.
    pub async fn put_claims(&self, claims: &PublicClaims) -> Result<u64, WriteError> {
        Holder {
            subject: claims.subject.clone(),
            token: None,
        }
        .check()
        .map_err(|reason| WriteError::Invalid {
            reason: format!("cannot put claims: {reason}"),
        })?;
        if claims.name.len() > MAP_VALUE_BYTES_MAX {
            let reason =
                format!("cannot put claims: their name has more than {MAP_VALUE_BYTES_MAX} bytes");
            return Err(WriteError::Invalid { reason });
        }
        let key = claims_key(&claims.subject);
        let value = encode(&key, claims)?;
        self.put(Bucket::LatticeData, &key, value).await
    }

    /// Takes an id for a subject key, or keeps it, and puts the subject's claims token.
    ///
    /// The first subject to take an id has it until it is [released](Self::release_id). The token is stored as it is:
    /// verify it first, and again when it is read.
    ///
    /// # Errors
    /// [`WriteError::IdTaken`] names the subject that has it; [`WriteError::Invalid`] for a subject that is no key or a
    /// token that is too long; and what any write can meet.
    pub async fn put_token(
        &self,
        id: &EntityId,
        subject: &str,
        token: Option<&str>,
    ) -> Result<u64, WriteError> {
        let holder = Holder {
            subject: subject.to_owned(),
            token: token.map(str::to_owned),
        };
        holder.check().map_err(|reason| WriteError::Invalid {
            reason: format!("cannot take `{id}`: {reason}"),
        })?;
        let key = token_key(id);
        let value = encode(&key, &holder)?;
        bucket::edit(self.store(Bucket::Trellis), &key, |current| {
            let Some(current) = current else {
                return Ok(Edit::Put(value.clone()));
            };
            let stored: Holder =
                serde_json::from_slice(current).map_err(|error| WriteError::Foreign {
                    key: key.clone(),
                    reason: error.to_string(),
                })?;
            if stored.subject != subject {
                return Err(WriteError::IdTaken {
                    id: id.clone(),
                    holder: stored.subject,
                });
            }
            Ok(unless_same(current, &value))
        })
        .await
    }

    /// Lets go of an id, so that another subject can take it. Releasing one that is free succeeds.
    ///
    /// # Errors
    /// What any write can meet.
    pub async fn release_id(&self, id: &EntityId) -> Result<u64, WriteError> {
        bucket::edit(self.store(Bucket::Trellis), &token_key(id), |_| {
            Ok(Edit::Delete)
        })
        .await
    }

    /// Puts a whole value.
    async fn put(&self, bucket: Bucket, key: &str, value: Vec<u8>) -> Result<u64, WriteError> {
        bucket::edit(self.store(bucket), key, |current| {
            Ok(current.map_or_else(
                || Edit::Put(value.clone()),
                |current| unless_same(current, &value),
            ))
        })
        .await
    }

    /// Changes the object of a `COMPONENT_…` key, keeping what is not understood in it.
    async fn edit_source<F>(&self, id: &EntityId, mut change: F) -> Result<u64, WriteError>
    where
        F: FnMut(&str, &mut Map<String, Value>) -> Result<(), WriteError>,
    {
        let key = component_key(id);
        bucket::edit(self.store(Bucket::LatticeData), &key, |current| {
            let before: Map<String, Value> = match current {
                Some(value) => {
                    serde_json::from_slice(value).map_err(|error| WriteError::Foreign {
                        key: key.clone(),
                        reason: error.to_string(),
                    })?
                }
                None => Map::new(),
            };
            let mut source = before.clone();
            change(&key, &mut source)?;
            if source == before {
                return Ok(Edit::Keep);
            }
            source.entry("url").or_insert_with(|| json!(""));
            source.entry("links").or_insert_with(|| json!([]));
            Ok(Edit::Put(encode(&key, &source)?))
        })
        .await
    }

    /// Whether a configuration exists: by the own copy, or, since that may lag behind, by the leader.
    async fn require_config(&self, name: &str) -> Result<(), WriteError> {
        if self.view().config(name).is_some() {
            return Ok(());
        }
        let reading = bucket::read(self.store(Bucket::ConfigData), name);
        let read = tokio::time::timeout(super::WRITE_TIMEOUT, reading)
            .await
            .map_err(|_| WriteError::TimedOut {
                key: name.to_owned(),
                after: super::WRITE_TIMEOUT,
            })??;
        read.value
            .map(|_| ())
            .ok_or_else(|| WriteError::UnknownConfig {
                name: name.to_owned(),
            })
    }
}

/// The links of a source's value, as an array that can be changed; empty where there are none.
fn links<'a>(
    key: &str,
    source: &'a mut Map<String, Value>,
) -> Result<&'a mut Vec<Value>, WriteError> {
    match source.entry("links").or_insert_with(|| json!([])) {
        Value::Array(links) => Ok(links),
        _ => Err(WriteError::Foreign {
            key: key.to_owned(),
            reason: "`links` is no list".to_owned(),
        }),
    }
}

/// Puts a signed deletion in place of a former one of the same links. Of too many the one that was put first goes.
fn keep_deletion(source: &mut Map<String, Value>, key: &LinkKey, signature: &str) {
    let own = source.entry("trellis").or_insert_with(|| json!({}));
    let mut kept = read_deletions(own);
    let (name, package) = (key.name.to_string(), key.package());
    kept.retain(|entry| entry.name != name || entry.package != package);
    if kept.len() >= DELETIONS_PER_SOURCE_MAX {
        kept.remove(0);
    }
    kept.push(StoredDeletion {
        name,
        package,
        signature: signature.to_owned(),
    });
    if let Value::Object(own) = own {
        own.insert(DELETIONS.to_owned(), json!(kept));
    } else {
        *own = json!({ DELETIONS: kept });
    }
}

fn shared_interface(a: &Link, b: &Link) -> Option<String> {
    let both = a
        .interfaces
        .iter()
        .find(|interface| b.interfaces.contains(interface))?;
    Some(format!("{}:{}/{both}", a.wit_namespace, a.wit_package))
}

fn check_name(name: &str) -> Result<(), WriteError> {
    check_config_name(name).map_err(|reason| WriteError::Invalid {
        reason: format!("the request {reason}"),
    })
}

fn encode<T: serde::Serialize>(key: &str, value: &T) -> Result<Vec<u8>, WriteError> {
    let bytes = serde_json::to_vec(value).map_err(|error| WriteError::Invalid {
        reason: error.to_string(),
    })?;
    if bytes.len() > VALUE_BYTES_MAX {
        return Err(WriteError::TooLarge {
            key: key.to_owned(),
            what: "bytes of the value",
            limit: VALUE_BYTES_MAX,
        });
    }
    Ok(bytes)
}

fn unless_same(current: &[u8], wanted: &[u8]) -> Edit {
    if current == wanted {
        Edit::Keep
    } else {
        Edit::Put(wanted.to_vec())
    }
}
