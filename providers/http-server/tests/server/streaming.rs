//! Bodies in both directions, and clients that go away.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Response};
use http_body::Frame;
use http_body_util::channel::Channel;
use http_body_util::{BodyExt, StreamBody};
use tokio::sync::{Notify, mpsc};
use trellis_provider_sdk::BodyError;
use trellis_provider_sdk::http::empty;

use crate::actors::linked;
use crate::wire::{Wire, get, soon};

#[tokio::test]
async fn a_body_is_echoed_while_it_arrives_with_its_trailers() {
    let (_server, address) = linked(&[], &[], |_, request| async move {
        let mut response = Response::new(request.into_body());
        response
            .headers_mut()
            .insert("trailer", "x-sum".parse().unwrap());
        Ok(response)
    })
    .await;
    let mut wire = Wire::open(address).await;
    wire.send("POST / HTTP/1.1\r\nhost: a\r\nte: trailers\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n").await;
    assert_eq!(wire.head().await.status, 200);
    assert_eq!(wire.bytes(8).await, b"3\r\nabc\r\n");
    wire.send("0\r\nx-sum: 3\r\n\r\n").await;
    assert_eq!(wire.bytes(15).await, b"0\r\nx-sum: 3\r\n\r\n");
}

#[tokio::test]
async fn a_client_that_leaves_before_the_head_stops_the_actor() {
    let (told, mut cancelled) = mpsc::channel(1);
    let started = Arc::new(Notify::new());
    let begun = started.clone();
    let (_server, address) = linked(&[], &[], move |call, _| {
        let (told, begun) = (told.clone(), begun.clone());
        tokio::spawn(async move {
            call.cancel.cancelled().await;
            let _ = told.send(()).await;
        });
        async move {
            begun.notify_one();
            std::future::pending().await
        }
    })
    .await;
    let mut wire = Wire::open(address).await;
    wire.send(get("/")).await;
    soon(started.notified()).await;
    drop(wire);
    soon(cancelled.recv()).await.unwrap();
}

#[tokio::test]
async fn a_client_that_leaves_within_the_body_stops_the_actor() {
    let (told, mut cancelled) = mpsc::channel(1);
    let (_server, address) = linked(&[], &[], move |call, _| {
        let told = told.clone();
        tokio::spawn(async move {
            call.cancel.cancelled().await;
            let _ = told.send(()).await;
        });
        async move {
            let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
            tokio::spawn(async move {
                while sender.send_data(Bytes::from_static(b"tick")).await.is_ok() {
                    tokio::time::sleep(Duration::from_millis(10)).await;
                }
            });
            Ok(Response::new(
                body.map_err(|never| match never {}).boxed_unsync(),
            ))
        }
    })
    .await;
    let mut wire = Wire::open(address).await;
    wire.send(get("/")).await;
    assert_eq!(wire.head().await.status, 200);
    drop(wire);
    soon(cancelled.recv()).await.unwrap();
}

