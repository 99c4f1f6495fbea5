//! Functions and HTTP requests, both ways.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use trellis_protocol::RefusalCode;
use trellis_protocol::limits::{FRAME_PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX};

use super::fixture::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn values_of_every_size_go_and_come_back_both_ways() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        for bytes in [
            0,
            1,
            1000,
            FRAME_PAYLOAD_BYTES_MAX - 1,
            FRAME_PAYLOAD_BYTES_MAX,
            FRAME_PAYLOAD_BYTES_MAX + 1,
            1024 * 1024,
            VALUE_BYTES_MAX,
        ] {
            let value: Bytes = (0..bytes).map(|i| (i % 251) as u8).collect();
            let back = invoke(&ends.caller, "echo", value.clone()).await.unwrap();
            assert!(back == value, "{way:?}: {bytes} bytes");
        }
        until("all room is given back", || {
            ends.caller.held_bytes() == 0 && ends.callee.held_bytes() == 0
        })
        .await;
        assert_eq!(ends.caller.calls_under_way(), (0, 0));
        assert_eq!(ends.callee.calls_under_way(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn many_large_values_at_once_wait_for_their_room() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let calls = (0..8u8).map(|i| {
            let caller = ends.caller.clone();
            tokio::spawn(async move {
                let value = Bytes::from(vec![i; VALUE_BYTES_MAX]);
                invoke(&caller, "echo", value.clone()).await.unwrap() == value
            })
        });
        for call in calls.collect::<Vec<_>>() {
            assert!(call.await.unwrap());
        }
    }
}

#[tokio::test]
async fn values_beyond_the_limit_are_refused_where_they_are() {
    let ends = ends(Way::HostCalls).await;
    let refusal = invoke(&ends.caller, "echo", vec![0; VALUE_BYTES_MAX + 1]).await;
    assert_eq!(refusal.unwrap_err().code, RefusalCode::TooLarge);
    let refusal = invoke(&ends.caller, "huge", "").await;
    assert_eq!(refusal.unwrap_err().code, RefusalCode::TooLarge);
    assert_eq!(invoke(&ends.caller, "echo", "x").await.unwrap(), "x");
}

#[tokio::test]
async fn a_refusal_comes_as_it_was_given() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let refusal = invoke(&ends.caller, "refuse", "").await.unwrap_err();
        assert_eq!(refusal.to_string(), "not-granted: no (yes)");
    }
}

#[tokio::test]
async fn a_handler_that_panics_is_a_fault_of_its_end_and_of_no_other_call() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let refusal = invoke(&ends.caller, "panic", "").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Internal);
        let refusal = http(&ends.caller, "/panic", full("x")).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Internal);
        assert_eq!(invoke(&ends.caller, "echo", "x").await.unwrap(), "x");
    }
}

#[tokio::test]
async fn a_request_and_its_response_keep_their_heads() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let response = http(&ends.caller, "/echo", full("hello")).await.unwrap();
        assert_eq!(response.headers()["x-path"], "/echo");
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "hello");
        let response = http(&ends.caller, "/empty", full("")).await.unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "");
        assert_eq!(ends.caller.calls_under_way(), (0, 0));
    }
}

#[tokio::test]
async fn heads_that_are_too_large_are_refused_to_their_caller() {
    let ends = ends(Way::HostCalls).await;
    let path = format!("/{}", "p".repeat(9000));
    let refusal = http(&ends.caller, &path, full("")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TooLarge);
    let refusal = http(&ends.caller, "/many-fields", full(""))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TooLarge);
    assert_eq!(ends.caller.calls_under_way(), (0, 0));
}

#[tokio::test]
async fn the_deadline_of_a_call_is_the_time_it_had_left() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let deadline = Instant::now() + Duration::from_secs(60);
        let cancel = CancellationToken::new();
        let left = ends
            .caller
            .invoke(head("left"), Bytes::new(), deadline, &cancel)
            .await
            .unwrap();
        let left: u64 = std::str::from_utf8(&left).unwrap().parse().unwrap();
        assert!((50_000..=60_000).contains(&left), "{left}");
        let past = Instant::now();
        let refusal = ends
            .caller
            .invoke(head("left"), Bytes::new(), past, &cancel)
            .await;
        assert_eq!(refusal.unwrap_err().code, RefusalCode::DeadlineExceeded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn both_ends_call_each_other_at_once() {
    let ends = ends(Way::HostCalls).await;
    let calls = (0..200u32).map(|i| {
        let pipe = if i % 2 == 0 {
            &ends.caller
        } else {
            &ends.callee
        };
        let pipe = pipe.clone();
        tokio::spawn(async move { invoke(&pipe, "echo", i.to_string()).await.unwrap() })
    });
    for (i, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
        assert_eq!(call.await.unwrap(), i.to_string());
    }
}
