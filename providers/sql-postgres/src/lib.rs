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
use trellis_provider_sdk::{
    Call, Health, Lease, Link, LinkEnd, LinkError, LinkKey, Links, Provider, ProviderFactory,
    ProviderSetup, Refusal, StartError, Underway,
};

use config::Defaults;
use link::Served;
use pool::Pools;

/// What messages call the provider.
const TITLE: &str = "the SQL provider";

/// Makes the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Factory;

/// The provider: its links and the pools that they share.
#[derive(Debug)]
pub(crate) struct Sql {
    defaults: Defaults,
    links: Links<Served>,
    pools: Pools,
    underway: Underway,
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
            defaults,
            links: Links::new(TITLE),
            pools: Pools::default(),
            underway: Underway::new(TITLE, "the database"),
        }))
    }
}

#[async_trait]
impl Provider for Sql {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        let serve = |former: Option<&_>| Served::read(&link, &self.defaults, &self.pools, former);
        self.links.put(&link, serve).map(drop)
    }

    async fn link_delete(&self, key: &LinkKey, _: LinkEnd) {
        self.links.delete(key);
    }

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        self.underway.run(&call, self.dispatch(&call)).await
    }

    async fn release(&self, lease: &Lease) {
        self.forget_tokens(|held| held == lease);
    }

    async fn release_host(&self, host: &str) {
        self.forget_tokens(|held| *held.host == *host);
    }

    async fn health(&self) -> Health {
        self.pools.health()
    }

    async fn shutdown(&self, within: Duration) {
        let finish = async {
            self.underway.drain().await;
            self.pools.close().await;
        };
        if tokio::time::timeout(within, finish).await.is_err() {
            tracing::warn!(
                underway = self.underway.count(),
                "calls or connections were still under way when the SQL provider had to stop"
            );
        }
        self.links.clear();
    }
}

impl Sql {
    /// Forgets the tokens of instances that have gone.
    fn forget_tokens(&self, held: impl Fn(&Lease) -> bool) {
        self.links.each(|served| served.tokens.release(&held));
    }

    async fn dispatch(&self, call: &Call) -> Result<Bytes, Refusal> {
        if wit::prepared::matches(&call.operation.interface) {
            wit::prepared::dispatch(self, call).await
        } else {
            // Refuses every other interface, too.
            wit::query::dispatch(self, call).await
        }
    }
}
