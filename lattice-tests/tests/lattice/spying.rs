//! What operators see of a host at work: invocations as they pass, logs of actors, numbers; and what nobody sees.

use std::collections::BTreeSet;
use std::time::Duration;

use serde_json::json;
use trellis_lattice::client::{ClientError, ControlClient, Series};
use trellis_lattice_tests::deploy::{id, link};
use trellis_lattice_tests::http::{Connection, get, post, send};
use trellis_lattice_tests::lattice::web;
use trellis_lattice_tests::wait::in_time;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually};
use trellis_protocol::control::call::Base64;
use trellis_protocol::control::observe::{Direction, EndReason, HIDDEN, LogStream, Shown};
use trellis_protocol::control::{
    CallComponent, CallOperation, ComponentStats, HostStats, HttpCall, LogRecord, ReadLogs,
    SpyComponent, SpyRecord, Watched,
};
use trellis_protocol::{LinkName, RefusalCode};

use crate::placement::TOGETHER;
use crate::shortlink::App;

/// Longest wait for a record of something that has happened.
const SOON: Duration = Duration::from_secs(10);

/// The spies that one host takes at a time.
const SPIES_MAX: usize = 8;

fn spy_on(actor: &str) -> SpyComponent {
    SpyComponent {
        component_id: id(actor),
        within_ms: Some(20_000),
        direction: None,
        heads_only: false,
    }
}

fn log_of(actor: &str) -> ReadLogs {
    ReadLogs {
        component_id: id(actor),
        within_ms: None,
        lines: None,
        after: None,
    }
}

/// Lets operators look at an actor, by a link of its own name.
async fn allow(lattice: &Lattice, actor: &str, interface: &str) {
    let mut link = link("wash", actor, &format!("trellis:observe/{interface}"));
    link.name = LinkName::new(actor).expect("an actor's id is a name");
    lattice.operator().link(&link).await;
}

async fn spy(
    client: &ControlClient,
    host: &HostFixture,
    request: &SpyComponent,
) -> Series<SpyRecord> {
    client
        .spy(host.id(), request)
        .await
        .expect("the operator may spy")
}

async fn next<T: serde::de::DeserializeOwned>(series: &mut Series<T>) -> Watched<T> {
    in_time(SOON, "the next record", series.next())
        .await
        .expect("the series has not ended")
        .expect("the record can be read")
}

/// Records up to the first that is looked for.
async fn until(
    series: &mut Series<SpyRecord>,
    is_it: impl Fn(&SpyRecord) -> bool,
) -> (Vec<SpyRecord>, SpyRecord) {
    let mut before = Vec::new();
    loop {
        match next(series).await {
            Watched::Record(record) if is_it(&record) => return (before, record),
            Watched::Record(record) => before.push(record),
            Watched::End(end) => panic!("it ended before: {end:?} after {before:?}"),
        }
    }
}

