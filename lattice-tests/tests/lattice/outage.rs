//! NATS goes away and comes back.

use std::time::Duration;

use trellis_lattice_tests::wait::in_time;
use trellis_lattice_tests::{Lattice, eventually, http};

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_what_is_local_goes_on_and_what_is_remote_comes_back() {
    let lattice = Lattice::start().await;
    let a = lattice.host("a").start().await;
    let b = lattice.host("b").start().await;
    lattice.run(&a, "hello").await;
    lattice.run(&b, "probe").await;
    let local = lattice.serve(&a, "hello").await;
    let remote = lattice.serve(&a, "probe").await;
    eventually("the other host answers", async || {
        (http::get(&remote).await.status == 200).then_some(())
    })
    .await;

    lattice.stop_nats();
    for _ in 0..20 {
        assert_eq!(http::get(&local).await.status, 200);
    }
    let lost = eventually("the other host is out of reach", async || {
        let answer = http::get(&remote).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    assert!(
        matches!(lost.status, 502..=504),
        "{}: {}",
        lost.status,
        lost.text()
    );
    assert!(lost.took < Duration::from_secs(10), "{:?}", lost.took);
    eventually("the other host is known to be lost", async || {
        let answer = http::get(&remote).await;
        (answer.member("code") == "no-route").then_some(())
    })
    .await;
    assert_eq!(http::get(&local).await.status, 200);

    lattice.start_nats_again();
    eventually("the other host answers again", async || {
        (http::get(&remote).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(http::get(&local).await.status, 200);
    // Commands work again too.
    lattice.operator().configure("after", &[("k", "v")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_a_host_with_nothing_in_flight_stops_at_once_and_in_time() {
    let lattice = Lattice::start().await;
    let a = lattice.host("a").start().await;
    let b = lattice.host("b").start().await;
    lattice.run(&a, "hello").await;
    lattice.store(&a).await;
    let local = lattice.serve(&a, "hello").await;
    lattice.run(&a, "probe").await;
    let remote = lattice.serve(&b, "probe").await;
    eventually("both answer, one over the lattice", async || {
        let statuses = (
            http::get(&local).await.status,
            http::get(&remote).await.status,
        );
        (statuses == (200, 200)).then_some(())
    })
    .await;

    lattice.stop_nats();
    assert_eq!(http::get(&local).await.status, 200);
    for host in [&a, &b] {
        // Far less than the host is given.
        let stopping = host.stop(Duration::from_secs(30));
        let stopped = in_time(Duration::from_secs(5), "the host stops", stopping).await;
        assert!(stopped, "nothing was cut off");
    }
}
