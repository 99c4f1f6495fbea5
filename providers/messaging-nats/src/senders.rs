//! Links of actors that send, by actor and name.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use trellis_provider_sdk::{
    Call, EntityId, Link, LinkError, LinkKey, LinkName, Refusal, RefusalCode,
};

use crate::config::{Defaults, SenderConfig};
use crate::connection::{Connection, Connections, Direction};
use crate::error::Failure;
use crate::subject;

/// A link that can be served.
#[derive(Debug)]
pub(crate) struct Sender {
    pub(crate) config: SenderConfig,
    pub(crate) connection: Arc<Connection>,
}

#[derive(Debug)]
struct Known {
    generation: u64,
    /// What is wrong with the link, if it cannot be served.
    sender: Result<Arc<Sender>, LinkError>,
}

/// All links of senders.
#[derive(Debug)]
pub(crate) struct Senders {
    defaults: Defaults,
    connections: Arc<Connections>,
    links: Mutex<HashMap<(EntityId, LinkName), Known>>,
}

impl Senders {
    pub(crate) fn new(defaults: Defaults, connections: Arc<Connections>) -> Self {
        Self {
            defaults,
            connections,
            links: Mutex::default(),
        }
    }

    /// Takes a link, or a later generation of one.
    pub(crate) fn put(&self, link: &Link) -> Result<(), LinkError> {
        let key = (link.key.source_id.clone(), link.key.name.clone());
        let mut links = self.lock();
        if let Some(known) = links.get(&key)
            && known.generation >= link.generation
        {
            return known.sender.as_ref().map(|_| ()).map_err(LinkError::clone);
        }
        let sender = SenderConfig::read(&link.config, &self.defaults)
            .map(|config| {
                Arc::new(Sender {
                    connection: self.connections.to(&config.server, Direction::Out),
                    config,
                })
            })
            .map_err(LinkError::from);
        let outcome = sender.as_ref().map(|_| ()).map_err(LinkError::clone);
        let generation = link.generation;
        links.insert(key, Known { generation, sender });
        outcome
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
    pub(crate) fn of(&self, call: &Call) -> Result<Arc<Sender>, Refusal> {
        let key = (call.source.clone(), call.link.clone());
        match self.lock().get(&key).map(|known| &known.sender) {
            Some(Ok(sender)) => Ok(sender.clone()),
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
                    "the messaging provider has no link `{}` of `{}`",
                    call.link, call.source
                ),
            )),
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(EntityId, LinkName), Known>> {
        // Every change under this lock is a single call.
        self.links.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Sender {
    /// Checks that an actor may make somebody publish to a subject: itself, or whoever answers it.
    pub(crate) fn check_subject(&self, actor: &EntityId, subject: &str) -> Result<(), Failure> {
        subject::check(subject).map_err(|reason| Failure::Subject {
            subject: subject.to_owned(),
            reason,
        })?;
        let may = self.config.allows(subject) || self.connection.answers.may(actor, subject);
        match may {
            true => Ok(()),
            false => Err(Failure::Forbidden {
                subject: subject.to_owned(),
            }),
        }
    }
}
