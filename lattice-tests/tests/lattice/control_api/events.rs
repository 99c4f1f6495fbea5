//! Every event of the interface, with its keys, from a host that does what it tells.

use serde_json::{Value, json};
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::{Door, HostId as _, Lattice};

use super::moody::{ILL_FILE, NAME, with_moody};
use super::{Asker, Wire, assert_accepted, assert_refused, keys};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_tells_of_its_start_its_heartbeat_its_labels_and_its_end() {
    let lattice = Lattice::start().await;
    let mut events = Wire::tap(&lattice).await;
    let host = lattice.host("a").start().await;
    let started = events.next("host_started", Some(host.id()), |_| true).await;
    // The form of all of them.
    assert_eq!(
        keys(&started),
        [
            "data",
            "datacontenttype",
            "id",
            "source",
            "specversion",
            "time",
            "type"
        ]
    );
    assert_eq!(started["specversion"], "1.0");
    assert_eq!(started["datacontenttype"], "application/json");
    let unique = started["id"].as_str().expect("an id is a text");
    assert_eq!(unique.len(), 36, "{unique} is no UUID");
    let time = started["time"].as_str().expect("a time is a text");
    assert!(time.ends_with('Z') && time.contains('T'), "{time}");
    assert_eq!(
        keys(&started["data"]),
        [
            "friendly_name",
            "labels",
            "software",
            "uptime_seconds",
            "version"
        ]
    );
    let heartbeat = events
        .next("host_heartbeat", Some(host.id()), |_| true)
        .await;
    assert_eq!(
        keys(&heartbeat["data"]),
        [
            "components",
            "friendly_name",
            "host_id",
            "labels",
            "providers",
            "software",
            "uptime_human",
            "uptime_seconds",
            "version"
        ]
    );
    let put = json!({"key": "zone", "value": "a"});
    let asker = Asker::of(&lattice).await;
    assert_accepted(&asker.ask_json("label.put", Some(host.id()), &put).await);
    let changed = events
        .next("labels_changed", Some(host.id()), |_| true)
        .await;
    assert_eq!(keys(&changed["data"]), ["host_id", "labels"]);
    assert_eq!(changed["data"]["labels"]["zone"], "a");
    host.stop(std::time::Duration::from_secs(10)).await;
    let stopped = events.next("host_stopped", Some(host.id()), |_| true).await;
    assert_eq!(keys(&stopped["data"]), ["labels"]);
    assert_eq!(stopped["data"]["labels"]["zone"], "a");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_is_told_of_with_its_claims_and_its_failure_with_a_code() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let mut events = Wire::tap(&lattice).await;
    let asker = Asker::of(&lattice).await;
    let reference = lattice.signed("hello");
    let annotations = json!({"wasmcloud.dev/managed-by": "wadm", "x": ""});
    let scale = |reference: &str| {
        json!({
            "component_ref": reference, "component_id": "hello", "count": 5,
            "annotations": annotations, "host_id": host.id()
        })
    };
    assert_accepted(
        &asker
            .ask_json("component.scale", Some(host.id()), &scale(&reference))
            .await,
    );
    let scaled = events
        .next("component_scaled", Some(host.id()), |_| true)
        .await;
    let data = &scaled["data"];
    assert_eq!(
        keys(data),
        [
            "annotations",
            "claims",
            "component_id",
            "host_id",
            "image_ref",
            "max_instances",
            "public_key"
        ]
    );
    assert_eq!(data["annotations"], annotations);
    assert_eq!(
        (&data["max_instances"], &data["host_id"]),
        (&json!(5), &json!(host.id()))
    );
    assert_eq!(
        keys(&data["claims"]),
        [
            "call_alias",
            "expires_human",
            "issuer",
            "name",
            "not_before_human",
            "revision",
            "tags",
            "version"
        ]
    );
    assert_eq!(data["claims"]["tags"], json!(["test"]));
    let heartbeat = events
        .next("host_heartbeat", Some(host.id()), |data| {
            data["components"] != json!([])
        })
        .await;
    assert_eq!(
        heartbeat["data"]["components"][0]["annotations"],
        annotations
    );

    let missing = "file:///nowhere/at/all.wasm";
    let mut other = scale(missing);
    other["component_id"] = json!("other");
    assert_accepted(
        &asker
            .ask_json("component.scale", Some(host.id()), &other)
            .await,
    );
    let failed = events
        .next("component_scale_failed", Some(host.id()), |_| true)
        .await;
    let data = &failed["data"];
    for key in [
        "annotations",
        "code",
        "component_id",
        "error",
        "host_id",
        "image_ref",
        "max_instances",
    ] {
        assert!(data.get(key).is_some(), "{key}: {data}");
    }
    assert_eq!(data["annotations"], annotations);
    assert_eq!(data["image_ref"], missing);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_is_told_of_at_its_start_its_failure_and_its_end() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").adjusted(with_moody).start().await;
    let mut events = Wire::tap(&lattice).await;
    let asker = Asker::of(&lattice).await;
    let start = json!({
        "provider_ref": NAME, "provider_id": "p", "host_id": host.id(), "config": [],
        "annotations": {"by": "a test"}
    });
    assert_accepted(
        &asker
            .ask_json("provider.start", Some(host.id()), &start)
            .await,
    );
    let started = events
        .next("provider_started", Some(host.id()), |_| true)
        .await;
    let data = &started["data"];
    for (key, value) in [
        ("host_id", json!(host.id())),
        ("image_ref", json!(NAME)),
        ("provider_id", json!("p")),
        ("annotations", json!({"by": "a test"})),
        ("link_name", json!("default")),
    ] {
        assert_eq!(data[key], value, "{key}");
    }
    let stop = json!({"provider_id": "p", "host_id": host.id()});
    assert_accepted(
        &asker
            .ask_json("provider.stop", Some(host.id()), &stop)
            .await,
    );
    let stopped = events
        .next("provider_stopped", Some(host.id()), |_| true)
        .await;
    assert_eq!(
        keys(&stopped["data"]),
        [
            "annotations",
            "host_id",
            "instance_id",
            "link_name",
            "provider_id",
            "public_key",
            "reason"
        ]
    );
    assert_eq!(stopped["data"]["annotations"], json!({"by": "a test"}));

    // A configuration that it does not get in time.
    let wanting = json!({"provider_ref": NAME, "provider_id": "q", "config": ["missing"]});
    assert_accepted(
        &asker
            .ask_json("provider.start", Some(host.id()), &wanting)
            .await,
    );
    let failed = events
        .next("provider_start_failed", Some(host.id()), |_| true)
        .await;
    let data = &failed["data"];
    for key in [
        "code",
        "error",
        "host_id",
        "link_name",
        "provider_id",
        "provider_ref",
    ] {
        assert!(data.get(key).is_some_and(Value::is_string), "{key}: {data}");
    }
    assert_eq!(
        (&data["provider_ref"], &data["code"]),
        (&json!(NAME), &json!("config-missing"))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_health_is_told_when_it_changes_and_when_it_does_not() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").adjusted(with_moody).start().await;
    let mut events = Wire::tap(&lattice).await;
    let ill = lattice.files().join("ill");
    let path = ill.to_str().expect("a path of a test is a text");
    lattice
        .provide(Door::BuiltIn, &host, NAME, "p", &[(ILL_FILE, path)])
        .await;
    let mut told = async |event: &str| {
        let event = events.next(event, Some(host.id()), |_| true).await;
        assert_eq!(
            event["data"],
            json!({"host_id": host.id(), "provider_id": "p"})
        );
    };
    told("health_check_passed").await;
    std::fs::write(&ill, "").expect("a file can be written");
    told("health_check_failed").await;
    let asker = Asker::of(&lattice).await;
    let inventory = asker.ask("host.get", Some(host.id()), "").await;
    assert_eq!(
        inventory["response"]["providers"][0]["health"],
        json!({"state": "failing", "reason": "it is ill"})
    );
    told("health_check_status").await;
    std::fs::remove_file(&ill).expect("a file can be removed");
    told("health_check_passed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_and_configurations_are_told_of_by_the_host_that_wrote_them() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let mut events = Wire::tap(&lattice).await;
    let asker = Asker::of(&lattice).await;
    let put = serde_json::to_value(link("s", "t", "test:p/i")).expect("a link is JSON");
    assert_accepted(&asker.ask_json("link.put", None, &put).await);
    let set = events.next("linkdef_set", Some(host.id()), |_| true).await;
    assert_eq!(set["data"], put);

    let rival = serde_json::to_value(link("s", "u", "test:p/i")).expect("a link is JSON");
    let refusal = assert_refused(&asker.ask_json("link.put", None, &rival).await);
    let failed = events
        .next("linkdef_set_failed", Some(host.id()), |_| true)
        .await;
    assert_eq!(failed["data"]["target"], "u");
    assert_eq!(failed["data"]["error"], refusal.as_str());
    assert_eq!(failed["data"]["code"], "link-refused");

    let key = json!({
        "source_id": "s", "name": "default", "wit_namespace": "test", "wit_package": "p"
    });
    // The second time nothing is there, and it is told all the same.
    for there in [true, false] {
        assert_accepted(&asker.ask_json("link.del", None, &key).await);
        let deleted = events
            .next("linkdef_deleted", Some(host.id()), |_| true)
            .await;
        let mut expected = key.clone();
        if there {
            expected["target"] = json!("t");
            expected["interfaces"] = json!(["i"]);
        }
        assert_eq!(deleted["data"], expected);
    }

    let secret = json!({"password": "hunter2"});
    assert_accepted(&asker.ask_json("config.put", Some("c.d"), &secret).await);
    let set = events.next("config_set", Some(host.id()), |_| true).await;
    assert_eq!(set["data"], json!({"config_name": "c.d"}));
    for _ in 0..2 {
        assert_accepted(&asker.ask("config.del", Some("c.d"), "").await);
        let deleted = events
            .next("config_deleted", Some(host.id()), |_| true)
            .await;
        assert_eq!(deleted["data"], json!({"config_name": "c.d"}));
    }
}
