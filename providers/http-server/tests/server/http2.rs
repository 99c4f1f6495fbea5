//! HTTP/2 with prior knowledge.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode, Version};
use http_body_util::{BodyExt, Empty, Full};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use trellis_provider_sdk::Provider;

use crate::actors::{linked, ok};
use crate::wire::soon;

type Client = SendRequest<Full<Bytes>>;

async fn connect(address: SocketAddr) -> (Client, tokio::task::JoinHandle<hyper::Result<()>>) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    (client, tokio::spawn(connection))
}

fn get(address: SocketAddr, path: &str) -> Request<Full<Bytes>> {
    Request::get(format!("http://{address}{path}"))
        .body(Full::default())
        .unwrap()
}

#[tokio::test]
async fn many_requests_share_a_connection() {
    let (_server, address) = linked(&[], &[], |_, request| async move {
        assert_eq!(request.version(), Version::HTTP_2);
        let uri = request.uri().to_string();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        ok(format!("{uri} {}", body.len()))
    })
    .await;
    let (client, _connection) = connect(address).await;
    let mut asked = tokio::task::JoinSet::new();
    for n in 0..100_usize {
        let mut client = client.clone();
        asked.spawn(async move {
            let request = Request::post(format!("http://{address}/{n}"))
                .body(Full::from(vec![0; n]))
                .unwrap();
            let response = client.send_request(request).await.unwrap();
            assert_eq!(response.version(), Version::HTTP_2);
            let body = response.into_body().collect().await.unwrap().to_bytes();
            assert_eq!(body, format!("http://{address}/{n} {n}"));
        });
    }
    while let Some(done) = soon(asked.join_next()).await {
        done.unwrap();
    }
}

