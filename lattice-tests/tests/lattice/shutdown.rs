//! How a host leaves: what it began it finishes, what is new goes elsewhere, and the exit code tells.

use std::time::{Duration, Instant};

use trellis_lattice_tests::{Door, HostId as _, HostProcess, Lattice, eventually, http};

/// A host as a process, with the probe behind HTTP.
async fn deploy(door: Door, drains_within: Duration) -> (Lattice, HostProcess, String) {
    let lattice = Lattice::start().await;
    let host = lattice
        .host("a")
        .shutdown_timeout(drains_within)
        .spawn()
        .await;
    lattice.run(&host, "probe").await;
    let url = lattice.serve_by(door, &host, "probe", &[], &[]).await;
    assert_eq!(http::get(&url).await.status, 200);
    (lattice, host, url)
}

fn in_background(url: String) -> tokio::task::JoinHandle<Result<http::Answer, http::Failure>> {
    tokio::spawn(async move { http::try_send("GET", &url, "").await })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_host_finishes_requests_in_flight_and_exits_with_0() {
    finishes_requests_in_flight(Door::BuiltIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_host_lets_a_provider_process_finish_requests_in_flight() {
    finishes_requests_in_flight(Door::Process).await;
}

async fn finishes_requests_in_flight(door: Door) {
    let (_lattice, mut host, url) = deploy(door, Duration::from_secs(20)).await;
    let in_flight = in_background(format!("{url}/slow?n=1500"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    host.terminate();
    eventually("new requests are refused", async || {
        match http::try_send("GET", &url, "").await {
            Err(_) => Some(()),
            Ok(answer) => (answer.status == 503).then_some(()),
        }
    })
    .await;
    let answer = in_flight.await.expect("a request does not panic");
    assert_eq!(answer.expect("it is finished").status, 200);
    assert_eq!(host.exit_code().await, Some(0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_cannot_finish_in_time_exits_with_3() {
    let (_lattice, mut host, url) = deploy(Door::BuiltIn, Duration::from_secs(2)).await;
    let in_flight = in_background(format!("{url}/slow?n=25000"));
    tokio::time::sleep(Duration::from_millis(300)).await;
    let begin = Instant::now();
    host.terminate();
    assert_eq!(host.exit_code().await, Some(3));
    assert!(
        begin.elapsed() < Duration::from_secs(8),
        "{:?}",
        begin.elapsed()
    );
    let answered = in_flight.await.expect("a request does not panic");
    assert!(!answered.is_ok_and(|answer| answer.status == 200));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_stopped_over_the_control_interface() {
    let (lattice, mut host, _url) = deploy(Door::BuiltIn, Duration::from_secs(20)).await;
    let client = lattice.operator().client();
    let other = "NAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA";
    client
        .stop_host(other, None)
        .await
        .expect_err("another host's id stops nobody");
    let stopped = client.stop_host(host.id(), Some(Duration::from_secs(5)));
    stopped.await.expect("the host acknowledges");
    assert_eq!(host.exit_code().await, Some(0));
    let hosts = client.ping(Duration::from_secs(1)).await;
    assert!(hosts.expect("NATS answers").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_draining_host_sends_new_work_to_the_other_one() {
    let lattice = Lattice::start().await;
    let edge = lattice.host("edge").start().await;
    let (a, b) = (
        lattice.host("a").start().await,
        lattice.host("b").start().await,
    );
    let reference = lattice.signed("probe");
    for host in [&a, &b] {
        assert_eq!(lattice.try_run(host, &reference, "probe").await, Ok(100));
    }
    let url = lattice.serve(&edge, "probe").await;
    let id = trellis_lattice_tests::deploy::id("probe");
    eventually("both routes are known", async || {
        (edge.host().routes().routes_to(&id).len() == 2).then_some(())
    })
    .await;
    let load = tokio::spawn(async move {
        let mut statuses = Vec::new();
        let begin = Instant::now();
        while begin.elapsed() < Duration::from_secs(3) {
            statuses.push(http::get(&format!("{url}/slow?n=20")).await.status);
        }
        statuses
    });
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert!(a.stop(Duration::from_secs(10)).await, "it finishes in time");
    let statuses = load.await.expect("requests do not panic");
    assert!(statuses.len() > 20);
    assert!(
        statuses.iter().all(|status| *status == 200),
        "nobody noticed: {statuses:?}"
    );
}
