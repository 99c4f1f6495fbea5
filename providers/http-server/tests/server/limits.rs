//! Each limit from both sides.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use http_body_util::BodyExt;
use trellis_provider_sdk::BodyError;

use crate::actors::{Answer, linked, ok};
use crate::wire::{PATIENCE, Wire, ask, get, soon};
use trellis_provider_sdk::{HttpRequest, OutboundCall};

/// Answers with the length of the body.
async fn count(_: OutboundCall, request: HttpRequest) -> Answer {
    match request.into_body().collect().await {
        Ok(body) => ok(body.to_bytes().len().to_string()),
        Err(error) => ok(error.to_string()),
    }
}

fn post(length: usize) -> String {
    format!("POST / HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n")
}

#[tokio::test]
async fn a_body_of_the_largest_size_passes_and_one_more_byte_is_refused_at_once() {
    let (_server, address) = linked(&[("body_bytes_max", "1000")], &[], count).await;
    let reply = ask(address, post(1000) + &"x".repeat(1000)).await;
    assert_eq!(reply.body, "1000");
    // Without a byte of the body.
    let mut wire = Wire::open(address).await;
    let reply = wire.ask(post(1001)).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "too-large"));
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_body_of_unknown_length_is_refused_where_it_exceeds_the_limit() {
    let seen = Arc::new(Mutex::new(None));
    let errors = seen.clone();
    let (_server, address) = linked(&[("body_bytes_max", "1000")], &[], move |_, request| {
        let errors = errors.clone();
        async move {
            let (done, read) = tokio::sync::oneshot::channel();
            // As a host would, the body is read by another task.
            tokio::spawn(async move {
                let _ = done.send(request.into_body().collect().await);
            });
            match read.await.unwrap() {
                Ok(body) => ok(body.to_bytes().len().to_string()),
                Err(error) => {
                    *errors.lock().unwrap() = Some(error);
                    std::future::pending().await
                }
            }
        }
    })
    .await;
    let chunked = |length: usize| {
        format!(
            "POST / HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n{length:x}\r\n{}\r\n0\r\n\r\n",
            "x".repeat(length)
        )
    };
    assert_eq!(ask(address, chunked(1000)).await.body, "1000");
    let reply = ask(address, chunked(1001)).await;
    assert_eq!((reply.status, reply.code().as_str()), (413, "too-large"));
    let error = seen.lock().unwrap().take();
    assert!(
        error.is_none() || matches!(error, Some(BodyError::TooLarge { limit_bytes: 1000 })),
        "{error:?}"
    );
}

#[tokio::test]
async fn a_client_that_sends_on_after_413_still_gets_it() {
    let (_server, address) = linked(&[("body_bytes_max", "1000")], &[], count).await;
    let mut wire = Wire::open(address).await;
    wire.send(post(400_000)).await;
    wire.send("x".repeat(400_000)).await;
    assert_eq!(wire.reply().await.status, 413);
}

#[tokio::test]
async fn a_head_of_the_largest_size_passes_and_a_larger_one_is_refused() {
    let (_server, address) = linked(&[("header_bytes_max", "1000")], &[], |_, _| async {
        ok("")
    })
    .await;
    let head = |bytes: usize| {
        let rest = get("/").len() + "x: \r\n".len();
        get("/").replace(
            "\r\n\r\n",
            &format!("\r\nx: {}\r\n\r\n", "y".repeat(bytes - rest)),
        )
    };
    assert_eq!(head(1000).len(), 1000);
    assert_eq!(ask(address, head(1000)).await.status, 200);
    let mut wire = Wire::open(address).await;
    assert_eq!(wire.ask(head(1001)).await.status, 431);
    assert!(wire.is_closed().await);
    // A head without end is refused as soon as it is too long.
    let mut wire = Wire::open(address).await;
    wire.send("GET / HTTP/1.1\r\nx: ").await;
    wire.send("y".repeat(70_000)).await;
    assert_eq!(wire.reply().await.status, 431);
}

#[tokio::test]
async fn the_most_fields_pass_and_one_more_is_refused() {
    for limit in ["5", "100", "150"] {
        let (_server, address) =
            linked(&[("header_count_max", limit)], &[], |_, _| async { ok("") }).await;
        let head = |fields: usize| {
            let more: String = (1..fields).map(|n| format!("x-{n}: y\r\n")).collect();
            format!("GET / HTTP/1.1\r\nhost: a\r\n{more}\r\n")
        };
        let most: usize = limit.parse().unwrap();
        assert_eq!(ask(address, head(most)).await.status, 200, "{most}");
        assert_eq!(ask(address, head(most + 1)).await.status, 431, "{most} + 1");
    }
}

