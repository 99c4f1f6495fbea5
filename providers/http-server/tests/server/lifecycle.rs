//! Links that change and go, and shutdown.

use std::sync::Arc;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::sync::Notify;
use trellis_http_server::HttpServerFactory;
use trellis_provider_sdk::{
    EntityId, Health, LinkEnd, LinkError, Provider, ProviderFactory, ProviderSetup, StartError,
};

use crate::actors::{Answer, key, link, linked, ok, refused, server};
use crate::wire::{Wire, ask, get, soon};
use trellis_provider_sdk::{HttpRequest, OutboundCall};

async fn name(call: OutboundCall, _: HttpRequest) -> Answer {
    ok(call.target.to_string())
}

#[tokio::test]
async fn a_newer_link_takes_over_on_connections_that_are_open() {
    let (server, address) = linked(&[], &[], name).await;
    let mut wire = Wire::open(address).await;
    assert_eq!(wire.ask(get("/")).await.body, "actor");
    let mut newer = link("actor", 2, &[]);
    newer.target = EntityId::new("other").unwrap();
    server.link_put(newer.clone()).await.unwrap();
    assert_eq!(wire.ask(get("/")).await.body, "other");
    // The same again, and an older one, change nothing.
    server.link_put(newer).await.unwrap();
    server.link_put(link("actor", 1, &[])).await.unwrap();
    assert_eq!(wire.ask(get("/")).await.body, "other");
    assert_eq!(server.addresses(), [address]);
}

#[tokio::test]
async fn a_link_that_moves_leaves_its_former_address() {
    let (server, former) = linked(&[], &[], name).await;
    let everywhere = format!("0.0.0.0:{}", former.port());
    server
        .link_put(link("actor", 2, &[("address", &everywhere)]))
        .await
        .unwrap();
    assert_eq!(ask(former, get("/")).await.body, "actor");
    server
        .link_put(link("actor", 3, &[("address", "127.0.0.1:0")]))
        .await
        .unwrap();
    let now = server.addresses()[0];
    assert_ne!(now, former);
    assert_eq!(ask(now, get("/")).await.body, "actor");
    assert!(TcpStream::connect(former).await.is_err());
}

#[tokio::test]
async fn a_deleted_link_gives_its_address_back_and_finishes_its_requests() {
    let (started, release) = (Arc::new(Notify::new()), Arc::new(Notify::new()));
    let (begun, gate) = (started.clone(), release.clone());
    let (server, address) = linked(&[], &[], move |_, _| {
        let (begun, gate) = (begun.clone(), gate.clone());
        async move {
            begun.notify_one();
            gate.notified().await;
            ok("finished")
        }
    })
    .await;
    let mut idle = Wire::open(address).await;
    let mut wire = Wire::open(address).await;
    wire.send(get("/") + &get("/again")).await;
    soon(started.notified()).await;
    soon(server.link_delete(&key("actor"), LinkEnd::Source)).await;
    assert!(TcpStream::connect(address).await.is_err());
    assert!(idle.is_closed().await);
    assert_eq!(server.addresses(), []);
    // Another link may have the address at once.
    server
        .link_put(link("next", 1, &[("address", &address.to_string())]))
        .await
        .unwrap();
    release.notify_one();
    let reply = wire.reply().await;
    assert_eq!(
        (reply.body.as_str(), reply.field("connection")),
        ("finished", Some("close"))
    );
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_deleted_path_is_not_found_at_once() {
    let server = server(&[("routing_mode", "path")], name).await;
    server
        .link_put(link("a", 1, &[("path", "/a")]))
        .await
        .unwrap();
    let mut wire = Wire::open(server.addresses()[0]).await;
    assert_eq!(wire.ask(get("/a")).await.body, "a");
    server.link_delete(&key("a"), LinkEnd::Source).await;
    let reply = wire.ask(get("/a")).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (404, "no-such-route")
    );
    server
        .link_put(link("b", 1, &[("path", "/a")]))
        .await
        .unwrap();
    assert_eq!(wire.ask(get("/a")).await.body, "b");
}

