//! Actors that are closures, and servers linked to them.

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use http::Response;
use trellis_http_server::HttpServer;
use trellis_provider_sdk::harness::values;
use trellis_provider_sdk::http::full;
use trellis_provider_sdk::{
    EntityId, HttpRequest, HttpResponse, Link, LinkEnd, LinkError, LinkKey, LinkName, Outbound,
    OutboundCall, Provider, ProviderSetup, Refusal,
};

/// The answer of an actor.
pub(crate) type Answer = Result<HttpResponse, Refusal>;

type Handler =
    dyn Fn(OutboundCall, HttpRequest) -> Pin<Box<dyn Future<Output = Answer> + Send>> + Send + Sync;

struct Actors(Box<Handler>);

#[async_trait]
impl Outbound for Actors {
    async fn invoke(&self, call: OutboundCall) -> Result<Bytes, Refusal> {
        unreachable!("an HTTP server calls no function: {call:?}")
    }

    async fn http(&self, call: OutboundCall, request: HttpRequest) -> Answer {
        (self.0)(call, request).await
    }
}

/// An answer with a body.
pub(crate) fn ok(body: impl Into<Bytes>) -> Answer {
    Ok(Response::new(full(body)))
}

/// A server with its own configuration whose actors are a closure.
pub(crate) async fn server<F, R>(config: &[(&str, &str)], handler: F) -> Arc<HttpServer>
where
    F: Fn(OutboundCall, HttpRequest) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    crate::access_log::Lines::of_all_tests();
    let mut values = values(config);
    values
        .entry("default_address".to_owned())
        .or_insert_with(|| "127.0.0.1:0".to_owned());
    HttpServer::start(ProviderSetup {
        id: EntityId::new("http").unwrap(),
        lattice: "test".to_owned(),
        host: "NTEST".to_owned(),
        config: values,
        outbound: Arc::new(Actors(Box::new(move |call, request| {
            Box::pin(handler(call, request))
        }))),
    })
    .await
    .unwrap()
}

/// A server in address mode with one link to `actor`, and its address.
pub(crate) async fn linked<F, R>(
    config: &[(&str, &str)],
    link_config: &[(&str, &str)],
    handler: F,
) -> (Arc<HttpServer>, SocketAddr)
where
    F: Fn(OutboundCall, HttpRequest) -> R + Send + Sync + 'static,
    R: Future<Output = Answer> + Send + 'static,
{
    let server = server(config, handler).await;
    server
        .link_put(link("actor", 1, link_config))
        .await
        .unwrap();
    let address = server.addresses()[0];
    (server, address)
}

/// A link to an actor, named after it.
pub(crate) fn link(actor: &str, generation: u64, config: &[(&str, &str)]) -> Link {
    Link {
        key: key(actor),
        target: EntityId::new(actor).unwrap(),
        interfaces: vec!["wasi:http/incoming-handler".to_owned()],
        end: LinkEnd::Source,
        config: values(config),
        generation,
    }
}

/// The key of [`link`].
pub(crate) fn key(actor: &str) -> LinkKey {
    LinkKey {
        source_id: EntityId::new("http").unwrap(),
        name: LinkName::new(actor).unwrap(),
        wit_namespace: "wasi".to_owned(),
        wit_package: "http".to_owned(),
    }
}

/// Puts a link that must fail, and says why it did.
pub(crate) async fn refused(server: &HttpServer, link: Link) -> LinkError {
    server.link_put(link).await.unwrap_err()
}
