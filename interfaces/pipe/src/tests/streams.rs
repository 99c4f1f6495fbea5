//! Bodies of any size with bounded memory, and readers and writers that do not behave.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use http_body_util::BodyExt as _;
use trellis_protocol::RefusalCode;
use trellis_protocol::limits::STREAM_WINDOW_BYTES;

use super::fixture::*;
use super::handler::{endless_then_silent, length, moment, pieces, poll_once};

const MIB: usize = 1024 * 1024;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn bodies_of_every_size_go_and_come_back_both_ways() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        for bytes in [0, 1, MIB - 1, MIB, MIB + 1] {
            let response = http(&ends.caller, "/echo", pieces(bytes)).await.unwrap();
            assert_eq!(length(response.into_body()).await.unwrap(), bytes);
        }
        until("all room is given back", || {
            ends.caller.held_bytes() == 0 && ends.callee.held_bytes() == 0
        })
        .await;
        assert_eq!(ends.caller.calls_under_way().0, 0);
        assert_eq!(ends.callee.calls_under_way().1, 0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hundred_mebibytes_take_no_more_memory_than_a_window_each_way() {
    const WINDOW: usize = STREAM_WINDOW_BYTES as usize;
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let response = http(&ends.caller, "/echo", pieces(100 * MIB))
            .await
            .unwrap();
        let mut body = response.into_body();
        let (mut bytes, mut held, mut queued) = (0, 0, 0);
        while let Some(frame) = body.frame().await {
            bytes += frame.unwrap().into_data().unwrap().len();
            held = held.max(ends.caller.held_bytes() + ends.callee.held_bytes());
            queued = queued.max(ends.caller.queued_bytes() + ends.callee.queued_bytes());
        }
        assert_eq!(bytes, 100 * MIB);
        assert!(held <= 2 * WINDOW, "{held}");
        assert!(queued <= 2 * WINDOW, "{queued}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_holds_up_the_writer_and_nobody_else() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let response = http(&ends.caller, "/give/10000000", full(""))
            .await
            .unwrap();
        moment().await;
        assert!(ends.caller.held_bytes() <= STREAM_WINDOW_BYTES as usize);
        assert_eq!(ends.callee.queued_bytes(), 0);
        assert_eq!(invoke(&ends.caller, "echo", "x").await.unwrap(), "x");
        let read = length(response.into_body()).await.unwrap();
        assert_eq!(read, 10_000_000);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_small_call_is_not_held_up_behind_large_bodies() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let uploads: Vec<_> = (0..4)
            .map(|_| {
                let caller = ends.caller.clone();
                tokio::spawn(async move { http(&caller, "/count", pieces(100 * MIB)).await })
            })
            .collect();
        let read = || ends.handler.read.load(Ordering::SeqCst);
        until("the uploads have begun", || read() > MIB).await;
        let mut took: Vec<_> = Vec::new();
        let before = read();
        while uploads.iter().any(|upload| !upload.is_finished()) && took.len() < 50 {
            let started = Instant::now();
            invoke(&ends.caller, "echo", "x").await.unwrap();
            took.push(started.elapsed());
        }
        took.sort();
        let (median, bytes) = (took[took.len() / 2], (read() - before) / took.len());
        // By turns a small call waits for little more than what is in the socket, whatever the machine is busy with.
        assert!(bytes < 16 * MIB, "{bytes} bytes for each call");
        assert!(median < Duration::from_secs(1), "{median:?}");
        for upload in uploads {
            upload.abort();
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reader_that_leaves_ends_the_call_and_its_writer() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let response = http(&ends.caller, "/give/100000000", full(""))
            .await
            .unwrap();
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        drop(body);
        until("the call has ended at both ends", || {
            ends.caller.calls_under_way().0 == 0 && ends.callee.calls_under_way().1 == 0
        })
        .await;
        until("all room is given back", || ends.caller.held_bytes() == 0).await;
        assert_eq!(invoke(&ends.caller, "echo", "x").await.unwrap(), "x");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_body_that_nobody_reads_is_stopped_and_the_response_comes() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let response = http(&ends.caller, "/ignore", pieces(100 * MIB))
            .await
            .unwrap();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        assert_eq!(body, "ignored");
        until("all room is given back", || ends.callee.held_bytes() == 0).await;
        assert_eq!(ends.caller.calls_under_way(), (0, 0));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_fails_tells_its_reader_why() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let response = http(&ends.caller, "/broken-body", full("")).await.unwrap();
        let refusal = length(response.into_body()).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
        until("the call has ended", || {
            ends.caller.calls_under_way().0 == 0 && ends.callee.calls_under_way().1 == 0
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_writer_that_stops_can_be_left() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let response = http(&ends.caller, "/silent-body", full("")).await.unwrap();
        let mut body = response.into_body();
        let first = body.frame().await.unwrap().unwrap();
        assert_eq!(first.into_data().unwrap().len(), 10);
        assert!(poll_once(&mut body).is_none());
        drop(body);
        // And a request whose body stops does not keep its caller from leaving.
        let caller = ends.caller.clone();
        let call =
            tokio::spawn(async move { http(&caller, "/count", endless_then_silent()).await });
        until("the call is served", || ends.handler.under_way() == 1).await;
        call.abort();
        until("all calls have ended", || {
            ends.caller.calls_under_way().0 == 0 && ends.callee.calls_under_way().1 == 0
        })
        .await;
        until("all room is given back", || ends.callee.held_bytes() == 0).await;
    }
}
