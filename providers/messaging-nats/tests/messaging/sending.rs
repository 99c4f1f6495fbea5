//! What an actor can send, and what it is told.

use std::time::{Duration, Instant};

use async_nats::Subject;
use futures::StreamExt;
use trellis_messaging_nats::subject::SUBJECT_BYTES_MAX;
use trellis_protocol::limits;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::RefusalCode;

use crate::fixture::{Fixture, Nats, message, settle, text_of};

#[tokio::test]
async fn a_published_message_reaches_whoever_listens() {
    let fixture = Fixture::start().await;
    let client = fixture.nats.client().await;
    let mut listening = client.subscribe("orders.*").await.unwrap();
    settle(&client).await;
    let app = fixture.sender("app", []).await;
    let mut sent = message("orders.new", "one");
    sent.reply_to = Some("orders.answers".to_owned());
    assert_eq!(app.publish(&sent).await.unwrap(), Ok(()));
    let heard = listening.next().await.unwrap();
    assert_eq!(heard.subject.as_str(), "orders.new");
    assert_eq!(heard.payload, "one");
    assert_eq!(heard.reply, Some(Subject::from("orders.answers")));
    let empty = message("orders.empty", "");
    assert_eq!(app.publish(&empty).await.unwrap(), Ok(()));
    assert!(listening.next().await.unwrap().payload.is_empty());
}

#[tokio::test]
async fn a_request_is_answered_by_the_first_that_listens() {
    let fixture = Fixture::start().await;
    let client = fixture.nats.client().await;
    let mut service = client.subscribe("upper").await.unwrap();
    settle(&client).await;
    let serving = tokio::spawn(async move {
        while let Some(request) = service.next().await {
            let answer = request.payload.to_ascii_uppercase();
            let reply = request.reply.unwrap();
            assert!(reply.starts_with("_INBOX.trellis-messaging."), "{reply}");
            client.publish(reply, answer.into()).await.unwrap();
        }
    });
    let app = fixture.sender("app", []).await;
    let asking = (0..50).map(|number| {
        let app = &app;
        async move {
            let body = format!("text {number}");
            let answer = app.request("upper", body.as_bytes(), 5_000).await;
            assert_eq!(
                text_of(&answer.unwrap().unwrap()),
                body.to_ascii_uppercase()
            );
        }
    });
    futures::future::join_all(asking).await;
    serving.abort();
}

#[tokio::test]
async fn a_request_that_nobody_hears_fails_at_once_and_one_that_nobody_answers_in_its_time() {
    let fixture = Fixture::start().await;
    let app = fixture.sender("app", []).await;
    let error = app
        .request("nobody", b"", 5_000)
        .await
        .unwrap()
        .unwrap_err();
    assert_eq!(error, "nobody listens on `nobody`");

    let client = fixture.nats.client().await;
    let _mute = client.subscribe("mute").await.unwrap();
    settle(&client).await;
    let began = Instant::now();
    let error = app.request("mute", b"", 300).await.unwrap().unwrap_err();
    assert!(error.starts_with("no answer from `mute`"), "{error}");
    // The deadline of the call itself is later.
    assert!(began.elapsed() < limits::DEADLINE_DEFAULT / 2);

    // The call's own deadline comes first, and the actor still hears why.
    let mut hurried = fixture.sender("app", []).await;
    hurried.0 = hurried.0.within(Duration::from_secs(1));
    for timeout_ms in [60_000, 0] {
        let error = hurried.request("mute", b"", timeout_ms).await;
        let error = error.unwrap().unwrap_err();
        assert!(error.starts_with("no answer from `mute`"), "{error}");
    }
}

#[tokio::test]
async fn the_largest_body_goes_through_and_one_byte_more_is_refused() {
    let fixture = Fixture::on(Nats::with_config("max_payload: 4096")).await;
    let client = fixture.nats.client().await;
    let mut listening = client.subscribe("large").await.unwrap();
    settle(&client).await;
    let app = fixture.sender("app", []).await;
    let mut large = message("large", "");
    large.body = ByteList(vec![7; 4096]);
    assert_eq!(app.publish(&large).await.unwrap(), Ok(()));
    assert_eq!(listening.next().await.unwrap().payload.len(), 4096);
    large.body = ByteList(vec![7; 4097]);
    let told = "a message of 4097 bytes exceeds the 4096 that the server takes";
    assert_eq!(app.publish(&large).await.unwrap(), Err(told.to_owned()));
    let asked = app.request("large", &large.body, 1_000).await.unwrap();
    assert_eq!(asked.unwrap_err(), told);
}

