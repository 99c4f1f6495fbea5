//! What operators read of an actor's log.

use trellis_lattice_tests::http::{Connection, get};
use trellis_lattice_tests::{HostId as _, Lattice, eventually};
use trellis_protocol::control::observe::{EndReason, LogStream};
use trellis_protocol::control::{LogRecord, ReadLogs, Watched};

use super::numbers::{component, stats};
use super::{all, allow, log_of, next};

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_kept_and_followed_and_every_line_has_its_ids() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "probe").await;
    let url = lattice.serve(&host, "probe").await;
    allow(&lattice, "probe", "logs").await;
    eventually("the probe answers", async || {
        (get(&url).await.status == 200).then_some(())
    })
    .await;
    let client = lattice.operator().client();
    assert_eq!(get(&format!("{url}/log?n=3")).await.status, 200);
    assert_eq!(get(&format!("{url}/trap")).await.status, 500);

    let kept = client.logs(host.id(), &log_of("probe")).await;
    let (kept, reason, _) = all(kept.expect("the operator may read")).await;
    assert_eq!(reason, EndReason::Time);
    let [line, trapped]: [LogRecord; 2] = kept.try_into().expect("two lines");
    assert_eq!((line.message.len(), line.stream), (3, LogStream::Stdout));
    assert_eq!(
        (line.level.as_str(), line.actor.as_str()),
        ("info", "probe")
    );
    assert_eq!(line.host, host.id());
    assert_eq!(line.invocation_id.as_ref().map(String::len), Some(32));
    assert_eq!(trapped.stream, LogStream::Host);
    assert!(
        trapped.message.starts_with("the actor trapped"),
        "{trapped:?}"
    );
    assert_ne!(line.invocation_id, trapped.invocation_id);

    let on = ReadLogs {
        within_ms: Some(20_000),
        after: Some(trapped.sequence),
        ..log_of("probe")
    };
    let mut further = client
        .logs(host.id(), &on)
        .await
        .expect("the operator may read");
    assert_eq!(get(&format!("{url}/log?n=5")).await.status, 200);
    let Watched::Record(line) = next(&mut further).await else {
        panic!("the log ended");
    };
    assert_eq!(
        (line.message.len(), line.sequence),
        (5, trapped.sequence + 1)
    );
    further.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_logs_without_end_loses_lines_and_harms_nobody() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "probe").await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "probe").await;
    let other = lattice.serve(&host, "hello").await;
    eventually("both answer", async || {
        (get(&url).await.status == 200 && get(&other).await.status == 200).then_some(())
    })
    .await;
    allow(&lattice, "probe", "logs").await;
    // As much as one invocation may write, many times over.
    let mut connection = Connection::open(&url).await.expect("the server listens");
    for _ in 0..1_500 {
        let answer = connection.send("GET", "/log?n=8000", "").await;
        assert_eq!(answer.expect("the probe answers").status, 200);
    }
    assert_eq!(get(&other).await.status, 200);
    let stats = stats(&lattice, &host).await;
    let probe = component(&stats, "probe");
    assert!(probe.log_lines_dropped > 0, "{probe:?}");
    let client = lattice.operator().client();
    let kept = client.logs(host.id(), &log_of("probe")).await;
    let (kept, _, _) = all(kept.expect("the operator may read")).await;
    let bytes: usize = kept.iter().map(|line| line.message.len()).sum();
    assert!((1..=64 * 1024).contains(&bytes), "{bytes}");
}
