//! Bodies between hosts: the same bytes arrive, however many they are.

use std::time::Duration;

use bytes::Bytes;
use trellis_lattice_tests::{Lattice, eventually, http};

use crate::placement::{Placement, over_all_placements};

const MIB: usize = 1024 * 1024;

over_all_placements! {
    bodies_of_every_size_come_back_as_they_went
    a_body_that_is_not_read_to_its_end_leaves_the_hosts_well
}

async fn probe(
    lattice: &Lattice,
    placement: Placement,
) -> (Vec<trellis_lattice_tests::HostFixture>, String) {
    let hosts = placement.start(lattice).await;
    lattice.run(&hosts[placement.app], "probe").await;
    let url = lattice.serve(&hosts[0], "probe").await;
    eventually("the probe answers", async || {
        (http::get(&url).await.status == 200).then_some(())
    })
    .await;
    (hosts, url)
}

async fn bodies_of_every_size_come_back_as_they_went(placement: Placement) {
    let lattice = Lattice::start().await;
    let (_hosts, url) = probe(&lattice, placement).await;
    for size in [
        0,
        1,
        40 * 1024,
        40 * 1024 + 1,
        MIB - 1,
        MIB,
        MIB + 1,
        5 * MIB,
    ] {
        let body: Bytes = (0..size).map(|at| (at % 251) as u8).collect();
        let answer = http::post(&format!("{url}/echo"), body.clone()).await;
        assert_eq!(answer.status, 200, "{size}: {}", answer.text());
        assert_eq!(answer.body.len(), size);
        assert!(answer.body == body, "{size} bytes came back changed");
    }
    let answer = http::get(&format!("{url}/bytes?n={}", 8 * MIB)).await;
    assert_eq!((answer.status, answer.body.len()), (200, 8 * MIB));
}

async fn a_body_that_is_not_read_to_its_end_leaves_the_hosts_well(placement: Placement) {
    let lattice = Lattice::start().await;
    let (_hosts, url) = probe(&lattice, placement).await;
    for _ in 0..5 {
        http::abandon(&format!("{url}/drip?n=5"), Duration::from_millis(150)).await;
    }
    assert_eq!(http::get(&url).await.status, 200);
}
