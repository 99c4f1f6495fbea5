//! Calls of functions.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_claims::{KeyKind, SigningKey};
use trellis_protocol::limits::{FRAME_PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX};
use trellis_protocol::{Lease, RefusalCode};

use super::fixture::{Lattice, soon};
use crate::connection::fixture::eventually;
use crate::peer::PeerLimits;

fn bytes(length: usize) -> Bytes {
    (0..length)
        .map(|index| (index % 251) as u8)
        .collect::<Vec<_>>()
        .into()
}

#[tokio::test(flavor = "multi_thread")]
async fn values_of_every_length_up_to_the_limit_come_back_whole() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    for length in [
        0,
        1,
        FRAME_PAYLOAD_BYTES_MAX,
        FRAME_PAYLOAD_BYTES_MAX + 1,
        1024 * 1024,
        VALUE_BYTES_MAX,
    ] {
        let sent = bytes(length);
        let back = one.call(&other, "echo", sent.clone()).await.unwrap();
        assert!(back == sent, "{length} bytes");
    }
    let refusal = one
        .call(&other, "echo", bytes(VALUE_BYTES_MAX + 1))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TooLarge);
    let length = (VALUE_BYTES_MAX + 1).to_string();
    let refusal = one.call(&other, "produce", length).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::TooLarge);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_long_values_at_once_take_turns_and_all_arrive() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let sent = bytes(1024 * 1024);
    let calls = (0..32).map(|_| one.call(&other, "echo", sent.clone()));
    for back in futures::future::join_all(calls).await {
        assert!(back.unwrap() == sent);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_cross_in_both_directions_under_the_same_numbers() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let back = async |index: usize| {
        let head = other.head("b", "echo");
        let cancel = CancellationToken::new();
        let sent = bytes(index * 1000);
        other
            .peers
            .invoke(one.id(), head, sent, soon(), &cancel)
            .await
            .unwrap()
            .len()
    };
    let there = async |index: usize| {
        one.call(&other, "echo", bytes(index * 1000))
            .await
            .unwrap()
            .len()
    };
    let (there, back) = tokio::join!(
        futures::future::join_all((0..100).map(there)),
        futures::future::join_all((0..100).map(back)),
    );
    let expected: Vec<_> = (0..100).map(|index| index * 1000).collect();
    assert_eq!(there, expected);
    assert_eq!(back, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_travels_as_it_is() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let refusal = one.call(&other, "refuse", "").await.unwrap_err();
    assert_eq!(
        (refusal.code, &*refusal.message),
        (RefusalCode::NoLink, "no")
    );
    assert_eq!(refusal.remedy.as_deref(), Some("a link"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handlers_panic_is_refused_and_hurts_no_other_call() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let refusal = one.call(&other, "panic", "").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Internal);
    assert_eq!(one.call(&other, "echo", "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_ends_at_its_deadline_and_its_work_is_cancelled() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let deadline = Instant::now() + Duration::from_millis(200);
    let cancel = CancellationToken::new();
    let head = one.head("a", "hang");
    let called = one
        .peers
        .invoke(other.id(), head, Bytes::new(), deadline, &cancel);
    assert_eq!(
        called.await.unwrap_err().code,
        RefusalCode::DeadlineExceeded
    );
    let stopped = || other.handler.cancelled.load(Ordering::SeqCst) == 1;
    eventually("the work is cancelled", stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_or_forgotten_call_stops_its_work() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let cancel = CancellationToken::new();
    let head = one.head("a", "hang");
    let called = one
        .peers
        .invoke(other.id(), head, Bytes::new(), soon(), &cancel);
    let begun = async {
        eventually("the work begins", || {
            other.handler.begun.load(Ordering::SeqCst) == 1
        })
        .await;
        cancel.cancel();
    };
    let (called, ()) = tokio::join!(called, begun);
    assert_eq!(called.unwrap_err().code, RefusalCode::Cancelled);
    let stopped = || other.handler.cancelled.load(Ordering::SeqCst) == 1;
    eventually("the work is cancelled", stopped).await;

    let forgotten = tokio::time::timeout(Duration::from_millis(100), one.call(&other, "hang", ""));
    assert!(forgotten.await.is_err());
    let stopped = || other.handler.cancelled.load(Ordering::SeqCst) == 2;
    eventually("the forgotten work is cancelled", stopped).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_that_has_passed_sends_nothing() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let cancel = CancellationToken::new();
    let head = one.head("a", "echo");
    let called = one
        .peers
        .invoke(other.id(), head, Bytes::new(), Instant::now(), &cancel);
    assert_eq!(
        called.await.unwrap_err().code,
        RefusalCode::DeadlineExceeded
    );
    assert_eq!(other.handler.begun.load(Ordering::SeqCst), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_host_is_not_here() {
    let lattice = Lattice::start();
    let one = lattice.host(&["a"]).await;
    let unknown = SigningKey::generate(KeyKind::Host);
    let cancel = CancellationToken::new();
    let head = one.head("a", "echo");
    let to = unknown.public().as_str();
    let called = one
        .peers
        .invoke(to, head, Bytes::new(), soon(), &cancel)
        .await;
    assert_eq!(called.unwrap_err().code, RefusalCode::NotHere);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_call_is_taken_and_one_more_is_overloaded() {
    let lattice = Lattice::start();
    let one = lattice.host(&["a"]).await;
    let key = Arc::new(SigningKey::generate(KeyKind::Host));
    let limits = PeerLimits {
        incoming_calls_per_peer: 2,
        ..PeerLimits::default()
    };
    let other = lattice.host_with(key, 1, &["b"], limits).await;
    one.meets(&other).await;
    other.meets(&one).await;
    let full = async {
        let both = || other.handler.begun.load(Ordering::SeqCst) == 2;
        eventually("two calls are under way", both).await;
        one.call(&other, "echo", "").await.unwrap_err().code
    };
    let refused = tokio::select! {
        code = full => code,
        _ = futures::future::join(one.call(&other, "hang", ""), one.call(&other, "hang", "")) => {
            panic!("hanging calls ended")
        }
    };
    assert_eq!(refused, RefusalCode::Overloaded);
    assert_eq!(other.rejected("overloaded"), 1);
    // After the overload the next call is served as ever.
    let stopped = || other.handler.cancelled.load(Ordering::SeqCst) == 2;
    eventually("both are cancelled", stopped).await;
    assert_eq!(one.call(&other, "echo", "x").await.unwrap(), "x");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_end_of_an_instance_reaches_the_peer() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let lease = Lease {
        host: Arc::from(one.id()),
        instance: 7,
    };
    one.peers.release(other.id(), lease.clone()).await;
    let released = || other.handler.released.lock().unwrap().contains(&lease);
    eventually("the lease is released", released).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_for_one_run_of_a_host_reaches_no_other_run() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let cancel = CancellationToken::new();
    let call = async |host: &str, incarnation| {
        let head = one.head("a", "echo");
        let payload = Bytes::from_static(b"x");
        one.peers
            .invoke_run(host, incarnation, head, payload, soon(), &cancel)
            .await
    };
    assert_eq!(call(other.id(), 1).await.unwrap(), "x");
    for incarnation in [0, 2] {
        let refusal = call(other.id(), incarnation).await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::BadHandle);
    }
    let unknown = SigningKey::generate(KeyKind::Host);
    let refusal = call(unknown.public().as_str(), 1).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::BadHandle);
    assert_eq!(other.handler.begun.load(Ordering::SeqCst), 1);
}
