//! Which subjects a host answers on, and which of several hosts does.

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use futures::StreamExt as _;
use serde_json::json;
use trellis_lattice_tests::{HostId as _, Lattice};

use super::{Asker, WITHIN, assert_accepted, assert_refused};

/// Silence after which nobody else answers.
const QUIET: Duration = Duration::from_millis(500);

#[tokio::test(flavor = "multi_thread")]
async fn of_two_hosts_one_answers_what_is_asked_of_the_lattice_and_each_what_is_asked_of_all() {
    let lattice = Lattice::start().await;
    let _hosts = [
        lattice.host("a").start().await,
        lattice.host("b").start().await,
    ];
    let asker = Asker::of(&lattice).await;
    let link = json!({
        "source_id": "s", "target": "t", "wit_namespace": "test", "wit_package": "p",
        "interfaces": ["i"]
    });
    let key = json!({"source_id": "s", "wit_namespace": "test", "wit_package": "p"});
    for (request, argument, body, answers) in [
        ("link.put", None, link.to_string(), 1),
        ("link.get", None, String::new(), 1),
        ("link.del", None, key.to_string(), 1),
        ("claims.get", None, String::new(), 1),
        ("config.put", Some("c.d"), "{}".to_owned(), 1),
        ("config.get", Some("c.d"), String::new(), 1),
        ("config.del", Some("c.d"), String::new(), 1),
        ("host.ping", None, String::new(), 2),
        ("registry.put", None, "{}".to_owned(), 2),
    ] {
        let subject = asker.subject(request, argument);
        let gathered = asker.gather(subject, body.into(), QUIET).await;
        assert_eq!(gathered.len(), answers, "{request}: {gathered:?}");
        assert!(gathered.iter().all(|answer| answer["success"] == true));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_of_other_software_share_the_queue_groups() {
    let lattice = Lattice::start().await;
    let _host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    // As another host subscribes: its own subjects, the groups' names as the interface has them.
    let prefix = format!("wasmbus.ctl.v1.{}", lattice.name());
    let other = lattice.stranger().await;
    for (subject, group) in [
        ("link.*", "link"),
        ("claims.get", "claims"),
        ("config.>", "config"),
    ] {
        let mut taken = other
            .queue_subscribe(format!("{prefix}.{subject}"), format!("{prefix}.{group}"))
            .await
            .expect("anyone may subscribe on a test's server");
        let client = other.clone();
        tokio::spawn(async move {
            while let Some(request) = taken.next().await {
                let reply = request.reply.expect("whoever asks waits");
                let answer = r#"{"success":true,"message":"other"}"#;
                client
                    .publish(reply, answer.into())
                    .await
                    .expect("an answer can be published");
            }
        });
    }
    other.flush().await.expect("the server is there");
    let _ = other.request("nobody.listens", "".into()).await;
    for (request, argument) in [
        ("link.get", None),
        ("claims.get", None),
        ("config.get", Some("c")),
    ] {
        let mut by = [0, 0];
        for _ in 0..40 {
            let subject = asker.subject(request, argument);
            let answers = asker
                .gather(subject, Vec::new(), Duration::from_millis(50))
                .await;
            assert_eq!(answers.len(), 1, "{request}: {answers:?}");
            by[usize::from(answers[0]["message"] == "other")] += 1;
        }
        assert!(by.iter().all(|count| *count > 0), "{request}: {by:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_subject_is_refused_with_a_sentence() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    for (request, argument) in [
        ("host.dance", Some(host.id())),
        ("component.dance", Some(host.id())),
        ("provider.dance", Some(host.id())),
        ("label.dance", Some(host.id())),
        ("link.dance", None),
        ("claims.dance", None),
        ("config.dance", Some("c")),
        ("config.put", None),
    ] {
        assert_refused(&asker.ask(request, argument, "{}").await);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_control_prefix_is_kept_to_by_host_and_clients() {
    let lattice = Lattice::start().await;
    let host = lattice
        .host("a")
        .adjusted(|options| options.nats.control_prefix = "my.own-ctl".to_owned())
        .start()
        .await;
    let nats = lattice.stranger().await;
    let usual = format!("wasmbus.ctl.v1.{}.host.ping", lattice.name());
    let error = nats
        .request(usual, "".into())
        .await
        .expect_err("nobody listens there");
    assert_eq!(error.kind(), RequestErrorKind::NoResponders);
    let own = async_nats_oracle::connect(lattice.url())
        .await
        .expect("anyone may connect to a test's server");
    let client = wasmcloud_control_interface::ClientBuilder::new(own)
        .lattice(lattice.name())
        .topic_prefix("my.own-ctl")
        .timeout(WITHIN)
        .auction_timeout(QUIET)
        .build();
    let hosts = client.get_hosts().await.expect("hosts answer");
    assert_eq!(hosts[0].data().map(|host| host.id()), Some(host.id()));
    let put = client
        .put_config("c", std::collections::HashMap::new())
        .await;
    assert!(put.expect("a host answers").succeeded());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_carries_the_trace_of_its_request() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let nats = lattice.stranger().await;
    let subject = Asker::of(&lattice)
        .await
        .subject("host.get", Some(host.id()));
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    for (value, back) in [(trace, Some(trace)), ("x; y", None)] {
        let mut headers = async_nats::HeaderMap::new();
        headers.insert("traceparent", value);
        let answer = nats
            .request_with_headers(subject.clone(), headers, "".into())
            .await
            .expect("the host answers");
        let headers = answer.headers.unwrap_or_default();
        assert_eq!(headers.get("traceparent").map(|value| value.as_str()), back);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_leaves_refuses_commands_instead_of_taking_them_along() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    let start = json!({"provider_ref": "keyvalue-nats", "provider_id": "kv"}).to_string();
    let subject = asker.subject("provider.start", Some(host.id()));
    let asking = async {
        // From before the end to after it: taken, refused, or nobody is there any more. One that crosses the goodbye on its
        // way may meet nobody who could answer, for NATS has handed it over already.
        let mut crossed = 0;
        loop {
            let request = async_nats::Request::new()
                .payload(start.clone().into())
                .timeout(Some(Duration::from_secs(3)));
            match asker.client.send_request(subject.clone(), request).await {
                Ok(_) => {}
                Err(error) if error.kind() == RequestErrorKind::TimedOut && crossed == 0 => {
                    crossed += 1;
                }
                Err(error) => break error.kind(),
            }
        }
    };
    let stopping = async {
        tokio::time::sleep(Duration::from_millis(200)).await;
        host.stop(Duration::from_secs(10)).await
    };
    let (ended, _) = tokio::join!(asking, stopping);
    assert_eq!(ended, RequestErrorKind::NoResponders);
    // Another host takes what is the lattice's.
    let _other = lattice.host("b").start().await;
    assert_accepted(&asker.ask("config.put", Some("c"), "{}").await);
}