#[tokio::test]
async fn a_complete_response_stops_nothing() {
    let (told, mut tokens) = mpsc::channel(8);
    let (_server, address) = linked(&[], &[], move |call, request| {
        let told = told.clone();
        async move {
            told.send(call.cancel).await.unwrap();
            match request.uri().path() {
                "/empty" => Ok(Response::new(empty())),
                "/none" => {
                    let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
                    tokio::spawn(async move {
                        tokio::time::sleep(Duration::from_millis(20)).await;
                        let _ = sender.send_data(Bytes::from_static(b"unseen")).await;
                    });
                    let mut response =
                        Response::new(body.map_err(|never| match never {}).boxed_unsync());
                    *response.status_mut() = http::StatusCode::NO_CONTENT;
                    Ok(response)
                }
                _ => crate::actors::ok("x"),
            }
        }
    })
    .await;
    let mut wire = Wire::open(address).await;
    let mut seen = Vec::new();
    for path in ["/", "/empty", "/none", "/"] {
        wire.ask(get(path)).await;
        seen.push(soon(tokens.recv()).await.unwrap());
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    drop(wire);
    assert!(seen.iter().all(|token| !token.is_cancelled()));
}

/// Frames that count themselves when they are asked for.
fn counted(
    frames: usize,
    frame_bytes: usize,
    asked: Arc<AtomicUsize>,
) -> trellis_provider_sdk::Body {
    let mut left = frames;
    let stream = futures_stream(move || {
        left = left.checked_sub(1)?;
        asked.fetch_add(1, Ordering::SeqCst);
        Some(Ok::<_, BodyError>(Frame::data(Bytes::from(
            vec![0; frame_bytes],
        ))))
    });
    StreamBody::new(stream).boxed_unsync()
}

fn futures_stream<T>(
    mut next: impl FnMut() -> Option<T> + Send + 'static,
) -> impl futures::Stream<Item = T> + Send {
    futures::stream::poll_fn(move |_| std::task::Poll::Ready(next()))
}

#[tokio::test]
async fn a_client_that_does_not_read_stops_the_body_from_being_asked_for() {
    const FRAME: usize = 64 * 1024;
    const FRAMES: usize = 2000;
    let asked = Arc::new(AtomicUsize::new(0));
    let counter = asked.clone();
    let (_server, address) = linked(&[], &[], move |_, _| {
        let body = counted(FRAMES, FRAME, counter.clone());
        async move { Ok(Response::new(body)) }
    })
    .await;
    // A small window, so that the system buffers little.
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(64 * 1024).unwrap();
    let mut stream = socket.connect(address).await.unwrap();
    tokio::io::AsyncWriteExt::write_all(&mut stream, get("/").as_bytes())
        .await
        .unwrap();
    // Wait until nothing moves any more.
    let mut last = usize::MAX;
    while last != asked.load(Ordering::SeqCst) {
        last = asked.load(Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(300)).await;
    }
    // The system's send buffer grows to a few megabytes; ours is one frame or two beyond that.
    assert!(
        (1..200).contains(&last),
        "{last} frames of {FRAME} bytes were asked for"
    );
    // Then it reads, and everything comes.
    let read = async {
        let mut buffer = vec![0; 256 * 1024];
        let mut total = 0;
        while total < FRAME * FRAMES {
            total += tokio::io::AsyncReadExt::read(&mut stream, &mut buffer)
                .await
                .unwrap();
        }
    };
    soon(read).await;
    assert_eq!(asked.load(Ordering::SeqCst), FRAMES);
}

#[tokio::test]
async fn a_client_that_never_reads_is_given_up_and_its_actor_stopped() {
    let (told, mut cancelled) = mpsc::channel(1);
    let (_server, address) = linked(&[("body_idle_timeout_ms", "200")], &[], move |call, _| {
        let told = told.clone();
        tokio::spawn(async move {
            call.cancel.cancelled().await;
            let _ = told.send(()).await;
        });
        async move { Ok(Response::new(counted(100_000, 64 * 1024, Arc::default()))) }
    })
    .await;
    let mut wire = Wire::open(address).await;
    wire.send(get("/")).await;
    soon(cancelled.recv()).await.unwrap();
}

#[tokio::test]
async fn an_actor_that_writes_seldom_is_not_taken_for_a_client_that_does_not_read() {
    let (_server, address) = linked(&[("body_idle_timeout_ms", "100")], &[], |_, _| async {
        let (mut sender, body) = Channel::<Bytes, Infallible>::new(1);
        tokio::spawn(async move {
            for _ in 0..3 {
                tokio::time::sleep(Duration::from_millis(250)).await;
                let _ = sender.send_data(Bytes::from_static(b"tick")).await;
            }
        });
        Ok(Response::new(
            body.map_err(|never| match never {}).boxed_unsync(),
        ))
    })
    .await;
    let reply = crate::wire::ask(address, get("/")).await;
    assert_eq!(
        reply.body,
        "4\r\ntick\r\n4\r\ntick\r\n4\r\ntick\r\n0\r\n\r\n"
    );
}

#[tokio::test]
async fn a_body_that_nobody_reads_is_not_taken_from_the_client() {
    let release = Arc::new(Notify::new());
    let gate = release.clone();
    let (_server, address) = linked(&[], &[], move |_, request| {
        let gate = gate.clone();
        async move {
            gate.notified().await;
            let bytes = request.into_body().collect().await.unwrap().to_bytes();
            crate::actors::ok(bytes.len().to_string())
        }
    })
    .await;
    const LENGTH: usize = 32 * 1024 * 1024;
    let mut wire = Wire::open(address).await;
    wire.send(format!(
        "POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {LENGTH}\r\n\r\n"
    ))
    .await;
    let chunk = vec![b'x'; 256 * 1024];
    let mut sent = 0;
    // Write until the system takes no more for a while.
    while let Ok(Ok(())) =
        tokio::time::timeout(Duration::from_millis(500), wire.stream.writable()).await
    {
        sent += wire.stream.try_write(&chunk).unwrap_or(0);
    }
    assert!(
        sent < LENGTH / 2,
        "{sent} bytes were taken with nobody to read them"
    );
    release.notify_one();
    while sent < LENGTH {
        wire.stream.writable().await.unwrap();
        let end = chunk.len().min(LENGTH - sent);
        sent += wire.stream.try_write(&chunk[..end]).unwrap_or(0);
    }
    assert_eq!(wire.reply().await.body, LENGTH.to_string());
}

#[tokio::test]
async fn trailers_of_a_request_reach_the_actor() {
    let (_server, address) = linked(&[], &[], |_, request| async move {
        let body = request.into_body().collect().await.unwrap();
        let sum = body
            .trailers()
            .and_then(|t: &HeaderMap| t.get("x-sum"))
            .cloned();
        crate::actors::ok(sum.map_or("none".to_owned(), |sum| sum.to_str().unwrap().to_owned()))
    })
    .await;
    let request = "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\nx-sum: 7\r\n\r\n";
    assert_eq!(crate::wire::ask(address, request).await.body, "7");
}
