//! Requests that are well formed and mean harm: to others by way of a host's answers, or to the host by their number.

use std::time::Duration;

use futures::StreamExt as _;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use trellis_host_core::limits::FETCHES_MAX;
use trellis_lattice_tests::{HostId as _, Lattice};

use super::{Asker, assert_accepted, assert_refused};

/// Time for what must not happen.
const QUIET: Duration = Duration::from_secs(1);

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_goes_nowhere_where_it_would_be_a_command_or_a_piece_of_state() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    assert_accepted(&asker.ask("config.put", Some("kept"), r#"{"a":"b"}"#).await);
    let planted = format!("$KV.CONFIGDATA_{}.planted", lattice.name());
    let mut written = asker
        .client
        .subscribe(planted.clone())
        .await
        .expect("taken");
    let roster = asker.subjects.roster(host.id());
    for asked in [asker.subject("host.ping", None), roster] {
        for reply in [
            asker.subject("host.stop", Some(host.id())),
            asker.subject("config.del", Some("kept")),
            planted.clone(),
        ] {
            let sent = asker
                .client
                .publish_with_reply(asked.clone(), reply, "".into())
                .await;
            sent.expect("a request can be published");
        }
    }
    let nothing = tokio::time::timeout(QUIET, written.next()).await;
    assert!(nothing.is_err(), "{nothing:?}");
    let kept = asker.ask("config.get", Some("kept"), "").await;
    assert_eq!(kept["response"], json!({"a": "b"}));
    assert_eq!(asker.ask("host.ping", None, "").await["success"], true);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_commands_at_once_fetch_in_turns_and_the_host_answers() {
    let lattice = Lattice::start().await;
    let silent = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let registry = silent.local_addr().expect("it listens").to_string();
    let flags = ["--insecure-registry", registry.as_str()];
    let host = lattice.host("a").flags(&flags).spawn().await;
    let asker = Asker::of(&lattice).await;
    let scale = |id: String, annotations: Value| {
        json!({
            "component_ref": format!("{registry}/a/b:1"), "component_id": id, "count": 1,
            "host_id": host.id(), "annotations": annotations
        })
    };
    for n in 0..FETCHES_MAX * 4 {
        let command = scale(format!("a{n}"), json!({}));
        let answer = asker.ask_json("component.scale", Some(host.id()), &command);
        assert_accepted(&answer.await);
    }
    let mut connections = Vec::new();
    while let Ok(accepted) = tokio::time::timeout(QUIET, silent.accept()).await {
        connections.push(accepted.expect("a connection"));
    }
    assert_eq!(connections.len(), FETCHES_MAX);
    let long = "v".repeat(4_000);
    let annotations = json!({"a": long, "b": long, "c": long, "d": long, "e": long});
    let command = scale("b".to_owned(), annotations);
    let refused = asker.ask_json("component.scale", Some(host.id()), &command);
    let refused = assert_refused(&refused.await);
    assert!(
        refused.starts_with("`annotations` has 20005 bytes in all"),
        "{refused}"
    );
    assert_eq!(asker.ask("host.ping", None, "").await["success"], true);
}
