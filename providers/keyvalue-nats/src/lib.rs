//! `wasi:keyvalue` on NATS JetStream.
//!
//! [`config`] says what a link may configure and which bucket it leads to; [`connection`] keeps one connection for each
//! server and identity; [`bucket`] is what a handle stands for, with [`key`] between keys of WIT and keys of JetStream.
//! [`store`], [`atomics`] and [`batch`] serve one interface each, and [`error`] turns what went wrong into the
//! interface's own error.
//!
//! An actor reaches the one bucket of its link and no other. Nothing is connected until an actor opens its bucket, so a
//! link is good while its server is away.

pub mod config;

mod atomics;
mod batch;
mod bucket;
mod connection;
mod error;
mod key;
mod link;
mod store;

/// Rust for the WIT interfaces, made by the SDK's macro.
pub mod wit {
    trellis_provider_sdk::interfaces!({
        path: ["../../interfaces/wit/wasi-keyvalue"],
        interfaces: [
            "wasi:keyvalue/store@0.2.0-draft",
            "wasi:keyvalue/atomics@0.2.0-draft",
            "wasi:keyvalue/batch@0.2.0-draft",
        ],
    });
}

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use trellis_provider_sdk::{
    Call, Health, Lease, Link, LinkEnd, LinkError, LinkKey, Links, Provider, ProviderFactory,
    ProviderSetup, Refusal, RefusalCode, Resources, StartError, Underway,
};

use bucket::Bucket;
use config::Defaults;
use connection::Connections;
use link::Served;

/// What messages call the provider.
const TITLE: &str = "the key-value provider";

/// Makes the provider.
#[derive(Debug, Clone, Copy, Default)]
pub struct Factory;

/// The provider: its links, the connections that they share, and the buckets that actors hold open.
#[derive(Debug)]
pub(crate) struct KeyValue {
    defaults: Defaults,
    links: Links<Served>,
    connections: Connections,
    handles: Resources<Bucket>,
    underway: Underway,
}

#[async_trait]
impl ProviderFactory for Factory {
    fn name(&self) -> &'static str {
        "keyvalue-nats"
    }

    fn serves(&self) -> &'static [&'static str] {
        &[
            "wasi:keyvalue/store",
            "wasi:keyvalue/atomics",
            "wasi:keyvalue/batch",
        ]
    }

    fn calls(&self) -> &'static [&'static str] {
        &[]
    }

    async fn start(&self, setup: ProviderSetup) -> Result<Arc<dyn Provider>, StartError> {
        let defaults = Defaults::read(&setup.config).map_err(StartError::from)?;
        Ok(Arc::new(KeyValue {
            defaults,
            links: Links::new(TITLE),
            connections: Connections::default(),
            handles: Resources::new(),
            underway: Underway::new(TITLE, "the backend"),
        }))
    }
}

#[async_trait]
impl Provider for KeyValue {
    async fn link_put(&self, link: Link) -> Result<(), LinkError> {
        let serve = |_: Option<&_>| Served::read(&link, &self.defaults);
        self.links.put(&link, serve).map(drop)
    }

    async fn link_delete(&self, key: &LinkKey, _: LinkEnd) {
        self.links.delete(key);
    }

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        self.underway.run(&call, self.dispatch(&call)).await
    }

    async fn release(&self, lease: &Lease) {
        self.handles.release(lease);
    }

    async fn release_host(&self, host: &str) {
        self.handles.release_host(host);
    }

    async fn health(&self) -> Health {
        self.connections.health()
    }

    async fn shutdown(&self, within: Duration) {
        if tokio::time::timeout(within, self.underway.drain())
            .await
            .is_err()
        {
            tracing::warn!(
                underway = self.underway.count(),
                "calls were still under way when the key-value provider had to stop"
            );
        }
        // The connections close with their last owner: links and open buckets.
        self.links.clear();
        self.connections.close().await;
    }
}

impl KeyValue {
    async fn dispatch(&self, call: &Call) -> Result<Bytes, Refusal> {
        let interface = &call.operation.interface;
        if wit::atomics::matches(interface) {
            wit::atomics::dispatch(self, call).await
        } else if wit::batch::matches(interface) {
            wit::batch::dispatch(self, call).await
        } else {
            // Refuses every other interface, too.
            wit::store::dispatch(self, call).await
        }
    }

    /// The bucket behind a handle, if it is the caller's and its link still leads there; and that link.
    fn bucket(
        &self,
        call: &Call,
        handle: wit::store::Bucket,
    ) -> Result<(Arc<Served>, Arc<Bucket>), Refusal> {
        let link = self.links.of(call)?;
        let bucket = self.handles.get(&call.lease, handle.0)?;
        if !bucket.is_of(&link) {
            return Err(Refusal::new(
                RefusalCode::BadHandle,
                "the bucket was opened by another link, or before its link was changed",
            )
            .with_remedy("open the bucket again"));
        }
        Ok((link, bucket))
    }
}
