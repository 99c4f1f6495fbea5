//! Who may run now, who waits, and who is told that there is no room.

use std::time::{Duration, Instant};

use futures::future::join_all;
use trellis_lattice_tests::deploy::scale;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, http};

/// The queue behind an actor's permits, as a host has it.
const QUEUE: usize = 1_024;

/// Time for a request to arrive where it runs or waits.
const HEAD_START: Duration = Duration::from_millis(200);

async fn probe_with_permits(count: u32) -> (Lattice, HostFixture, String) {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run_with(&host, "probe", count, &[]).await;
    let url = lattice.serve(&host, "probe").await;
    (lattice, host, url)
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_beyond_the_permits_wait_for_their_turn() {
    let (_lattice, _host, url) = probe_with_permits(1).await;
    let slow = format!("{url}/slow?n=50");
    let begin = Instant::now();
    let answers = join_all((0..10).map(|_| http::get(&slow))).await;
    assert!(answers.iter().all(|answer| answer.status == 200));
    assert!(
        begin.elapsed() >= Duration::from_millis(500),
        "one permit runs one at a time: {:?}",
        begin.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_queue_a_request_is_told_when_to_come_back() {
    let (_lattice, _host, url) = probe_with_permits(1).await;
    let holder = tokio::spawn({
        let url = format!("{url}/slow?n=8000");
        async move { http::get(&url).await }
    });
    let instant = format!("{url}/");
    // Whoever gets no answer in time has found the only permit taken.
    let taken = Duration::from_millis(500);
    while tokio::time::timeout(taken, http::get(&instant))
        .await
        .is_ok()
    {}
    let waiting: Vec<_> = (0..QUEUE + 64)
        .map(|_| {
            let url = instant.clone();
            tokio::spawn(async move { http::get(&url).await })
        })
        .collect();
    let mut refused = 0;
    for answer in join_all(waiting).await {
        let answer = answer.expect("a request does not panic");
        match answer.status {
            200 => {}
            503 => {
                // Those in the queue give up after a while; those behind it are told at once.
                refused += usize::from(answer.text().contains("calls wait"));
                assert_eq!(answer.member("code"), "overloaded");
                assert_eq!(answer.header("retry-after"), "1");
            }
            other => panic!("{other}: {}", answer.text()),
        }
    }
    assert!(refused > 0, "the queue has an end");
    let held = holder.await.expect("a request does not panic");
    assert_eq!(held.status, 200);
    assert_eq!(
        http::get(&instant).await.status,
        200,
        "then all is as before"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_goes_away_takes_its_work_along() {
    let (_lattice, _host, url) = probe_with_permits(1).await;
    // Each would hold the only permit for a minute.
    for path in ["/slow?n=60000", "/drip?n=10", "/spin"] {
        http::abandon(&format!("{url}{path}"), Duration::from_millis(300)).await;
        let begin = Instant::now();
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "after {path}: {}", answer.text());
        // Not a measure of speed: what was abandoned would hold the permit until its deadline, 30 s.
        assert!(begin.elapsed() < Duration::from_secs(20), "after {path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn more_permits_can_be_given_while_requests_wait() {
    let (lattice, host, url) = probe_with_permits(1).await;
    let holder = tokio::spawn({
        let url = format!("{url}/slow?n=15000");
        async move { http::get(&url).await }
    });
    // Nobody outside sees who runs and who waits, so each gets a head start.
    tokio::time::sleep(HEAD_START).await;
    let waiting = tokio::spawn({
        let url = format!("{url}/");
        async move { http::get(&url).await }
    });
    tokio::time::sleep(HEAD_START).await;
    let running = host.host().inventory().components.remove(0);
    let more = scale(host.id(), &running.image_ref, "probe", 2);
    assert_eq!(lattice.operator().scale(&more).await, Ok(2));
    let answer = waiting.await.expect("a request does not panic");
    assert_eq!(answer.status, 200);
    assert!(!holder.is_finished(), "the second permit served it");
    holder.abort();
}
