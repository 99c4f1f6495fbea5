//! Hosts of other software in the same lattice.

use futures::StreamExt as _;
use serde_json::json;
use trellis_lattice_tests::{Lattice, eventually};

#[tokio::test(flavor = "multi_thread")]
async fn a_host_of_other_software_is_warned_of_once_and_one_of_ours_is_not() {
    let lattice = Lattice::start().await;
    let nats = lattice.stranger().await;
    // One that is there already, and answers as the interface says.
    let prefix = format!("wasmbus.ctl.v1.{}", lattice.name());
    let mut pings = nats
        .subscribe(format!("{prefix}.host.ping"))
        .await
        .expect("anyone may subscribe on a test's server");
    let answering = nats.clone();
    tokio::spawn(async move {
        while let Some(ping) = pings.next().await {
            let host = json!({"success": true, "message": "", "response": {
                "id": "NTHERE", "friendly_name": "f", "labels": {}, "lattice": "l",
                "uptime_seconds": 1, "version": "1.9.2"
            }});
            let reply = ping.reply.expect("whoever asks waits");
            answering
                .publish(reply, host.to_string().into())
                .await
                .expect("an answer can be published");
        }
    });
    nats.flush().await.expect("the server is there");
    let ours = lattice.host("a").spawn().await;
    eventually("the one that was there is warned of", async || {
        ours.log().contains("NTHERE").then_some(())
    })
    .await;
    // And two that come: one of other software, twice, and one of ours.
    let _another = lattice.host("b").start().await;
    let started = json!({
        "specversion": "1.0", "id": "1", "type": "com.wasmcloud.lattice.host_started",
        "source": "NCOMES", "datacontenttype": "application/json", "time": "2026-01-01T00:00:00Z",
        "data": {"friendly_name": "f", "labels": {}, "uptime_seconds": 0, "version": "1.9.2"}
    });
    for _ in 0..2 {
        let subject = format!("wasmbus.evt.{}.host_started", lattice.name());
        nats.publish(subject, started.to_string().into())
            .await
            .expect("an event can be published");
    }
    eventually("the one that comes is warned of", async || {
        ours.log().contains("NCOMES").then_some(())
    })
    .await;
    let log = ours.log();
    let warnings: Vec<_> = log
        .lines()
        .filter(|line| line.contains("other software"))
        .collect();
    assert_eq!(warnings.len(), 2, "{warnings:#?}");
}