#[tokio::test]
async fn a_stream_that_is_reset_stops_its_actor_alone() {
    let (told, mut cancelled) = mpsc::channel(1);
    let (_server, address) = linked(&[], &[], move |call, request| {
        let told = told.clone();
        async move {
            if request.uri().path() == "/quick" {
                return ok("quick");
            }
            told.send(call.cancel).await.unwrap();
            std::future::pending().await
        }
    })
    .await;
    let (mut client, _connection) = connect(address).await;
    let slow = tokio::spawn(client.send_request(get(address, "/slow")));
    let token = soon(cancelled.recv()).await.unwrap();
    assert!(!token.is_cancelled());
    slow.abort();
    soon(token.cancelled()).await;
    let response = client.send_request(get(address, "/quick")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_large_body_and_a_large_head_are_refused() {
    let limits = [
        ("body_bytes_max", "1000"),
        ("header_count_max", "10"),
        ("header_bytes_max", "2000"),
    ];
    let (_server, address) = linked(&limits, &[], |_, request| async move {
        ok(request
            .into_body()
            .collect()
            .await
            .map(|b| b.to_bytes())
            .unwrap_or_default())
    })
    .await;
    let (mut client, _connection) = connect(address).await;
    for (bytes, status) in [(1000, 200), (1001, 413)] {
        let request = Request::post(format!("http://{address}/"))
            .body(Full::from(vec![0; bytes]))
            .unwrap();
        assert_eq!(client.send_request(request).await.unwrap().status(), status);
    }
    for (fields, status) in [(10, 200), (11, 431)] {
        let mut request = get(address, "/");
        for n in 0..fields {
            request.headers_mut().insert(
                http::HeaderName::try_from(format!("x-{n}")).unwrap(),
                "y".parse().unwrap(),
            );
        }
        assert_eq!(
            client.send_request(request).await.unwrap().status(),
            status,
            "{fields}"
        );
    }
    let mut request = get(address, "/");
    request
        .headers_mut()
        .insert("x", "y".repeat(3000).parse().unwrap());
    let refused = client.send_request(request).await;
    assert!(refused.is_err() || refused.unwrap().status() == 431);
}

#[tokio::test]
async fn a_stream_whose_client_does_not_read_is_reset_and_the_others_go_on() {
    let (told, mut cancelled) = mpsc::channel(1);
    let (_server, address) = linked(
        &[("body_idle_timeout_ms", "200")],
        &[],
        move |call, request| {
            let told = told.clone();
            async move {
                if request.uri().path() == "/quick" {
                    return ok("quick");
                }
                told.send(call.cancel).await.unwrap();
                ok(vec![0; 8 * 1024 * 1024])
            }
        },
    )
    .await;
    let (mut client, _connection) = connect(address).await;
    let unread = client.send_request(get(address, "/large")).await.unwrap();
    let token = soon(cancelled.recv()).await.unwrap();
    soon(token.cancelled()).await;
    assert!(soon(unread.into_body().collect()).await.is_err());
    let response = client.send_request(get(address, "/quick")).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "quick"
    );
}

#[tokio::test]
async fn an_idle_connection_ends_with_goaway() {
    let (_server, address) = linked(&[("keepalive_timeout_ms", "200")], &[], |_, _| async {
        ok("x")
    })
    .await;
    let (mut client, connection) = connect(address).await;
    assert_eq!(
        client
            .send_request(get(address, "/"))
            .await
            .unwrap()
            .status(),
        200
    );
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn shutdown_finishes_the_streams_under_way() {
    let (server, address) = linked(&[], &[], |_, _| async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        ok("finished")
    })
    .await;
    let (mut client, connection) = connect(address).await;
    let response = tokio::spawn(client.send_request(get(address, "/")));
    tokio::time::sleep(Duration::from_millis(50)).await;
    soon(server.shutdown(Duration::from_secs(5))).await;
    let body = response
        .await
        .unwrap()
        .unwrap()
        .into_body()
        .collect()
        .await
        .unwrap();
    assert_eq!(body.to_bytes(), "finished");
    soon(connection).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_flood_of_resets_ends_the_connection() {
    let (_server, address) = linked(&[("h2_pending_resets_max", "5")], &[], |_, _| {
        std::future::pending()
    })
    .await;
    let stream = TcpStream::connect(address).await.unwrap();
    let mut flood = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0".to_vec();
    for stream in (1..400_u32).step_by(2) {
        // HEADERS with :method GET, :scheme http, :path /, :authority a (one literal), then RST_STREAM.
        let block = [0x82, 0x86, 0x84, 0x41, 0x01, b'a'];
        flood.extend([0, 0, 6, 1, 5]);
        flood.extend(stream.to_be_bytes());
        flood.extend(block);
        flood.extend([0, 0, 4, 3, 0]);
        flood.extend(stream.to_be_bytes());
        flood.extend(8_u32.to_be_bytes());
    }
    let (mut reader, mut writer) = stream.into_split();
    let _ = tokio::io::AsyncWriteExt::write_all(&mut writer, &flood).await;
    let mut answer = Vec::new();
    let _ = soon(tokio::io::AsyncReadExt::read_to_end(
        &mut reader,
        &mut answer,
    ))
    .await;
    // A GOAWAY frame (type 7) with ENHANCE_YOUR_CALM (11).
    let goaway = answer
        .windows(17)
        .any(|w| w[3] == 7 && w[13..17] == [0, 0, 0, 11]);
    assert!(goaway, "{answer:?}");
}

#[tokio::test]
async fn a_client_may_leave_out_the_body_entirely() {
    let (_server, address) = linked(&[], &[], |_, request| async move {
        ok(http_body::Body::is_end_stream(request.body()).to_string())
    })
    .await;
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut client, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .unwrap();
    tokio::spawn(connection);
    let request = Request::get(format!("http://{address}/"))
        .body(Empty::<Bytes>::new())
        .unwrap();
    let response = client.send_request(request).await.unwrap();
    assert_eq!(
        response.into_body().collect().await.unwrap().to_bytes(),
        "true"
    );
}
