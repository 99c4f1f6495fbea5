//! What goes wrong, and what the caller is told of it before its deadline.

use std::time::{Duration, Instant};

use http_body_util::BodyExt;
use tokio::net::TcpListener;
use trellis_provider_sdk::{
    BodyError, OutgoingError, OutgoingErrorCode as Code, OutgoingTimeouts, RefusalCode,
};

use super::server::{Server, raw};
use super::{Linked, eventually, get, text};

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_before_the_deadline() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let begin = Instant::now();
    let caller = linked.caller().within(Duration::from_millis(500));
    let response = caller.http(get(&server.url("/hang"))).await.unwrap();
    let error = OutgoingError::check(response).err().unwrap();
    assert_eq!(error.code, Code::HttpResponseTimeout);
    assert!(begin.elapsed() < Duration::from_millis(500));
}

#[tokio::test]
async fn the_guests_own_limits_hold_where_they_are_shorter() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let mut request = get(&server.url("/hang"));
    OutgoingTimeouts {
        connect: None,
        first_byte: Some(Duration::from_millis(100)),
    }
    .write(&mut request);
    let begin = Instant::now();
    let error = linked.send(request).await.err().unwrap();
    assert_eq!(error.code, Code::HttpResponseTimeout);
    assert!(begin.elapsed() < Duration::from_secs(5));

    // A server whose queue is full leaves connections half open. One that accepts and says nothing to TLS is as slow.
    let port = raw(b"", false).await;
    let host = format!("https://127.0.0.1:{port}");
    linked
        .put(&[("allowed_hosts", &host), ("allowed_addresses", "127.0.0.1")])
        .await
        .unwrap();
    let mut request = get(&format!("{host}/"));
    OutgoingTimeouts {
        connect: Some(Duration::from_millis(100)),
        first_byte: None,
    }
    .write(&mut request);
    let begin = Instant::now();
    let error = linked.send(request).await.err().unwrap();
    assert_eq!(error.code, Code::ConnectionTimeout);
    assert!(begin.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn nobody_listening_is_a_refused_connection() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let linked = Linked::local(port).await;
    let uri = format!("http://127.0.0.1:{port}/");
    assert_eq!(linked.code(&uri).await, Code::ConnectionRefused);
}

#[tokio::test]
async fn an_answer_that_is_none_or_half_of_one_has_a_code_of_its_own() {
    for (reply, code) in [
        (&b""[..], Code::HttpResponseIncomplete),
        (b"HTTP/1.1 200 O", Code::HttpResponseIncomplete),
        (
            b"HTTP/1.1 200 OK\r\ncontent-le",
            Code::HttpResponseIncomplete,
        ),
        (b"220 mail.example ESMTP\r\n\r\n", Code::HttpProtocolError),
        (b"\x00\x01\x02\r\n\r\n", Code::HttpProtocolError),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\n",
            Code::HttpProtocolError,
        ),
        (
            b"HTTP/1.1 101 Switching Protocols\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            Code::HttpProtocolError,
        ),
    ] {
        let port = raw(reply, true).await;
        let linked = Linked::local(port).await;
        let uri = format!("http://127.0.0.1:{port}/");
        let shown = String::from_utf8_lossy(reply);
        assert_eq!(linked.code(&uri).await, code, "{shown}");
    }
}

#[tokio::test]
async fn half_a_body_is_an_error_and_not_a_short_body() {
    for reply in [
        &b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf"[..],
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\n",
        b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\nhalf\r\nzz\r\n",
    ] {
        let port = raw(reply, true).await;
        let linked = Linked::local(port).await;
        let response = linked
            .get(&format!("http://127.0.0.1:{port}/"))
            .await
            .unwrap();
        let error = response.into_body().collect().await.err().unwrap();
        assert!(matches!(error, BodyError::Disconnected { .. }), "{error}");
    }
}

#[tokio::test]
async fn one_request_more_than_a_link_may_have_is_refused_until_another_has_ended() {
    let server = Server::http().await;
    let linked = Linked::local_with(server.port, &[("requests_max", "2")]).await;
    let first = linked.get(&server.url("/silent")).await.unwrap();
    let second = linked.get(&server.url("/head")).await.unwrap();
    let caller = linked.caller();
    let refusal = caller.http(get(&server.url("/head"))).await.err().unwrap();
    assert_eq!(refusal.code, RefusalCode::Overloaded);
    drop(first);
    assert!(linked.get(&server.url("/head")).await.is_ok());
    text(second).await;
}

#[tokio::test]
async fn a_shutdown_waits_for_responses_and_takes_no_new_request() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let response = linked.get(&server.url("/bytes?n=10000000")).await.unwrap();
    let provider = std::sync::Arc::clone(&linked.provider);
    let ending = tokio::spawn(async move { provider.shutdown(Duration::from_secs(20)).await });
    let caller = linked.caller();
    let mut refused = false;
    let asking = async {
        while !refused {
            let answer = caller.http(get(&server.url("/head"))).await;
            refused = answer.is_err_and(|refusal| refusal.code == RefusalCode::Draining);
        }
    };
    tokio::time::timeout(Duration::from_secs(10), asking)
        .await
        .unwrap();
    assert!(!ending.is_finished());
    let body = response.into_body().collect().await.unwrap().to_bytes();
    assert_eq!(body.len(), 10_000_000);
    tokio::time::timeout(Duration::from_secs(5), ending)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn a_shutdown_cuts_off_what_is_left_when_its_time_is_over() {
    let server = Server::http().await;
    let linked = Linked::local(server.port).await;
    let mut body = linked
        .get(&server.url("/silent"))
        .await
        .unwrap()
        .into_body();
    body.frame().await.unwrap().unwrap();
    let begin = Instant::now();
    linked.provider.shutdown(Duration::from_millis(200)).await;
    assert!(begin.elapsed() < Duration::from_secs(5));
    assert!(body.frame().await.unwrap().is_err());
    eventually("the server hears of it", || {
        server
            .seen
            .abandoned
            .load(std::sync::atomic::Ordering::SeqCst)
            == 1
    })
    .await;
}
