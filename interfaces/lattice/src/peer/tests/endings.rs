//! Hosts that go: with a goodbye, without one, and back again.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::BodyExt;
use tokio_util::sync::CancellationToken;
use trellis_claims::{KeyKind, SigningKey};
use trellis_protocol::RefusalCode;
use trellis_protocol::presence::State;

use super::fixture::{Host, Lattice, soon};
use super::handler::full;
use crate::connection::fixture::eventually;
use crate::peer::PeerLimits;
use crate::routes::{LostHost, LostReason};

async fn begun(host: &Host, calls: usize) {
    let all = || host.handler.begun.load(Ordering::SeqCst) == calls;
    eventually("the calls are under way", all).await;
}

#[test]
fn a_killed_hosts_calls_end_within_three_seconds_with_an_unknown_outcome() {
    let ours = tokio::runtime::Runtime::new().unwrap();
    let theirs = tokio::runtime::Runtime::new().unwrap();
    let lattice = Lattice::start();
    let one = ours.block_on(lattice.host(&["a"]));
    let other = theirs.block_on(lattice.host(&["b"]));
    ours.block_on(async {
        one.meets(&other).await;
        other.meets(&one).await;
        let cancel = CancellationToken::new();
        let head = one.head("a", "endless");
        let request = http::Request::get("/").body(full("")).unwrap();
        let response = one
            .peers
            .http(other.id(), head, soon(), &cancel, request)
            .await
            .unwrap();
        let killed = async {
            begun(&other, 2).await;
            // All its tasks stop where they are; no goodbye leaves.
            theirs.shutdown_background();
            Instant::now()
        };
        let (called, killed_at) = tokio::join!(one.call(&other, "hang", ""), killed);
        let refusal = called.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::OutcomeUnknown);
        assert!(refusal.message.contains(other.id()), "{refusal}");
        let broken = response.into_body().collect().await.unwrap_err();
        assert_eq!(broken.code, RefusalCode::OutcomeUnknown);
        let took = killed_at.elapsed();
        assert!(took < Duration::from_millis(3500), "{took:?}");
        assert!(one.presence.routes().host(other.id()).is_none());
    });
    std::mem::forget(other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_goodbye_ends_what_is_left_at_once() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let mut lost = one.presence.routes().lost();
    let id = other.id().to_owned();
    let goodbye = async {
        begun(&other, 1).await;
        other.presence.set_state(State::Leaving);
        Instant::now()
    };
    let (called, said) = tokio::join!(one.call(&other, "hang", ""), goodbye);
    assert_eq!(called.unwrap_err().code, RefusalCode::OutcomeUnknown);
    assert!(said.elapsed() < Duration::from_secs(1));
    let news = loop {
        let news = lost.recv().await.unwrap();
        if *news.host == *id {
            break news;
        }
    };
    assert_eq!((news.incarnation, news.reason), (1, LostReason::Left));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_host_loses_the_calls_of_its_former_run_and_serves_new_ones() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let key = Arc::clone(&other.key);
    let restart = async {
        begun(&other, 1).await;
        lattice
            .host_with(key, 2, &["b"], PeerLimits::default())
            .await
    };
    let (called, again) = tokio::join!(one.call(&other, "hang", ""), restart);
    assert_eq!(called.unwrap_err().code, RefusalCode::OutcomeUnknown);
    one.meets(&again).await;
    again.meets(&one).await;
    assert_eq!(one.call(&again, "echo", "x").await.unwrap(), "x");
    assert_eq!(again.handler.begun.load(Ordering::SeqCst), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_run_that_was_lost_and_is_heard_again_goes_on_counting_where_it_was() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    assert_eq!(one.call(&other, "echo", "x").await.unwrap(), "x");
    // Only one side loses sight of the other; the news of it is all that the peer layer hears.
    let lost = LostHost {
        host: Arc::from(other.id()),
        incarnation: 1,
        reason: LostReason::Silent,
        labels: Default::default(),
    };
    one.peers.exchange.lost(&lost);
    assert_eq!(one.call(&other, "echo", "y").await.unwrap(), "y");
    assert_eq!(other.rejected("replayed") + one.rejected("replayed"), 0);
    // And the callee that loses its caller says so.
    let lost = LostHost {
        host: Arc::from(one.id()),
        incarnation: 1,
        reason: LostReason::Silent,
        labels: Default::default(),
    };
    let lose = async {
        begun(&other, 3).await;
        other.peers.exchange.lost(&lost);
    };
    let (called, ()) = tokio::join!(one.call(&other, "hang", ""), lose);
    assert_eq!(called.unwrap_err().code, RefusalCode::OutcomeUnknown);
    assert_eq!(one.call(&other, "echo", "z").await.unwrap(), "z");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_listens_a_call_that_may_be_repeated_moves_on_and_no_other_does() {
    let lattice = Lattice::start();
    let one = lattice.host(&["a"]).await;
    let key = Arc::new(SigningKey::generate(KeyKind::Host));
    let certificate = Some(lattice.certificate(&key, &["b"]));
    // It beats, and has no ear for calls.
    let deaf = lattice.presence(&key, 1, certificate).await;
    one.meets_run(key.public().as_str(), 1).await;
    for (idempotent, code) in [
        (true, RefusalCode::NotHere),
        (false, RefusalCode::OutcomeUnknown),
    ] {
        let mut head = one.head("a", "echo");
        head.idempotent = idempotent;
        let (begun, cancel) = (Instant::now(), CancellationToken::new());
        let to = key.public().as_str();
        let called = one
            .peers
            .invoke(to, head, Bytes::new(), soon(), &cancel)
            .await;
        assert_eq!(called.unwrap_err().code, code);
        assert!(begun.elapsed() < Duration::from_secs(2));
    }
    drop(deaf);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_stops_refuses_new_calls_and_finishes_old_ones() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let cancel = CancellationToken::new();
    let head = one.head("a", "hang");
    let old = one
        .peers
        .invoke(other.id(), head, Bytes::new(), soon(), &cancel);
    let stop = async {
        begun(&other, 1).await;
        let stopping = other.peers.shutdown(Duration::from_secs(10));
        let meanwhile = async {
            let draining = loop {
                match one.call(&other, "echo", "").await {
                    Ok(_) => tokio::time::sleep(Duration::from_millis(5)).await,
                    Err(refusal) => break refusal,
                }
            };
            cancel.cancel();
            draining
        };
        tokio::join!(stopping, meanwhile)
    };
    let (_, (ended, refused)) = tokio::join!(old, stop);
    assert_eq!(refused.code, RefusalCode::Draining);
    assert!(ended, "the old call ended by itself");
    let refusal = other.peers.invoke(
        one.id(),
        other.head("b", "echo"),
        Bytes::new(),
        soon(),
        &cancel,
    );
    assert!(refusal.await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn draining_shows_in_the_routes_of_everybody() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let routes = one.presence.routes();
    assert!(!routes.host(other.id()).unwrap().draining);
    other.presence.set_state_sequence(77);
    other.presence.set_state(State::Draining);
    eventually("it drains", || routes.host(other.id()).unwrap().draining).await;
    assert_eq!(routes.host(other.id()).unwrap().state_sequence, 77);
}
