//! `wasmcloud:messaging` on NATS: actors publish and ask, and messages reach actors.
//!
//! [`config`] says what links may configure and where they lead, and [`subject`] what they may name. A [`sender`]
//! serves a link of an actor that calls `consumer`; [`receivers`] are the links to actors that export `handler`, each with
//! its subscriptions: a [`listener`] for a subject, a [`puller`] for a JetStream consumer, both handing messages to the
//! actor by [`delivery`]. [`connection`] keeps one connection for each server and identity, with an [`inbox`] for answers,
//! what its servers permit ([`permissions`]) and have [`denied`], and on whose inboxes actors may answer ([`answers`]).
//! What is given up is counted in [`losses`].
//!
//! Delivery is at most once over core NATS and at least once from a stream. No message of an actor reaches the subjects
//! of a lattice, of NATS itself or of others' inboxes unless its link names them: a grant for messages is not one for
//! commands.

pub mod config;
pub mod subject;

mod answers;
mod backoff;
mod connection;
mod consumer;
mod delivery;
mod denied;
mod error;
mod inbox;
mod listener;
mod losses;
mod permissions;
mod puller;
mod receivers;
mod sender;
mod trace;

/// Rust for the WIT interfaces, made by the SDK's macro.
pub mod wit {
    trellis_provider_sdk::interfaces!({
        path: ["../../interfaces/wit/wasmcloud-messaging"],
        interfaces: [
            "wasmcloud:messaging/consumer@0.2.0",
            "wasmcloud:messaging/handler@0.2.0",
        ],
    });
}

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use trellis_provider_sdk::{
    Call, Health, Link, LinkEnd, LinkError, LinkKey, Links, Provider, ProviderFactory,
    ProviderSetup, Refusal, StartError, Underway,
};

use config::Defaults;
use connection::Connections;
use receivers::Receivers;
use sender::Sender;

/// What messages call the provider.
const TITLE: &str = "the messaging provider";

/// Makes the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Factory;

/// The provider: links in both directions, and the connections that they share.
#[derive(Debug)]
pub(crate) struct Messaging {
    defaults: Defaults,
    senders: Links<Sender>,
    receivers: Receivers,
    connections: Arc<Connections>,
    underway: Underway,
}

#[async_trait]
impl ProviderFactory for Factory {
    fn name(&self) -> &'static str {
        "messaging-nats"
    }

    fn serves(&self) -> &'static [&'static str] {
        &["wasmcloud:messaging/consumer"]
    }

    fn calls(&self) -> &'static [&'static str] {
        &["wasmcloud:messaging/handler"]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        let defaults = Defaults::read(&setup.config).map_err(StartError::from)?;
        let connections = Arc::new(Connections::default());
        Ok(Arc::new(Messaging {
            senders: Links::new(TITLE),
            receivers: Receivers::new(defaults.clone(), setup.outbound, connections.clone()),
            defaults,
            connections,
            underway: Underway::new(TITLE, "NATS"),
        }))
    }
}

#[async_trait]
impl Provider for Messaging {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        match link.end {
            LinkEnd::Target => {
                let serve = |_: Option<&_>| Sender::read(&link, &self.defaults, &self.connections);
                self.senders.put(&link, serve).map(drop)
            }
            LinkEnd::Source => self.receivers.put(&link).await,
        }
    }

    async fn link_delete(&self, key: &LinkKey, end: LinkEnd) {
        match end {
            LinkEnd::Target => self.senders.delete(key),
            LinkEnd::Source => self.receivers.delete(key).await,
        }
    }

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        self.underway
            .run(&call, wit::consumer::dispatch(self, &call))
            .await
    }

    async fn health(&self) -> Health {
        match self.connections.health() {
            Health::Healthy => self.receivers.health(),
            failing => failing,
        }
    }

    async fn shutdown(&self, within: Duration) {
        let until = tokio::time::Instant::now() + within;
        // Messages first: actors that handle one may publish meanwhile.
        self.receivers.shutdown(within).await;
        if tokio::time::timeout_at(until, self.underway.drain())
            .await
            .is_err()
        {
            tracing::warn!(
                underway = self.underway.count(),
                "calls were still under way when the messaging provider had to stop"
            );
        }
        // Connections close with their last owner: links, and subscriptions that have ended.
        self.connections.close().await;
        self.senders.clear();
    }
}
