#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::*;
use crate::control::{HostInventory, Map};
use crate::link::Link;

const ID: Uuid = Uuid::from_u128(0x0123_4567_89ab_4def_8123_4567_89ab_cdef);

fn encoded(data: &EventData) -> Value {
    let time = UNIX_EPOCH + Duration::from_millis(1_700_000_000_250);
    serde_json::from_slice(&encode(data, "NHOST", time, ID)).unwrap()
}

/// The data on the wire, after it was read back and compared.
fn data(event: EventData) -> Value {
    let message = encode(&event, "NHOST", UNIX_EPOCH, ID);
    let read = Event::parse(&message).unwrap();
    assert_eq!(read.name, event.name());
    assert_eq!(read.typed().unwrap(), Some(event));
    read.data
}

fn map(entries: &[(&str, &str)]) -> Map {
    entries
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect()
}

fn link() -> Link {
    serde_json::from_value(json!({
        "source_id": "a", "target": "b", "name": "default", "wit_namespace": "wasi",
        "wit_package": "keyvalue", "interfaces": ["store"]
    }))
    .unwrap()
}

#[test]
fn an_event_is_a_structured_cloud_event() {
    assert_eq!(
        encoded(&EventData::ConfigSet(ConfigChanged {
            config_name: "c".into()
        })),
        json!({
            "specversion": "1.0",
            "id": "01234567-89ab-4def-8123-456789abcdef",
            "type": "com.wasmcloud.lattice.config_set",
            "source": "NHOST",
            "time": "2023-11-14T22:13:20.25Z",
            "datacontenttype": "application/json",
            "data": {"config_name": "c"}
        })
    );
}

#[test]
fn host_events_have_the_keys_of_the_interface() {
    assert_eq!(
        data(EventData::HostStarted(HostStarted {
            friendly_name: "f".into(),
            labels: map(&[("k", "v")]),
            uptime_seconds: 0,
            version: "0.1.0".into(),
            software: None,
        })),
        json!({"friendly_name": "f", "labels": {"k": "v"}, "uptime_seconds": 0, "version": "0.1.0"})
    );
    assert_eq!(
        data(EventData::HostStopped(HostStopped {
            labels: map(&[("k", "v")]),
            ..HostStopped::default()
        })),
        json!({"labels": {"k": "v"}})
    );
    assert_eq!(
        data(EventData::HostStopped(HostStopped {
            announced_by: Some("N".into()),
            reason: Some("its beats stopped".into()),
            ..HostStopped::default()
        })),
        json!({"labels": {}, "announced_by": "N", "reason": "its beats stopped"})
    );
    assert_eq!(
        data(EventData::LabelsChanged(LabelsChanged {
            host_id: "N".into(),
            labels: Map::new()
        })),
        json!({"host_id": "N", "labels": {}})
    );
    let heartbeat = data(EventData::HostHeartbeat(HostInventory::default()));
    let keys: Vec<_> = heartbeat
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    assert_eq!(
        keys,
        [
            "components",
            "friendly_name",
            "host_id",
            "labels",
            "providers",
            "uptime_human",
            "uptime_seconds",
            "version"
        ]
    );
}

#[test]
fn component_events_have_the_keys_of_the_interface() {
    let unsigned = ComponentScaled {
        annotations: map(&[("wasmcloud.dev/scaler", "s")]),
        host_id: "N".into(),
        image_ref: "r".into(),
        max_instances: 3,
        component_id: "c".into(),
        public_key: None,
        claims: None,
        restored: false,
    };
    assert_eq!(
        data(EventData::ComponentScaled(unsigned.clone())),
        json!({
            "annotations": {"wasmcloud.dev/scaler": "s"}, "host_id": "N", "image_ref": "r",
            "max_instances": 3, "component_id": "c"
        })
    );
    let claims = ComponentClaims {
        issuer: "A".into(),
        name: "n".into(),
        version: "v".into(),
        revision: Some(2),
        not_before_human: "now".into(),
        expires_human: "never".into(),
        ..ComponentClaims::default()
    };
    let signed = ComponentScaled {
        public_key: Some("M".into()),
        claims: Some(claims),
        ..unsigned
    };
    assert_eq!(
        data(EventData::ComponentScaled(signed))["claims"],
        json!({
            "call_alias": null, "issuer": "A", "tags": null, "name": "n", "version": "v",
            "revision": 2, "not_before_human": "now", "expires_human": "never"
        })
    );
    assert_eq!(
        data(EventData::ComponentScaleFailed(ComponentScaleFailed {
            host_id: "N".into(),
            component_id: "c".into(),
            image_ref: "r".into(),
            max_instances: 1,
            error: "e".into(),
            ..ComponentScaleFailed::default()
        })),
        json!({
            "annotations": {}, "component_id": "c", "host_id": "N", "image_ref": "r",
            "max_instances": 1, "error": "e"
        })
    );
}

