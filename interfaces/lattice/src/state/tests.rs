#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use trellis_claims::InterfaceName;
use trellis_protocol::control::{Configuration, Map, PublicClaims};
use trellis_protocol::subject::{lattice_data_bucket, trellis_bucket};
use trellis_protocol::{EntityId, Link, LinkName};

use super::*;
use crate::connection::fixture::{Nats, eventually};

mod belief;
mod following;

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(10);

async fn open(connection: &Connection) -> LatticeState {
    let state = LatticeState::open(connection).await.unwrap();
    tokio::time::timeout(PATIENCE, state.synchronised())
        .await
        .unwrap();
    state
}

fn id(text: &str) -> EntityId {
    EntityId::new(text).unwrap()
}

fn link(source: &str, target: &str, interfaces: &[&str]) -> Link {
    Link {
        source_id: id(source),
        target: id(target),
        name: LinkName::default(),
        wit_namespace: "wasi".into(),
        wit_package: "keyvalue".into(),
        interfaces: interfaces.iter().map(|i| (*i).to_owned()).collect(),
        source_config: Vec::new(),
        target_config: Vec::new(),
    }
}

fn config(entries: &[(&str, &str)]) -> Configuration {
    Configuration(
        entries
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect::<Map>(),
    )
}

fn interface(text: &str) -> InterfaceName {
    text.parse().unwrap()
}

#[tokio::test]
async fn two_hosts_create_the_buckets_at_once_and_both_have_them() {
    let nats = Nats::start();
    let (a, b) = (nats.connect().await, nats.connect().await);
    let (a, b) = tokio::join!(LatticeState::open(&a), LatticeState::open(&b));
    let (a, b) = (a.unwrap(), b.unwrap());
    a.synchronised().await;
    b.synchronised().await;
    a.put_config("c", &config(&[])).await.unwrap();
    eventually("the other has it", || b.view().config("c").is_some()).await;
}

#[tokio::test]
async fn a_link_that_is_put_is_followed_by_every_host() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let (a, b) = (open(&connection).await, open(&connection).await);
    let mut changed = b.changed();
    let revision = a
        .put_link(&link("app", "kv", &["store", "atomics"]))
        .await
        .unwrap();
    assert!(b.applied(Bucket::LatticeData, revision, PATIENCE).await);
    assert!(changed.has_changed().unwrap());
    changed.mark_unchanged();

    let view = b.view();
    let found = |name: &str, i: &str| {
        view.link_for(&id("app"), &LinkName::new(name).unwrap(), &interface(i))
            .is_some()
    };
    assert!(found("default", "wasi:keyvalue/store@0.2.0-draft"));
    assert!(found("default", "wasi:keyvalue/atomics"));
    assert!(!found("default", "wasi:keyvalue/batch"));
    assert!(!found("other", "wasi:keyvalue/store"));
    assert_eq!(view.links_from(&id("app")).len(), 1);
    assert_eq!(view.links_to(&id("kv")).len(), 1);
    assert_eq!(view.links().count(), 1);

    let deleted = a
        .delete_link(&link("app", "kv", &["store"]).key())
        .await
        .unwrap();
    assert_eq!(deleted.links.len(), 1);
    assert!(
        b.applied(Bucket::LatticeData, deleted.revision, PATIENCE)
            .await
    );
    assert_eq!(b.view().links().count(), 0);
    assert_eq!(
        view.links().count(),
        1,
        "a view that was taken does not change"
    );
    let again = a
        .delete_link(&link("app", "kv", &["store"]).key())
        .await
        .unwrap();
    assert_eq!(
        again,
        DeletedLink {
            revision: deleted.revision,
            links: Vec::new()
        }
    );
}

#[tokio::test]
async fn many_concurrent_puts_to_one_source_all_survive() {
    let nats = Nats::start();
    let (a, b) = (nats.connect().await, nats.connect().await);
    let (a, b) = (open(&a).await, open(&b).await);
    let puts = (0..8).map(|n| {
        let state = if n % 2 == 0 { a.clone() } else { b.clone() };
        let mut link = link("app", &format!("target{n}"), &["store"]);
        link.name = LinkName::new(&format!("name{n}")).unwrap();
        async move { state.put_link(&link).await }
    });
    for put in futures::future::join_all(puts).await {
        put.unwrap();
    }
    eventually("all eight are there", || {
        [&a, &b]
            .iter()
            .all(|state| state.view().links_from(&id("app")).len() == 8)
    })
    .await;
}

#[tokio::test]
async fn a_link_to_another_target_for_the_same_interface_is_refused() {
    let nats = Nats::start();
    let state = open(&nats.connect().await).await;
    state
        .put_link(&link("app", "kv", &["store", "atomics"]))
        .await
        .unwrap();
    let error = state
        .put_link(&link("app", "other", &["batch", "store"]))
        .await
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "`app` is linked to `kv` for `wasi:keyvalue/store` under the name `default`; delete that link first, or choose another name"
    );
    // No interface in common, another name, or another source: no conflict.
    state
        .put_link(&link("app", "other", &["batch"]))
        .await
        .unwrap();
    let mut named = link("app", "other", &["store"]);
    named.name = LinkName::new("second").unwrap();
    state.put_link(&named).await.unwrap();
    state
        .put_link(&link("app2", "other", &["store"]))
        .await
        .unwrap();
}

