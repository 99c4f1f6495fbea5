//! The smallest actor behind the HTTP server: nothing without a link, everything with one.

use std::time::Duration;

use crate::placement::{Placement, over_all_placements};
use trellis_lattice_tests::deploy::scale;
use trellis_lattice_tests::lattice::{http_config, http_link, web};
use trellis_lattice_tests::ports::free_port;
use trellis_lattice_tests::{HostId as _, Lattice, eventually, http};

/// Longest that a refusal may take: it needs no timeout to expire.
const AT_ONCE: Duration = Duration::from_secs(2);

const GREETING: &str = "Hello from Trellis!\n";

over_all_placements! {
    hello_answers_over_http
    a_removed_link_is_refused_at_once_and_works_again_when_put_back
}

async fn hello_answers_over_http(placement: Placement) {
    let lattice = Lattice::start().await;
    let hosts = placement.start(&lattice).await;
    lattice.run(&hosts[placement.app], "hello").await;
    let url = lattice.serve(&hosts[0], "hello").await;
    let answer = eventually("hello answers", async || {
        let answer = http::get(&url).await;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), GREETING);
    assert_eq!(answer.header("content-type"), "text/plain; charset=utf-8");
    let head = http::send("HEAD", &url, "").await;
    assert_eq!((head.status, head.body.len()), (200, 0));
}

async fn a_removed_link_is_refused_at_once_and_works_again_when_put_back(placement: Placement) {
    let lattice = Lattice::start().await;
    let hosts = placement.start(&lattice).await;
    lattice.run(&hosts[placement.app], "hello").await;
    let url = lattice.serve(&hosts[0], "hello").await;
    eventually("hello answers", async || {
        (http::get(&url).await.status == 200).then_some(())
    })
    .await;
    // The connection is there before the link goes: what it says is a refusal, and not that nobody listens.
    let mut kept = http::Connection::open(&url)
        .await
        .expect("the server listens");
    let answer = kept.send("GET", "/", "").await.expect("hello answers");
    assert_eq!(answer.status, 200);

    lattice.operator().unlink(&http_link("hello")).await;
    let refused = eventually("the link's end is noticed", async || {
        match kept.send("GET", "/", "").await {
            Ok(answer) if answer.status == 200 => None,
            other => Some(other),
        }
    })
    .await;
    // Either the refusal itself, or the connection is closed after it.
    if let Ok(answer) = refused {
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.member("code"), "no-link");
        assert!(answer.took < AT_ONCE, "{:?}", answer.took);
    }
    eventually("nobody listens without a link", async || {
        http::try_send("GET", &url, "").await.is_err().then_some(())
    })
    .await;

    lattice.operator().link(&http_link("hello")).await;
    eventually("hello answers again", async || {
        let answer = http::try_send("GET", &url, "").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_link_nobody_answers() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    lattice
        .operator()
        .configure(
            "shared",
            &[
                ("routing_mode", "path"),
                ("default_address", &format!("127.0.0.1:{}", free_port())),
            ],
        )
        .await;
    let config = lattice.operator().client().get_config("shared").await;
    let config = config.expect("a host answers").expect("it was just put");
    let url = format!("http://{}", config.0["default_address"]);
    let started = lattice
        .operator()
        .start_provider(host.id(), "http-server", &web("hello"), &["shared"])
        .await;
    assert_eq!(started, Ok(()));
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 404, "{}", answer.text());
    assert_eq!(answer.header("content-type"), "application/problem+json");

    lattice
        .operator()
        .configure(&http_config("hello"), &[("path", "/greet")])
        .await;
    lattice.operator().link(&http_link("hello")).await;
    eventually("the linked path answers", async || {
        (http::get(&format!("{url}/greet")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(http::get(&format!("{url}/other")).await.status, 404);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_linked_actor_that_runs_nowhere_has_no_route() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let url = lattice.serve(&host, "hello").await;
    let answer = http::get(&url).await;
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert_eq!(answer.member("code"), "no-route");
    assert!(answer.took < AT_ONCE, "{:?}", answer.took);
    lattice.run(&host, "hello").await;
    assert_eq!(http::get(&url).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stopped_actor_has_no_route_and_answers_again_when_started() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let reference = lattice.signed("hello");
    assert_eq!(lattice.try_run(&host, &reference, "hello").await, Ok(100));
    let url = lattice.serve(&host, "hello").await;
    assert_eq!(http::get(&url).await.status, 200);
    let stop = scale(host.id(), &reference, "hello", 0);
    assert_eq!(lattice.operator().scale(&stop).await, Ok(0));
    assert_eq!(http::get(&url).await.member("code"), "no-route");
    assert_eq!(lattice.try_run(&host, &reference, "hello").await, Ok(100));
    assert_eq!(http::get(&url).await.status, 200);
}