#[test]
fn provider_events_have_the_keys_of_the_interface() {
    assert_eq!(
        data(EventData::ProviderStarted(ProviderStarted {
            host_id: "N".into(),
            image_ref: "r".into(),
            provider_id: "p".into(),
            claims: Some(ProviderClaims::default()),
            ..ProviderStarted::default()
        })),
        json!({
            "host_id": "N", "image_ref": "r", "provider_id": "p", "annotations": {},
            "claims": {"issuer": "", "tags": null, "name": "", "version": "",
                "not_before_human": "", "expires_human": ""}
        })
    );
    assert_eq!(
        data(EventData::ProviderStartFailed(ProviderStartFailed {
            provider_ref: "r".into(),
            provider_id: "p".into(),
            host_id: "N".into(),
            error: "e".into(),
            code: Some("config-missing".into()),
            link_name: "default".into(),
            restored: false,
        })),
        json!({"provider_ref": "r", "provider_id": "p", "host_id": "N", "error": "e", "code": "config-missing", "link_name": "default"})
    );
    assert_eq!(
        data(EventData::ProviderStopped(ProviderStopped {
            host_id: "N".into(),
            provider_id: "p".into(),
            annotations: Map::new(),
            reason: "stop".into(),
            instance_id: "i".into(),
            public_key: "V".into(),
            link_name: "default".into(),
        })),
        json!({
            "host_id": "N", "provider_id": "p", "annotations": {}, "reason": "stop",
            "instance_id": "i", "public_key": "V", "link_name": "default"
        })
    );
    let health = HealthCheck {
        host_id: "N".into(),
        provider_id: "p".into(),
    };
    for event in [
        EventData::HealthCheckPassed(health.clone()),
        EventData::HealthCheckFailed(health.clone()),
        EventData::HealthCheckStatus(health.clone()),
    ] {
        assert_eq!(data(event), json!({"host_id": "N", "provider_id": "p"}));
    }
}

#[test]
fn progress_tells_what_is_known_of_it() {
    let begun = ComponentProgress {
        host_id: "N".into(),
        component_id: "c".into(),
        image_ref: "r".into(),
        annotations: map(&[("wasmcloud.dev/scaler", "s")]),
        ..ComponentProgress::default()
    };
    let base = json!({
        "host_id": "N", "component_id": "c", "image_ref": "r",
        "annotations": {"wasmcloud.dev/scaler": "s"}
    });
    for event in [
        EventData::ComponentVerifying(begun.clone()),
        EventData::ComponentCompiling(begun.clone()),
        EventData::ComponentWarming(begun.clone()),
    ] {
        assert_eq!(data(event), base);
    }
    let mut half_way = base;
    half_way["received_bytes"] = json!(5);
    half_way["total_bytes"] = json!(10);
    half_way["restored"] = json!(true);
    assert_eq!(
        data(EventData::ComponentFetching(ComponentProgress {
            fetched: Fetched {
                received_bytes: Some(5),
                total_bytes: Some(10),
                ..Fetched::default()
            },
            restored: true,
            ..begun
        })),
        half_way
    );
    let again = ProviderProgress {
        host_id: "N".into(),
        provider_id: "p".into(),
        image_ref: "r".into(),
        fetched: Fetched {
            attempt: Some(2),
            reason: Some("the registry did not answer".into()),
            ..Fetched::default()
        },
        ..ProviderProgress::default()
    };
    assert_eq!(
        data(EventData::ProviderFetching(again)),
        json!({
            "host_id": "N", "provider_id": "p", "image_ref": "r", "annotations": {},
            "attempt": 2, "reason": "the registry did not answer"
        })
    );
    let starting = EventData::ProviderStarting(ProviderProgress::default());
    assert_eq!(starting.name(), "provider_starting");
}

#[test]
fn link_and_config_events_have_the_keys_of_the_interface() {
    let whole = serde_json::to_value(link()).unwrap();
    assert_eq!(data(EventData::LinkSet(link())), whole);
    let mut failed = whole;
    failed["error"] = json!("e");
    assert_eq!(
        data(EventData::LinkSetFailed(LinkSetFailed {
            link: link(),
            error: "e".into(),
            code: None
        })),
        failed
    );
    let gone = LinkDeleted {
        key: link().key(),
        target: None,
        interfaces: None,
    };
    assert_eq!(
        data(EventData::LinkDeleted(gone)),
        json!({"source_id": "a", "name": "default", "wit_namespace": "wasi", "wit_package": "keyvalue"})
    );
    let deleted = EventData::ConfigDeleted(ConfigChanged {
        config_name: "c".into(),
    });
    assert_eq!(deleted.name(), "config_deleted");
    assert_eq!(data(deleted), json!({"config_name": "c"}));
}

#[test]
fn every_name_is_a_subject_token() {
    for name in EventData::NAMES {
        assert!(
            name.bytes().all(|b| b.is_ascii_lowercase() || b == b'_'),
            "{name}"
        );
    }
    assert_eq!(EventData::NAMES.len(), 23);
}

#[test]
fn an_unknown_event_is_read_and_has_no_type() {
    let event = Event::parse(
        br#"{"specversion":"1.0","id":"1","type":"com.wasmcloud.lattice.new_thing","source":"N","extra":1}"#,
    )
    .unwrap();
    assert_eq!(event.name, "new_thing");
    assert_eq!(event.data, Value::Null);
    assert_eq!(event.typed(), Ok(None));
}

#[test]
fn what_is_no_event_of_a_lattice_is_refused() {
    assert!(matches!(
        Event::parse(b"{}"),
        Err(EventError::Malformed { .. })
    ));
    assert!(matches!(
        Event::parse(br#"{"specversion":"1.0","id":"1","type":"other","source":"N"}"#),
        Err(EventError::ForeignType { .. })
    ));
    let long = format!(
        r#"{{"specversion":"1.0","id":"1","type":"com.wasmcloud.lattice.x","source":"{}"}}"#,
        "N".repeat(ATTRIBUTE_BYTES_MAX + 1)
    );
    assert!(matches!(
        Event::parse(long.as_bytes()),
        Err(EventError::TooLarge { .. })
    ));
    assert!(Event::parse(&vec![b' '; EVENT_BYTES_MAX + 1]).is_err());
    let wrong = Event {
        name: "config_set".into(),
        source: String::new(),
        id: String::new(),
        time: String::new(),
        data: json!([]),
    };
    assert!(matches!(wrong.typed(), Err(EventError::Data { .. })));
}
