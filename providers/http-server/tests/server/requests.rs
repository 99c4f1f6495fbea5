//! What reaches the actor of a request, and what is refused before it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use http_body_util::BodyExt;

use crate::actors::{linked, ok};
use crate::wire::{Wire, ask};

#[tokio::test]
async fn the_actor_sees_an_absolute_uri_and_no_field_for_one_hop() {
    let (_server, address) = linked(&[], &[], |call, request| async move {
        assert_eq!(
            call.operation.to_string(),
            "wasi:http/incoming-handler#handle"
        );
        assert!(call.idempotent);
        let mut names: Vec<&str> = request.headers().keys().map(|name| name.as_str()).collect();
        names.sort_unstable();
        ok(format!("{} {}", request.uri(), names.join(",")))
    })
    .await;
    let reply = ask(
        address,
        "GET /a?b=c HTTP/1.1\r\nHost: x.example:81\r\nConnection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\n\
         Proxy-Authorization: b\r\nUpgrade: websocket\r\nTE: gzip\r\nX-End: 2\r\n\r\n",
    )
    .await;
    assert_eq!(reply.body, "http://x.example:81/a?b=c host,x-end");
}

#[tokio::test]
async fn a_post_may_not_be_repeated_and_a_put_may() {
    let (_server, address) = linked(&[], &[], |call, _| async move {
        ok(call.idempotent.to_string())
    })
    .await;
    for (method, idempotent) in [
        ("POST", "false"),
        ("PATCH", "false"),
        ("PUT", "true"),
        ("DELETE", "true"),
        ("HEADS", "false"),
    ] {
        let reply = ask(address, format!("{method} / HTTP/1.1\r\nhost: a\r\n\r\n")).await;
        assert_eq!(reply.body, idempotent, "{method}");
    }
}

#[tokio::test]
async fn a_valid_trace_context_is_continued_and_another_is_not() {
    let (_server, address) = linked(&[], &[], |call, _| async move {
        ok(call.traceparent.unwrap_or_else(|| "none".to_owned()))
    })
    .await;
    let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    for (sent, seen) in [(good, good), ("00-zz-1-01", "none")] {
        let request = format!("GET / HTTP/1.1\r\nhost: a\r\ntraceparent: {sent}\r\n\r\n");
        assert_eq!(ask(address, request).await.body, seen);
    }
}

#[tokio::test]
async fn the_deadline_is_the_links_or_the_default() {
    for (config, millis) in [(&[("timeout_ms", "1500")][..], 1500), (&[], 30_000)] {
        let (_server, address) = linked(&[], config, |call, _| async move {
            let left = call.deadline.saturating_duration_since(Instant::now());
            ok(left.as_millis().to_string())
        })
        .await;
        let left: u64 = ask(address, crate::wire::get("/"))
            .await
            .body
            .parse()
            .unwrap();
        assert!((millis - 1000..=millis).contains(&left), "{left}");
    }
}

#[tokio::test]
async fn a_call_that_its_host_forgets_is_answered_after_its_deadline() {
    let (_server, address) = linked(&[], &[("timeout_ms", "50")], |call, _| async move {
        call.cancel.cancelled().await;
        std::future::pending().await
    })
    .await;
    let reply = ask(address, crate::wire::get("/")).await;
    assert_eq!(
        (reply.status, reply.code().as_str()),
        (504, "deadline-exceeded")
    );
}

#[tokio::test]
async fn a_request_without_a_proper_host_is_refused() {
    let (_server, address) = linked(&[], &[], |_, request| async move {
        ok(request.uri().to_string())
    })
    .await;
    for head in [
        "",
        "Host:\r\n",
        "Host: a\r\nHost: b\r\n",
        "Host: u@a\r\n",
        "Host: a:b\r\n",
        "Host: a/b\r\n",
    ] {
        let reply = ask(address, format!("GET / HTTP/1.1\r\n{head}\r\n")).await;
        assert_eq!(
            (reply.status, reply.code().as_str()),
            (400, "bad-request"),
            "{head:?}"
        );
    }
    let reply = ask(address, "GET /x HTTP/1.0\r\n\r\n").await;
    assert_eq!(reply.body, format!("http://{address}/x"));
}

#[tokio::test]
async fn a_malformed_head_is_refused_and_reaches_no_actor() {
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = calls.clone();
    let (_server, address) = linked(&[], &[], move |_, _| {
        seen.fetch_add(1, Ordering::Relaxed);
        async { ok("") }
    })
    .await;
    for head in [
        "Content-Length: 1\r\nContent-Length: 2\r\n",
        "Content-Length: 1, 2\r\n",
        "Content-Length: +1\r\n",
        "Content-Length: -1\r\n",
        "Content-Length: 0x1\r\n",
        "Content-Length: 99999999999999999999\r\n",
        "Transfer-Encoding: identity\r\n",
        "Transfer-Encoding: chunked, identity\r\n",
        "Transfer-Encoding : chunked\r\n",
        "X-Folded: a\r\n b\r\n",
        " X-Space: a\r\n",
        "X-Nul: a\0b\r\n",
        "X-Cr: a\rb\r\n",
        "X Name: a\r\n",
    ] {
        let reply = ask(address, format!("POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n")).await;
        assert_eq!(reply.status, 400, "{head:?}");
    }
    assert_eq!(calls.load(Ordering::Relaxed), 0);
}

/// RFC 9112 section 6.3 lets a server take the chunked framing if it then closes; hyper does, and no second request can
/// hide behind the length.
#[tokio::test]
async fn a_length_beside_chunks_smuggles_nothing() {
    for head in [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
        "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    ] {
        let calls = Arc::new(AtomicUsize::new(0));
        let seen = calls.clone();
        let (_server, address) = linked(&[], &[], move |_, request| {
            seen.fetch_add(1, Ordering::Relaxed);
            async move {
                assert!(!request.headers().contains_key("content-length"));
                assert!(!request.headers().contains_key("transfer-encoding"));
                ok(request.into_body().collect().await.unwrap().to_bytes())
            }
        })
        .await;
        let mut wire = Wire::open(address).await;
        wire.send(format!(
            "POST / HTTP/1.1\r\nHost: a\r\n{head}\r\n3\r\nabc\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n"
        ))
        .await;
        assert_eq!(wire.reply().await.body, "abc");
        assert!(wire.is_closed().await);
        assert_eq!(wire.rest(), "");
        assert_eq!(calls.load(Ordering::Relaxed), 1);
    }
}

#[tokio::test]
async fn tunnels_and_questions_to_the_server_reach_no_actor() {
    let (_server, address) = linked(&[], &[], |_, _| async { ok("actor") }).await;
    let reply = ask(address, "CONNECT a:80 HTTP/1.1\r\nhost: a:80\r\n\r\n").await;
    assert_eq!(reply.status, 501);
    let reply = ask(address, "OPTIONS * HTTP/1.1\r\nhost: a\r\n\r\n").await;
    assert_eq!((reply.status, reply.body.as_str()), (204, ""));
}

#[tokio::test]
async fn requests_on_one_connection_are_answered_in_their_order() {
    let (_server, address) = linked(&[], &[], |_, request| async move {
        if request.uri().path() == "/1" {
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        ok(request.uri().path().to_owned())
    })
    .await;
    let mut wire = Wire::open(address).await;
    wire.send(
        (1..=20)
            .map(|n| crate::wire::get(&format!("/{n}")))
            .collect::<String>(),
    )
    .await;
    for n in 1..=20 {
        assert_eq!(wire.reply().await.body, format!("/{n}"));
    }
}
