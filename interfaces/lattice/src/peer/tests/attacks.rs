//! Every attack on calls between hosts, tried. Nothing here may reach a handler.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use futures::StreamExt;
use tokio_util::sync::CancellationToken;
use trellis_claims::{KeyKind, SigningKey};
use trellis_protocol::envelope::seal;
use trellis_protocol::frame::{Frame, Stream};
use trellis_protocol::{Lease, RefusalCode};

use super::by_hand::Attack;
use super::fixture::{certificate, count, soon};
use crate::connection::fixture::eventually;
use crate::routes::{LostHost, LostReason};

#[tokio::test(flavor = "multi_thread")]
async fn the_honest_message_that_the_attacks_vary_is_served() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    let sealed = attack.seal(&attack.invoke());
    attack.publish(sealed).await;
    let reply = Frame::Reply {
        call: 1,
        result: Bytes::from_static(b"x"),
        rest: 0,
    };
    assert_eq!(answers.next().await.unwrap(), reply);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_signature_is_dropped() {
    let mut attack = Attack::prepare().await;
    let mut sealed = attack.seal(&attack.invoke());
    sealed[20] ^= 1;
    attack.publish(sealed).await;
    attack.expect("signature", 1).await;
    let mut sealed = attack.seal(&attack.invoke());
    let last = sealed.len() - 1;
    sealed[last] ^= 1;
    attack.publish(sealed).await;
    attack.expect("signature", 2).await;
    attack.nothing_ran();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replayed_message_runs_once() {
    let mut attack = Attack::prepare().await;
    let sealed = attack.seal(&attack.invoke());
    for _ in 0..5 {
        attack.publish(sealed.clone()).await;
    }
    attack.expect("replayed", 4).await;
    // Nor again after the sender was lost and heard again.
    let host = Arc::from(attack.key.public().as_str());
    let lost = LostHost {
        host,
        incarnation: 5,
        reason: LostReason::Silent,
        labels: Default::default(),
    };
    attack.victim.peers.exchange.lost(&lost);
    attack.publish(sealed).await;
    attack.expect("replayed", 5).await;
    assert_eq!(attack.victim.handler.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_recorded_from_the_wire_is_good_for_nobody_else() {
    let mut attack = Attack::prepare().await;
    let third = attack.lattice.host(&["c"]).await;
    third.meets_run(attack.key.public().as_str(), 5).await;
    let sealed = attack.seal(&attack.invoke());
    let subject = third.subjects.rpc(third.id(), attack.key.public().as_str());
    attack.client.publish(subject, sealed.into()).await.unwrap();
    eventually("it is dropped", || third.rejected("wrong-recipient") == 1).await;
    assert_eq!(third.handler.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_for_or_from_another_run_is_dropped() {
    let mut attack = Attack::prepare().await;
    let (key, frame) = (Arc::clone(&attack.key), attack.invoke().encode().unwrap());
    let mut address = attack.address();
    address.recipient_incarnation = 0;
    let for_another = seal(&key, &address, &frame).unwrap();
    let mut address = attack.address();
    address.sender_incarnation = 4;
    let from_another = seal(&key, &address, &frame).unwrap();
    attack.publish(for_another).await;
    attack.publish(from_another).await;
    attack.expect("wrong-incarnation", 2).await;
    attack.nothing_ran();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_version_is_dropped_and_counted_by_itself() {
    let mut attack = Attack::prepare().await;
    let mut sealed = attack.seal(&attack.invoke());
    sealed[0] = 2;
    attack.publish(sealed).await;
    attack.publish(Vec::new()).await;
    attack.publish(vec![1; 200_000]).await;
    attack.expect("unknown-version", 1).await;
    attack.expect("malformed", 2).await;
    attack.nothing_ran();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stranger_is_not_heard_whatever_it_signs() {
    let mut attack = Attack::prepare().await;
    let stranger = Arc::new(SigningKey::generate(KeyKind::Host));
    // It beats as well, with a certificate of an authority that nobody trusts, and with none.
    let own_authority = SigningKey::generate(KeyKind::Account);
    let forged = certificate(&own_authority, &stranger, &["a"]);
    let _presence = attack.lattice.presence(&stranger, 5, Some(forged)).await;
    let nameless = Arc::new(SigningKey::generate(KeyKind::Host));
    let _other = attack.lattice.presence(&nameless, 5, None).await;
    let refused = || count(&attack.victim.presence.rejected(), "certificate") == 2;
    eventually("both rosters are refused", refused).await;
    let routes = attack.victim.presence.routes();
    assert!(routes.host(stranger.public().as_str()).is_none());
    assert_eq!(routes.len(), 1);

    let frame = attack.invoke().encode().unwrap();
    let sealed = seal(&stranger, &attack.address(), &frame).unwrap();
    attack
        .publish_as(stranger.public().as_str(), sealed.clone())
        .await;
    attack.expect("stranger", 1).await;
    // Under the subject of a host that is known.
    attack.publish(sealed).await;
    attack.expect("misrouted", 1).await;
    attack.nothing_ran();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_host_or_lattice_opens_nothing() {
    let attack = Attack::prepare().await;
    let thief = Arc::new(SigningKey::generate(KeyKind::Host));
    let stolen = attack.lattice.certificate(&attack.key, &["a"]);
    let _presence = attack.lattice.presence(&thief, 1, Some(stolen)).await;
    let refused = || count(&attack.victim.presence.rejected(), "certificate") == 1;
    eventually("the stolen certificate is refused", refused).await;
    assert!(
        attack
            .victim
            .presence
            .routes()
            .host(thief.public().as_str())
            .is_none()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_speaks_only_for_what_its_certificate_allows() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    let mut head = attack.head();
    head.source = "b".parse().unwrap();
    let frame = Frame::Invoke {
        call: 1,
        head: Box::new(head),
        payload: Bytes::new(),
        rest: 0,
    };
    let sealed = attack.seal(&frame);
    attack.publish(sealed).await;
    assert_eq!(
        attack.refusal(&mut answers).await.code,
        RefusalCode::Unauthenticated
    );

    // Nor can it use handles that were given to another host.
    let mut head = attack.head();
    head.lease.host = Arc::from(attack.victim.id());
    let frame = Frame::Invoke {
        call: 2,
        head: Box::new(head),
        payload: Bytes::new(),
        rest: 0,
    };
    let sealed = attack.seal(&frame);
    attack.publish(sealed).await;
    assert_eq!(
        attack.refusal(&mut answers).await.code,
        RefusalCode::Unauthenticated
    );

    let lease = Lease {
        host: Arc::from(attack.victim.id()),
        instance: 1,
    };
    let sealed = attack.seal(&Frame::Release { lease });
    attack.publish(sealed).await;
    attack.expect("source-not-allowed", 3).await;
    attack.nothing_ran();
    assert!(attack.victim.handler.released.lock().unwrap().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_held_back_beyond_its_deadline_is_too_late() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    let key = Arc::clone(&attack.key);
    // A punctual message shows how far the clocks are apart.
    let mut address = attack.address();
    address.sent_ms = 100_000;
    let punctual = seal(&key, &address, &Frame::Cancel { call: 9 }.encode().unwrap()).unwrap();
    attack.publish(punctual).await;
    let frame = attack.invoke().encode().unwrap();
    let mut address = attack.address();
    address.sent_ms = 100_000 - 6000;
    let held_back = seal(&key, &address, &frame).unwrap();
    attack.publish(held_back).await;
    assert_eq!(
        attack.refusal(&mut answers).await.code,
        RefusalCode::DeadlineExceeded
    );
    attack.expect("too-late", 1).await;
    attack.nothing_ran();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authentic_frame_that_begins_no_call_but_should_is_refused() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    for frame in [&b"\x01\x91\x07"[..], &b"\x02\x91\x07"[..]] {
        attack.publish_frame(frame).await;
        let refusal = attack.refusal(&mut answers).await;
        assert_eq!(refusal.code, RefusalCode::BadPayload);
    }
    attack.expect("bad-frame", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn regression_no_refusal_answers_what_may_speak_of_this_hosts_own_call() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    let kinds = [3, 4, 5, 6, 7, 8, 9, 10, 11, 99];
    for kind in kinds {
        // An array whose first element could be a call's number, and which is too long for any kind.
        let frame = [kind, 0x98, 7, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0, 0xc0];
        attack.publish_frame(&frame).await;
    }
    attack.publish_frame(b"\x01\x91\x09").await;
    attack.expect("bad-frame", kinds.len() as u64 + 1).await;
    // The only answer is the one to the call.
    assert!(matches!(
        answers.next().await.unwrap(),
        Frame::Refuse { call: 9, .. }
    ));
    attack.answers_nothing(&mut answers).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lost_data_and_data_beyond_the_credit_break_their_call_and_no_other() {
    let mut attack = Attack::prepare().await;
    let mut answers = attack.answers().await;
    let data = |call, sequence, bytes| Frame::Data {
        call,
        stream: Stream::ToCallee,
        sequence,
        bytes: Bytes::from(vec![0; bytes]),
        last: false,
        trailers: None,
    };
    for (call, breaking) in [(1, data(1, 1, 10)), (2, data(2, 0, 40_000))] {
        let mut head = attack.head();
        head.operation.function = Arc::from("swallow");
        let request = Frame::HttpRequest {
            call,
            head: Box::new(head),
            method: "PUT".to_owned(),
            uri: "/".to_owned(),
            fields: vec![],
            has_body: true,
        };
        for frame in [request, breaking] {
            let sealed = attack.seal(&frame);
            attack.publish(sealed).await;
        }
        assert_eq!(
            attack.refusal(&mut answers).await.code,
            RefusalCode::OutcomeUnknown
        );
        attack.expect("broken-stream", call).await;
    }
    let Frame::Invoke {
        head,
        payload,
        rest,
        ..
    } = attack.invoke()
    else {
        unreachable!()
    };
    let sealed = attack.seal(&Frame::Invoke {
        call: 3,
        head,
        payload,
        rest,
    });
    attack.publish(sealed).await;
    assert!(matches!(
        answers.next().await.unwrap(),
        Frame::Reply { call: 3, .. }
    ));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_no_responders_ends_no_call_that_may_not_be_repeated_as_retryable() {
    let attack = Attack::prepare().await;
    let caller = &attack.victim;
    let forger = attack.client.clone();
    let mut sniffed = forger
        .subscribe(caller.subjects.rpc_of_host(attack.key.public().as_str()))
        .await
        .unwrap();
    forger.flush().await.unwrap();
    let cancel = CancellationToken::new();
    let to = attack.key.public().as_str();
    let call = caller
        .peers
        .invoke(to, caller.head("b", "echo"), Bytes::new(), soon(), &cancel);
    let forged = async {
        let reply = sniffed.next().await.unwrap().reply.unwrap();
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("Status", "503");
        forger
            .publish_with_headers(reply, headers, Bytes::new())
            .await
            .unwrap();
    };
    // Whether the client takes the forgery for the server's word or ignores it, the call is never called retryable.
    let called = tokio::time::timeout(Duration::from_secs(2), async {
        tokio::join!(call, forged).0
    });
    if let Ok(called) = called.await {
        assert_eq!(called.unwrap_err().code, RefusalCode::OutcomeUnknown);
    }
}