#[tokio::test]
async fn a_head_that_does_not_end_in_time_is_answered_with_408() {
    let (_server, address) = linked(&[("header_timeout_ms", "150")], &[], |_, _| async {
        ok("")
    })
    .await;
    let mut wire = Wire::open(address).await;
    wire.send("GET / HTTP/1.1\r\nhost: ").await;
    // A byte now and then does not help.
    let drip = async {
        let mut reply = tokio::time::interval(Duration::from_millis(40));
        loop {
            reply.tick().await;
            if wire.stream.try_write(b"a").is_err() {
                break;
            }
            if tokio::time::timeout(Duration::from_millis(1), wire.stream.readable())
                .await
                .is_ok()
            {
                break;
            }
        }
    };
    soon(drip).await;
    assert_eq!(wire.reply().await.status, 408);
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_second_head_that_does_not_end_in_time_closes_the_connection() {
    let (_server, address) = linked(&[("header_timeout_ms", "150")], &[], |_, _| async {
        ok("")
    })
    .await;
    let mut wire = Wire::open(address).await;
    assert_eq!(wire.ask(get("/")).await.status, 200);
    wire.send("GET / HT").await;
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_connection_without_a_word_is_closed() {
    let (_server, address) = linked(&[("header_timeout_ms", "100")], &[], |_, _| async {
        ok("")
    })
    .await;
    for word in ["", "PRI * HT"] {
        let mut wire = Wire::open(address).await;
        wire.send(word).await;
        assert!(wire.is_closed().await);
        assert_eq!(wire.rest(), "");
    }
}

#[tokio::test]
async fn an_idle_connection_is_closed_after_its_time_and_not_before() {
    let limits = [
        ("keepalive_timeout_ms", "400"),
        ("header_timeout_ms", "100"),
    ];
    let (_server, address) = linked(&limits, &[], |_, _| async { ok("") }).await;
    let mut wire = Wire::open(address).await;
    for _ in 0..3 {
        assert_eq!(wire.ask(get("/")).await.status, 200);
        // Longer than a head may take, shorter than idle.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_body_that_pauses_too_long_is_told_to_the_actor_and_the_client() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let errors = seen.clone();
    let (_server, address) = linked(
        &[("body_idle_timeout_ms", "150")],
        &[],
        move |_, request| {
            let errors = errors.clone();
            async move {
                // In a task, so that it is told even though the answer is not its own.
                tokio::spawn(async move {
                    let error = request.into_body().collect().await.unwrap_err();
                    errors.lock().unwrap().push(error);
                })
                .await
                .unwrap();
                std::future::pending().await
            }
        },
    )
    .await;
    let mut wire = Wire::open(address).await;
    wire.send(post(10)).await;
    wire.send("12345").await;
    let reply = wire.reply().await;
    assert_eq!((reply.status, reply.code().as_str()), (408, "body-timeout"));
    assert!(matches!(seen.lock().unwrap()[..], [BodyError::IdleTimeout]));
    assert!(wire.is_closed().await);
}

#[tokio::test]
async fn a_slow_body_whose_pauses_are_short_passes() {
    let (_server, address) = linked(&[("body_idle_timeout_ms", "400")], &[], count).await;
    let mut wire = Wire::open(address).await;
    wire.send(post(8)).await;
    for _ in 0..8 {
        tokio::time::sleep(Duration::from_millis(100)).await;
        wire.send("x").await;
    }
    assert_eq!(wire.reply().await.body, "8");
}

#[tokio::test]
async fn connections_beyond_the_limit_wait_until_one_closes() {
    let (_server, address) =
        linked(&[("connections_max", "2")], &[], |_, _| async { ok("x") }).await;
    let mut first = Wire::open(address).await;
    let mut second = Wire::open(address).await;
    assert_eq!(first.ask(get("/")).await.status, 200);
    assert_eq!(second.ask(get("/")).await.status, 200);
    let mut third = Wire::open(address).await;
    third.send(get("/")).await;
    let early = tokio::time::timeout(Duration::from_millis(200), third.head()).await;
    assert!(early.is_err(), "{early:?}");
    drop(first);
    assert_eq!(
        tokio::time::timeout(PATIENCE, third.head())
            .await
            .unwrap()
            .status,
        200
    );
}
