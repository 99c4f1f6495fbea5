//! A host is killed and started again: what it ran, it runs again, and nobody had to wait for a timeout.

use std::os::unix::fs::PermissionsExt as _;
use std::time::{Duration, Instant};

use serde_json::json;
use trellis_lattice_tests::deploy::outcome;
use trellis_lattice_tests::{HostId as _, Lattice, eventually, http};
use trellis_protocol::event::EventData;

use crate::shortlink::{codes_link, store_link, wish};

/// Time after which a silent host is gone, with room for a busy machine: five beats of half a second.
const NOTICED_WITHIN: Duration = Duration::from_secs(8);

#[tokio::test(flavor = "multi_thread")]
async fn the_application_works_again_by_itself_after_a_host_was_killed() {
    let lattice = Lattice::start().await;
    let a = lattice.host("a").start().await;
    let mut b = lattice.host("b").spawn().await;
    lattice.store(&a).await;
    lattice.run(&a, "shortlink").await;
    lattice.run(&b, "codemaker").await;
    lattice.operator().link(&store_link()).await;
    lattice.operator().link(&codes_link()).await;
    let url = lattice.serve(&a, "shortlink").await;
    let links = format!("{url}/links");
    let shorten = async || http::post(&links, wish("https://example.org/")).await;
    eventually("the application works", async || {
        (shorten().await.status == 201).then_some(())
    })
    .await;

    let state = b.state_dir().join("running.json");
    let mode = std::fs::metadata(&state).expect("what runs is kept");
    assert_eq!(mode.permissions().mode() & 0o777, 0o600);

    let id = b.id().to_owned();
    b.kill();
    let begin = Instant::now();
    eventually("the loss is told by its type", async || {
        let answer = shorten().await;
        assert_ne!(answer.status, 201, "the code maker is dead");
        assert!(answer.took < NOTICED_WITHIN, "{:?}", answer.took);
        let code = answer.member("code");
        assert!(
            ["outcome-unknown", "callee-unavailable", "deadline-exceeded"].contains(&code.as_str()),
            "{}",
            answer.text()
        );
        (code == "callee-unavailable").then_some(())
    })
    .await;
    assert!(begin.elapsed() < NOTICED_WITHIN, "{:?}", begin.elapsed());

    b.start_again(&lattice).await;
    assert_eq!(b.id(), id, "it is the same host");
    eventually("the application works again", async || {
        let answer = shorten().await;
        assert!(answer.took < NOTICED_WITHIN, "{:?}", answer.took);
        (answer.status == 201).then_some(())
    })
    .await;
    let inventory = lattice.operator().client().inventory(&id).await;
    let inventory = inventory.expect("the host answers");
    assert_eq!(inventory.components.len(), 1);
    assert_eq!(inventory.components[0].id, "codemaker");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_in_flight_fail_typed_and_soon_when_their_host_is_killed() {
    let lattice = Lattice::start().await;
    let a = lattice.host("a").start().await;
    let mut b = lattice.host("b").spawn().await;
    lattice.run(&b, "probe").await;
    let url = lattice.serve(&a, "probe").await;
    eventually("the probe answers", async || {
        (http::get(&url).await.status == 200).then_some(())
    })
    .await;
    let in_flight: Vec<_> = (0..4)
        .map(|_| {
            let url = format!("{url}/slow?n=30000");
            tokio::spawn(async move { http::post(&url, "not idempotent").await })
        })
        .collect();
    // Until they run over there, nothing would be in flight.
    tokio::time::sleep(Duration::from_millis(500)).await;
    b.kill();
    for call in in_flight {
        let answer = call.await.expect("a request does not panic");
        assert_eq!(answer.status, 502, "{}", answer.text());
        assert_eq!(answer.member("code"), "outcome-unknown");
        assert!(answer.took < NOTICED_WITHIN, "{:?}", answer.took);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restarted_host_serves_http_where_it_did_and_forgets_what_was_stopped() {
    let lattice = Lattice::start().await;
    let mut b = lattice.host("b").spawn().await;
    lattice.run(&b, "hello").await;
    lattice.run(&b, "codemaker").await;
    let url = lattice.serve(&b, "hello").await;
    assert_eq!(http::get(&url).await.status, 200);
    let reference = lattice.signed("codemaker");
    let stop = trellis_lattice_tests::deploy::scale(b.id(), &reference, "codemaker", 0);
    assert_eq!(lattice.operator().scale(&stop).await, Ok(0));
    b.kill();
    let mut events = lattice.operator().events().await;
    b.start_again(&lattice).await;
    outcome(&mut events, b.id(), |event| match event {
        EventData::ProviderStarted(started) if started.provider_id == "web-hello" => Some(()),
        _ => None,
    })
    .await;
    eventually("hello answers where it did", async || {
        let answer = http::try_send("GET", &url, "").await.ok()?;
        (answer.status == 200).then_some(())
    })
    .await;
    let inventory = lattice.operator().client().inventory(b.id()).await;
    let inventory = inventory.expect("the host answers");
    let ids: Vec<_> = inventory.components.iter().map(|c| c.id.as_str()).collect();
    assert_eq!(ids, ["hello"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_was_exchanged_meanwhile_is_not_restored() {
    let lattice = Lattice::start().await;
    let mut b = lattice.host("b").spawn().await;
    let reference = lattice.signed("hello");
    assert_eq!(lattice.try_run(&b, &reference, "hello").await, Ok(100));
    b.kill();
    let path = reference.strip_prefix("file://").expect("a file");
    let other = trellis_lattice_tests::actor::Signature::of("probe", lattice.account());
    std::fs::write(path, other.component()).expect("the file can be written");
    let mut events = lattice.operator().events().await;
    b.start_again(&lattice).await;
    let code = outcome(&mut events, b.id(), |event| match event {
        EventData::ComponentScaleFailed(failed) => Some(failed.code.clone()),
        EventData::ComponentScaled(scaled) => panic!("it runs: {scaled:?}"),
        _ => None,
    })
    .await;
    assert_eq!(json!(code), json!("content-changed"));
}
