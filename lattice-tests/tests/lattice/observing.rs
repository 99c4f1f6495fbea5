//! What can be seen of a lattice at work: traces over every hop, the admin endpoint, the log, and the shell's live views.

mod shell;
mod trace;

use std::time::Duration;

use serde_json::Value;
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::ports::free_port;
use trellis_lattice_tests::wait::eventually_within;
use trellis_lattice_tests::{HostId as _, Lattice, eventually, http};

/// Time in which a host notices that its NATS is gone, or back, on a busy machine.
const NOTICED_WITHIN: Duration = Duration::from_secs(40);

#[tokio::test(flavor = "multi_thread")]
async fn the_admin_endpoint_says_whether_a_host_can_serve_and_what_it_has_done() {
    let lattice = Lattice::start().await;
    let port = free_port().to_string();
    let address = format!("127.0.0.1:{port}");
    let host = lattice
        .host("alpha")
        .flags(&["--admin-address", &address])
        .spawn()
        .await;
    let admin = |path: &str| format!("http://{address}{path}");
    assert_eq!(http::get(&admin("/livez")).await.status, 200);
    let ready = eventually("the host is ready", async || {
        let answer = http::get(&admin("/readyz")).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert!(ready.text().starts_with("ready\n"), "{}", ready.text());
    assert!(ready.text().contains("nats: ok"), "{}", ready.text());

    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "hello").await;
    eventually("hello answers", async || {
        (http::get(&url).await.status == 200).then_some(())
    })
    .await;
    let metrics = http::get(&admin("/metrics")).await;
    assert_eq!(metrics.status, 200);
    let text = metrics.text();
    let count = r#"trellis_invocations_total{target="hello",kind="actor"} "#;
    let line = text.lines().find(|line| line.starts_with(count));
    let served = line.and_then(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    assert!(served.is_some_and(|served| served > 0), "{text}");
    assert!(text.contains("trellis_nats_reconnects_total 0\n"), "{text}");

    lattice.kill_nats();
    let missing = eventually_within(NOTICED_WITHIN, "the host is not ready", async || {
        let answer = http::get(&admin("/readyz")).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert!(
        missing.text().starts_with("not ready\n"),
        "{}",
        missing.text()
    );
    assert!(
        missing.text().contains("nats: not ready"),
        "{}",
        missing.text()
    );
    assert_eq!(http::get(&admin("/livez")).await.status, 200);
    lattice.start_nats_again();
    eventually_within(NOTICED_WITHIN, "the host is ready again", async || {
        (http::get(&admin("/readyz")).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn each_line_of_the_log_says_of_whom_it_is_and_of_which_call() {
    const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let lattice = Lattice::start().await;
    let host = lattice.host("alpha").spawn().await;
    lattice.run(&host, "probe").await;
    let url = lattice.serve(&host, "probe").await;
    eventually("the probe writes", async || {
        let fields = [("traceparent", TRACEPARENT)];
        let answer = http::get_with(&format!("{url}/log?n=1"), &fields).await;
        (answer.status == 200).then_some(())
    })
    .await;
    let line = eventually("the line is in the log", async || {
        let lines = host.log();
        let mut lines = lines.lines().map(|line| {
            let line: Value = serde_json::from_str(line).expect("each line is an object");
            assert!(line["host_id"].is_string(), "{line}");
            line
        });
        lines.find(|line| line["target"] == "actor")
    })
    .await;
    assert_eq!(line["host_id"], host.id());
    assert_eq!(line["actor_id"], "probe");
    assert_eq!(line["trace_id"], TRACEPARENT[3..35]);
    assert_eq!(
        line["invocation_id"].as_str().map(str::len),
        Some(32),
        "{line}"
    );
    assert!(
        line["level"].is_string() && line["time"].is_string(),
        "{line}"
    );
}

/// Lets `wash` watch an actor.
async fn let_watch(lattice: &Lattice, id: &str) {
    lattice
        .operator()
        .link(&link("wash", id, "trellis:observe/spy,logs"))
        .await;
}
