//! What operators see of a host at work: invocations as they pass, logs of actors, numbers; and what nobody sees.

mod logs;
mod numbers;

use std::time::Duration;

use trellis_lattice::client::{ClientError, ControlClient, Series};
use trellis_lattice_tests::deploy::{id, link};
use trellis_lattice_tests::http::{Connection, get};
use trellis_lattice_tests::wait::in_time;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually};
use trellis_protocol::LinkName;
use trellis_protocol::control::call::Base64;
use trellis_protocol::control::observe::{Direction, EndReason, HIDDEN, Shown};
use trellis_protocol::control::{
    CallComponent, CallOperation, HttpCall, ReadLogs, SpyComponent, SpyRecord, Watched,
};

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
