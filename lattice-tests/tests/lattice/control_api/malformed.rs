//! Whatever body arrives on whatever subject: one answer each, and the host serves on.
//!
//! Bodies are made from what each request should hold by a generator with a fixed seed, so a failure can be repeated.

use std::collections::HashMap;
use std::time::Duration;

use futures::StreamExt as _;
use rand::rngs::StdRng;
use rand::{Rng as _, SeedableRng as _};
use serde_json::{Value, json};
use trellis_lattice_tests::{HostId as _, Lattice};

use super::{Asker, WITHIN};

/// Changed bodies for each subject.
const CHANGED: usize = 60;

/// Silence after which no second answer comes.
const QUIET: Duration = Duration::from_millis(300);

/// What a NATS server passes on, less the room that subjects take.
const LARGEST: usize = 1024 * 1024 - 512;

/// Subjects: the request, its argument, and a body that it would take.
fn requests(host: &str) -> Vec<(&'static str, Option<&str>, Value)> {
    let none = Value::Null;
    let scale = json!({
        "component_ref": "file:///nowhere.wasm", "component_id": "c", "count": 1, "config": ["x"],
        "annotations": {"a": "b"}, "host_id": host, "allow_update": true,
        "component_limits": {"max_memory_limit": "1000000", "max_execution_time": "1"}
    });
    let update = json!({
        "component_id": "c", "new_component_ref": "file:///other.wasm", "host_id": host,
        "annotations": {"a": "b"}
    });
    let start = json!({
        "provider_id": "p", "provider_ref": "no-such-provider", "host_id": host, "config": ["x"],
        "annotations": {"a": "b"}
    });
    let call = json!({
        "component_id": "c", "deadline_ms": 100,
        "operation": {"function": {"interface": "a:b/c", "function": "f", "args": [1, {"x": []}]}}
    });
    let link = json!({
        "source_id": "s", "target": "t", "name": "default", "wit_namespace": "test",
        "wit_package": "p", "interfaces": ["i"], "source_config": [], "target_config": []
    });
    let key = json!({
        "source_id": "s", "name": "default", "wit_namespace": "test", "wit_package": "p"
    });
    let registries = json!({
        "registry.example": {"username": "u", "password": "p", "token": null, "registryType": "oci"}
    });
    let watch = json!({"component_id": "c", "within_ms": 100});
    let of_host = Some(host);
    vec![
        ("host.ping", None, none.clone()),
        ("host.get", of_host, none.clone()),
        ("host.links", of_host, none.clone()),
        ("host.stats", of_host, none.clone()),
        ("host.stop", of_host, json!({"host_id": host, "timeout": 5})),
        ("component.scale", of_host, scale),
        ("component.update", of_host, update),
        ("component.call", of_host, call),
        ("component.spy", of_host, watch.clone()),
        ("component.logs", of_host, watch),
        ("provider.start", of_host, start),
        (
            "provider.stop",
            of_host,
            json!({"provider_id": "p", "host_id": host}),
        ),
        ("label.put", of_host, json!({"key": "k", "value": "v"})),
        ("label.del", of_host, json!({"key": "k"})),
        ("link.put", None, link),
        ("link.del", None, key),
        ("link.get", None, none.clone()),
        ("claims.get", None, none.clone()),
        ("config.put", Some("name"), json!({"k": "v"})),
        ("config.get", Some("name"), none.clone()),
        ("config.del", Some("name"), none),
        ("registry.put", None, registries),
    ]
}

/// Bodies that no request should hold.
fn always() -> Vec<Vec<u8>> {
    let texts = [
        "",
        " ",
        "null",
        "true",
        "0",
        "-1",
        "1e999",
        "\"\"",
        "[]",
        "{}",
        "{",
        "}",
        "[[",
        "{\"\":}",
        "nonsense",
        "{\"host_id\":",
        "\u{feff}{}",
        "{} {}",
        "\0",
    ];
    let mut bodies: Vec<Vec<u8>> = texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    bodies.push(vec![0xff, 0xfe, 0x00, 0x80]);
    bodies.push("[".repeat(100_000).into());
    bodies.push("{\"a\":".repeat(50_000).into());
    bodies.push(vec![b'x'; LARGEST]);
    bodies.push(format!("{{\"a\":\"{}\"}}", "y".repeat(LARGEST - 16)).into());
    bodies.push(format!("[{}1]", "1,".repeat(LARGEST / 2 - 4)).into());
    bodies.push(format!("{{\"key\":\"{}\",\"value\":\"\"}}", "k".repeat(300_000)).into());
    bodies
}

/// A value of another kind than belongs there.
fn strange(random: &mut StdRng) -> Value {
    match random.random_range(0..12) {
        0 => Value::Null,
        1 => json!(true),
        2 => json!(-1),
        3 => json!(u64::MAX),
        4 => json!(1.5e300),
        5 => json!(""),
        6 => json!("*.>"),
        7 => json!("ä\u{0}\u{202e}\"\\\n"),
        8 => json!("z".repeat(5_000)),
        9 => json!([]),
        10 => json!([[], {}, null, "x"]),
        _ => json!({"x": {"y": [null]}}),
    }
}

