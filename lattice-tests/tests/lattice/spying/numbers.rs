//! The numbers of a host: as it answers with them, as Prometheus reads them, and whether it is ready.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use trellis_lattice_tests::http::{get, post, send};
use trellis_lattice_tests::lattice::web;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually};
use trellis_protocol::RefusalCode;
use trellis_protocol::control::{ComponentStats, HostStats};

use crate::placement::TOGETHER;
use crate::shortlink::App;

pub(super) async fn stats(lattice: &Lattice, host: &HostFixture) -> HostStats {
    let asked = lattice.operator().client().stats(host.id()).await;
    asked.expect("a host tells its numbers")
}

pub(super) fn component<'a>(stats: &'a HostStats, actor: &str) -> &'a ComponentStats {
    let found = stats.components.iter().find(|row| row.id == actor);
    found.unwrap_or_else(|| panic!("no `{actor}` in {stats:?}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_numbers_agree_with_what_was_called() {
    let app = App::deploy(TOGETHER).await;
    let (lattice, host) = (&app.lattice, &app.hosts[0]);
    let short = app.short("https://example.org/counted").await;
    let before = stats(lattice, host).await;
    for _ in 0..25 {
        assert_eq!(get(&short).await.status, 302);
    }
    assert_eq!(
        send("GET", &format!("{}/none", app.url), "").await.status,
        404
    );
    let after = stats(lattice, host).await;
    let served = |stats: &HostStats, actor: &str| component(stats, actor).served.clone();
    let (was, is) = (served(&before, "shortlink"), served(&after, "shortlink"));
    assert_eq!(is.invocations - was.invocations, 26);
    assert!(is.refusals.is_empty(), "{is:?}");
    let new = is.latency.since(&was.latency);
    assert_eq!(new.count(), 26);
    let p50 = new.quantile(0.5, &after.latency_bounds_micros);
    assert!(
        p50.is_some_and(|p50| p50 < Duration::from_secs(5)),
        "{p50:?}"
    );
    // Looking up and counting are calls of the store, which is a provider.
    let of_store = |stats: &HostStats| {
        let row = stats.providers.iter().find(|row| row.id == "kv");
        row.expect("the store is a provider").served.invocations
    };
    assert!(of_store(&after) - of_store(&before) >= 50);
    assert!(after.uptime_seconds >= before.uptime_seconds);
    assert!(after.process.memory_bytes > 0 && after.process.cpu_seconds > 0.0);
    assert_eq!(after.host_id, host.id());
    assert_eq!((after.left_out, after.nats_reconnects), (0, 0));

    // Without its link to the store the actor meets refusals, and answers with an error of its own.
    lattice
        .operator()
        .unlink(&crate::shortlink::store_link())
        .await;
    let refused = eventually("the store is out of reach", async || {
        (get(&short).await.status != 302).then_some(())
    });
    refused.await;
    let met = component(&stats(lattice, host).await, "shortlink")
        .met_refusals
        .clone();
    assert!(
        met.get("no-link").is_some_and(|count| *count > 0),
        "{met:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_waiting_show_in_the_numbers_and_memory_comes_back() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run_with(&host, "probe", 1, &[]).await;
    let url = lattice.serve(&host, "probe").await;
    eventually("the probe answers", async || {
        (get(&url).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(get(&format!("{url}/trap")).await.status, 500);
    let slow: Vec<_> = (0..3)
        .map(|_| {
            let url = format!("{url}/slow?n=1500");
            tokio::spawn(async move { get(&url).await.status })
        })
        .collect();
    let busy = eventually("one runs and two wait", async || {
        let stats = stats(&lattice, &host).await;
        let probe = component(&stats, "probe").clone();
        (probe.in_flight == 1 && probe.queued == 2).then_some(probe)
    })
    .await;
    assert_eq!(busy.permits, 1);
    assert!(busy.memory_bytes > 0 && busy.memory_bytes <= busy.memory_bytes_max);
    assert_eq!(busy.served.refusals.get("trapped"), Some(&1));
    for slow in slow {
        assert_eq!(slow.await.expect("no panic"), 200);
    }
    eventually("the instances are gone", async || {
        let stats = stats(&lattice, &host).await;
        let probe = component(&stats, "probe");
        let idle = probe.memory_bytes == 0 && probe.in_flight == 0 && stats.slots_taken == 0;
        (idle && stats.guest_memory_bytes == 0).then_some(())
    })
    .await;
}

/// Name and value of a label.
type Label = (String, String);

/// A line of the metrics' text: the metric's name and its labels. None where it is no number of one.
fn metric(line: &str) -> Option<(String, Vec<Label>)> {
    let (series, value) = line.rsplit_once(' ')?;
    value.parse::<f64>().ok()?;
    let Some((name, labels)) = series.split_once('{') else {
        return Some((series.to_owned(), Vec::new()));
    };
    let labels = labels.strip_suffix('}')?.split(',').map(|label| {
        let (name, value) = label.split_once('=')?;
        let value = value.strip_prefix('"')?.strip_suffix('"')?;
        Some((name.to_owned(), value.to_owned()))
    });
    Some((name.to_owned(), labels.collect::<Option<_>>()?))
}

#[tokio::test(flavor = "multi_thread")]
async fn the_metrics_can_be_read_and_have_no_label_that_a_caller_chooses() {
    let app = App::deploy(TOGETHER).await;
    let (lattice, host) = (&app.lattice, &app.hosts[0]);
    // What callers choose freely: paths, targets that do not exist, operations.
    for number in 0..20 {
        get(&format!("{}/made-up-{number}", app.url)).await;
        post(
            &format!("{}/links", app.url),
            json!({ "url": "no url" }).to_string(),
        )
        .await;
        let called = lattice
            .operator()
            .call(
                host.id(),
                &format!("ghost-{number}"),
                "a:b/c",
                "d",
                Vec::new(),
            )
            .await;
        assert!(called.is_err());
    }
    let text = host.host().metrics();
    assert!(text.ends_with("# EOF\n"));
    let known: BTreeSet<&str> = [
        "host_id", "lattice", "version", "target", "kind", "code", "reason", "outcome", "le",
    ]
    .into();
    let web = web("shortlink");
    let targets: BTreeSet<&str> = ["shortlink", "codemaker", "kv", &*web].into();
    let codes: BTreeSet<&str> = RefusalCode::ALL.iter().map(|code| code.as_str()).collect();
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (name, labels) = metric(line).unwrap_or_else(|| panic!("unreadable: {line}"));
        for (label, value) in &labels {
            assert!(known.contains(label.as_str()), "{line}");
            match label.as_str() {
                "target" => assert!(targets.contains(value.as_str()), "{line}"),
                "code" => assert!(codes.contains(value.as_str()), "{line}"),
                "kind" => assert!(["actor", "provider"].contains(&value.as_str()), "{line}"),
                _ => {}
            }
        }
        seen.insert(name);
    }
    for name in [
        "trellis_invocations_total",
        "trellis_invocation_duration_seconds_bucket",
        "trellis_in_flight",
        "trellis_queued",
        "trellis_permits",
        "trellis_actor_memory_bytes",
        "trellis_nats_reconnects_total",
        "trellis_events_dropped_total",
        "trellis_state_age_seconds",
        "trellis_provider_restarts_total",
        "trellis_slots",
        "process_resident_memory_bytes",
    ] {
        assert!(seen.contains(name), "{name} is missing in\n{text}");
    }
    assert!(!text.contains("ghost") && !text.contains("made-up"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_is_ready_while_nats_is_there_and_says_what_is_missing_otherwise() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let ready = host.host().readiness().await;
    assert!(ready.is_ready(), "{ready}");
    lattice.stop_nats();
    let missing = eventually("the host is not ready", async || {
        let readiness = host.host().readiness().await;
        (!readiness.is_ready()).then_some(readiness)
    })
    .await;
    let unmet: Vec<_> = missing
        .requirements
        .iter()
        .filter(|one| !one.is_met)
        .map(|one| one.name)
        .collect();
    assert!(unmet.contains(&"round-trip"), "{missing}");
    lattice.start_nats_again();
    eventually("the host is ready again", async || {
        host.host().readiness().await.is_ready().then_some(())
    })
    .await;
    let reconnected = eventually("the reconnect is counted", async || {
        let stats = host.host().stats();
        (stats.nats_reconnects > 0).then_some(stats.nats_reconnects)
    });
    assert!(reconnected.await >= 1);
}
