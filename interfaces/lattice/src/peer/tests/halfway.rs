//! Calls that break between their first frame and their last, and what both ends are told.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::StreamExt;
use tokio::sync::OwnedSemaphorePermit;
use tokio_util::sync::CancellationToken;
use trellis_protocol::frame::{CallNumber, Frame, Stream};
use trellis_protocol::{Refusal, RefusalCode};

use super::by_hand::Attack;
use crate::peer::{BODY_IDLE, BUDGET_BYTES_DEFAULT};

/// Longer than a test that moves its clock beyond [`BODY_IDLE`] moves it.
const LONG: Duration = Duration::from_secs(300);

/// Lets the host under test call the one made by hand, which does what `answering` does.
async fn call(
    attack: &mut Attack,
    parameters: impl Into<Bytes>,
    answering: impl AsyncFnOnce(
        &mut Attack,
        CallNumber,
        &mut (dyn futures::Stream<Item = Frame> + Unpin),
    ),
) -> Result<Bytes, Refusal> {
    let mut answers = attack.answers().await;
    let peers = attack.victim.peers.clone();
    let head = attack.victim.head("b", "echo");
    let (to, parameters) = (attack.key.public().to_string(), parameters.into());
    let cancel = CancellationToken::new();
    let called = peers.invoke(&to, head, parameters, Instant::now() + LONG, &cancel);
    let answered = async {
        // A cancel of the call before may still come.
        let call = loop {
            if let Some(Frame::Invoke { call, .. }) = answers.next().await {
                break call;
            }
        };
        answering(attack, call, &mut answers).await;
    };
    tokio::join!(called, answered).0
}

fn long_reply(call: CallNumber) -> Frame {
    Frame::Reply {
        call,
        result: Bytes::from_static(b"begins"),
        rest: 100_000,
    }
}

/// Waits until the host under test has taken what it was sent before.
async fn taken(attack: &mut Attack) {
    attack.publish_frame(b"\x03\x91\x00").await;
    attack.expect("bad-frame", 1).await;
}

/// All the room for results: whoever waits for some waits until it is dropped.
async fn all_room(attack: &Attack) -> OwnedSemaphorePermit {
    let all = BUDGET_BYTES_DEFAULT as u64 / 4;
    attack.victim.peers.exchange.budget.result(all).await
}

/// Lets the time pass after which a stream that nobody serves is given up.
async fn idle() {
    tokio::time::pause();
    tokio::time::advance(BODY_IDLE + Duration::from_secs(1)).await;
    tokio::time::resume();
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_a_result_whose_rest_cannot_be_asked_for_has_an_unknown_outcome() {
    let mut attack = Attack::prepare().await;
    let room = all_room(&attack).await;
    let called = call(&mut attack, "x", async |attack, call, _| {
        attack.say(&long_reply(call)).await;
        taken(attack).await;
        // The callee has done its work; now this host's own connection ends.
        let client = attack.victim.peers.exchange.client.clone();
        client.drain().await.unwrap();
        while client.publish("nobody", Bytes::new()).await.is_ok() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        drop(room);
    });
    let refusal = called.await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::OutcomeUnknown, "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_a_refusal_after_the_result_has_begun_is_not_taken_for_retryable() {
    let mut attack = Attack::prepare().await;
    for code in [RefusalCode::Overloaded, RefusalCode::NotHere] {
        let called = call(&mut attack, "x", async |attack, call, _| {
            attack.say(&long_reply(call)).await;
            let refusal = Refusal::new(code, "later");
            attack.say(&Frame::Refuse { call, refusal }).await;
        });
        let refusal = called.await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OutcomeUnknown, "{refusal}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_result_that_is_aborted_fails_at_once_also_while_it_waits_for_room() {
    let mut attack = Attack::prepare().await;
    let _room = all_room(&attack).await;
    let called = call(&mut attack, "x", async |attack, call, _| {
        attack.say(&long_reply(call)).await;
        taken(attack).await;
        let abort = Frame::Abort {
            call,
            stream: Stream::ToCaller,
            refusal: Refusal::new(RefusalCode::DeadlineExceeded, "nobody took it"),
        };
        attack.say(&abort).await;
    });
    let called = tokio::time::timeout(Duration::from_secs(5), called).await;
    assert_eq!(
        called.unwrap().unwrap_err().code,
        RefusalCode::DeadlineExceeded
    );
}

#[tokio::test]
async fn regression_a_callee_whose_caller_cannot_send_its_parameters_is_told() {
    let mut attack = Attack::prepare().await;
    let called = call(&mut attack, vec![1; 100_000], async |_, call, answers| {
        // No credit comes.
        idle().await;
        let told = tokio::time::timeout(Duration::from_secs(5), answers.next()).await;
        assert_eq!(told.unwrap().unwrap(), Frame::Cancel { call });
    });
    assert_eq!(
        called.await.unwrap_err().code,
        RefusalCode::DeadlineExceeded
    );
}

#[tokio::test]
async fn regression_a_caller_whose_result_cannot_be_sent_to_its_end_is_told() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    let mut head = attack.head();
    head.operation.function = "produce".into();
    let invoke = Frame::Invoke {
        call: 1,
        head: Box::new(head),
        payload: Bytes::from_static(b"100000"),
        rest: 0,
    };
    attack.say(&invoke).await;
    let reply = answers.next().await.unwrap();
    assert!(matches!(reply, Frame::Reply { rest, .. } if rest > 0));
    idle().await;
    let told = tokio::time::timeout(Duration::from_secs(5), answers.next()).await;
    let Frame::Abort {
        call: 1,
        stream: Stream::ToCaller,
        refusal,
    } = told.unwrap().unwrap()
    else {
        panic!("not aborted");
    };
    assert_eq!(refusal.code, RefusalCode::DeadlineExceeded);
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_a_peer_that_stops_the_parameters_is_waited_for_to_say_why() {
    let mut attack = Attack::prepare().await;
    let called = call(&mut attack, vec![1; 100_000], async |attack, call, _| {
        let stream = Stream::ToCallee;
        attack.say(&Frame::Stop { call, stream }).await;
        taken(attack).await;
        let refusal = Refusal::new(RefusalCode::NoLink, "no");
        attack.say(&Frame::Refuse { call, refusal }).await;
    });
    assert_eq!(called.await.unwrap_err().code, RefusalCode::NoLink);
}