async fn all<T: serde::de::DeserializeOwned>(mut series: Series<T>) -> (Vec<T>, EndReason, u64) {
    let mut records = Vec::new();
    loop {
        match next(&mut series).await {
            Watched::Record(record) => records.push(record),
            Watched::End(end) => {
                assert!(series.next().await.is_none(), "something after the end");
                return (records, end.end, end.dropped);
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spy_sees_calls_in_and_out_with_their_arguments_and_results() {
    let app = App::deploy(TOGETHER).await;
    let host = &app.hosts[0];
    allow(&app.lattice, "shortlink", "spy").await;
    let client = app.lattice.operator().client().clone();
    let mut seen = spy(&client, host, &spy_on("shortlink")).await;

    let created = app.shorten("https://example.org/spied").await;
    assert_eq!(created.status, 201, "{}", created.text());

    let (out, incoming) = until(&mut seen, |record| record.direction == Direction::In).await;
    assert_eq!(incoming.operation, "wasi:http/incoming-handler#handle");
    assert_eq!(incoming.target, "shortlink");
    assert_eq!((incoming.outcome.as_str(), incoming.depth), ("ok", 0));
    assert_eq!(incoming.host, host.id());
    assert_eq!(incoming.invocation_id.len(), 32);
    let (Some(Shown::Http(request)), Some(Shown::Http(response))) =
        (&incoming.request, &incoming.response)
    else {
        panic!("{incoming:?}");
    };
    assert_eq!(request.method.as_deref(), Some("POST"));
    assert_eq!(request.path.as_deref(), Some("/links"));
    assert_eq!(response.status, Some(201));

    let made = out
        .iter()
        .find(|record| record.target == "codemaker")
        .unwrap_or_else(|| panic!("no call of the code maker among {out:?}"));
    assert!(
        made.operation.starts_with("trellis:shortlink/codes@") && made.operation.ends_with("#make"),
        "{made:?}"
    );
    assert_eq!((made.direction, made.depth), (Direction::Out, 1));
    assert!(
        matches!(&made.request, Some(Shown::Value(args)) if args.is_array()),
        "{made:?}"
    );
    assert!(matches!(&made.response, Some(Shown::Value(_))), "{made:?}");
    assert!(
        made.micros <= incoming.micros,
        "a part takes no longer than the whole"
    );

    // Calls of a typed interface are read by the types of the caller's imports.
    let stored: Vec<_> = out.iter().filter(|record| record.target == "kv").collect();
    assert!(!stored.is_empty(), "{out:?}");
    let typed = stored
        .iter()
        .filter(|record| matches!(record.request, Some(Shown::Value(_))));
    assert_eq!(typed.count(), stored.len(), "{stored:?}");
    assert!(
        stored
            .iter()
            .any(|record| format!("{:?}", record.request).contains("https://example.org/spied")),
        "{stored:?}"
    );

    // The same calls, from the other end.
    allow(&app.lattice, "kv", "spy").await;
    let mut at_store = spy(&client, host, &spy_on("kv")).await;
    assert_eq!(
        get(&format!("{}/{}", app.url, created.member("code")))
            .await
            .status,
        302
    );
    let (_, got) = until(&mut at_store, |record| record.direction == Direction::In).await;
    assert_eq!(
        (got.source.as_str(), got.outcome.as_str()),
        ("shortlink", "ok")
    );
    at_store.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spy_is_shown_no_credentials() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "probe").await;
    let url = lattice.serve(&host, "probe").await;
    allow(&lattice, "probe", "spy").await;
    eventually("the probe answers", async || {
        (get(&url).await.status == 200).then_some(())
    })
    .await;
    // Calls of `wash call` go through the same door, with whatever headers.
    lattice
        .operator()
        .link(&link("wash", "probe", "wasi:http/incoming-handler"))
        .await;
    let client = lattice.operator().client();
    let mut seen = spy(client, &host, &spy_on("probe")).await;
    let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let request = HttpCall {
        method: "GET".to_owned(),
        path: "/x?page=2&access_token=hush-1".to_owned(),
        authority: None,
        headers: vec![
            header("authorization", "Bearer hush-2"),
            header("cookie", "id=hush-3"),
            header("x-api-key", "hush-4"),
            header("accept", "text/plain"),
        ],
        body: Base64::default(),
    };
    let call = CallComponent {
        component_id: id("probe"),
        operation: CallOperation::Http(request),
        deadline_ms: None,
    };
    let answered = client.call(host.id(), &call).await;
    assert!(answered.is_ok(), "{answered:?}");

    let (_, record) = until(&mut seen, |record| record.source == "wash").await;
    let text = serde_json::to_string(&record).expect("a record is JSON");
    assert!(!text.contains("hush"), "{text}");
    assert!(text.contains("/x?page=2&access_token=(hidden)"), "{text}");
    let Some(Shown::Http(request)) = &record.request else {
        panic!("{record:?}");
    };
    for name in ["authorization", "cookie", "x-api-key"] {
        assert!(
            request.headers.contains(&header(name, HIDDEN)),
            "{name} in {request:?}"
        );
    }
    assert!(request.headers.contains(&header("accept", "text/plain")));

    // Without what was said, where only heads are asked for.
    let heads = SpyComponent {
        heads_only: true,
        direction: Some(Direction::In),
        ..spy_on("probe")
    };
    seen.close().await;
    let mut seen = spy(client, &host, &heads).await;
    assert_eq!(get(&url).await.status, 200);
    let (_, record) = until(&mut seen, |_| true).await;
    assert_eq!((&record.request, &record.response), (&None, &None));
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_looks_without_a_link_and_the_refusal_says_which() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    let client = lattice.operator().client();
    let refusal = async |asked: Result<(), ClientError>| match asked {
        Err(ClientError::Refused { message, .. }) => message,
        other => panic!("{other:?}"),
    };
    let spied = async |actor: &str| client.spy(host.id(), &spy_on(actor)).await.map(drop);
    let read = async |actor: &str| client.logs(host.id(), &log_of(actor)).await.map(drop);

    assert_eq!(
        refusal(spied("hello").await).await,
        "no-link: no link lets `wash` spy on `hello` (`wash link put wash hello trellis observe --interface spy` allows it)"
    );
    assert_eq!(
        refusal(read("hello").await).await,
        "no-link: no link lets `wash` read the log of `hello` (`wash link put wash hello trellis observe --interface logs` allows it)"
    );
    // One does not stand for the other, nor for another actor, nor does leave to call.
    lattice
        .operator()
        .link(&link("wash", "hello", "trellis:observe/logs"))
        .await;
    lattice
        .operator()
        .link(&link("wash", "hello", "wasi:http/incoming-handler"))
        .await;
    assert!(read("hello").await.is_ok());
    assert!(refusal(spied("hello").await).await.starts_with("no-link"));
    assert!(
        refusal(read("other").await)
            .await
            .contains("--link-name other")
    );
    // With leave, what does not run is named as that.
    allow(&lattice, "other", "spy").await;
    assert!(refusal(spied("other").await).await.starts_with("no-route"));
    // Leave that was taken back is gone at once.
    lattice
        .operator()
        .unlink(&link("wash", "hello", "trellis:observe/logs"))
        .await;
    eventually("the log is closed", async || read("hello").await.err()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_spies_is_bounded_and_a_slow_one_holds_up_nobody() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "hello").await;
    allow(&lattice, "hello", "spy").await;
    eventually("hello answers", async || {
        (get(&url).await.status == 200).then_some(())
    })
    .await;
    let client = lattice.operator().client();
    let short = SpyComponent {
        within_ms: Some(4_000),
        ..spy_on("hello")
    };
    // None of them is read while calls are made.
    let mut unread = Vec::new();
    for _ in 0..SPIES_MAX {
        unread.push(spy(client, &host, &short).await);
    }
    let one_more = client.spy(host.id(), &short).await;
    assert!(
        matches!(&one_more, Err(ClientError::Refused { message, .. }) if message.contains("8 spies are at work")),
        "{one_more:?}"
    );
    let mut connection = Connection::open(&url).await.expect("the server listens");
    const CALLS: u64 = 2_000;
    for _ in 0..CALLS {
        let answer = connection
            .send("GET", "/", "")
            .await
            .expect("hello answers");
        assert_eq!(answer.status, 200);
    }
    // Each hears of every call, or how many it did not hear of.
    for series in unread {
        let (records, reason, dropped) = all(series).await;
        assert_eq!(reason, EndReason::Time);
        let told = records.len() as u64;
        let missed: u64 = records.iter().map(|record| record.dropped).sum();
        assert_eq!(
            told + missed + dropped,
            CALLS,
            "{told} + {missed} + {dropped}"
        );
        assert!(told <= 200 * 5 + 128, "{told} records in four seconds");
    }
    // Their places are free again.
    let again = eventually("a spy is let in again", async || {
        client.spy(host.id(), &short).await.ok()
    })
    .await;
    again.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spy_that_leaves_gives_its_place_back_long_before_its_time() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    allow(&lattice, "hello", "spy").await;
    let client = lattice.operator().client();
    let long = SpyComponent {
        within_ms: Some(60_000),
        ..spy_on("hello")
    };
    let mut open = Vec::new();
    for _ in 0..SPIES_MAX {
        open.push(spy(client, &host, &long).await);
    }
    assert!(client.spy(host.id(), &long).await.is_err());
    // Nobody calls, so that no record could tell the host.
    drop(open);
    eventually("a spy is let in again", async || {
        client.spy(host.id(), &long).await.ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_spy_hears_of_refused_calls_and_of_the_hosts_end() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "probe").await;
    let url = lattice.serve(&host, "probe").await;
    allow(&lattice, "probe", "spy").await;
    eventually("the probe answers", async || {
        (get(&url).await.status == 200).then_some(())
    })
    .await;
    let client = lattice.operator().client();
    let mut seen = spy(client, &host, &spy_on("probe")).await;

    assert_eq!(get(&format!("{url}/trap")).await.status, 500);
    let (_, trapped) = until(&mut seen, |record| record.outcome == "trapped").await;
    assert!(trapped.refusal.is_some_and(|why| why.contains("probe")));
    // Its store has no link, so the call never becomes an invocation.
    assert_eq!(get(&format!("{url}/kept?n=5")).await.status, 502);
    let (_, refused) = until(&mut seen, |record| record.outcome == "no-link").await;
    assert_eq!(
        (refused.direction, refused.target.as_str()),
        (Direction::Out, "")
    );
    assert!(
        refused.operation.starts_with("wasi:keyvalue/store"),
        "{refused:?}"
    );

    let stopping = host.stop(SOON);
    let ended = async {
        loop {
            if let Watched::End(end) = next(&mut seen).await {
                return end.end;
            }
        }
    };
    let (_, reason) = tokio::join!(stopping, ended);
    assert_eq!(reason, EndReason::HostStopping);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_is_kept_and_followed_and_every_line_has_its_ids() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "probe").await;
    let url = lattice.serve(&host, "probe").await;
    allow(&lattice, "probe", "logs").await;
    eventually("the probe answers", async || {
        (get(&url).await.status == 200).then_some(())
    })
    .await;
    let client = lattice.operator().client();
    assert_eq!(get(&format!("{url}/log?n=3")).await.status, 200);
    assert_eq!(get(&format!("{url}/trap")).await.status, 500);

    let kept = client.logs(host.id(), &log_of("probe")).await;
    let (kept, reason, _) = all(kept.expect("the operator may read")).await;
    assert_eq!(reason, EndReason::Time);
    let [line, trapped]: [LogRecord; 2] = kept.try_into().expect("two lines");
    assert_eq!((line.message.len(), line.stream), (3, LogStream::Stdout));
    assert_eq!(
        (line.level.as_str(), line.actor.as_str()),
        ("info", "probe")
    );
    assert_eq!(line.host, host.id());
    assert_eq!(line.invocation_id.as_ref().map(String::len), Some(32));
    assert_eq!(trapped.stream, LogStream::Host);
    assert!(
        trapped.message.starts_with("the actor trapped"),
        "{trapped:?}"
    );
    assert_ne!(line.invocation_id, trapped.invocation_id);

    let on = ReadLogs {
        within_ms: Some(20_000),
        after: Some(trapped.sequence),
        ..log_of("probe")
    };
    let mut further = client
        .logs(host.id(), &on)
        .await
        .expect("the operator may read");
    assert_eq!(get(&format!("{url}/log?n=5")).await.status, 200);
    let Watched::Record(line) = next(&mut further).await else {
        panic!("the log ended");
    };
    assert_eq!(
        (line.message.len(), line.sequence),
        (5, trapped.sequence + 1)
    );
    further.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_that_logs_without_end_loses_lines_and_harms_nobody() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "probe").await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "probe").await;
    let other = lattice.serve(&host, "hello").await;
    eventually("both answer", async || {
        (get(&url).await.status == 200 && get(&other).await.status == 200).then_some(())
    })
    .await;
    allow(&lattice, "probe", "logs").await;
    // As much as one invocation may write, many times over.
    let mut connection = Connection::open(&url).await.expect("the server listens");
    for _ in 0..1_500 {
        let answer = connection.send("GET", "/log?n=8000", "").await;
        assert_eq!(answer.expect("the probe answers").status, 200);
    }
    assert_eq!(get(&other).await.status, 200);
    let stats = stats(&lattice, &host).await;
    let probe = component(&stats, "probe");
    assert!(probe.log_lines_dropped > 0, "{probe:?}");
    let client = lattice.operator().client();
    let kept = client.logs(host.id(), &log_of("probe")).await;
    let (kept, _, _) = all(kept.expect("the operator may read")).await;
    let bytes: usize = kept.iter().map(|line| line.message.len()).sum();
    assert!((1..=64 * 1024).contains(&bytes), "{bytes}");
}

async fn stats(lattice: &Lattice, host: &HostFixture) -> HostStats {
    let asked = lattice.operator().client().stats(host.id()).await;
    asked.expect("a host tells its numbers")
}

fn component<'a>(stats: &'a HostStats, actor: &str) -> &'a ComponentStats {
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
