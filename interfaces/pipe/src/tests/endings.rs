//! Cancelled calls, deadlines, and ends that disappear.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use trellis_protocol::RefusalCode;
use trellis_protocol::frame::Frame;

use super::fixture::*;
use super::handler::length;
use crate::{CANCEL_WAIT, HANDLER_GRACE, PipeEnd, PipeLimits, STALLED_AFTER};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dropping_a_call_or_cancelling_it_stops_the_work_and_frees_the_place() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        for by_token in [false, true] {
            let (caller, cancel) = (ends.caller.clone(), CancellationToken::new());
            let token = cancel.clone();
            let call = tokio::spawn(async move {
                let head = head("until-cancelled");
                caller.invoke(head, Bytes::new(), soon(), &token).await
            });
            until("the call is served", || ends.handler.under_way() == 1).await;
            if by_token {
                cancel.cancel();
                let refusal = call.await.unwrap().unwrap_err();
                assert_eq!(refusal.code, RefusalCode::Cancelled);
            } else {
                call.abort();
            }
            until("the work ended and the place is free", || {
                ends.handler.under_way() == 0 && ends.caller.calls_under_way().0 == 0
            })
            .await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn work_that_does_not_end_keeps_its_place_until_it_is_dropped() {
    let ends = ends(Way::HostCalls).await;
    let deadline = Instant::now() + Duration::from_millis(200);
    let cancel = CancellationToken::new();
    let refusal = ends
        .caller
        .invoke(head("stubborn"), Bytes::new(), deadline, &cancel)
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::DeadlineExceeded);
    let started = Instant::now();
    assert_eq!(ends.caller.calls_under_way().0, 1);
    until("the place is free", || ends.caller.calls_under_way().0 == 0).await;
    assert!(started.elapsed() > HANDLER_GRACE / 2);
    assert_eq!(ends.handler.under_way(), 0);
    assert_eq!(invoke(&ends.caller, "echo", "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_response_ends_its_body() {
    let ends = ends(Way::HostCalls).await;
    let cancel = CancellationToken::new();
    let request = http::Request::get("http://h/silent-body")
        .body(full(""))
        .unwrap();
    let response = ends.caller.http(head(""), soon(), &cancel, request).await;
    let mut body = response.unwrap().into_body();
    body.frame().await.unwrap().unwrap();
    cancel.cancel();
    let refusal = length(body).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Cancelled);
    until("the place is free", || ends.caller.calls_under_way().0 == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_an_end_disappears_calls_end_with_an_unknown_outcome_both_ways() {
    for way in BOTH_WAYS {
        let ends = ends(way).await;
        let caller = ends.caller.clone();
        let call = tokio::spawn(async move { invoke(&caller, "until-cancelled", "").await });
        until("the call is served", || ends.handler.under_way() == 1).await;
        let response = http(&ends.caller, "/silent-body", full("")).await.unwrap();
        let mut body = response.into_body();
        body.frame().await.unwrap().unwrap();
        ends.callee.close("killed by the test");
        let refusal = call.await.unwrap().unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OutcomeUnknown);
        let refusal = length(body).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OutcomeUnknown);
        assert_eq!(ends.caller.ended().await, PipeEnd::Eof);
        until("the work ended", || ends.handler.under_way() == 0).await;
        // What begins afterwards has certainly not been begun elsewhere.
        let refusal = invoke(&ends.caller, "echo", "").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::NotHere);
        assert_eq!(ends.caller.calls_under_way(), (0, 0));
        until("all room is given back", || ends.caller.held_bytes() == 0).await;
    }
}

#[tokio::test]
async fn letting_go_of_a_pipe_ends_it() {
    let ends = ends(Way::HostCalls).await;
    drop(ends.caller);
    assert_eq!(ends.callee.ended().await, PipeEnd::Eof);
}

#[tokio::test]
async fn what_an_end_said_before_it_went_is_heard() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let caller = pipe.clone();
    let calls: Vec<_> = (0..10)
        .map(|_| {
            let caller = caller.clone();
            tokio::spawn(async move { invoke(&caller, "f", "").await })
        })
        .collect();
    for _ in 0..10 {
        let Frame::Invoke { call, .. } = hand.hear_call().await else {
            panic!("an invoke");
        };
        let result = Bytes::from_static(b"\xc0");
        let reply = Frame::Reply {
            call,
            result,
            rest: 0,
        };
        hand.say(&reply).await;
    }
    drop(hand);
    for call in calls {
        assert_eq!(call.await.unwrap().unwrap(), b"\xc0"[..]);
    }
    assert_eq!(pipe.ended().await, PipeEnd::Eof);
}

#[tokio::test]
async fn a_cancel_without_an_answer_ends_the_pipe() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let caller = pipe.clone();
    let call = tokio::spawn(async move { invoke(&caller, "f", "").await });
    let Frame::Invoke { call: number, .. } = hand.hear_call().await else {
        panic!("an invoke");
    };
    call.abort();
    assert_eq!(hand.hear_call().await, Frame::Cancel { call: number });
    let started = Instant::now();
    assert_eq!(pipe.ended().await, PipeEnd::CancelUnanswered(CANCEL_WAIT));
    assert!(started.elapsed() > CANCEL_WAIT / 2);
}

#[tokio::test]
async fn any_last_word_answers_a_cancel() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let refusal = trellis_protocol::Refusal::new(RefusalCode::Cancelled, "gone");
    let last_words = |call| {
        [
            Frame::Refuse {
                call,
                refusal: refusal.clone(),
            },
            Frame::Reply {
                call,
                result: Bytes::new(),
                rest: 0,
            },
        ]
    };
    for i in 0..2 {
        let caller = pipe.clone();
        let call = tokio::spawn(async move { invoke(&caller, "f", "").await });
        let Frame::Invoke { call: number, .. } = hand.hear_call().await else {
            panic!("an invoke");
        };
        call.abort();
        assert_eq!(hand.hear_call().await, Frame::Cancel { call: number });
        assert_eq!(pipe.calls_under_way().0, 1);
        hand.say(&last_words(number)[i]).await;
        until("the place is free", || pipe.calls_under_way().0 == 0).await;
    }
}

#[tokio::test]
async fn an_end_that_does_not_read_is_stalled() {
    let (pipe, hand, _) = host_and_hand(PipeLimits::default()).await;
    let caller = pipe.clone();
    let started = Instant::now();
    let call = tokio::spawn(async move {
        let calls = (0..16).map(|_| invoke(&caller, "f", vec![0; 40_000]));
        futures::future::join_all(calls).await
    });
    assert_eq!(pipe.ended().await, PipeEnd::Stalled(STALLED_AFTER));
    assert!(started.elapsed() >= STALLED_AFTER);
    for ended in call.await.unwrap() {
        assert_eq!(ended.unwrap_err().code, RefusalCode::OutcomeUnknown);
    }
    drop(hand);
}

#[tokio::test]
async fn an_end_that_takes_a_byte_now_and_then_is_stalled_as_well() {
    use tokio::io::AsyncReadExt as _;
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let caller = pipe.clone();
    tokio::spawn(async move {
        let calls = (0..16).map(|_| invoke(&caller, "f", vec![0; 40_000]));
        futures::future::join_all(calls).await
    });
    let dripping = async {
        loop {
            let _ = hand.socket.read_u8().await;
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::select! {
        end = pipe.ended() => assert_eq!(end, PipeEnd::Stalled(STALLED_AFTER)),
        () = dripping => {}
    }
}
