//! The bodies and answers of operations, byte by byte: what the established client does not show.

use std::time::Duration;

use serde_json::{Value, json};
use trellis_host_core::StopRequest;
use trellis_lattice_tests::binary::program as program_of;
use trellis_lattice_tests::process::kill_providers;
use trellis_lattice_tests::wait::in_time;
use trellis_lattice_tests::{HostId as _, Lattice, eventually};

use super::{Asker, Wire, assert_accepted, assert_refused, keys};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_answers_a_ping_and_an_inventory_with_exactly_these_keys() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    lattice.store(&host).await;
    let asker = Asker::of(&lattice).await;
    let ping = asker.ask("host.ping", None, "").await;
    assert_eq!(keys(&ping), ["message", "response", "success"]);
    let expected = [
        "ctl_host",
        "friendly_name",
        "id",
        "labels",
        "lattice",
        "rpc_host",
        "software",
        "uptime_human",
        "uptime_seconds",
        "version",
    ];
    assert_eq!(keys(&ping["response"]), expected);

    let inventory = eventually("the provider was asked how it is", async || {
        let inventory = asker.ask("host.get", Some(host.id()), "").await;
        let healthy = inventory["response"]["providers"][0]["health"]["state"] == "healthy";
        healthy.then_some(inventory)
    })
    .await;
    let inventory = &inventory["response"];
    let expected = [
        "components",
        "friendly_name",
        "host_id",
        "labels",
        "providers",
        "software",
        "uptime_human",
        "uptime_seconds",
        "version",
    ];
    assert_eq!(keys(inventory), expected);
    assert_eq!(
        inventory["components"][0],
        json!({
            "id": "hello", "image_ref": inventory["components"][0]["image_ref"], "name": "hello",
            "revision": 1, "max_instances": 100
        })
    );
    assert_eq!(
        inventory["providers"],
        json!([{"id": "kv", "image_ref": "keyvalue-nats", "name": "keyvalue-nats", "revision": 0,
            "health": {"state": "healthy"}}])
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_have_their_other_spellings_and_unknown_ones_do_no_harm() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let reference = lattice.signed("hello");
    // `max_instances` for `count`, and fields of clients that know more.
    let scale = json!({
        "component_ref": reference, "component_id": "hello", "max_instances": 2,
        "host_id": host.id(), "future": [1, {"deep": null}]
    });
    assert_accepted(
        &asker
            .ask_json("component.scale", Some(host.id()), &scale)
            .await,
    );
    eventually("it runs", async || {
        let inventory = asker.ask("host.get", Some(host.id()), "").await;
        (inventory["response"]["components"][0]["max_instances"] == 2).then_some(())
    })
    .await;
    let stop = json!({
        "component_ref": reference, "component_id": "hello", "count": 0, "host_id": host.id(),
        "annotations": null, "component_limits": null
    });
    assert_accepted(
        &asker
            .ask_json("component.scale", Some(host.id()), &stop)
            .await,
    );

    lattice.store(&host).await;
    // `provider_ref` for `provider_id`, and no host's id.
    let stop = json!({"provider_ref": "kv", "future": true});
    assert_accepted(
        &asker
            .ask_json("provider.stop", Some(host.id()), &stop)
            .await,
    );

    let link = json!({
        "source_id": "s", "target": "t", "wit_namespace": "test", "wit_package": "p",
        "interfaces": ["i"], "future": {"signed": "by nobody"}
    });
    assert_accepted(&asker.ask_json("link.put", None, &link).await);
    let mut links = asker.ask("link.get", None, "").await;
    // Whether it is signed is said beside what the interface has.
    assert_eq!(links["response"][0]["signed"].take(), false);
    assert_eq!(
        links["response"],
        json!([{
            "source_id": "s", "target": "t", "name": "default", "wit_namespace": "test",
            "wit_package": "p", "interfaces": ["i"], "source_config": [], "target_config": [],
            "signed": null
        }])
    );
    let delete =
        json!({"source_id": "s", "wit_namespace": "test", "wit_package": "p", "future": 1});
    assert_accepted(&asker.ask_json("link.del", None, &delete).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_command_for_another_host_is_refused() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let other = "NOTHERHOST";
    for (request, body) in [
        ("host.stop", json!({"host_id": other, "timeout": 1})),
        (
            "component.scale",
            json!({"component_ref": "r", "component_id": "c", "count": 1, "host_id": other}),
        ),
        (
            "component.update",
            json!({"component_id": "c", "new_component_ref": "r", "host_id": other}),
        ),
        (
            "provider.start",
            json!({"provider_ref": "r", "provider_id": "p", "host_id": other}),
        ),
        (
            "provider.stop",
            json!({"provider_id": "p", "host_id": other}),
        ),
    ] {
        let message = assert_refused(&asker.ask_json(request, Some(host.id()), &body).await);
        assert!(message.contains(other), "{request}: {message}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_takes_a_request_to_stop_with_and_without_a_body_and_a_time() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let ms = |ms| Some(Duration::from_millis(ms));
    for (body, within) in [
        (String::new(), None),
        (json!({"host_id": host.id()}).to_string(), None),
        (
            json!({"host_id": host.id(), "timeout": 1_500}).to_string(),
            ms(1_500),
        ),
        (json!({"host_id": "", "timeout": 0}).to_string(), ms(0)),
        // Longer than anybody waits.
        (json!({"timeout": u64::MAX}).to_string(), ms(3_600_000)),
    ] {
        assert_accepted(&asker.ask("host.stop", Some(host.id()), body).await);
        let asked = host.host().stop_requested();
        let asked = in_time(Duration::from_secs(5), "it was asked to stop", asked).await;
        assert_eq!(asked, StopRequest { within });
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_configuration_is_a_success_without_an_answer() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let missing = asker.ask("config.get", Some("a.b"), "").await;
    assert_eq!(
        missing,
        json!({"success": true, "message": "Configuration not found"})
    );
    let put = asker
        .ask_json("config.put", Some("a.b"), &json!({"k": "v"}))
        .await;
    assert_accepted(&put);
    let found = asker.ask("config.get", Some("a.b"), "ignored").await;
    assert_eq!(
        found,
        json!({"success": true, "message": "", "response": {"k": "v"}})
    );
    // Only texts are values.
    for body in [
        json!({"k": 1}),
        json!({"k": null}),
        json!(["k"]),
        json!({"k": {}}),
    ] {
        assert_refused(&asker.ask_json("config.put", Some("a.b"), &body).await);
    }
    let kept = asker.ask("config.get", Some("a.b"), "").await;
    assert_eq!(kept, found);
    // A configuration that holds nothing is there.
    assert_accepted(&asker.ask_json("config.put", Some("none"), &json!({})).await);
    let empty = asker.ask("config.get", Some("none"), "").await;
    assert_eq!(empty["response"], json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_is_refused_for_a_second_target_and_for_a_configuration_that_is_missing() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let link = |target: &str, interfaces: Value, config: Value| {
        json!({
            "source_id": "s", "target": target, "name": "default", "wit_namespace": "test",
            "wit_package": "p", "interfaces": interfaces, "source_config": [],
            "target_config": config
        })
    };
    let put = async |link: Value| asker.ask_json("link.put", None, &link).await;
    assert_accepted(&put(link("t", json!(["i", "j"]), json!([]))).await);
    let refusal = assert_refused(&put(link("u", json!(["j", "k"]), json!([]))).await);
    assert!(refusal.contains("test:p/j"), "{refusal}");
    assert_accepted(&put(link("u", json!(["k"]), json!([]))).await);
    let refusal = assert_refused(&put(link("t", json!(["i"]), json!(["missing"]))).await);
    assert!(refusal.contains("missing"), "{refusal}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_is_given_up_is_listed_apart_with_the_reason() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").spawn().await;
    let asker = Asker::of(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    // A program of its own, that can be taken away.
    let program = lattice.files().join("trellis-moving");
    std::fs::copy(program_of("trellis-keyvalue-nats"), &program).expect("a file can be copied");
    let start = json!({
        "provider_ref": format!("file://{}", program.display()), "provider_id": "kv",
        "config": ["kv"], "annotations": {"by": "a test"}
    });
    lattice
        .operator()
        .configure("kv", &[("cluster_uris", lattice.url())])
        .await;
    assert_accepted(
        &asker
            .ask_json("provider.start", Some(host.id()), &start)
            .await,
    );
    events
        .next("provider_started", Some(host.id()), |_| true)
        .await;

    std::fs::remove_file(&program).expect("a file can be removed");
    kill_providers(host.pid());
    let inventory = async || asker.ask("host.get", Some(host.id()), "").await["response"].take();
    eventually("it is said to be started again", async || {
        let inventory = inventory().await;
        let health = &inventory["providers"].get(0)?["health"];
        (health["state"] == "restarting" && health["reason"].is_string()).then_some(())
    })
    .await;
    let failed = eventually("it is given up", async || {
        let inventory = inventory().await;
        assert!(
            inventory["providers"] == json!([]) || inventory.get("failed_providers").is_none(),
            "it is in one list at a time: {inventory}"
        );
        inventory.get("failed_providers").cloned()
    })
    .await;
    assert_eq!(failed[0]["id"], "kv");
    assert_eq!(failed[0]["annotations"], json!({"by": "a test"}));
    assert_eq!(failed[0]["health"]["state"], "failed");
    let stopped = events
        .next("provider_stopped", Some(host.id()), |_| true)
        .await;
    let reason = stopped["data"]["reason"]
        .as_str()
        .expect("a reason is a text");
    assert_eq!(failed[0]["health"]["reason"], reason);
    let heartbeat = events
        .next("host_heartbeat", Some(host.id()), |data| {
            data.get("failed_providers").is_some()
        })
        .await;
    assert_eq!(heartbeat["data"]["providers"], json!([]));
}