#[tokio::test]
async fn a_link_put_again_to_the_same_target_replaces_itself() {
    let nats = Nats::start();
    let state = open(&nats.connect().await).await;
    let first = state
        .put_link(&link("app", "kv", &["store"]))
        .await
        .unwrap();
    assert_eq!(
        state
            .put_link(&link("app", "kv", &["store"]))
            .await
            .unwrap(),
        first,
        "nothing to write"
    );
    let second = state
        .put_link(&link("app", "kv", &["batch"]))
        .await
        .unwrap();
    assert!(state.applied(Bucket::LatticeData, second, PATIENCE).await);
    assert_eq!(state.view().links_from(&id("app"))[0].interfaces, ["batch"]);
    assert_eq!(state.view().links().count(), 1);
}

#[tokio::test]
async fn a_link_needs_the_configurations_it_names() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let (a, b) = (open(&connection).await, open(&connection).await);
    let mut wanted = link("app", "kv", &["store"]);
    wanted.target_config = vec!["kv-config".into()];
    let error = a.put_link(&wanted).await.unwrap_err();
    assert!(
        matches!(error, WriteError::UnknownConfig { ref name } if name == "kv-config"),
        "{error}"
    );
    b.put_config("kv-config", &config(&[("bucket", "x")]))
        .await
        .unwrap();
    // Whether or not `a` has seen it yet: the leader has it.
    a.put_link(&wanted).await.unwrap();
}

#[tokio::test]
async fn malformed_links_and_configurations_are_not_written() {
    let nats = Nats::start();
    let state = open(&nats.connect().await).await;
    assert!(matches!(
        state.put_link(&link("app", "kv", &[])).await,
        Err(WriteError::Invalid { .. })
    ));
    assert!(matches!(
        state.put_link(&link("app", "kv", &["No"])).await,
        Err(WriteError::Invalid { .. })
    ));
    assert!(matches!(
        state.put_config("a b", &config(&[])).await,
        Err(WriteError::Invalid { .. })
    ));
    let large = "v".repeat(VALUE_BYTES_MAX);
    assert!(matches!(
        state.put_config("c", &config(&[("k", &large)])).await,
        Err(WriteError::TooLarge { .. })
    ));
}

#[tokio::test]
async fn configurations_are_put_merged_and_deleted() {
    let nats = Nats::start();
    let state = open(&nats.connect().await).await;
    state
        .put_config("a", &config(&[("k", "1"), ("only-a", "x")]))
        .await
        .unwrap();
    let revision = state.put_config("b", &config(&[("k", "2")])).await.unwrap();
    assert!(state.applied(Bucket::ConfigData, revision, PATIENCE).await);
    let view = state.view();
    let merged = view.merged_config(&["a".into(), "b".into()]).unwrap();
    assert_eq!(merged, config(&[("k", "2"), ("only-a", "x")]).0);
    assert_eq!(
        view.merged_config(&["a".into(), "c".into()]),
        Err(MissingConfig { name: "c".into() })
    );
    let gone = state.delete_config("a").await.unwrap();
    assert!(gone > revision);
    assert!(state.applied(Bucket::ConfigData, gone, PATIENCE).await);
    assert_eq!(state.view().config_names().collect::<Vec<_>>(), ["b"]);
    assert_eq!(state.delete_config("a").await.unwrap(), gone);
    assert_eq!(state.delete_config("never").await.unwrap(), 0);
    state.put_config("a", &config(&[])).await.unwrap();
}

#[tokio::test]
async fn an_id_belongs_to_its_first_subject_until_it_is_released() {
    let nats = Nats::start();
    let state = open(&nats.connect().await).await;
    state
        .put_token(&id("app"), "MFIRST", Some("token1"))
        .await
        .unwrap();
    let revision = state
        .put_token(&id("app"), "MFIRST", Some("token2"))
        .await
        .unwrap();
    let error = state
        .put_token(&id("app"), "MSECOND", Some("token3"))
        .await
        .unwrap_err();
    assert!(
        matches!(error, WriteError::IdTaken { ref holder, .. } if holder == "MFIRST"),
        "{error}"
    );
    assert!(state.applied(Bucket::Trellis, revision, PATIENCE).await);
    assert_eq!(state.view().token(&id("app")), Some("token2"));
    assert_eq!(state.view().holder(&id("app")), Some("MFIRST"));
    state.release_id(&id("app")).await.unwrap();
    state.release_id(&id("app")).await.unwrap();
    state.put_token(&id("app"), "MSECOND", None).await.unwrap();
    eventually("the new holder is seen", || {
        state.view().holders().eq([(&id("app"), "MSECOND")])
    })
    .await;
}

