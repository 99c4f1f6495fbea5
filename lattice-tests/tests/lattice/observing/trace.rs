//! One trace for each request, over every hop, whatever its collector does.

use std::time::{Duration, Instant};

use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::{AnyHost, Door, HostId as _, HostProcess, Lattice, eventually, http};
use trellis_test_backends::collector::{Behaviour, Collector, SeenSpan};

use crate::shortlink::App;

/// What a client says about its own span.
const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const CLIENT: &str = "00f067aa0ba902b7";

/// Requests while the collector hangs, and what they may take together on a busy machine. Whoever waited for the collector
/// would need its 10 s for the first of them.
const REQUESTS: u32 = 300;
const REQUESTS_WITHIN: Duration = Duration::from_secs(30);

async fn host(lattice: &Lattice, name: &str, collector: &Collector) -> HostProcess {
    let flags = ["--otel-endpoint", &collector.url()];
    lattice.host(name).flags(&flags).spawn().await
}

#[tokio::test(flavor = "multi_thread")]
async fn one_trace_leads_from_the_request_over_two_hosts_and_a_providers_process_to_the_server_outside()
 {
    let lattice = Lattice::start().await;
    let collector = Collector::start().await.expect("a port is free");
    let outside = Collector::start().await.expect("a port is free");
    let near = host(&lattice, "near", &collector).await;
    let far = host(&lattice, "far", &collector).await;
    lattice.run(&far, "probe").await;
    let url = lattice.serve(&near, "probe").await;
    lattice
        .provide(Door::Process, &near, "http-client", "client", &[])
        .await;
    let out = link("probe", "client", "wasi:http/outgoing-handler");
    let allowed = outside.url();
    lattice
        .link_with(
            out,
            &[
                ("allowed_hosts", &allowed),
                ("allowed_addresses", "127.0.0.0/8"),
            ],
        )
        .await;
    let to = format!("{url}/fetch?to={}/page", outside.url());
    eventually("the server outside is in reach", async || {
        (http::get(&to).await.status == 200).then_some(())
    })
    .await;

    let context = format!("00-{TRACE}-{CLIENT}-01");
    let answer = http::get_with(&to, &[("traceparent", &context)]).await;
    assert_eq!(answer.status, 200, "{}", answer.text());

    let spans = eventually("the spans of the trace arrive", async || {
        let mut spans = collector.spans();
        spans.retain(|span| span.trace == TRACE);
        (spans.len() >= 4).then_some(spans)
    })
    .await;
    assert_eq!(spans.len(), 4, "{spans:#?}");
    // From the client's span down, each the only child of the one before.
    let mut parent = CLIENT.to_owned();
    let mut way = Vec::new();
    while let Some(span) = spans.iter().find(|span| span.parent == parent) {
        parent.clone_from(&span.id);
        way.push(span);
    }
    let shown: Vec<_> = way
        .iter()
        .map(|span| {
            let told = |name: &str| span.attributes.get(name).map_or("", String::as_str);
            (
                told("trellis.host").to_owned(),
                told("trellis.source").to_owned(),
                told("trellis.target").to_owned(),
                span.kind,
            )
        })
        .collect();
    const SERVER: i32 = 2;
    const CALLER: i32 = 3;
    let expected = [
        (near.id(), "web-probe", "probe", SERVER),
        (far.id(), "web-probe", "probe", SERVER),
        (far.id(), "probe", "client", CALLER),
        (near.id(), "probe", "client", SERVER),
    ];
    let expected: Vec<_> = expected
        .map(|(host, source, target, kind)| {
            (host.to_owned(), source.to_owned(), target.to_owned(), kind)
        })
        .into();
    assert_eq!(shown, expected);
    assert_eq!(way[0].attributes["http.request.method"], "GET");
    assert_eq!(way[0].attributes["url.path"], "/fetch");
    assert_eq!(way[0].attributes["http.response.status_code"], "200");
    assert_eq!(way[0].resource["service.instance.id"], near.id());
    assert_eq!(way[0].resource["service.namespace"], lattice.name());
    assert!(way.iter().all(|span| !span.is_error));
    // The provider's process has told the server outside which span its request belongs to.
    let told = outside
        .visits()
        .iter()
        .filter_map(|fields| {
            let value = fields.get("traceparent")?.to_str().ok()?;
            value.contains(TRACE).then(|| value.to_owned())
        })
        .collect::<Vec<_>>();
    assert_eq!(told, [format!("00-{TRACE}-{}-01", way[3].id)]);

    a_request_that_names_no_trace_begins_one(&collector, &to).await;
    a_refusal_is_a_span_that_failed(&lattice, &collector, &url, &outside).await;
    metrics_arrive(&collector, &near).await;
}

async fn a_request_that_names_no_trace_begins_one(collector: &Collector, to: &str) {
    let before = collector.spans().len();
    assert_eq!(http::get(to).await.status, 200);
    let roots = eventually("a trace of its own arrives", async || {
        let spans = collector.spans().split_off(before);
        let roots: Vec<SeenSpan> = spans
            .into_iter()
            .filter(|span| span.parent.is_empty())
            .collect();
        (!roots.is_empty()).then_some(roots)
    })
    .await;
    assert_ne!(roots[0].trace, TRACE);
}

