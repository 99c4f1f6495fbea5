#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::time::{Instant, SystemTime};

use futures::StreamExt as _;
use serde_json::{Value, json};
use trellis_protocol::event::{self, ConfigChanged, EventData};

use super::*;
use crate::connection::fixture::Nats;
use crate::connection::{Connection, connect_control};

const HOST: &str = "NHOST";

/// A host that answers every control subject with what `answer` makes of subject and body; nothing where that is none.
async fn fake_host(
    connection: &Connection,
    answer: impl Fn(&str, &Value) -> Option<Value> + Send + 'static,
) -> tokio::task::JoinHandle<()> {
    let client = connection.control.clone();
    let mut requests = client.subscribe("wasmbus.ctl.v1.test.>").await.unwrap();
    settled(&client).await;
    tokio::spawn(async move {
        while let Some(request) = requests.next().await {
            let subject = request
                .subject
                .strip_prefix("wasmbus.ctl.v1.test.")
                .unwrap();
            let body = serde_json::from_slice(&request.payload).unwrap_or(Value::Null);
            let (Some(answer), Some(reply)) = (answer(subject, &body), request.reply.clone())
            else {
                continue;
            };
            client
                .publish(reply, serde_json::to_vec(&answer).unwrap().into())
                .await
                .unwrap();
        }
    })
}

/// Waits until the server knows every subscription of a connection. A flush writes them, no more; an answer proves that
/// they were read.
async fn settled(client: &async_nats::Client) {
    let error = client
        .request("nobody.listens", "".into())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
}

async fn client(nats: &Nats) -> ControlClient {
    let options = nats.options();
    let client = connect_control(&options).await.unwrap();
    ControlClient::new(client, options.subjects()).with_timeout(Duration::from_millis(500))
}

fn id(text: &str) -> EntityId {
    EntityId::new(text).unwrap()
}

#[tokio::test]
async fn without_a_host_every_request_says_so_at_once() {
    let nats = Nats::start();
    let client = client(&nats).await;
    let began = Instant::now();
    assert_eq!(
        client.ping(Duration::from_secs(30)).await.unwrap(),
        Vec::new()
    );
    let error = client.links().await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "no host answers in lattice `test`; `wash get hosts` lists those that run"
    );
    let error = client.inventory(HOST).await.unwrap_err();
    assert!(
        matches!(error, ClientError::NoHost { host: Some(ref host), .. } if host == HOST),
        "{error}"
    );
    assert!(began.elapsed() < Duration::from_secs(10));
}

#[tokio::test]
async fn a_ping_gathers_every_host_and_ends_when_it_is_quiet() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    for name in ["NB", "NA", "NA"] {
        fake_host(&connection, move |subject, _| {
            assert_eq!(subject, "host.ping");
            Some(json!({"success": true, "message": "", "response":
                {"id": name, "friendly_name": "f", "labels": {}, "lattice": "test", "uptime_seconds": 1}}))
        })
        .await;
    }
    fake_host(&connection, |_, _| Some(json!("nonsense"))).await;
    let began = Instant::now();
    let hosts = client(&nats)
        .await
        .ping(Duration::from_secs(30))
        .await
        .unwrap();
    let ids: Vec<_> = hosts.iter().map(|host| host.id.as_str()).collect();
    assert_eq!(ids, ["NA", "NB"]);
    assert!(began.elapsed() < Duration::from_secs(15));
}

#[tokio::test]
async fn a_refusal_is_the_hosts_sentence_and_silence_a_timeout() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    fake_host(&connection, |subject, _| match subject {
        "link.put" => Some(json!({"success": false, "message": "no such thing"})),
        _ => None,
    })
    .await;
    let client = client(&nats).await;
    let link: Link = serde_json::from_value(json!({
        "source_id": "a", "target": "b", "wit_namespace": "wasi", "wit_package": "keyvalue",
        "interfaces": ["store"]
    }))
    .unwrap();
    let error = client.put_link(&link).await.unwrap_err();
    assert!(matches!(error, ClientError::Refused { .. }));
    assert_eq!(error.to_string(), "no such thing");
    let error = client.links().await.unwrap_err();
    assert!(matches!(error, ClientError::TimedOut { .. }), "{error}");
}

#[tokio::test]
async fn each_request_goes_to_its_subject_with_its_body() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    // The host answers with what it was asked, as the message.
    fake_host(&connection, |subject, body| {
        let response = match subject {
            "component.call.NHOST" => json!({"result": 7}),
            "config.get.a.b" => json!({"k": "v"}),
            "link.get" | "claims.get" | "host.links.NHOST" => json!([]),
            _ => Value::Null,
        };
        Some(json!({"success": true, "message": format!("{subject} {body}"), "response": response}))
    })
    .await;
    let client = client(&nats).await.with_traceparent("00-0af7-b7ad-01");

    let scale: ScaleComponent =
        serde_json::from_value(json!({"component_ref": "r", "component_id": "c", "count": 2}))
            .unwrap();
    assert_eq!(
        client.scale(HOST, &scale).await.unwrap(),
        r#"component.scale.NHOST {"allow_update":false,"component_id":"c","component_ref":"r","config":[],"count":2,"host_id":""}"#
    );
    assert_eq!(
        client.stop_provider(HOST, &id("p")).await.unwrap(),
        r#"provider.stop.NHOST {"host_id":"NHOST","provider_id":"p"}"#
    );
    assert_eq!(
        client
            .stop_host(HOST, Some(Duration::from_secs(2)))
            .await
            .unwrap(),
        r#"host.stop.NHOST {"host_id":"NHOST","timeout":2000}"#
    );
    assert_eq!(
        client.put_label(HOST, "zone", "a").await.unwrap(),
        r#"label.put.NHOST {"key":"zone","value":"a"}"#
    );
    let config: Configuration = serde_json::from_value(json!({"k": "v"})).unwrap();
    assert_eq!(
        client.put_config("a.b", &config).await.unwrap(),
        r#"config.put.a.b {"k":"v"}"#
    );
    assert_eq!(client.get_config("a.b").await.unwrap(), Some(config));
    assert_eq!(client.get_config("none").await.unwrap(), None);
    assert_eq!(
        client.del_config("a.b").await.unwrap(),
        "config.del.a.b null"
    );
    assert_eq!(client.links().await.unwrap(), Vec::new());
    assert_eq!(client.link_ends(HOST).await.unwrap(), Vec::new());
    assert_eq!(client.claims().await.unwrap(), Vec::<Map>::new());
    let call: CallComponent = serde_json::from_value(json!({
        "component_id": "c", "operation": {"function": {"interface": "a:b/c", "function": "f"}}
    }))
    .unwrap();
    assert_eq!(
        client.call(HOST, &call).await.unwrap(),
        CallReply::Result(json!(7))
    );
}

