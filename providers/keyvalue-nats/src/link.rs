//! The links that lead here, by caller and name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trellis_provider_sdk::{
    Call, EntityId, Link, LinkError, LinkKey, LinkName, Refusal, RefusalCode,
};

use crate::bucket::Bucket;
use crate::config::{Defaults, LinkConfig};

/// A link that can be served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) config: Arc<LinkConfig>,
    /// The bucket, once it was opened: opening it again then costs nothing.
    opened: Mutex<Option<Bucket>>,
}

#[derive(Debug)]
struct Known {
    generation: u64,
    /// What is wrong with the link, if it cannot be served.
    served: Result<Arc<Served>, LinkError>,
}

/// All links.
#[derive(Debug)]
pub(crate) struct Links {
    defaults: Defaults,
    links: Mutex<HashMap<(EntityId, LinkName), Known>>,
}

impl Links {
    pub(crate) fn new(defaults: Defaults) -> Self {
        Self {
            defaults,
            links: Mutex::default(),
        }
    }

    /// Takes a link, or a later generation of one.
    pub(crate) fn put(&self, link: &Link) -> Result<(), LinkError> {
        let key = (link.key.source_id.clone(), link.key.name.clone());
        let mut links = lock(&self.links);
        if let Some(known) = links.get(&key)
            && known.generation >= link.generation
        {
            return known.served.as_ref().map(|_| ()).map_err(LinkError::clone);
        }
        let served = LinkConfig::read(&link.config, &self.defaults)
            .map(|config| {
                Arc::new(Served {
                    config: Arc::new(config),
                    opened: Mutex::default(),
                })
            })
            .map_err(LinkError::from);
        let outcome = served.as_ref().map(|_| ()).map_err(LinkError::clone);
        let generation = link.generation;
        links.insert(key, Known { generation, served });
        outcome
    }

    pub(crate) fn delete(&self, key: &LinkKey) {
        lock(&self.links).remove(&(key.source_id.clone(), key.name.clone()));
    }

    pub(crate) fn clear(&self) {
        lock(&self.links).clear();
    }

    /// The link by which a call came.
    ///
    /// # Errors
    /// `no-link` where there is none; `provider-failed` where there is one that cannot be served.
    pub(crate) fn of(&self, call: &Call) -> Result<Arc<Served>, Refusal> {
        let key = (call.source.clone(), call.link.clone());
        match lock(&self.links).get(&key).map(|known| &known.served) {
            Some(Ok(served)) => Ok(served.clone()),
            Some(Err(error)) => Err(Refusal::new(
                RefusalCode::ProviderFailed,
                format!(
                    "the link `{}` of `{}` cannot be served: {error}",
                    call.link, call.source
                ),
            )
            .with_remedy("correct the link's configuration")),
            None => Err(Refusal::new(
                RefusalCode::NoLink,
                format!(
                    "the key-value provider has no link `{}` of `{}`",
                    call.link, call.source
                ),
            )),
        }
    }
}

impl Served {
    /// The bucket, where it was opened before.
    pub(crate) fn opened(&self) -> Option<Bucket> {
        lock(&self.opened).clone()
    }

    /// Keeps the bucket for the next time.
    pub(crate) fn keep(&self, bucket: &Bucket) {
        *lock(&self.opened) = Some(bucket.clone());
    }

    /// Forgets the bucket: it may have gone, or moved.
    pub(crate) fn forget(&self) {
        *lock(&self.opened) = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single assignment or call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