#[tokio::test]
async fn a_newer_link_that_cannot_be_served_ends_the_former() {
    let (server, address) = linked(&[], &[], name).await;
    refused(&server, link("actor", 2, &[("timeout_ms", "0")])).await;
    assert!(TcpStream::connect(address).await.is_err());
    // The former does not come back, a corrected one does.
    server.link_put(link("actor", 1, &[])).await.unwrap();
    assert_eq!(server.addresses(), []);
    server.link_put(link("actor", 3, &[])).await.unwrap();
    assert_eq!(ask(server.addresses()[0], get("/")).await.body, "actor");
}

#[tokio::test]
async fn shutdown_finishes_a_request_under_way_and_takes_no_other() {
    let started = Arc::new(Notify::new());
    let begun = started.clone();
    let (server, address) = linked(&[], &[], move |_, _| {
        begun.notify_one();
        async {
            tokio::time::sleep(Duration::from_millis(200)).await;
            ok("finished")
        }
    })
    .await;
    let mut idle = Wire::open(address).await;
    let mut wire = Wire::open(address).await;
    wire.send(get("/")).await;
    soon(started.notified()).await;
    let shutdown = tokio::spawn({
        let server = server.clone();
        async move { server.shutdown(Duration::from_secs(5)).await }
    });
    assert_eq!(wire.reply().await.body, "finished");
    assert!(wire.is_closed().await && idle.is_closed().await);
    soon(shutdown).await.unwrap();
    assert!(TcpStream::connect(address).await.is_err());
    assert!(matches!(server.health().await, Health::Failing(_)));
    assert!(matches!(
        refused(&server, link("late", 1, &[])).await,
        LinkError::Backend { .. }
    ));
}

#[tokio::test]
async fn shutdown_cuts_off_what_does_not_finish_in_time() {
    let (server, address) = linked(&[], &[], |_, _| std::future::pending()).await;
    let mut wire = Wire::open(address).await;
    wire.send(get("/")).await;
    tokio::time::sleep(Duration::from_millis(50)).await;
    let begun = std::time::Instant::now();
    soon(server.shutdown(Duration::from_millis(200))).await;
    assert!(begun.elapsed() < Duration::from_secs(2));
    assert!(wire.is_closed().await);
    assert_eq!(wire.rest(), "");
}

#[tokio::test]
async fn a_link_of_which_the_server_is_the_target_is_refused() {
    let server = server(&[], name).await;
    let mut wrong = link("actor", 1, &[]);
    wrong.end = LinkEnd::Target;
    assert!(matches!(
        refused(&server, wrong).await,
        LinkError::Backend { .. }
    ));
    let mut other = link("actor", 1, &[]);
    other.interfaces = vec!["wasi:http/types".to_owned()];
    assert!(matches!(
        refused(&server, other).await,
        LinkError::Backend { .. }
    ));
}

#[tokio::test]
async fn the_factory_names_what_the_server_is() {
    struct Nobody;
    #[async_trait::async_trait]
    impl trellis_provider_sdk::Outbound for Nobody {
        async fn invoke(
            &self,
            _: OutboundCall,
        ) -> Result<bytes::Bytes, trellis_provider_sdk::Refusal> {
            unreachable!("nothing is called")
        }
        async fn http(&self, _: OutboundCall, _: HttpRequest) -> Answer {
            unreachable!("nothing is called")
        }
    }
    let setup = |key: &str, value: &str| ProviderSetup {
        id: EntityId::new("http").unwrap(),
        lattice: "test".to_owned(),
        host: "NTEST".to_owned(),
        config: [(key.to_owned(), value.to_owned())].into(),
        outbound: Arc::new(Nobody),
    };
    let factory = HttpServerFactory;
    assert_eq!(factory.name(), "http-server");
    assert_eq!(factory.serves(), [""; 0]);
    assert_eq!(factory.calls(), ["wasi:http/incoming-handler"]);
    let provider = factory
        .start(setup("default_address", "127.0.0.1:0"))
        .await
        .unwrap();
    assert_eq!(provider.health().await, Health::Healthy);
    let error = factory.start(setup("nonsense", "1")).await.err().unwrap();
    assert!(matches!(error, StartError::Config { key, .. } if key == "nonsense"));
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut config = setup("routing_mode", "path");
    config.config.insert(
        "default_address".to_owned(),
        taken.local_addr().unwrap().to_string(),
    );
    assert!(matches!(
        factory.start(config).await.err().unwrap(),
        StartError::Backend(_)
    ));
}
