//! What a guest can do wrong, and that others do not notice.

use std::time::Duration;

use trellis_lattice_tests::deploy::scale;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually, http};

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