#[tokio::test]
async fn what_belongs_to_the_lattice_to_nats_or_to_others_cannot_be_published_to() {
    let fixture = Fixture::start().await;
    let client = fixture.nats.client().await;
    let mut everything = client.subscribe("wasmbus.>").await.unwrap();
    settle(&client).await;
    let app = fixture.sender("app", []).await;
    for subject in [
        "wasmbus.ctl.v1.default.host.stop.NHOST",
        "trellis.rpc.v1.default.NHOST.NOTHER",
        "$JS.API.STREAM.DELETE.KV_LATTICEDATA_default",
        "$KV.LATTICEDATA_default.COMPONENT_x",
        "$SYS.REQ.SERVER.PING",
        "_INBOX.somebody.1",
    ] {
        let refused = app.publish(&message(subject, "x")).await.unwrap();
        let error = refused.unwrap_err();
        assert!(error.contains("does not allow"), "{subject}: {error}");
        assert!(error.contains("publish_subjects"), "{subject}: {error}");
        let asked = app.request(subject, b"x", 500).await.unwrap();
        assert!(asked.unwrap_err().contains("does not allow"), "{subject}");
        // Whoever answers would publish there in the actor's stead.
        let mut sent = message("orders.new", "x");
        sent.reply_to = Some(subject.to_owned());
        let refused = app.publish(&sent).await.unwrap();
        assert!(refused.unwrap_err().contains("does not allow"), "{subject}");
    }
    let silence = tokio::time::timeout(Duration::from_millis(200), everything.next()).await;
    assert!(silence.is_err());

    let operator = [("publish_subjects", "wasmbus.evt.>,orders.new")];
    let tool = fixture.sender("tool", operator).await;
    let event = message("wasmbus.evt.default.x", "e");
    assert_eq!(tool.publish(&event).await.unwrap(), Ok(()));
    assert_eq!(everything.next().await.unwrap().payload, "e");
    for subject in ["wasmbus.ctl.v1.default.x", "orders.old"] {
        let refused = tool.publish(&message(subject, "x")).await.unwrap();
        assert!(refused.unwrap_err().contains("does not allow"), "{subject}");
    }
}

#[tokio::test]
async fn what_is_no_subject_is_refused_with_the_reason() {
    let fixture = Fixture::start().await;
    let app = fixture.sender("app", []).await;
    let long = "s".repeat(SUBJECT_BYTES_MAX + 1);
    for (subject, part) in [
        ("", "1 to"),
        ("a..b", "empty part"),
        ("a b", "no spaces"),
        ("a\r\nPUB wasmbus.x 0\r\n", "no spaces"),
        ("orders.*", "many subjects"),
        (">", "many subjects"),
        (&long, "1 to"),
    ] {
        let refused = app.publish(&message(subject, "x")).await.unwrap();
        let error = refused.unwrap_err();
        assert!(error.contains(part), "{subject:?}: {error}");
        assert!(app.request(subject, b"", 100).await.unwrap().is_err());
    }
}

#[tokio::test]
async fn what_the_server_does_not_permit_is_said_to_the_actor() {
    let nats = Nats::with_config(
        "authorization { users: [ { user: u, password: p, permissions: { publish: [\"allowed.>\", \"_INBOX.>\"] } } ] }",
    );
    let url = nats.url().replace("nats://", "nats://u:p@");
    let fixture = Fixture::on(nats).await;
    let config = [("cluster_uris", url.as_str())];
    let app = fixture.sender("app", config).await;
    for _ in 0..20 {
        let allowed = message("allowed.x", "");
        assert_eq!(app.publish(&allowed).await.unwrap(), Ok(()));
        let refused = app.publish(&message("other", "")).await.unwrap();
        assert_eq!(
            refused.unwrap_err(),
            "the server does not permit the subject `other`"
        );
    }
    // At once: after its time it would say that there was no answer.
    let refused = app.request("other", b"", 5_000).await.unwrap();
    assert!(refused.unwrap_err().contains("does not permit"));
}

#[tokio::test]
async fn a_call_without_a_link_or_over_a_broken_one_is_refused_with_the_reason() {
    let fixture = Fixture::start().await;
    let app = fixture.sender("app", []).await;
    let mut stranger = app.clone();
    stranger.0.source = trellis_provider_sdk::EntityId::new("stranger").unwrap();
    let refusal = stranger.publish(&message("a", "")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoLink);

    let mut broken = fixture.harness.link_from(
        "app",
        "wasmcloud:messaging",
        &["consumer"],
        [("nonsense", "x")],
    );
    broken.generation = 2;
    assert!(fixture.provider.link_put(broken.clone()).await.is_err());
    let refusal = app.publish(&message("a", "")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert!(refusal.message.contains("nonsense"), "{refusal}");

    let end = trellis_provider_sdk::LinkEnd::Target;
    fixture.provider.link_delete(&broken.key, end).await;
    let refusal = app.publish(&message("a", "")).await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::NoLink);
}
