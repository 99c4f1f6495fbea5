//! Rosters and beats over the wire: what becomes a route, and what does not.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use futures::StreamExt;
use trellis_claims::{ContentHash, KeyKind, SigningKey};
use trellis_protocol::EntityId;
use trellis_protocol::presence::{RosterActor, RosterProvider};

use super::fixture::{Lattice, count};
use crate::connection::fixture::eventually;

fn id(text: &str) -> EntityId {
    EntityId::new(text).unwrap()
}

fn actor(text: &str) -> RosterActor {
    RosterActor {
        id: id(text),
        subject: SigningKey::generate(KeyKind::Module).public().clone(),
        content_hash: ContentHash::from_bytes([1; 32]),
        count: 100,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_host_runs_is_routed_to_as_far_as_its_certificate_allows() {
    let lattice = Lattice::start();
    let (one, other) = lattice.pair().await;
    let routes = one.presence.routes();
    assert!(routes.routes_to(&id("b")).is_empty());
    let provider = RosterProvider {
        id: id("kv"),
        name: "keyvalue-nats".to_owned(),
    };
    other
        .presence
        .set_roster(vec![actor("b"), actor("forbidden")], vec![provider])
        .unwrap();
    eventually("the route is there", || {
        routes.routes_to(&id("b")).len() == 1
    })
    .await;
    let route = routes.routes_to(&id("b")).remove(0);
    assert_eq!((&*route.host, route.incarnation), (other.id(), 1));
    assert!(!route.suspect && !route.draining);
    // In the roster, and not in the certificate.
    assert!(routes.routes_to(&id("forbidden")).is_empty());
    assert!(routes.routes_to(&id("kv")).is_empty());
    assert!(routes.speaks_for(other.id(), &id("b")));
    assert!(!routes.speaks_for(other.id(), &id("forbidden")));

    other.presence.set_roster(vec![], vec![]).unwrap();
    eventually("the route is gone", || {
        routes.routes_to(&id("b")).is_empty()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_recorded_beat_does_not_keep_a_host_that_left() {
    let lattice = Lattice::start();
    let one = lattice.host(&["a"]).await;
    let client = lattice.client().await;
    let mut beats = client
        .subscribe(lattice.subjects().presence_all())
        .await
        .unwrap();
    client.flush().await.unwrap();
    let other = lattice.host(&["b"]).await;
    one.meets(&other).await;
    let subject = lattice.subjects().presence(other.id());
    let recorded = loop {
        let beat = beats.next().await.unwrap();
        if *beat.subject == *subject {
            break beat.payload;
        }
    };
    let (host, routes) = (other.id().to_owned(), one.presence.routes());
    other.presence.stop(std::time::Duration::from_secs(5)).await;
    eventually("it has left", || routes.host(&host).is_none()).await;
    let before = count(&one.presence.rejected(), "replayed");
    client.publish(subject, recorded).await.unwrap();
    let dropped = || count(&one.presence.rejected(), "replayed") == before + 1;
    eventually("the old beat is dropped", dropped).await;
    assert!(routes.host(&host).is_none());
}
