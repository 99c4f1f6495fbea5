//! Auctions: who answers, who is silent, and how a host keeps out of them.

use std::time::Duration;

use serde_json::json;
use trellis_lattice_tests::{HostId as _, Lattice};

use super::{Asker, assert_refused, keys};

/// Silence after which nobody else answers.
const QUIET: Duration = Duration::from_millis(700);

#[tokio::test(flavor = "multi_thread")]
async fn a_bid_has_exactly_its_keys_and_silence_is_the_no() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let auction = |constraints: serde_json::Value| {
        json!({
            "component_ref": lattice.signed("hello"), "component_id": "hello",
            "constraints": constraints, "unknown": {"key": 1}
        })
    };
    let subject = asker.subject("component.auction", None);
    let bids = asker
        .gather(
            subject.clone(),
            auction(json!({"hostcore.arch": std::env::consts::ARCH}))
                .to_string()
                .into(),
            QUIET,
        )
        .await;
    assert_eq!(bids.len(), 1, "{bids:?}");
    assert_eq!(keys(&bids[0]), ["message", "response", "success"]);
    assert_eq!(
        keys(&bids[0]["response"]),
        ["component_id", "component_ref", "constraints", "host_id"]
    );
    assert_eq!(bids[0]["response"]["host_id"], host.id());
    for constraints in [
        json!({"hostcore.arch": "abacus"}),
        json!({"zone": ""}),
        json!({"hostcore.arch": std::env::consts::ARCH, "zone": "a"}),
    ] {
        let body = auction(constraints).to_string().into();
        let bids = asker.gather(subject.clone(), body, QUIET).await;
        assert!(bids.is_empty(), "{bids:?}");
    }
    let provider = json!({"provider_ref": "keyvalue-nats", "provider_id": "kv", "constraints": {}});
    let subject = asker.subject("provider.auction", None);
    let bids = asker
        .gather(subject.clone(), provider.to_string().into(), QUIET)
        .await;
    assert_eq!(
        keys(&bids[0]["response"]),
        ["constraints", "host_id", "provider_id", "provider_ref"]
    );
    // Nobody can run what nobody has.
    let unknown =
        json!({"provider_ref": "no-such-provider", "provider_id": "x", "constraints": {}});
    let bids = asker
        .gather(subject, unknown.to_string().into(), QUIET)
        .await;
    assert!(bids.is_empty(), "{bids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_can_keep_out_of_auctions_and_still_be_told_to_run_something() {
    let lattice = Lattice::start().await;
    let host = lattice
        .host("a")
        .adjusted(|options| {
            options.component_auctions = false;
            options.provider_auctions = false;
        })
        .start()
        .await;
    let asker = Asker::of(&lattice).await;
    let component =
        json!({"component_ref": lattice.signed("hello"), "component_id": "x", "constraints": {}});
    let provider = json!({"provider_ref": "keyvalue-nats", "provider_id": "x", "constraints": {}});
    for (request, body) in [
        ("component.auction", component),
        ("provider.auction", provider),
    ] {
        let subject = asker.subject(request, None);
        let bids = asker.gather(subject, body.to_string().into(), QUIET).await;
        assert!(bids.is_empty(), "{bids:?}");
    }
    lattice.run(&host, "hello").await;
    lattice.store(&host).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_of_the_two_kinds_of_auction_can_be_turned_off_alone() {
    let lattice = Lattice::start().await;
    let _host = lattice
        .host("a")
        .flags(&["--no-component-auctions"])
        .spawn()
        .await;
    let asker = Asker::of(&lattice).await;
    let component =
        json!({"component_ref": lattice.signed("hello"), "component_id": "x", "constraints": {}});
    let provider = json!({"provider_ref": "keyvalue-nats", "provider_id": "x", "constraints": {}});
    let bids = async |request, body: serde_json::Value| {
        let subject = asker.subject(request, None);
        let bids = asker.gather(subject, body.to_string().into(), QUIET).await;
        bids.len()
    };
    assert_eq!(bids("component.auction", component).await, 0);
    assert_eq!(bids("provider.auction", provider).await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_auction_on_a_subject_of_one_host_is_refused_instead_of_silence() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    for request in ["component.auction", "provider.auction", "host.ping"] {
        assert_refused(&asker.ask(request, Some(host.id()), "{}").await);
    }
}
