//! Labels: put, deleted, told, and gone with a restart.

use serde_json::json;
use trellis_lattice_tests::{HostId as _, Lattice, eventually};

use super::{Asker, Wire, assert_accepted, assert_refused};

#[tokio::test(flavor = "multi_thread")]
async fn labels_that_were_put_are_told_and_end_with_the_run_of_the_host() {
    let lattice = Lattice::start().await;
    let mut host = lattice
        .host("a")
        .flags(&["--label", "zone=flag"])
        .spawn()
        .await;
    let id = host.id().to_owned();
    let asker = Asker::of(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    for (key, value) in [("zone", "put"), ("rack", "7")] {
        let body = json!({"key": key, "value": value, "unknown": null});
        assert_accepted(&asker.ask_json("label.put", Some(&id), &body).await);
        let changed = events
            .next("labels_changed", Some(&id), |data| {
                data["labels"][key] == value
            })
            .await;
        assert_eq!(changed["data"]["host_id"], id.as_str());
    }
    host.terminate();
    assert_eq!(host.exit_code().await, Some(0));
    host.start_again(&lattice).await;
    let labels = eventually("the host answers", async || {
        let inventory = lattice.operator().client().inventory(&id).await.ok()?;
        Some(inventory.labels)
    })
    .await;
    assert_eq!(labels["zone"], "flag");
    assert!(!labels.contains_key("rack"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_label_of_the_hosts_own_can_neither_be_put_nor_deleted() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let asker = Asker::of(&lattice).await;
    for key in [
        "hostcore.os",
        "HOSTCORE.arch",
        "HostCore.anything",
        "hostcore.",
    ] {
        let put = json!({"key": key, "value": "x"});
        assert_refused(&asker.ask_json("label.put", Some(host.id()), &put).await);
        let delete = json!({"key": key});
        assert_refused(&asker.ask_json("label.del", Some(host.id()), &delete).await);
    }
    let missing = json!({"key": "missing"});
    assert_accepted(&asker.ask_json("label.del", Some(host.id()), &missing).await);
}
