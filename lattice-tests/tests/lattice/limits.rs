//! What a guest can do wrong, and that others do not notice.

use std::time::Duration;

use trellis_lattice_tests::deploy::{outcome, scale};
use trellis_lattice_tests::transfer::{Content, Exchange, Upload, Version};
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually, http};
use trellis_protocol::control::Map;
use trellis_protocol::event::EventData;

use crate::placement::{Placement, over_all_placements};

over_all_placements! {
    a_guest_that_spins_is_stopped_at_its_deadline_while_others_answer
    a_guest_that_takes_too_much_memory_is_stopped_alone
    a_guest_that_traps_is_told_as_a_problem
}

/// The probe and `hello` on one host, each behind an HTTP server.
async fn deploy(
    lattice: &Lattice,
    placement: Placement,
    settings: &[(&str, &str)],
) -> (Vec<HostFixture>, String, String) {
    let hosts = placement.start(lattice).await;
    lattice.run(&hosts[placement.app], "hello").await;
    let reference = lattice.signed("probe");
    let mut command = scale(hosts[placement.app].id(), &reference, "probe", 10);
    let limit = (64 * 1024 * 1024).to_string();
    command.component_limits = Some([("max_memory_limit".to_owned(), limit)].into());
    assert_eq!(lattice.operator().scale(&command).await, Ok(10));
    let probe = lattice.serve_with(&hosts[0], "probe", settings).await;
    let hello = lattice.serve(&hosts[0], "hello").await;
    for url in [&probe, &hello] {
        eventually("both answer", async || {
            (http::get(url).await.status == 200).then_some(())
        })
        .await;
    }
    (hosts, probe, hello)
}

async fn a_guest_that_spins_is_stopped_at_its_deadline_while_others_answer(placement: Placement) {
    let lattice = Lattice::start().await;
    let (_hosts, probe, hello) = deploy(&lattice, placement, &[("timeout_ms", "1500")]).await;
    let spinning: Vec<_> = (0..4)
        .map(|_| {
            let url = format!("{probe}/spin");
            tokio::spawn(async move { http::get(&url).await })
        })
        .collect();
    let mut answered = 0;
    while !spinning.iter().all(tokio::task::JoinHandle::is_finished) {
        let answer = http::get(&hello).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        assert!(answer.took < Duration::from_secs(1), "{:?}", answer.took);
        answered += 1;
    }
    assert!(answered > 10, "others answered {answered} times meanwhile");
    for spun in spinning {
        let answer = spun.await.expect("a request does not panic");
        assert_eq!(answer.status, 504, "{}", answer.text());
        assert_eq!(answer.member("code"), "deadline-exceeded");
        assert!(answer.took < Duration::from_secs(4), "{:?}", answer.took);
    }
}

async fn a_guest_that_takes_too_much_memory_is_stopped_alone(placement: Placement) {
    let lattice = Lattice::start().await;
    let (_hosts, probe, hello) = deploy(&lattice, placement, &[]).await;
    assert_eq!(http::get(&format!("{probe}/grow?n=32")).await.status, 200);
    let answer = http::get(&format!("{probe}/grow?n=128")).await;
    assert_eq!(answer.status, 500, "{}", answer.text());
    assert_eq!(answer.member("code"), "out-of-memory");
    assert!(answer.member("remedy").contains("max_memory_limit"));
    assert_eq!(http::get(&hello).await.status, 200);
    assert_eq!(http::get(&probe).await.status, 200);
}

async fn a_guest_that_traps_is_told_as_a_problem(placement: Placement) {
    let lattice = Lattice::start().await;
    let (_hosts, probe, hello) = deploy(&lattice, placement, &[]).await;
    for path in ["/trap", "/mute"] {
        let answer = http::get(&format!("{probe}{path}")).await;
        assert_eq!(answer.status, 500, "{path}: {}", answer.text());
        assert_eq!(answer.member("code"), "trapped");
        assert_eq!(answer.header("content-type"), "application/problem+json");
    }
    assert_eq!(
        http::get(&format!("{probe}/log?n=100000")).await.status,
        200
    );
    assert_eq!(http::get(&hello).await.status, 200);
}

/// Limits as a command has them.
fn limits(pairs: &[(&str, &str)]) -> Option<Map> {
    let pairs = pairs
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()));
    Some(pairs.collect())
}

