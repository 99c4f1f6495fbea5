//! `wasmcloud:postgres` on PostgreSQL.
//!
//! [`config`] says what a link may configure and which database it leads to. [`pool`] keeps connections for links that
//! agree, [`session`] is one of them with the statements that run on it, [`connection`] the way to it, and [`watch`] sees what a server sends before
//! anything of it is believed. [`value`] is between the interface's values and PostgreSQL's types, [`statement`] judges
//! what a statement may leave behind, [`budget`] divides a call's time, and [`token`] stands for prepared statements.
//! [`query`] and [`prepared`] serve one interface each, and [`error`] turns what went wrong into the interface's own
//! error.
//!
//! Parameters never become part of a statement's text. Nothing is connected until an actor asks, so a link is good while
//! its server is away.

pub mod config;

mod budget;
mod connection;
mod error;
mod link;
mod pool;
mod prepared;
mod query;
mod session;
mod statement;
mod tls;
mod token;
mod value;
mod watch;

/// Rust for the WIT interfaces, made by the SDK's macro.
pub mod wit {
    trellis_provider_sdk::interfaces!({
        path: ["../../interfaces/wit/wasmcloud-postgres"],
        interfaces: [
            "wasmcloud:postgres/query@0.1.1-draft",
            "wasmcloud:postgres/prepared@0.1.1-draft",
        ],
    });
}

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::task::TaskTracker;
use trellis_provider_sdk::{
    Call, Health, Lease, Link, LinkEnd, LinkError, LinkKey, Provider, ProviderFactory,
    ProviderSetup, Refusal, RefusalCode, StartError,
};

use config::Defaults;
use link::Links;
use pool::Pools;

/// Makes the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Factory;

/// The provider: its links and the pools that they share.
#[derive(Debug)]
pub(crate) struct Sql {
    links: Links,
    pools: Pools,
    /// Counts the invocations under way, so that a shutdown can wait for them.
    underway: TaskTracker,
}

#[async_trait]
impl ProviderFactory for Factory {
    fn name(&self) -> &'static str {
        "sql-postgres"
    }

    fn serves(&self) -> &'static [&'static str] {
        &["wasmcloud:postgres/query", "wasmcloud:postgres/prepared"]
    }

    fn calls(&self) -> &'static [&'static str] {
        &[]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        let defaults = Defaults::read(&setup.config).map_err(StartError::from)?;
        Ok(Arc::new(Sql {
            links: Links::new(defaults),
            pools: Pools::default(),
            underway: TaskTracker::new(),
        }))
    }
}

#[async_trait]
impl Provider for Sql {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        self.links.put(&link, &self.pools)
    }

    async fn link_delete(&self, key: &LinkKey, _: LinkEnd) {
        self.links.delete(key);
    }

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        if self.underway.is_closed() {
            return Err(Refusal::new(
                RefusalCode::Draining,
                "the SQL provider is shutting down",
            ));
        }
        let _underway = self.underway.token();
        let deadline = tokio::time::Instant::from_std(call.deadline);
        tokio::select! {
            answer = self.dispatch(&call) => answer,
            () = tokio::time::sleep_until(deadline) => Err(Refusal::new(
                RefusalCode::DeadlineExceeded,
                format!("the database did not answer `{}` in time", call.operation),
            )),
            () = call.cancel.cancelled() => Err(Refusal::new(
                RefusalCode::Cancelled,
                format!("the caller of `{}` has gone", call.operation),
            )),
        }
    }

    async fn release(&self, lease: &Lease) {
        self.links.release(|held| held == lease);
    }

    async fn release_host(&self, host: &str) {
        self.links.release(|held| *held.host == *host);
    }

    async fn health(&self) -> Health {
        self.pools.health()
    }

    async fn shutdown(&self, within: Duration) {
        self.underway.close();
        let finish = async {
            self.underway.wait().await;
            self.pools.close().await;
        };
        if tokio::time::timeout(within, finish).await.is_err() {
            tracing::warn!(
                underway = self.underway.len(),
                "calls or connections were still under way when the SQL provider had to stop"
            );
        }
        self.links.clear();
    }
}

impl Sql {
    async fn dispatch(&self, call: &Call) -> Result<Bytes, Refusal> {
        if wit::prepared::matches(&call.operation.interface) {
            wit::prepared::dispatch(self, call).await
        } else {
            // Refuses every other interface, too.
            wit::query::dispatch(self, call).await
        }
    }
}
