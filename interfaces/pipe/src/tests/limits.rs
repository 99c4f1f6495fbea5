//! As many calls as were agreed, and no more bytes than there is room for.

use std::time::Duration;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::RefusalCode;
use trellis_protocol::frame::Frame;

use super::fixture::*;
use super::handler::moment;
use crate::{PipeEnd, PipeLimits};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_beyond_what_the_other_end_takes_is_refused_at_once() {
    let limits = PipeLimits {
        outgoing_calls: 4,
        ..PipeLimits::default()
    };
    for way in BOTH_WAYS {
        let ends = ends_with(way, 4, limits.clone()).await;
        let cancel = CancellationToken::new();
        let calls: Vec<_> = (0..4)
            .map(|_| {
                let (caller, cancel) = (ends.caller.clone(), cancel.clone());
                tokio::spawn(async move {
                    let head = head("until-cancelled");
                    caller.invoke(head, Bytes::new(), soon(), &cancel).await
                })
            })
            .collect();
        until("four are served", || ends.handler.under_way() == 4).await;
        let refusal = invoke(&ends.caller, "echo", "").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::Overloaded);
        cancel.cancel();
        for call in calls {
            assert!(call.await.unwrap().is_err());
        }
        until("the places are free", || {
            ends.caller.calls_under_way().0 == 0
        })
        .await;
        assert_eq!(invoke(&ends.caller, "echo", "x").await.unwrap(), "x");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_place_is_free_as_soon_as_the_answer_is_there() {
    let ends = ends_with(Way::HostCalls, 1, PipeLimits::default()).await;
    for _ in 0..2000 {
        invoke(&ends.caller, "echo", "x").await.unwrap();
    }
    for _ in 0..200 {
        let response = http(&ends.caller, "/echo", full("x")).await.unwrap();
        assert_eq!(super::handler::length(response.into_body()).await, Ok(1));
    }
}

#[tokio::test]
async fn a_provider_that_calls_too_much_is_refused_and_its_host_goes_on() {
    let limits = PipeLimits {
        incoming_calls: 8,
        ..PipeLimits::default()
    };
    let (pipe, mut hand, handler) = host_and_hand(limits).await;
    let invoke = |call, function: &str| Frame::Invoke {
        call,
        head: Box::new(head(function)),
        payload: Bytes::new(),
        rest: 0,
    };
    for call in 0..20 {
        hand.say(&invoke(call, "until-cancelled")).await;
    }
    for call in 8..20 {
        let Frame::Refuse {
            call: refused,
            refusal,
        } = hand.hear_call().await
        else {
            panic!("a refusal");
        };
        assert_eq!((refused, refusal.code), (call, RefusalCode::Overloaded));
    }
    assert_eq!(handler.under_way(), 8);
    hand.say(&Frame::Cancel { call: 3 }).await;
    assert!(matches!(
        hand.hear_call().await,
        Frame::Refuse { call: 3, .. }
    ));
    hand.say(&invoke(20, "echo")).await;
    assert!(matches!(
        hand.hear_call().await,
        Frame::Reply { call: 20, .. }
    ));
    drop(pipe);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_calls_and_reads_no_answer_makes_its_host_hold_little() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    let payload = Bytes::from(vec![0; 40_000]);
    let calling = async {
        for call in 0.. {
            let invoke = Frame::Invoke {
                call,
                head: Box::new(head("echo")),
                payload: payload.clone(),
                rest: 0,
            };
            hand.say(&invoke).await;
            tokio::task::yield_now().await;
            if call % 64 == 0 {
                assert!(pipe.queued_bytes() <= 5 * 1024 * 1024);
                assert!(pipe.held_bytes() <= crate::BUDGET_BYTES_DEFAULT / 2);
            }
        }
    };
    tokio::select! {
        end = pipe.ended() => assert!(
            matches!(end, PipeEnd::Stalled(_) | PipeEnd::Broken { .. }),
            "{end}"
        ),
        () = calling => {}
    }
}

#[tokio::test]
async fn bodies_that_find_no_room_are_refused_as_overloaded() {
    let limits = PipeLimits {
        budget_bytes: trellis_flow::budget::BUDGET_BYTES_MIN,
        ..PipeLimits::default()
    };
    let (pipe, mut hand, handler) = host_and_hand(limits).await;
    let begin = |call| Frame::HttpRequest {
        call,
        head: Box::new(head("")),
        method: "GET".to_owned(),
        uri: "http://h/count".to_owned(),
        fields: vec![],
        has_body: true,
    };
    let most = trellis_flow::budget::BUDGET_BYTES_MIN / 2 / 16_384;
    for call in 0..most + 5 {
        hand.say(&begin(call as u64)).await;
    }
    for _ in 0..5 {
        let Frame::Refuse { refusal, .. } = hand.hear_call().await else {
            panic!("a refusal");
        };
        assert_eq!(refusal.code, RefusalCode::Overloaded);
    }
    until("the others are served", || handler.under_way() == most).await;
    drop(hand);
    pipe.ended().await;
    until("all room is given back", || pipe.held_bytes() == 0).await;
}

#[tokio::test]
async fn a_call_that_is_dropped_before_it_is_written_is_never_heard_of() {
    let (pipe, mut hand, _) = host_and_hand(PipeLimits::default()).await;
    for _ in 0..10 {
        // Polled once, on the only thread: the writer has not run yet.
        let call = invoke(&pipe, "f", "");
        assert!(futures::FutureExt::now_or_never(call).is_none());
    }
    assert_eq!(pipe.calls_under_way(), (0, 0));
    moment().await;
    let heard = tokio::time::timeout(Duration::from_millis(100), hand.hear()).await;
    assert!(heard.is_err(), "{heard:?}");
}