async fn shown(lattice: &Lattice, host: &str) -> Option<Map> {
    let inventory = lattice.operator().client().inventory(host).await;
    let inventory = inventory.expect("the host answers");
    inventory.components[0].limits.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actors_own_limit_of_time_stops_it_whatever_it_does() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let mut command = scale(host.id(), &lattice.signed("probe"), "probe", 10);
    command.component_limits = limits(&[("max_execution_time", "1")]);
    assert_eq!(lattice.operator().scale(&command).await, Ok(10));
    let url = lattice.serve(&host, "probe").await;
    eventually("the probe answers", async || {
        (http::get(&url).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(http::get(&format!("{url}/slow?n=200")).await.status, 200);
    for path in ["/spin", "/slow?n=20000"] {
        let answer = http::get(&format!("{url}{path}")).await;
        assert_eq!(answer.status, 504, "{path}: {}", answer.text());
        assert_eq!(answer.member("code"), "deadline-exceeded");
        assert!(answer.member("remedy").contains("max_execution_time"));
        assert!(answer.took >= Duration::from_secs(1), "{:?}", answer.took);
        assert!(answer.took < Duration::from_secs(4), "{:?}", answer.took);
    }
    // The head does not end it: what is written behind it counts.
    let drip = format!("{url}/drip?n=50");
    let begun = Exchange::begin(Version::Http1, &drip, Upload::of(0), Content::Only(b'.')).await;
    let mut drip = begun.expect("the head comes in time");
    assert_eq!(drip.status(), 200);
    let ended = tokio::time::timeout(Duration::from_secs(4), drip.read_to_end()).await;
    ended
        .expect("the body ends soon")
        .expect_err("it breaks off");
    assert!(drip.read() > 0);

    // A larger limit is in force with the next invocation.
    command.component_limits = limits(&[("max_execution_time", "10")]);
    assert_eq!(lattice.operator().scale(&command).await, Ok(10));
    assert_eq!(http::get(&format!("{url}/slow?n=1500")).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_are_shown_and_stay_until_a_command_sets_others_and_over_a_restart() {
    let lattice = Lattice::start().await;
    let mut host = lattice.host("a").spawn().await;
    let set = limits(&[
        ("max_execution_time", "1"),
        ("max_memory_limit", "33554432"),
    ]);
    let mut command = scale(host.id(), &lattice.signed("probe"), "probe", 10);
    command.component_limits.clone_from(&set);
    assert_eq!(lattice.operator().scale(&command).await, Ok(10));
    assert_eq!(shown(&lattice, host.id()).await, set);
    // Who changes the number alone says nothing about limits.
    command.component_limits = None;
    command.count = 20;
    assert_eq!(lattice.operator().scale(&command).await, Ok(20));
    assert_eq!(shown(&lattice, host.id()).await, set);

    host.kill();
    let mut events = lattice.operator().events().await;
    host.start_again(&lattice).await;
    let restored = outcome(&mut events, host.id(), |event| match event {
        EventData::ComponentScaled(scaled) => Some(scaled.restored),
        _ => None,
    })
    .await;
    assert!(restored, "the event says who started it");
    assert_eq!(shown(&lattice, host.id()).await, set);
    let url = lattice.serve(&host, "probe").await;
    let out = http::get(&format!("{url}/grow?n=64")).await;
    assert_eq!(out.member("code"), "out-of-memory", "{}", out.text());
    let slow = http::get(&format!("{url}/slow?n=20000")).await;
    assert_eq!(slow.member("code"), "deadline-exceeded", "{}", slow.text());

    command.component_limits = limits(&[]);
    assert_eq!(lattice.operator().scale(&command).await, Ok(20));
    assert_eq!(shown(&lattice, host.id()).await, None);
    assert_eq!(http::get(&format!("{url}/grow?n=40")).await.status, 200);
    for (key, value) in [
        ("max_execution_time", "0"),
        ("max_execution_time", "soon"),
        ("max_memory_limit", "-1"),
    ] {
        command.component_limits = limits(&[(key, value)]);
        let refused = lattice.operator().scale(&command).await;
        let refused = refused.expect_err("nothing could hold to it");
        assert!(refused.error.contains(key), "{refused:?}");
    }
}