#[tokio::test]
async fn an_argument_that_would_widen_a_subject_is_not_sent() {
    let nats = Nats::start();
    let client = client(&nats).await;
    for host in ["*", ">", "a.b", ""] {
        assert!(
            matches!(
                client.inventory(host).await,
                Err(ClientError::Argument { .. })
            ),
            "{host}"
        );
    }
    assert!(matches!(
        client.del_config("*").await,
        Err(ClientError::Argument { .. })
    ));
}

#[tokio::test]
async fn trace_context_travels_as_a_header_and_nonsense_does_not() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let mut requests = connection
        .control
        .subscribe("wasmbus.ctl.v1.test.link.get")
        .await
        .unwrap();
    settled(&connection.control).await;
    let client = client(&nats).await;
    let traced = client.clone().with_traceparent("00-0af7-b7ad-01");
    let (_, request) = tokio::join!(traced.links(), requests.next());
    assert_eq!(
        request
            .unwrap()
            .headers
            .unwrap()
            .get("traceparent")
            .unwrap()
            .as_str(),
        "00-0af7-b7ad-01"
    );
    let untraced = client.with_traceparent("x\r\ny");
    let (_, request) = tokio::join!(untraced.links(), requests.next());
    assert!(request.unwrap().headers.is_none());
}

#[tokio::test]
async fn commands_are_signed_and_questions_are_not() {
    let nats = Nats::start();
    let connection = nats.connect().await;
    let mut requests = connection
        .control
        .subscribe("wasmbus.ctl.v1.test.>")
        .await
        .unwrap();
    settled(&connection.control).await;
    let account = trellis_claims::SigningKey::generate(trellis_claims::KeyKind::Account);
    let mut trust = trellis_claims::TrustRoots::default();
    trust.insert(account.public().clone()).unwrap();
    let signer = CommandSigner::new(std::sync::Arc::new(account), None).unwrap();
    let client = client(&nats).await.with_signer(Some(signer));
    let (_, question) = tokio::join!(client.links(), requests.next());
    assert!(question.unwrap().headers.is_none());

    let (_, command) = tokio::join!(client.put_label(HOST, "k", "v"), requests.next());
    let command = command.unwrap();
    let headers = command.headers.unwrap();
    let token = headers.get("Trellis-Signature").unwrap().as_str();
    let now = trellis_claims::UnixTime::now();
    let claims = trellis_claims::CommandToken::verify(token, &trust, now).unwrap();
    claims
        .check("test", &command.subject, &command.payload)
        .unwrap();

    // A link is signed for itself as well: that is what the state keeps.
    let link: Link = serde_json::from_value(json!({
        "source_id": "a", "target": "b", "name": "default",
        "wit_namespace": "wasi", "wit_package": "keyvalue", "interfaces": ["store"],
    }))
    .unwrap();
    let (_, put) = tokio::join!(client.put_link(&link), requests.next());
    let put: Value = serde_json::from_slice(&put.unwrap().payload).unwrap();
    let token = put["trellis"]["signature"].as_str().unwrap();
    let claims = trellis_claims::LinkToken::verify(token, "test", &trust, now).unwrap();
    assert_eq!(claims.statement, link.statement());
    let key = link.key();
    let (_, del) = tokio::join!(client.del_link(&key), requests.next());
    let del: Value = serde_json::from_slice(&del.unwrap().payload).unwrap();
    let token = del["trellis"]["signature"].as_str().unwrap();
    let claims = trellis_claims::LinkToken::verify(token, "test", &trust, now).unwrap();
    assert_eq!(claims.statement, key.deletion());
}

#[tokio::test]
async fn events_arrive_and_nonsense_between_them_is_an_error_of_its_own() {
    let nats = Nats::start();
    let client = client(&nats).await;
    let mut events = client.events().await.unwrap();
    let data = EventData::ConfigSet(ConfigChanged {
        config_name: "c".into(),
    });
    let subject = client.subjects.event(data.name());
    let event = event::encode(&data, HOST, SystemTime::now(), uuid(1));
    client
        .nats
        .publish(subject.clone(), "nonsense".into())
        .await
        .unwrap();
    client.nats.publish(subject, event.into()).await.unwrap();
    let mut next = async || {
        tokio::time::timeout(Duration::from_secs(10), events.next())
            .await
            .unwrap()
            .unwrap()
    };
    assert!(next().await.is_err());
    let event = next().await.unwrap();
    assert_eq!(
        (event.name.as_str(), event.source.as_str()),
        ("config_set", HOST)
    );
    assert_eq!(event.typed().unwrap(), Some(data));
}

fn uuid(number: u128) -> uuid::Uuid {
    uuid::Uuid::from_u128(number)
}
