#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use serde_json::{Value, json};

use super::call::Base64;
use super::delivery::{End, EndKind, EndState};
use super::host::SOFTWARE;
use super::*;
use crate::id::EntityId;
use crate::id::LinkName;
use crate::limits::HTTP_FIELDS_MAX;
use crate::link::{Link, LinkKey};

fn body(value: &Value) -> Vec<u8> {
    serde_json::to_vec(value).unwrap()
}

fn wire<T: Serialize>(value: &T) -> Value {
    serde_json::to_value(value).unwrap()
}

fn id(text: &str) -> EntityId {
    EntityId::new(text).unwrap()
}

fn map(entries: &[(&str, &str)]) -> Map {
    entries
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

#[test]
fn an_envelope_without_an_answer_has_no_response_key() {
    assert_eq!(
        String::from_utf8(Ack::accepted("").to_bytes()).unwrap(),
        r#"{"success":true,"message":""}"#
    );
    assert_eq!(
        String::from_utf8(Ack::refused("no").to_bytes()).unwrap(),
        r#"{"success":false,"message":"no"}"#
    );
    assert_eq!(
        String::from_utf8(Envelope::answer(vec![1]).to_bytes()).unwrap(),
        r#"{"success":true,"message":"","response":[1]}"#
    );
}

#[test]
fn an_envelope_is_read_with_null_missing_and_unknown_keys() {
    for text in [
        r#"{"success":true,"message":"m"}"#,
        r#"{"success":true,"message":"m","response":null,"later":1}"#,
    ] {
        let envelope: Envelope<HostInventory> = parse_reply(text.as_bytes()).unwrap();
        assert_eq!(envelope, Envelope::accepted("m"));
    }
}

#[test]
fn a_host_describes_itself_with_optional_keys_absent() {
    let host = HostDescription {
        id: "NABC".into(),
        friendly_name: "wispy-field-1".into(),
        labels: map(&[("zone", "a")]),
        lattice: "default".into(),
        uptime_seconds: 7,
        ..HostDescription::default()
    };
    assert_eq!(
        wire(&host),
        json!({
            "id": "NABC", "friendly_name": "wispy-field-1", "labels": {"zone": "a"},
            "lattice": "default", "uptime_seconds": 7
        })
    );
}

#[test]
fn an_inventory_has_the_keys_of_the_interface() {
    let inventory = HostInventory {
        host_id: "NABC".into(),
        friendly_name: "f".into(),
        labels: Map::new(),
        version: "0.1.0".into(),
        uptime_human: "1m".into(),
        uptime_seconds: 60,
        components: vec![ComponentDescription {
            id: "hello".into(),
            image_ref: "file:///hello.wasm".into(),
            name: Some("Hello".into()),
            annotations: Some(map(&[("a", "b")])),
            revision: 3,
            max_instances: 10,
            limits: None,
        }],
        providers: vec![ProviderDescription {
            id: "http".into(),
            image_ref: Some("http-server".into()),
            name: None,
            revision: 0,
            annotations: None,
            health: None,
        }],
        ..HostInventory::default()
    };
    let expected = json!({
        "host_id": "NABC", "friendly_name": "f", "labels": {}, "version": "0.1.0",
        "uptime_human": "1m", "uptime_seconds": 60,
        "components": [{"id": "hello", "image_ref": "file:///hello.wasm", "name": "Hello",
            "annotations": {"a": "b"}, "revision": 3, "max_instances": 10}],
        "providers": [{"id": "http", "image_ref": "http-server", "revision": 0}]
    });
    assert_eq!(wire(&inventory), expected);
    assert_eq!(
        serde_json::from_value::<HostInventory>(expected).unwrap(),
        inventory
    );
}

#[test]
fn what_this_project_adds_to_an_inventory_stands_beside_the_keys_of_the_interface() {
    let inventory = HostInventory {
        failed_providers: vec![ProviderDescription {
            id: "kv".into(),
            health: Some(ProviderHealth {
                state: ProviderState::Failed,
                reason: Some("it ended".into()),
            }),
            ..ProviderDescription::default()
        }],
        software: Some(SOFTWARE.into()),
        ..HostInventory::default()
    };
    let wire = wire(&inventory);
    assert_eq!(wire["providers"], json!([]));
    assert_eq!(
        wire["failed_providers"],
        json!([{"id": "kv", "revision": 0, "health": {"state": "failed", "reason": "it ended"}}])
    );
    assert_eq!(wire["software"], "trellis");
    let later: ProviderState = serde_json::from_value(json!("dreaming")).unwrap();
    assert_eq!(later, ProviderState::Unknown);
}

#[test]
fn an_end_of_a_link_has_the_documented_form() {
    let end = LinkEnd {
        key: LinkKey {
            source_id: id("shop"),
            name: LinkName::default(),
            wit_namespace: "wasi".into(),
            wit_package: "keyvalue".into(),
        },
        target: id("kv"),
        end: End::Target,
        kind: EndKind::Provider,
        state: EndState::Failed,
        error: Some("no such bucket".into()),
        generation: 2,
    };
    let expected = json!({
        "source_id": "shop", "name": "default", "wit_namespace": "wasi", "wit_package": "keyvalue",
        "target": "kv", "end": "target", "kind": "provider", "state": "failed",
        "error": "no such bucket", "generation": 2
    });
    assert_eq!(wire(&end), expected);
    assert_eq!(serde_json::from_value::<LinkEnd>(expected).unwrap(), end);
    assert_eq!(end.id().as_str(), "kv");
}

#[test]
fn scaling_takes_count_and_max_instances_and_writes_count() {
    for key in ["count", "max_instances"] {
        let request: ScaleComponent = parse(&body(&json!({
            "component_ref": "r", "component_id": "c", key: 5, "host_id": "N", "config": ["x"],
            "allow_update": true, "annotations": {"k": "v"}, "component_limits": {"max_memory": "1"},
            "from_the_future": {}
        })))
        .unwrap();
        assert_eq!(request.count, 5);
        assert_eq!(
            wire(&request),
            json!({
                "component_ref": "r", "component_id": "c", "count": 5, "host_id": "N",
                "config": ["x"], "allow_update": true, "annotations": {"k": "v"},
                "component_limits": {"max_memory": "1"}
            })
        );
    }
}

#[test]
fn commands_have_the_keys_of_the_interface() {
    let update = UpdateComponent {
        component_id: id("c"),
        new_component_ref: "r2".into(),
        host_id: "N".into(),
        annotations: None,
    };
    assert_eq!(
        wire(&update),
        json!({"component_id": "c", "new_component_ref": "r2", "host_id": "N"})
    );
    let start = StartProvider {
        provider_id: id("p"),
        provider_ref: "http-server".into(),
        host_id: "N".into(),
        config: vec!["a.b".into()],
        annotations: None,
    };
    assert_eq!(
        wire(&start),
        json!({"provider_id": "p", "provider_ref": "http-server", "host_id": "N", "config": ["a.b"]})
    );
    let stop = StopProvider {
        host_id: "N".into(),
        provider_id: id("p"),
    };
    assert_eq!(wire(&stop), json!({"host_id": "N", "provider_id": "p"}));
}

#[test]
fn a_provider_to_stop_may_be_named_by_the_older_key() {
    let request: StopProvider =
        parse(&body(&json!({"host_id": "N", "provider_ref": "p"}))).unwrap();
    assert_eq!(request.provider_id, id("p"));
}

#[test]
fn auctions_and_their_answers_have_the_keys_of_the_interface() {
    let asked = json!({"component_ref": "r", "component_id": "c", "constraints": {"zone": "a"}});
    let auction: ComponentAuction = parse(&body(&asked)).unwrap();
    assert_eq!(wire(&auction), asked);
    let ack = ComponentAuctionAck {
        component_ref: auction.component_ref,
        component_id: auction.component_id,
        host_id: "N".into(),
        constraints: auction.constraints,
    };
    assert_eq!(
        wire(&ack),
        json!({"component_ref": "r", "component_id": "c", "host_id": "N", "constraints": {"zone": "a"}})
    );
    let asked = json!({"provider_ref": "r", "provider_id": "p", "constraints": {}});
    let auction: ProviderAuction = parse(&body(&asked)).unwrap();
    assert_eq!(wire(&auction), asked);
}

#[test]
fn stopping_a_host_takes_an_empty_body() {
    assert_eq!(parse::<StopHost>(b"").unwrap(), StopHost::default());
    let stop: StopHost = parse(br#"{"host_id":"N","timeout":1500}"#).unwrap();
    assert_eq!(stop.within(), Some(std::time::Duration::from_millis(1500)));
    assert!(stop.is_for("N") && !stop.is_for("M"));
    assert!(StopHost::default().is_for("M"));
    assert!(parse::<StopHost>(br#"{"host_id":""}"#).unwrap().is_for("M"));
    assert_eq!(
        parse::<ScaleComponent>(b"").unwrap_err().to_string(),
        "cannot read the body: it is empty"
    );
}

#[test]
fn a_label_of_the_hosts_own_is_refused_in_any_case() {
    for key in ["hostcore.os", "HostCore.Arch", "HOSTCORE."] {
        assert!(
            parse::<PutLabel>(&body(&json!({"key": key, "value": "v"}))).is_err(),
            "{key}"
        );
        assert!(
            parse::<DeleteLabel>(&body(&json!({"key": key}))).is_err(),
            "{key}"
        );
    }
    assert!(parse::<PutLabel>(&body(&json!({"key": "hostcoreß", "value": ""}))).is_ok());
    assert!(parse::<PutLabel>(&body(&json!({"key": "zone", "value": "a"}))).is_ok());
}

#[test]
fn a_link_defaults_its_name_and_its_configurations() {
    let link: Link = parse(&body(&json!({
        "source_id": "a", "target": "b", "wit_namespace": "wasi", "wit_package": "keyvalue",
        "interfaces": ["store"]
    })))
    .unwrap();
    assert_eq!(
        wire(&link),
        json!({
            "source_id": "a", "target": "b", "name": "default", "wit_namespace": "wasi",
            "wit_package": "keyvalue", "interfaces": ["store"], "source_config": [], "target_config": []
        })
    );
}

#[test]
fn a_configuration_is_a_flat_map_of_strings() {
    let config: Configuration = parse(br#"{"URL":"redis://x"}"#).unwrap();
    assert_eq!(config.0, map(&[("URL", "redis://x")]));
    assert_eq!(format!("{config:?}"), r#"{"URL"}"#);
    assert!(parse::<Configuration>(br#"{"n":1}"#).is_err());
    assert!(parse::<Configuration>(br#"{"n":{"m":"o"}}"#).is_err());
}

#[test]
fn configuration_names_are_keys_of_a_bucket() {
    for good in ["a", "a.b-c_d", "SECRET_x", "a/b=c"] {
        assert!(lattice::check_config_name(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        ".a",
        "a.",
        "a..b",
        "a*",
        ">",
        "a b",
        "ä",
        &"a".repeat(257),
    ] {
        assert!(lattice::check_config_name(bad).is_err(), "{bad}");
    }
}

#[test]
fn public_claims_are_read_in_both_spellings_and_listed_as_a_map_of_strings() {
    let long: PublicClaims = serde_json::from_value(json!({
        "call_alias": "", "issuer": "A", "name": "n", "revision": "1", "subject": "M",
        "tags": ["a", "b"], "version": "v"
    }))
    .unwrap();
    let short: PublicClaims = serde_json::from_value(json!({
        "call_alias": "", "iss": "A", "name": "n", "rev": "1", "sub": "M", "tags": "a,b",
        "version": "v"
    }))
    .unwrap();
    assert_eq!(long, short);
    assert_eq!(
        long.to_map(),
        map(&[
            ("call_alias", ""),
            ("iss", "A"),
            ("issuer", "A"),
            ("name", "n"),
            ("rev", "1"),
            ("revision", "1"),
            ("sub", "M"),
            ("subject", "M"),
            ("tags", "a,b"),
            ("version", "v")
        ])
    );
}

#[test]
fn a_providers_public_claims_have_no_tags() {
    let claims: PublicClaims = serde_json::from_value(json!({
        "issuer": "A", "name": "n", "revision": "1", "subject": "V", "version": "v",
        "config_schema": "{}"
    }))
    .unwrap();
    assert_eq!(
        claims.to_map(),
        map(&[
            ("config_schema", "{}"),
            ("iss", "A"),
            ("issuer", "A"),
            ("name", "n"),
            ("rev", "1"),
            ("revision", "1"),
            ("sub", "V"),
            ("subject", "V"),
            ("version", "v")
        ])
    );
}

#[test]
fn registry_credentials_are_never_shown() {
    let credentials: RegistryCredentials =
        parse(br#"{"ghcr.io":{"username":"u","password":"hunter2"}}"#).unwrap();
    assert_eq!(credentials.0["ghcr.io"].registry_type, "oci");
    assert!(!format!("{credentials:?}").contains("hunter2"));
}

#[test]
fn a_call_and_its_reply_have_the_documented_form() {
    let text = r#"{"component_id":"hello","operation":{"http":{"method":"GET","path":"/","headers":[],"body":""}}}"#;
    let call: CallComponent = parse(text.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&call).unwrap(), text);
    let text = r#"{"component_id":"codes","operation":{"function":{"interface":"demo:codes/maker","function":"make","args":[6]}}}"#;
    let call: CallComponent = parse(text.as_bytes()).unwrap();
    assert_eq!(serde_json::to_string(&call).unwrap(), text);
    let reply = Envelope::answer(CallReply::Http(HttpReply {
        status: 200,
        headers: vec![("content-type".into(), "text/plain".into())],
        body: Base64("hi".into()),
    }));
    assert_eq!(
        String::from_utf8(reply.to_bytes()).unwrap(),
        r#"{"success":true,"message":"","response":{"http":{"status":200,"headers":[["content-type","text/plain"]],"body":"aGk="}}}"#
    );
    let reply = CallReply::Result(json!("k3j9x2"));
    assert_eq!(
        serde_json::to_string(&reply).unwrap(),
        r#"{"result":"k3j9x2"}"#
    );
}

#[test]
fn a_call_that_is_no_http_request_is_refused() {
    for http in [
        json!({"method": "", "path": "/"}),
        json!({"method": "GET", "path": "x"}),
        json!({"method": "GET", "path": "/", "body": "!"}),
        json!({"method": "GET", "path": "/", "headers": vec![("a", "b"); HTTP_FIELDS_MAX + 1]}),
    ] {
        let call = json!({"component_id": "c", "operation": {"http": http}});
        assert!(parse::<CallComponent>(&body(&call)).is_err(), "{call}");
    }
}

#[test]
fn the_largest_body_is_read_and_one_byte_more_is_refused() {
    let mut text = br#"{"host_id":"N"}"#.to_vec();
    text.resize(REQUEST_BYTES_MAX, b' ');
    assert!(parse::<StopHost>(&text).is_ok());
    text.push(b' ');
    assert_eq!(
        parse::<StopHost>(&text),
        Err(ControlError::TooLarge {
            bytes: REQUEST_BYTES_MAX + 1,
            limit: REQUEST_BYTES_MAX
        })
    );
}

#[test]
fn a_map_and_a_list_at_their_limits_are_accepted_and_one_more_is_refused() {
    let scale = |annotations: usize, config: usize| {
        let annotations: Map = (0..annotations)
            .map(|n| (n.to_string(), String::new()))
            .collect();
        let config: Vec<_> = (0..config).map(|n| n.to_string()).collect();
        parse::<ScaleComponent>(&body(&json!({
            "component_ref": "r", "component_id": "c", "count": 1, "annotations": annotations, "config": config
        })))
    };
    assert!(scale(MAP_ENTRIES_MAX, LIST_ENTRIES_MAX).is_ok());
    assert_eq!(
        scale(MAP_ENTRIES_MAX + 1, 0).unwrap_err().to_string(),
        "`annotations` has 129 entries, at most 128 are accepted"
    );
    assert_eq!(
        scale(0, LIST_ENTRIES_MAX + 1).unwrap_err().to_string(),
        "`config` has 65 names, at most 64 are accepted"
    );
}

#[test]
fn what_cannot_be_read_is_one_sentence() {
    let error = parse::<ScaleComponent>(br#"{"component_id":"a.b"}"#)
        .unwrap_err()
        .to_string();
    assert!(
        error.starts_with("cannot read the body: an id may hold letters"),
        "{error}"
    );
    let error = parse::<ScaleComponent>(br#"{"component_id":"a"}"#)
        .unwrap_err()
        .to_string();
    assert!(error.contains("missing field `component_ref`"), "{error}");
}

#[test]
fn mutated_bodies_never_panic() {
    let text = br#"{"component_ref":"r","component_id":"c","count":5,"annotations":{"k":"v"},"config":["a"],"key":"hostcore.x","value":"","operation":{"http":{"method":"GET","path":"/","body":"aGk="}}}"#;
    for position in 0..text.len() {
        for byte in [0, b'"', b'{', b'}', b'[', b',', 0xff, b'9'] {
            let mut mutated = text.to_vec();
            mutated[position] = byte;
            let _ = parse::<ScaleComponent>(&mutated);
            let _ = parse::<PutLabel>(&mutated);
            let _ = parse::<CallComponent>(&mutated);
            let _ = parse::<Configuration>(&mutated);
        }
        let _ = parse::<ScaleComponent>(&text[..position]);
    }
}
