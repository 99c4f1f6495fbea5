//! Connections to NATS: one for each server and identity, made when first needed, shared by all links that agree.
//!
//! A connection mends itself (`async-nats` reconnects without end). It closes when the last link or open bucket that
//! uses it is gone.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use async_nats::connection::State;
use async_nats::{Client, jetstream};
use trellis_nats_connection::server::ANSWER_WITHIN;
use trellis_nats_connection::{Established, Server};
use trellis_provider_sdk::Health;

use crate::atomics::Counters;
use crate::config::LinkConfig;
use crate::error::Failure;

/// Time for what is queued to leave when a connection is closed.
const FLUSH_WITHIN: Duration = Duration::from_secs(1);

/// All connections that are in use.
#[derive(Debug, Default)]
pub(crate) struct Connections(Mutex<HashMap<Server, Weak<Connection>>>);

/// One connection.
#[derive(Debug)]
pub(crate) struct Connection {
    server: Server,
    client: Established<Client, Failure>,
    /// Serialises what this process counts on this server.
    pub(crate) counters: Counters,
}

impl Connections {
    /// The connection for a link, connected or not.
    pub(crate) fn of(&self, config: &LinkConfig) -> Arc<Connection> {
        let mut connections = self.lock();
        if let Some(connection) = connections.get(&config.server).and_then(Weak::upgrade) {
            return connection;
        }
        connections.retain(|_, connection| connection.strong_count() > 0);
        let connection = Arc::new(Connection {
            server: config.server.clone(),
            client: Established::default(),
            counters: Counters::default(),
        });
        connections.insert(config.server.clone(), Arc::downgrade(&connection));
        connection
    }

    /// Failing while any connection that was up is down.
    pub(crate) fn health(&self) -> Health {
        let down = self
            .live()
            .iter()
            .filter_map(|connection| connection.client.get())
            .filter(|client| client.connection_state() != State::Connected)
            .count();
        match down {
            0 => Health::Healthy,
            down => Health::Failing(format!("{down} connections to NATS are down")),
        }
    }

    /// Lets what is queued leave.
    pub(crate) async fn close(&self) {
        for connection in self.live() {
            if let Some(client) = connection.client.get()
                && client.connection_state() == State::Connected
                && !matches!(
                    tokio::time::timeout(FLUSH_WITHIN, client.drain()).await,
                    Ok(Ok(()))
                )
            {
                tracing::warn!("a connection to NATS closed before all that was queued had left");
            }
        }
        self.lock().clear();
    }

    fn live(&self) -> Vec<Arc<Connection>> {
        self.lock().values().filter_map(Weak::upgrade).collect()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Server, Weak<Connection>>> {
        // The map is consistent between any two statements.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Connection {
    /// The client, connected now if this is the first use. Many may wait for one attempt; after a failure the next
    /// caller tries again, if not at once.
    pub(crate) async fn client(&self) -> Result<&Client, Failure> {
        self.client
            .get_or_try(async || connect(&self.server).await)
            .await
    }

    /// JetStream in the link's domain.
    pub(crate) async fn jetstream(
        &self,
        domain: Option<&str>,
    ) -> Result<jetstream::Context, Failure> {
        let client = self.client().await?.clone();
        let builder = jetstream::context::ContextBuilder::new().timeout(ANSWER_WITHIN);
        Ok(match domain {
            Some(domain) => builder.domain(domain).build(client),
            None => builder.build(client),
        })
    }
}

async fn connect(server: &Server) -> Result<Client, Failure> {
    let refused = |error: &dyn std::error::Error| Failure::backend("connecting to NATS", error);
    let options = server
        .options("trellis keyvalue-nats")
        .map_err(|e| refused(&e))?;
    let client = options
        .connect(server.addresses.as_slice())
        .await
        .map_err(|e| refused(&e))?;
    tracing::info!(?server, "connected to NATS");
    Ok(client)
}
