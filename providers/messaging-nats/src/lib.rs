//! `wasmcloud:messaging` on NATS: actors publish and ask, and messages reach actors.
//!
//! [`config`] says what links may configure and where they lead, and [`subject`] what they may name. [`senders`]
//! are the links of actors that call `consumer`; [`receivers`] are the links to actors that export `handler`, each with
//! its subscriptions: a [`listener`] for a subject, a [`puller`] for a JetStream consumer, both handing messages to the
//! actor by [`delivery`]. [`connection`] keeps one connection for each server and identity, with an [`inbox`] for answers,
//! what its servers [`denied`], and on whose inboxes actors may answer ([`answers`]). What is given up is counted in
//! [`losses`].
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
mod puller;
mod receivers;
mod senders;

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
use tokio_util::task::TaskTracker;
use trellis_provider_sdk::{
    Call, Health, Link, LinkEnd, LinkError, LinkKey, Provider, ProviderFactory, ProviderSetup,
    Refusal, RefusalCode, StartError,
};

use config::Defaults;
use connection::Connections;
use receivers::Receivers;
use senders::Senders;

/// Makes the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Factory;

/// The provider: links in both directions, and the connections that they share.
#[derive(Debug)]
pub(crate) struct Messaging {
    senders: Senders,
    receivers: Receivers,
    connections: Arc<Connections>,
    /// Counts the invocations under way, so that a shutdown can wait for them.
    underway: TaskTracker,
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
            senders: Senders::new(defaults.clone(), connections.clone()),
            receivers: Receivers::new(defaults, setup.outbound, connections.clone()),
            connections,
            underway: TaskTracker::new(),
        }))
    }
}

#[async_trait]
impl Provider for Messaging {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        match link.end {
            LinkEnd::Target => self.senders.put(&link),
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
        if self.underway.is_closed() {
            return Err(Refusal::new(
                RefusalCode::Draining,
                "the messaging provider is shutting down",
            ));
        }
        let _underway = self.underway.token();
        let deadline = tokio::time::Instant::from_std(call.deadline);
        tokio::select! {
            answer = wit::consumer::dispatch(self, &call) => answer,
            () = tokio::time::sleep_until(deadline) => Err(Refusal::new(
                RefusalCode::DeadlineExceeded,
                format!("NATS did not answer `{}` in time", call.operation),
            )),
            () = call.cancel.cancelled() => Err(Refusal::new(
                RefusalCode::Cancelled,
                format!("the caller of `{}` has gone", call.operation),
            )),
        }
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
        self.underway.close();
        if tokio::time::timeout_at(until, self.underway.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                underway = self.underway.len(),
                "calls were still under way when the messaging provider had to stop"
            );
        }
        // Connections close with their last owner: links, and subscriptions that have ended.
        self.connections.close().await;
        self.senders.clear();
    }
}
