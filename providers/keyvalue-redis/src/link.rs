//! The links that lead here, by caller and name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use trellis_provider_sdk::{
    Call, EntityId, Link, LinkError, LinkKey, LinkName, Refusal, RefusalCode,
};

use crate::config::{Defaults, LinkConfig};
use crate::connection::{Connection, Connections, Fault};

/// Longest that putting a link waits for the server's first word. One that says nothing in this time may come later.
const FIRST_WORD_WITHIN: Duration = Duration::from_secs(2);

/// A link that can be served.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) config: LinkConfig,
    pub(crate) connection: Arc<Connection>,
}

#[derive(Debug)]
struct Known {
    generation: u64,
    /// What is wrong with the link, if it cannot be served.
    served: Result<Arc<Served>, LinkError>,
}

type Key = (EntityId, LinkName);

/// All links.
#[derive(Debug)]
pub(crate) struct Links {
    defaults: Defaults,
    links: Mutex<HashMap<Key, Known>>,
}

impl Links {
    pub(crate) fn new(defaults: Defaults) -> Self {
        Self {
            defaults,
            links: Mutex::default(),
        }
    }

    /// Takes a link, or a later generation of one. It serves from then on; the answer waits a moment for the server,
    /// and a link that the server does not let in stops serving.
    pub(crate) async fn put(
        &self,
        link: &Link,
        connections: &Connections,
    ) -> Result<(), LinkError> {
        let key = (link.key.source_id.clone(), link.key.name.clone());
        let served = {
            let mut links = self.lock();
            if let Some(known) = links.get(&key)
                && known.generation >= link.generation
                // One that was not let in may be put again: the server may think otherwise by now.
                && !(known.generation == link.generation
                    && matches!(known.served, Err(LinkError::Backend { .. })))
            {
                return known.served.as_ref().map(|_| ()).map_err(LinkError::clone);
            }
            let served = LinkConfig::read(&link.config, &self.defaults)
                .map(|config| {
                    Arc::new(Served {
                        connection: connections.of(&config.server),
                        config,
                    })
                })
                .map_err(LinkError::from);
            let generation = link.generation;
            let known = Known {
                generation,
                served: served.clone(),
            };
            links.insert(key.clone(), known);
            served?
        };
        let error = match served.connection.first_fault(FIRST_WORD_WITHIN).await {
            Some(Fault::Denied(reason)) => LinkError::Backend {
                reason: format!(
                    "Redis at {} denies access: {reason}",
                    served.connection.address()
                ),
            },
            Some(Fault::Certificates(reason)) => LinkError::Config {
                key: "tls_ca_file".to_owned(),
                reason,
            },
            // What is away may come: the link serves when it does.
            Some(Fault::Untried | Fault::Unreachable(_) | Fault::Full) | None => return Ok(()),
        };
        if let Some(known) = self.lock().get_mut(&key)
            && known
                .served
                .as_ref()
                .is_ok_and(|now| Arc::ptr_eq(now, &served))
        {
            known.served = Err(error.clone());
        }
        Err(error)
    }

    pub(crate) fn delete(&self, key: &LinkKey) {
        self.lock()
            .remove(&(key.source_id.clone(), key.name.clone()));
    }

    pub(crate) fn clear(&self) {
        self.lock().clear();
    }

    /// The link by which a call came.
    ///
    /// # Errors
    /// `no-link` where there is none; `provider-failed` where there is one that cannot be served.
    pub(crate) fn of(&self, call: &Call) -> Result<Arc<Served>, Refusal> {
        let key = (call.source.clone(), call.link.clone());
        match self.lock().get(&key).map(|known| &known.served) {
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

    fn lock(&self) -> MutexGuard<'_, HashMap<Key, Known>> {
        // Every change under this lock is a single assignment or call.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
