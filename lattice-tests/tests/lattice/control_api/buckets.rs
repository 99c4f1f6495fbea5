//! The lattice's state as it lies in its two buckets, and what happens where many write at once.

use async_nats::jetstream;
use futures::future::join_all;
use serde_json::{Value, json};
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::{HostId as _, Lattice, eventually};

use super::{Asker, assert_accepted, keys};

async fn bucket(lattice: &Lattice, name: &str) -> jetstream::kv::Store {
    let context = jetstream::new(lattice.stranger().await);
    let name = format!("{name}_{}", lattice.name());
    context
        .get_key_value(&name)
        .await
        .unwrap_or_else(|error| panic!("{name}: {error}"))
}

async fn value(bucket: &jetstream::kv::Store, key: &str) -> Value {
    let value = bucket.get(key).await.expect("the server answers");
    let value = value.unwrap_or_else(|| panic!("there is no `{key}`"));
    serde_json::from_slice(&value).expect("a value is JSON")
}

#[tokio::test(flavor = "multi_thread")]
async fn links_claims_and_configurations_lie_where_other_tools_look_for_them() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let reference = lattice.signed("hello");
    lattice
        .try_run(&host, &reference, "hello")
        .await
        .expect("it starts");
    lattice.store(&host).await;
    lattice
        .operator()
        .configure("settings", &[("k", "v")])
        .await;
    // Under their source, a provider's too.
    lattice
        .operator()
        .link(&link("kv", "hello", "test:p/i"))
        .await;
    let mut own = link("hello", "kv", "wasi:keyvalue/store");
    own.target_config = vec!["settings".to_owned()];
    // What the claims do not grant is refused, so another id it is.
    own.source_id = trellis_lattice_tests::deploy::id("other");
    lattice.operator().link(&own).await;

    let data = bucket(&lattice, "LATTICEDATA").await;
    let hello = value(&data, "COMPONENT_hello").await;
    assert_eq!(hello, json!({"url": reference, "links": []}));
    let kv = value(&data, "COMPONENT_kv").await;
    assert_eq!(keys(&kv), ["links", "url"]);
    assert_eq!(kv["url"], "keyvalue-nats");
    assert_eq!(kv["links"][0]["source_id"], "kv");
    let other = value(&data, "COMPONENT_other").await;
    assert_eq!(
        other,
        json!({"url": "", "links": [{
            "source_id": "other", "target": "kv", "name": "default", "wit_namespace": "wasi",
            "wit_package": "keyvalue", "interfaces": ["store"], "source_config": [],
            "target_config": ["settings"]
        }]})
    );
    let claims = lattice
        .operator()
        .client()
        .claims()
        .await
        .expect("a host answers");
    let subject = &claims[0]["sub"];
    let stored = value(&data, &format!("CLAIMS_{subject}")).await;
    assert_eq!(stored["issuer"], lattice.account().public().as_str());
    assert_eq!(
        (&stored["name"], &stored["revision"], &stored["tags"]),
        (&json!("hello"), &json!("1"), &json!(["test"]))
    );
    let configs = bucket(&lattice, "CONFIGDATA").await;
    assert_eq!(value(&configs, "settings").await, json!({"k": "v"}));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_tools_have_written_is_understood_and_kept() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let data = bucket(&lattice, "LATTICEDATA").await;
    let foreign = json!({
        "url": "ghcr.io/a/b:1", "note": "of another tool",
        "links": [{
            "source_id": "theirs", "target": "t", "name": "default", "wit_namespace": "test",
            "wit_package": "p", "interfaces": ["i"], "source_config": [], "target_config": [],
            "more": 1
        }]
    });
    for (key, value) in [
        ("COMPONENT_theirs", foreign.to_string()),
        ("LINKDEF_old", "{\"whatever\":1}".to_owned()),
        ("REFMAP_old", "no json at all".to_owned()),
        (
            "CLAIMS_MTHEIRS",
            json!({"iss": "A", "sub": "MTHEIRS", "name": "n", "rev": "3", "tags": "a,b",
                "version": "v"})
            .to_string(),
        ),
    ] {
        data.put(key, value.into())
            .await
            .expect("the server takes it");
    }
    eventually("the link and the claims are listed", async || {
        let links = asker.ask("link.get", None, "").await;
        let claims = asker.ask("claims.get", None, "").await;
        let claims = claims["response"].as_array()?.first()?;
        assert_eq!(
            *claims,
            json!({"iss": "A", "issuer": "A", "sub": "MTHEIRS", "subject": "MTHEIRS", "name": "n",
                "rev": "3", "revision": "3", "tags": "a,b", "version": "v", "call_alias": ""})
        );
        (links["response"][0]["target"] == "t").then_some(())
    })
    .await;
    let mut own = link("theirs", "u", "test:q/i");
    lattice.operator().link(&own).await;
    own.target = trellis_lattice_tests::deploy::id("v");
    own.wit_package = "r".to_owned();
    lattice.operator().link(&own).await;
    let kept = value(&data, "COMPONENT_theirs").await;
    assert_eq!(kept["note"], "of another tool");
    assert_eq!(kept["links"][0]["more"], 1);
    assert_eq!(kept["links"].as_array().map(Vec::len), Some(3));
    let key = json!({"source_id": "theirs", "wit_namespace": "test", "wit_package": "p"});
    assert_accepted(&asker.ask_json("link.del", None, &key).await);
    let kept = value(&data, "COMPONENT_theirs").await;
    assert_eq!(kept["links"].as_array().map(Vec::len), Some(2));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_host_has_acknowledged_another_answers_with_at_once() {
    let lattice = Lattice::start().await;
    let _hosts = [
        lattice.host("a").start().await,
        lattice.host("b").start().await,
        lattice.host("c").start().await,
    ];
    let client = lattice.operator().client();
    for round in 0..60 {
        let text = round.to_string();
        lattice.operator().configure("c", &[("round", &text)]).await;
        let found = client.get_config("c").await.expect("a host answers");
        assert_eq!(found.expect("it was put").0["round"], text);
        let put = link("s", &format!("t{round}"), &format!("test:p{round}/i"));
        lattice.operator().link(&put).await;
        assert!(client.links().await.expect("a host answers").contains(&put));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_over_a_link_that_another_host_has_acknowledged_is_carried_out_at_once() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let _others = [
        lattice.host("b").start().await,
        lattice.host("c").start().await,
    ];
    lattice.run(&host, "hello").await;
    let operator = lattice.operator();
    let link = link("wash", "hello", "wasi:http/incoming-handler");
    for round in 0..40 {
        operator.link(&link).await;
        let called = operator.call_http(host.id(), "hello", "/").await;
        let (status, _) = called.unwrap_or_else(|error| panic!("round {round}: {error}"));
        assert_eq!(status, 200);
        operator.unlink(&link).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn two_links_put_on_two_hosts_at_the_same_moment_both_survive() {
    let lattice = Lattice::start().await;
    let hosts = [
        lattice.host("a").start().await,
        lattice.host("b").start().await,
    ];
    for round in 0..20 {
        let source = format!("source-{round}");
        // Through the two hosts themselves: a queue group might have given both to one.
        let putting = hosts.iter().enumerate().map(|(number, host)| {
            let link = link(
                &source,
                &format!("target-{number}"),
                &format!("test:p{number}/i"),
            );
            let state = host.host().state();
            async move { state.put_link(&link).await }
        });
        for put in join_all(putting).await {
            put.expect("both are put");
        }
        let data = bucket(&lattice, "LATTICEDATA").await;
        let stored = value(&data, &format!("COMPONENT_{source}")).await;
        assert_eq!(
            stored["links"].as_array().map(Vec::len),
            Some(2),
            "{stored}"
        );
    }
}
