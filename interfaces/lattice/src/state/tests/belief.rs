//! A copy that believes some links and others not.

use std::sync::atomic::AtomicBool;

use serde_json::json;
use trellis_protocol::control::{LinkProof, SignedDeletion, SignedLink};
use trellis_protocol::subject::component_key;

use super::*;

/// Believes what is signed with a number, which is its time, and nothing from before the largest deletion; or nothing at
/// all, until it is time.
#[derive(Debug, Default)]
struct Numbers {
    it_is_time: AtomicBool,
}

impl LinkBelief for Numbers {
    fn judge(&self, _: &EntityId, links: &[StoredLink], deletions: &[Arc<str>]) -> Believed {
        let deleted = deletions.iter().filter_map(|text| text.parse::<u64>().ok());
        let deleted = deleted.max().unwrap_or(0);
        let it_is_time = self.it_is_time.load(Ordering::Relaxed);
        let believed = |stored: &StoredLink| {
            let at = self.stands(stored, stored.signature.as_deref());
            it_is_time && at.is_some_and(|at| at > deleted)
        };
        Believed {
            links: links.iter().map(believed).collect(),
            again_at: (!it_is_time).then(UnixTime::now),
        }
    }

    fn stands(&self, _: &Link, signature: Option<&str>) -> Option<u64> {
        signature?.parse().ok()
    }
}

fn signed(link: &Link, signature: &str) -> SignedLink {
    SignedLink {
        link: link.clone(),
        proof: Some(LinkProof {
            signature: signature.to_owned(),
        }),
    }
}

async fn believing(connection: &Connection, it_is_time: bool) -> (LatticeState, Arc<Numbers>) {
    let numbers = Arc::new(Numbers {
        it_is_time: it_is_time.into(),
    });
    let belief: Arc<dyn LinkBelief> = Arc::clone(&numbers) as _;
    let state = LatticeState::open_with(connection, Some(belief))
        .await
        .unwrap();
    tokio::time::timeout(PATIENCE, state.synchronised())
        .await
        .unwrap();
    (state, numbers)
}

fn targets(state: &LatticeState) -> Vec<String> {
    let view = state.view();
    let links = view.links_from(&id("a")).iter();
    links.map(|link| link.target.to_string()).collect()
}

#[tokio::test]
async fn what_is_not_believed_is_stored_and_found_by_no_look_up() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let (state, _) = believing(&connection, true).await;
    let (other, kv) = (link("a", "other", &["store"]), link("a", "kv", &["store"]));
    let mut revision = state.put_link(&other).await.unwrap();
    // It is in nobody's way, though it leads elsewhere for the same interface.
    revision = revision.max(state.put_signed_link(&signed(&kv, "1")).await.unwrap());
    assert!(state.applied(Bucket::LatticeData, revision, PATIENCE).await);
    assert_eq!(targets(&state), ["kv"]);
    let view = state.view();
    assert_eq!(view.links().count(), 2);
    assert_eq!(view.links_to(&id("other")), []);
    let found = view.link_for(
        &id("a"),
        &LinkName::default(),
        &interface("wasi:keyvalue/store"),
    );
    assert_eq!(found.unwrap().target, id("kv"));
    // A copy without such a belief takes both.
    assert_eq!(targets(&open(&connection).await), ["other", "kv"]);
}

#[tokio::test]
async fn a_link_that_was_signed_later_is_not_replaced_by_an_earlier_one() {
    let nats = Nats::start();
    let (state, _) = believing(&nats.connect().await, true).await;
    let kv = link("a", "kv", &["store"]);
    state.put_signed_link(&signed(&kv, "5")).await.unwrap();
    let error = state.put_signed_link(&signed(&kv, "4")).await.unwrap_err();
    assert!(matches!(error, WriteError::Superseded { .. }), "{error}");
    state.put_signed_link(&signed(&kv, "5")).await.unwrap();
    state.put_signed_link(&signed(&kv, "6")).await.unwrap();
}

#[tokio::test]
async fn a_signed_deletion_stays_in_the_links_place_beside_what_others_wrote() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let (state, _) = believing(&connection, true).await;
    let kv = link("a", "kv", &["store"]);
    state.put_signed_link(&signed(&kv, "1")).await.unwrap();
    for signature in ["2", "3"] {
        let deletion = SignedDeletion {
            key: kv.key(),
            proof: Some(LinkProof {
                signature: signature.to_owned(),
            }),
        };
        state.delete_signed_link(&deletion).await.unwrap();
    }
    let bucket = connection
        .jetstream
        .get_key_value(lattice_data_bucket(connection.lattice()))
        .await
        .unwrap();
    let key = component_key(&id("a"));
    let value = bucket.get(&key).await.unwrap().unwrap();
    let mut value: serde_json::Value = serde_json::from_slice(&value).unwrap();
    assert_eq!(
        value["trellis"],
        json!({"deleted": [{"name": "default", "package": "wasi:keyvalue", "signature": "3"}]})
    );
    // Put back by somebody else, beside other keys that are not understood.
    value["links"] = json!([signed(&kv, "3")]);
    value["trellis"]["later"] = json!(true);
    let revision = bucket.put(&key, value.to_string().into()).await.unwrap();
    assert!(state.applied(Bucket::LatticeData, revision, PATIENCE).await);
    assert_eq!(targets(&state), Vec::<String>::new());
    let revision = state.put_signed_link(&signed(&kv, "4")).await.unwrap();
    assert!(state.applied(Bucket::LatticeData, revision, PATIENCE).await);
    assert_eq!(targets(&state), ["kv"]);
    let value = bucket.get(&key).await.unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
    assert_eq!(value["trellis"]["later"], true);
}

#[tokio::test]
async fn time_alone_changes_what_is_believed() {
    let nats = Nats::start();
    let (state, numbers) = believing(&nats.connect().await, false).await;
    let kv = link("a", "kv", &["store"]);
    let revision = state.put_signed_link(&signed(&kv, "1")).await.unwrap();
    assert!(state.applied(Bucket::LatticeData, revision, PATIENCE).await);
    assert_eq!(targets(&state), Vec::<String>::new());
    let mut changed = state.changed();
    numbers.it_is_time.store(true, Ordering::Relaxed);
    tokio::time::timeout(PATIENCE, changed.changed())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(targets(&state), ["kv"]);
}

#[tokio::test]
async fn an_id_is_taken_once_by_two_hosts_that_both_make_the_ledger() {
    let nats = Nats::start();
    let (a, b) = (nats.connect().await, nats.connect().await);
    let (a, b) = (
        crate::ledger::CommandLedger::new(&a),
        crate::ledger::CommandLedger::new(&b),
    );
    let (first, second) = tokio::join!(a.take("0f"), b.take("0f"));
    assert_ne!(first.unwrap(), second.unwrap());
    assert!(!a.take("0f").await.unwrap());
    assert!(a.take("1f").await.unwrap());
}
