//! A host that dies is told of by one of those that live (D12).

use std::time::Duration;

use trellis_lattice_tests::{HostId as _, HostProcess, Lattice, eventually};

use super::{Wire, keys};

/// Long enough for a second announcement, were there one.
const AFTER: Duration = Duration::from_secs(9);

/// The label of each host, which is in the roster that the others have of it from the beginning.
const LABEL: &[&str] = &["--label", "zone=a"];

/// Three hosts that know of each other, the one with the lowest id first.
async fn three(lattice: &Lattice) -> Vec<HostProcess> {
    let mut hosts = vec![
        lattice.host("a").flags(LABEL).spawn().await,
        lattice.host("b").flags(LABEL).spawn().await,
        lattice.host("c").flags(LABEL).spawn().await,
    ];
    hosts.sort_by(|a, b| a.id().cmp(b.id()));
    for host in &hosts {
        eventually("every host knows the others", async || {
            let joined = host.log().matches("a host has joined the lattice").count();
            (joined >= 2).then_some(())
        })
        .await;
    }
    hosts
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_dies_is_announced_once_in_its_name_with_its_labels() {
    let lattice = Lattice::start().await;
    let mut hosts = three(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    let mut dead = hosts.pop().expect("there are three");
    dead.kill();
    let died = std::time::Instant::now();
    let stopped = events.next("host_stopped", Some(dead.id()), |_| true).await;
    // Others give a host up after a minute without a heartbeat. On an idle machine it is three seconds.
    let after = died.elapsed();
    assert!(after < Duration::from_secs(45), "{after:?}");
    let data = &stopped["data"];
    assert_eq!(keys(data), ["announced_by", "labels", "reason"]);
    assert_eq!(data["labels"]["zone"], "a");
    assert_eq!(
        data["announced_by"],
        hosts[0].id(),
        "the lowest of those that live"
    );
    assert_eq!(
        events.count("host_stopped", dead.id(), AFTER).await,
        0,
        "told once"
    );

    // It comes back, dies again, and is announced again.
    dead.start_again(&lattice).await;
    eventually("it is known again", async || {
        let log = hosts[0].log();
        (log.matches("a host has joined the lattice").count() >= 3).then_some(())
    })
    .await;
    dead.kill();
    events.next("host_stopped", Some(dead.id()), |_| true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn where_the_one_that_should_announce_has_died_too_the_next_one_does() {
    let lattice = Lattice::start().await;
    let mut hosts = three(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    for host in &mut hosts[..2] {
        host.kill();
    }
    for host in &hosts[..2] {
        let stopped = events.next("host_stopped", Some(host.id()), |_| true).await;
        assert_eq!(stopped["data"]["announced_by"], hosts[2].id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_says_goodbye_is_announced_by_nobody_else() {
    let lattice = Lattice::start().await;
    let mut hosts = three(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    let mut leaving = hosts.pop().expect("there are three");
    leaving.terminate();
    assert_eq!(leaving.exit_code().await, Some(0));
    assert_eq!(events.count("host_stopped", leaving.id(), AFTER).await, 1);
    let stopped = events
        .next("host_stopped", Some(leaving.id()), |_| true)
        .await;
    assert_eq!(keys(&stopped["data"]), ["labels"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nats_stands_still_nobody_is_announced_dead() {
    let lattice = Lattice::start().await;
    let hosts = three(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    // Around the time at which they find each other silent, and beyond it.
    for tenths in [29, 32, 36, 60] {
        lattice
            .freeze_nats(Duration::from_millis(tenths * 100))
            .await;
        for host in &hosts {
            eventually("the host answers again", async || {
                let client = lattice.operator().client().clone();
                client.inventory(host.id()).await.ok()
            })
            .await;
        }
        tokio::time::sleep(Duration::from_secs(3)).await;
    }
    // Beyond the time that they give each other to come back.
    tokio::time::sleep(Duration::from_secs(11)).await;
    for host in &hosts {
        let told = events.count("host_stopped", host.id(), Duration::from_millis(10));
        assert_eq!(told.await, 0, "{}", host.id());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn when_nats_was_away_nobody_is_announced_dead() {
    let lattice = Lattice::start().await;
    let hosts = three(&lattice).await;
    lattice.kill_nats();
    // Long enough that each finds the others silent.
    for host in &hosts {
        eventually("the others are missed", async || {
            (host.log().matches("a host is lost").count() >= 2).then_some(())
        })
        .await;
    }
    lattice.start_nats_again();
    let mut events = Wire::tap(&lattice).await;
    // Beyond the time that they give each other to come back.
    tokio::time::sleep(Duration::from_secs(16)).await;
    for host in &hosts {
        let told = events.count("host_stopped", host.id(), Duration::from_millis(10));
        assert_eq!(told.await, 0, "{}", host.id());
    }
}