#[tokio::test]
async fn an_actor_that_may_not_have_its_id_writes_nothing_and_one_that_is_known_neither() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    let app = id("app");
    let claims = |subject: &str, name: &str| PublicClaims {
        call_alias: None,
        issuer: "A".into(),
        name: name.into(),
        revision: "1".into(),
        subject: subject.into(),
        tags: Some(Vec::new()),
        version: "v".into(),
        config_schema: None,
    };
    let last = async || {
        let data = lattice_data_bucket(connection.lattice());
        let trellis = trellis_bucket(connection.lattice());
        let mut last = Vec::new();
        for bucket in [data, trellis] {
            let store = connection.jetstream.get_key_value(bucket).await.unwrap();
            last.push(store.status().await.unwrap().info.state.last_sequence);
        }
        last
    };
    let first = claims("MFIRST", "n");
    state.put_actor(&app, "url", "token", &first).await.unwrap();
    eventually("it is seen", || {
        let view = state.view();
        view.token(&app) == Some("token")
            && view.component_url(&app) == Some("url")
            && view.claims_of("MFIRST").is_some()
    })
    .await;
    let before = last().await;
    state.put_actor(&app, "url", "token", &first).await.unwrap();
    let error = state
        .put_actor(&app, "other", "token", &claims("MSECOND", "n"))
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::IdTaken { .. }), "{error}");
    assert_eq!(last().await, before);

    // Whatever differs is put, whether the copy knows of it or not.
    let renamed = claims("MFIRST", "renamed");
    state
        .put_actor(&app, "url", "token", &renamed)
        .await
        .unwrap();
    state
        .put_actor(&app, "moved", "token", &renamed)
        .await
        .unwrap();
    state.release_id(&app).await.unwrap();
    state
        .put_actor(&app, "moved", "token", &renamed)
        .await
        .unwrap();
    eventually("what differed is seen", || {
        let view = state.view();
        view.holder(&app) == Some("MFIRST")
            && view.component_url(&app) == Some("moved")
            && view
                .claims_of("MFIRST")
                .is_some_and(|it| it.name == "renamed")
    })
    .await;
}

#[tokio::test]
async fn one_of_two_subjects_that_want_an_id_at_once_gets_it() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let (a, b) = (open(&connection).await, open(&connection).await);
    let app = id("app");
    let (first, second) =
        tokio::join!(a.put_token(&app, "M1", None), b.put_token(&app, "M2", None));
    assert!(first.is_ok() != second.is_ok(), "{first:?} {second:?}");
}

#[tokio::test]
async fn a_url_and_links_of_one_key_keep_each_other_and_what_is_unknown() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    let store = connection
        .jetstream
        .get_key_value(lattice_data_bucket(connection.lattice()))
        .await
        .unwrap();
    let foreign = r#"{"url":"old","links":["strange"],"later":{"x":1}}"#;
    store.put("COMPONENT_app", foreign.into()).await.unwrap();
    state.put_component_url(&id("app"), "new").await.unwrap();
    state
        .put_link(&link("app", "kv", &["store"]))
        .await
        .unwrap();
    let value = store.get("COMPONENT_app").await.unwrap().unwrap();
    let value: serde_json::Value = serde_json::from_slice(&value).unwrap();
    assert_eq!(value["url"], "new");
    assert_eq!(value["later"]["x"], 1);
    assert_eq!(value["links"][0], "strange");
    assert_eq!(value["links"][1]["target"], "kv");
    eventually("the url is seen", || {
        state.view().component_url(&id("app")) == Some("new")
    })
    .await;

    store.put("COMPONENT_broken", "[]".into()).await.unwrap();
    let error = state
        .put_link(&link("broken", "kv", &["store"]))
        .await
        .unwrap_err();
    assert!(matches!(error, WriteError::Foreign { .. }), "{error}");
}

#[tokio::test]
async fn public_claims_are_stored_in_the_form_of_the_interface() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let state = open(&connection).await;
    let claims = PublicClaims {
        call_alias: Some(String::new()),
        issuer: "A".into(),
        name: "n".into(),
        revision: "1".into(),
        subject: "M".into(),
        tags: Some(Vec::new()),
        version: "v".into(),
        config_schema: None,
    };
    let revision = state.put_claims(&claims).await.unwrap();
    let store = connection
        .jetstream
        .get_key_value(lattice_data_bucket(connection.lattice()))
        .await
        .unwrap();
    assert_eq!(
        store.get("CLAIMS_M").await.unwrap().unwrap(),
        r#"{"call_alias":"","issuer":"A","name":"n","revision":"1","subject":"M","tags":[],"version":"v"}"#
    );
    assert!(state.applied(Bucket::LatticeData, revision, PATIENCE).await);
    assert_eq!(**state.view().claims_of("M").unwrap(), claims);
    let bad = PublicClaims {
        subject: "a.b".into(),
        ..claims
    };
    assert!(matches!(
        state.put_claims(&bad).await,
        Err(WriteError::Invalid { .. })
    ));
}
