//! The links that lead here, by caller and name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trellis_provider_sdk::{
    Call, EntityId, Lease, Link, LinkError, LinkKey, LinkName, Refusal, RefusalCode,
};

use crate::config::{Defaults, LinkConfig};
use crate::pool::{Pool, Pools};
use crate::token::Tokens;

/// A link that can be served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) config: LinkConfig,
    pub(crate) pool: Arc<Pool>,
    pub(crate) tokens: Tokens,
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
    pub(crate) fn put(&self, link: &Link, pools: &Pools) -> Result<(), LinkError> {
        let key = (link.key.source_id.clone(), link.key.name.clone());
        let mut links = lock(&self.links);
        let former = links.get(&key);
        if let Some(known) = former
            && known.generation >= link.generation
        {
            return known.served.as_ref().map(|_| ()).map_err(LinkError::clone);
        }
        let former = former.and_then(|known| known.served.as_ref().ok());
        let served = LinkConfig::read(&link.config, &self.defaults)
            .map(|config| match former {
                // What actors hold stays good where nothing has changed for them.
                Some(former) if former.config == config => former.clone(),
                _ => Arc::new(Served {
                    pool: pools.of(&config.pool),
                    config,
                    tokens: Tokens::default(),
                }),
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

    /// Forgets the tokens of instances that have gone.
    pub(crate) fn release(&self, held: impl Fn(&Lease) -> bool) {
        for known in lock(&self.links).values() {
            if let Ok(served) = &known.served {
                served.tokens.release(&held);
            }
        }
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
                    "the SQL provider has no link `{}` of `{}`",
                    call.link, call.source
                ),
            )),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Every change under these locks is a single assignment or call.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
