//! Connections that are used again, and those that must not be.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures::future::join_all;
use http_body_util::BodyExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use trellis_provider_sdk::OutgoingErrorCode as Code;
use trellis_provider_sdk::http::full;

use super::server::{Authority, Server};
use super::{Linked, Names, bytes, eventually, text};

fn connections(server: &Server) -> usize {
    server.seen.connections.load(Ordering::SeqCst)
}

/// Waits a moment after a response for its connection to be given back.
async fn settle() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}

#[tokio::test]
async fn a_connection_whose_response_was_read_serves_the_next_request() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    for _ in 0..5 {
        bytes(linked.get(&server.url("/bytes?n=100000")).await.unwrap()).await;
        settle().await;
    }
    assert_eq!(connections(&server), 1);
}

#[tokio::test]
async fn a_connection_whose_response_was_not_read_does_not() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    for _ in 0..3 {
        drop(linked.get(&server.url("/bytes?n=10000000")).await.unwrap());
        settle().await;
    }
    assert_eq!(connections(&server), 3);
}

#[tokio::test]
async fn links_never_share_a_connection_and_neither_do_two_configurations_of_one() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    bytes(linked.get(&server.url("/head")).await.unwrap()).await;
    settle().await;
    let host = format!("http://127.0.0.1:{}", server.port);
    let config = [
        ("allowed_hosts", host.as_str()),
        ("allowed_addresses", "127.0.0.1"),
    ];
    let link = linked
        .harness
        .link_from("other", "wasi:http", &["outgoing-handler"], config);
    linked.provider.link_put(link).await.unwrap();
    let other = linked.harness.caller(&linked.provider, "other");
    bytes(other.http(super::get(&server.url("/head"))).await.unwrap()).await;
    assert_eq!(connections(&server), 2);
    linked.put(&config).await.unwrap();
    bytes(linked.get(&server.url("/head")).await.unwrap()).await;
    assert_eq!(connections(&server), 3);
    settle().await;
    linked.put(&config).await.unwrap();
    bytes(linked.get(&server.url("/head")).await.unwrap()).await;
    assert_eq!(connections(&server), 3, "the same configuration is no news");
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time() {
    let server = Server::http().await;
    let linked = Linked::local_with(server.port, &[("idle_timeout_ms", "50")]).await;
    bytes(linked.get(&server.url("/head")).await.unwrap()).await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    bytes(linked.get(&server.url("/head")).await.unwrap()).await;
    assert_eq!(connections(&server), 2);
}

#[tokio::test]
async fn requests_of_http_2_share_one_connection_of_their_own_target() {
    let authority = Authority::new();
    let server = Server::https(&authority, &["a.example", "b.example"], &["h2"]).await;
    let names = Names::of(&[("a.example", &["127.0.0.1"]), ("b.example", &["127.0.0.1"])]);
    let hosts = format!("https://a.example:{0}, https://b.example:{0}", server.port);
    let file = authority.file();
    let linked = Linked::resolving(
        names,
        &[
            ("allowed_hosts", hosts.as_str()),
            ("allowed_addresses", "127.0.0.1"),
            ("ca_files", file.to_str().unwrap()),
        ],
    )
    .await;
    let a = format!("https://a.example:{}/bytes?n=1000", server.port);
    bytes(linked.get(&a).await.unwrap()).await;
    let all = join_all((0..50).map(|_| async { bytes(linked.get(&a).await.unwrap()).await.len() }));
    assert!(all.await.iter().all(|bytes| *bytes == 1000));
    assert_eq!(connections(&server), 1);
    // The certificate is good for both names, and the address is the same.
    let b = format!("https://b.example:{}/head", server.port);
    bytes(linked.get(&b).await.unwrap()).await;
    assert_eq!(connections(&server), 2);
}

#[tokio::test]
async fn readers_of_http_2_that_pause_do_not_stop_the_others() {
    let authority = Authority::new();
    let server = Server::https(&authority, &["a.example"], &["h2"]).await;
    let host = format!("https://a.example:{}", server.port);
    let file = authority.file();
    let linked = Linked::resolving(
        Names::of(&[("a.example", &["127.0.0.1"])]),
        &[
            ("allowed_hosts", host.as_str()),
            ("allowed_addresses", "127.0.0.1"),
            ("ca_files", file.to_str().unwrap()),
        ],
    )
    .await;
    let mut paused = Vec::new();
    for _ in 0..100 {
        let response = linked
            .get(&format!("{host}/bytes?n=10000000"))
            .await
            .unwrap();
        paused.push(response);
    }
    let read = bytes(
        linked
            .get(&format!("{host}/bytes?n=1000000"))
            .await
            .unwrap(),
    );
    let read = tokio::time::timeout(Duration::from_secs(10), read).await;
    assert_eq!(read.unwrap().len(), 1_000_000);
}

/// Serves one request on each connection, and closes it a moment after the response without having said so.
async fn closing_server(requests: Arc<std::sync::atomic::AtomicUsize>) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let requests = Arc::clone(&requests);
            tokio::spawn(async move {
                let mut head = Vec::new();
                while !head.windows(4).any(|end| end == b"\r\n\r\n") {
                    if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
                        return;
                    }
                }
                requests.fetch_add(1, Ordering::SeqCst);
                let _ = stream
                    .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
                    .await;
            });
        }
    });
    port
}

#[tokio::test]
async fn a_kept_connection_that_the_server_closed_costs_no_request_and_repeats_none() {
    let requests = Arc::default();
    let port = closing_server(Arc::clone(&requests)).await;
    let linked = Linked::local(port).await;
    for n in 1..=20 {
        let request = http::Request::post(format!("http://127.0.0.1:{port}/"))
            .body(full("body"))
            .unwrap();
        let outcome = linked.send(request).await;
        // A server that closes just when a request is sent may have taken it. That must not be hidden.
        match outcome {
            Ok(response) => assert_eq!(text(response).await, "ok"),
            Err(error) => assert!(
                matches!(
                    error.code,
                    Code::HttpResponseIncomplete | Code::ConnectionTerminated
                ),
                "{error}"
            ),
        }
        assert!(
            requests.load(Ordering::SeqCst) <= n,
            "no request is sent twice"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_server_that_comes_back_is_used_again_at_once() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let mut body = linked
        .get(&server.url("/silent"))
        .await
        .unwrap()
        .into_body();
    body.frame().await.unwrap().unwrap();
    drop(body);
    eventually("the server hears of it", || {
        server.seen.abandoned.load(Ordering::SeqCst) == 1
    })
    .await;
    assert!(linked.get(&server.url("/head")).await.is_ok());
}
