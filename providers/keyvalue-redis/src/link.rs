//! What serves a link: its configuration, and the connection to its server.

use std::sync::Arc;
use std::time::Duration;

use trellis_provider_sdk::{Link, LinkError};

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

impl Served {
    /// Reads what a link leads to.
    pub(crate) fn read(
        link: &Link,
        defaults: &Defaults,
        connections: &Connections,
    ) -> Result<Arc<Self>, LinkError> {
        let config = LinkConfig::read(&link.config, defaults)?;
        Ok(Arc::new(Self {
            connection: connections.of(&config.server),
            config,
        }))
    }

    /// Waits a moment for the server.
    ///
    /// # Errors
    /// Why the link cannot be served, where the server does not let it in, or cannot be trusted.
    pub(crate) async fn let_in(&self) -> Result<(), LinkError> {
        match self.connection.first_fault(FIRST_WORD_WITHIN).await {
            Some(Fault::Denied(reason)) => Err(LinkError::Backend {
                reason: format!(
                    "Redis at {} denies access: {reason}",
                    self.connection.address()
                ),
            }),
            Some(Fault::Certificates(reason)) => Err(LinkError::Config {
                key: "tls_ca_file".to_owned(),
                reason,
            }),
            // What is away may come: the link serves when it does.
            Some(Fault::Untried | Fault::Unreachable(_) | Fault::Full) | None => Ok(()),
        }
    }
}