async fn a_refusal_is_a_span_that_failed(
    lattice: &Lattice,
    collector: &Collector,
    url: &str,
    outside: &Collector,
) {
    let out = link("probe", "client", "wasi:http/outgoing-handler");
    lattice.operator().unlink(&out).await;
    let to = format!("{url}/fetch?to={}/page", outside.url());
    eventually("the link's end is noticed", async || {
        (http::get(&to).await.status == 502).then_some(())
    })
    .await;
    // The probe answers 502 by itself; what it met may have been refused before there was a call.
    eventually("a span says that the request failed", async || {
        let spans = collector.spans();
        spans.into_iter().find(|span| {
            span.is_error
                && span
                    .attributes
                    .get("http.response.status_code")
                    .is_some_and(|status| status == "502")
        })
    })
    .await;
}

async fn metrics_arrive(collector: &Collector, host: &HostProcess) {
    let names = eventually("metrics arrive", async || {
        let mut metrics = collector.metrics();
        metrics.retain(|seen| {
            seen.resource
                .get("service.instance.id")
                .is_some_and(|id| id == host.id())
        });
        let names: Vec<_> = metrics
            .into_iter()
            .map(|seen| (seen.metric.name, seen.metric.unit))
            .collect();
        (!names.is_empty()).then_some(names)
    })
    .await;
    for (name, unit) in [
        ("trellis.invocations", "{invocation}"),
        ("trellis.invocation.duration", "s"),
        ("process.memory.usage", "By"),
    ] {
        assert!(
            names.contains(&(name.to_owned(), unit.to_owned())),
            "{names:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_is_no_trouble_to_a_host_that_serves_or_stops() {
    let lattice = Lattice::start().await;
    let collector = Collector::start().await.expect("a port is free");
    collector.set(Behaviour::Hangs);
    let mut host = host(&lattice, "alpha", &collector).await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "hello").await;
    eventually("hello answers", async || {
        (http::get(&url).await.status == 200).then_some(())
    })
    .await;
    eventually("the collector is asked", async || {
        (!collector.deliveries().is_empty()).then_some(())
    })
    .await;
    let begun = Instant::now();
    let mut connection = http::Connection::open(&url).await.expect("it listens");
    for _ in 0..REQUESTS {
        let answer = connection.send("GET", "/", "").await.expect("it answers");
        assert_eq!(answer.status, 200);
    }
    assert!(begun.elapsed() < REQUESTS_WITHIN, "{:?}", begun.elapsed());
    drop(connection);
    let begun = Instant::now();
    host.terminate();
    assert_eq!(host.exit_code().await, Some(0));
    assert!(
        begun.elapsed() < Duration::from_secs(15),
        "{:?}",
        begun.elapsed()
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_carries_its_trace_from_the_actor_that_publishes_it_to_the_one_that_handles_it() {
    let lattice = Lattice::start().await;
    let collector = Collector::start().await.expect("a port is free");
    let home = host(&lattice, "alpha", &collector).await;
    lattice.store(&home).await;
    for (source, target, interfaces) in [
        ("shortlink", "kv", "wasi:keyvalue/store,atomics"),
        ("clicks", "kv", "wasi:keyvalue/store,atomics"),
        ("shortlink", "broker", "wasmcloud:messaging/consumer"),
    ] {
        lattice
            .operator()
            .link(&link(source, target, interfaces))
            .await;
    }
    lattice.run(&home, "clicks").await;
    lattice
        .provide(Door::Process, &home, "messaging-nats", "broker", &[])
        .await;
    let handler = link("broker", "clicks", "wasmcloud:messaging/handler");
    let subscription = [("subscriptions", "shortlink.clicks|counters")];
    lattice.link_from(handler, &subscription).await;
    let hosts = vec![AnyHost::Process(home)];
    let app = App::install(lattice, hosts, 0, Duration::from_secs(10)).await;
    let short = app.short("https://example.org/told").await;

    let context = format!("00-{TRACE}-{CLIENT}-01");
    let (published, handled) = eventually("the message is handled", async || {
        let answer = http::get_with(&short, &[("traceparent", &context)]).await;
        assert_eq!(answer.status, 302);
        let spans = collector.spans();
        let of = |source: &str, target: &str| {
            let is = |span: &&SeenSpan, name: &str, value: &str| {
                span.attributes.get(name).is_some_and(|told| told == value)
            };
            let mut found = spans.iter().filter(|span| {
                span.trace == TRACE
                    && is(span, "trellis.source", source)
                    && is(span, "trellis.target", target)
            });
            found.next().cloned()
        };
        let handled = of("broker", "clicks")?;
        let by_parent = |span: &SeenSpan| span.id == handled.parent;
        let published = spans.iter().find(|span| by_parent(span)).cloned()?;
        Some((published, handled))
    })
    .await;
    assert_eq!(published.trace, handled.trace);
    assert_eq!(published.attributes["trellis.source"], "shortlink");
    assert_eq!(published.attributes["trellis.target"], "broker");
    assert!(!handled.is_error, "{handled:?}");
}
