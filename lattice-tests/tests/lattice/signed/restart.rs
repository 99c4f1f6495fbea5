//! What a host has seen outlives it.

use trellis_lattice_tests::deploy::link;

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn neither_a_command_nor_a_deleted_link_comes_back_after_a_host_was_killed() {
    let lattice = Lattice::start().await.signing();
    let mut host = lattice.host("a").flags(&["--require-signed"]).spawn().await;
    let stranger = lattice.stranger().await;
    let command = Command {
        subject: lattice
            .options()
            .subjects()
            .control_with("label", "put", host.id()),
        body: br#"{"key":"zone","value":"a"}"#.to_vec(),
        signature: Vec::new(),
    };
    let now = SystemTime::now();
    let recorded = command.with(sign(&lattice.signer(), lattice.name(), &command, now));
    assert!(send(&stranger, &recorded).await.success);

    let bucket = bucket_of(lattice.name(), &stranger).await;
    let operator = lattice.operator();
    let link = link("a", "kv", "wasi:keyvalue/store");
    operator.link(&link).await;
    let kept = stored(&bucket, "a").await;
    operator.unlink(&link).await;
    // A moment later the deletion is on the disk.
    let seen = host.state_dir().join("links.seen");
    eventually("the host has noted the deletion", async || {
        let seen = std::fs::read_to_string(&seen).ok()?;
        let is_deletion = |line: &str| !line.contains("target");
        seen.lines().any(is_deletion).then_some(())
    })
    .await;
    let log = host.log();
    let account = lattice.account().public().as_str();
    let audited = log
        .lines()
        .filter(|line| line.contains("a command was taken") && line.contains(account));
    assert_eq!(
        audited.count(),
        3,
        "each command has a line with its account"
    );

    host.kill();
    overwrite(&bucket, "a", &kept).await;
    host.start_again(&lattice).await;
    let reply = send(&stranger, &recorded).await;
    assert!(!reply.success);
    assert_eq!(reply.code(), "signature-replayed");
    let listed = operator.client().listed_links().await;
    let listed = listed.expect("the host answers");
    assert_eq!(listed.len(), 1);
    assert_eq!(listed[0].signed, Some(false));
    operator.link(&link).await;
    let listed = operator.client().listed_links().await;
    assert_eq!(listed.expect("the host answers")[0].signed, Some(true));
}
