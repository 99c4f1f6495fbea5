//! What serves a link of an actor that sends: its configuration, and the connection by which messages go out.

use std::sync::Arc;

use trellis_provider_sdk::{EntityId, Link, LinkError};

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

impl Sender {
    /// Reads what a link lets an actor do.
    pub(crate) fn read(
        link: &Link,
        defaults: &Defaults,
        connections: &Connections,
    ) -> Result<Arc<Self>, LinkError> {
        let config = SenderConfig::read(&link.config, defaults)?;
        Ok(Arc::new(Self {
            connection: connections.to(&config.server, Direction::Out),
            config,
        }))
    }

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