/// A body with something changed: in its structure, or in its bytes.
fn changed(body: &Value, random: &mut StdRng) -> Vec<u8> {
    let mut value = body.clone();
    if let Some(object) = value.as_object_mut()
        && random.random_bool(0.6)
    {
        for _ in 0..random.random_range(1..=2) {
            let keys: Vec<_> = object.keys().cloned().collect();
            let Some(key) = keys.get(random.random_range(0..keys.len().max(1))) else {
                break;
            };
            match random.random_range(0..4) {
                0 => drop(object.remove(key)),
                1 => drop(object.insert(format!("{key}_"), strange(random))),
                _ => drop(object.insert(key.clone(), strange(random))),
            }
        }
        return value.to_string().into();
    }
    let mut bytes = value.to_string().into_bytes();
    for _ in 0..random.random_range(1..=4) {
        let place = random.random_range(0..=bytes.len().saturating_sub(1));
        match random.random_range(0..4) {
            0 => bytes.truncate(place),
            1 if place < bytes.len() => bytes[place] = random.random(),
            2 if place < bytes.len() => drop(bytes.remove(place)),
            _ => bytes.insert(place.min(bytes.len()), random.random()),
        }
        if bytes.is_empty() {
            break;
        }
    }
    bytes
}

/// Publishes a body, and remembers where its answer belongs.
struct Volley<'a> {
    asker: &'a Asker,
    inbox: String,
    answers: async_nats::Subscriber,
    sent: HashMap<String, String>,
}

impl<'a> Volley<'a> {
    async fn of(asker: &'a Asker) -> Self {
        let inbox = asker.client.new_inbox();
        let answers = asker.client.subscribe(format!("{inbox}.*")).await;
        Self {
            asker,
            inbox,
            answers: answers.expect("an inbox can be subscribed to"),
            sent: HashMap::new(),
        }
    }

    async fn send(&mut self, subject: &str, body: Vec<u8>) {
        let reply = format!("{}.{}", self.inbox, self.sent.len());
        let begin = String::from_utf8_lossy(&body[..body.len().min(200)]).into_owned();
        self.sent.insert(
            reply.clone(),
            format!("{subject} {begin:?} ({} bytes)", body.len()),
        );
        self.asker
            .client
            .publish_with_reply(subject.to_owned(), reply, body.into())
            .await
            .expect("a request can be published");
    }

    /// Every answer, by what was asked; each is an envelope and comes once.
    async fn land(mut self) -> Vec<(String, Value)> {
        let mut landed = Vec::new();
        while !self.sent.is_empty() {
            let answer = tokio::time::timeout(WITHIN, self.answers.next()).await;
            let Ok(Some(answer)) = answer else {
                panic!("not answered: {:#?}", self.sent.values());
            };
            let asked = self.sent.remove(answer.subject.as_str());
            let asked = asked.unwrap_or_else(|| panic!("answered twice: {answer:?}"));
            assert_eq!(answer.status, None, "nobody listens: {asked}");
            let envelope: Value = serde_json::from_slice(&answer.payload)
                .unwrap_or_else(|error| panic!("{asked}: {error}"));
            assert!(envelope["success"].is_boolean(), "{asked}: {envelope}");
            let message = envelope["message"].as_str();
            let message = message.unwrap_or_else(|| panic!("{asked}: {envelope}"));
            assert!(!message.contains("fault of this"), "{asked}: {envelope}");
            let told = envelope["success"] == true || message.contains(' ');
            assert!(told, "{asked}: refused without a sentence: {envelope}");
            assert!(message.len() < 16 * 1024, "{asked}: a long message");
            landed.push((asked, envelope));
        }
        let second = tokio::time::timeout(QUIET, self.answers.next()).await;
        assert!(second.is_err(), "answered twice: {second:?}");
        landed
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_body_on_every_subject_gets_one_answer_and_the_host_serves_on() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let mut random = StdRng::seed_from_u64(4);
    for (request, argument, body) in requests(host.id()) {
        let subject = asker.subject(request, argument);
        let reads_body = !body.is_null();
        let mut volley = Volley::of(&asker).await;
        for wrong in always() {
            volley.send(&subject, wrong).await;
        }
        let answers = volley.land().await;
        let refused = answers
            .iter()
            .filter(|(_, answer)| answer["success"] == false);
        // An empty body, and an object without keys, mean something to some requests.
        if reads_body {
            assert!(
                refused.count() >= answers.len() - 6,
                "{request}: {answers:#?}"
            );
        }
        if reads_body {
            let mut volley = Volley::of(&asker).await;
            for _ in 0..CHANGED {
                volley.send(&subject, changed(&body, &mut random)).await;
            }
            volley.land().await;
        }
        let inventory = asker.ask("host.get", Some(host.id()), "").await;
        assert_eq!(inventory["success"], true, "after {request}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_malformed_auction_is_refused_or_passed_over_and_harms_nobody() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let mut random = StdRng::seed_from_u64(5);
    for (request, body) in [
        (
            "component.auction",
            json!({"component_ref": lattice.signed("hello"), "component_id": "c", "constraints": {"k": "v"}}),
        ),
        (
            "provider.auction",
            json!({"provider_ref": "keyvalue-nats", "provider_id": "p", "constraints": {"k": "v"}}),
        ),
    ] {
        let subject = asker.subject(request, None);
        let changed: Vec<_> = (0..CHANGED).map(|_| changed(&body, &mut random)).collect();
        for body in always().into_iter().chain(changed) {
            let answers = asker
                .gather(subject.clone(), body, Duration::from_millis(20))
                .await;
            assert!(answers.len() <= 1, "{answers:?}");
        }
        // What cannot be read is refused: whoever asked has a fault to mend.
        let answers = asker.gather(subject.clone(), b"{".to_vec(), QUIET).await;
        assert_eq!(answers[0]["success"], false);
    }
    assert_eq!(asker.ask("host.ping", None, "").await["success"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn names_of_configurations_that_are_none_are_refused() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let long = "n".repeat(300);
    for name in ["ä", "a:b", "a$b", "a\\b", &long] {
        for verb in ["put", "get", "del"] {
            let answer = asker.ask(&format!("config.{verb}"), Some(name), "{}").await;
            super::assert_refused(&answer);
        }
    }
}
