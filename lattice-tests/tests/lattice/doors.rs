//! Providers by both doors: a whole application over each, and nobody can tell which it is.

use std::path::Path;
use std::time::Duration;

use futures::future::join_all;
use trellis_lattice_tests::http::{get, post, try_send};
use trellis_lattice_tests::lattice::http_config;
use trellis_lattice_tests::load::{Ask, Load};
use trellis_lattice_tests::memory::anonymous_bytes;
use trellis_lattice_tests::process::{kill_providers, provider_pids};
use trellis_lattice_tests::{Door, HostId as _, HostProcess, Lattice, Setting, eventually};
use trellis_test_backends::Redis;

use crate::setting::over_all_settings;
use crate::shortlink::{App, store_link, wish};

/// Time that each request has.
const DEADLINE: Duration = Duration::from_secs(10);

/// Clicks at once.
const CLICKS: u64 = 64;

/// Clients that shorten the same URL at once.
const CLIENTS: usize = 16;

over_all_settings! {
    an_http_server_is_configured_anew_under_load
    the_link_shortener_keeps_its_links_in_jetstream
    the_link_shortener_keeps_its_links_in_redis
}

async fn the_link_shortener_keeps_its_links_in_jetstream(setting: Setting) {
    shortens_follows_and_counts(App::over(setting, "keyvalue-nats", &[], DEADLINE).await).await;
}

async fn the_link_shortener_keeps_its_links_in_redis(setting: Setting) {
    let redis = Redis::start().expect("redis-server is installed");
    let settings = [("url", &*redis.url())];
    shortens_follows_and_counts(App::over(setting, "keyvalue-redis", &settings, DEADLINE).await)
        .await;
}

async fn shortens_follows_and_counts<H>(app: App<H>) {
    let target = "https://example.org/a/long/path?with=query";
    // Whoever shortens a URL at the same time gets the same code: atomics are atomic.
    let links = format!("{}/links", app.url);
    let shortening = (0..CLIENTS).map(async |_| post(&links, wish(target)).await);
    let codes: Vec<_> = join_all(shortening)
        .await
        .into_iter()
        .map(|answer| {
            assert_eq!(answer.status, 201, "{}", answer.text());
            answer.member("code")
        })
        .collect();
    assert!(codes.iter().all(|code| *code == codes[0]), "{codes:?}");
    let short = format!("{}/{}", app.url, codes[0]);

    let clicking = (0..CLICKS).map(async |_| get(&short).await);
    for followed in join_all(clicking).await {
        assert_eq!(followed.status, 302, "{}", followed.text());
        assert_eq!(followed.header("location"), target);
    }
    assert_eq!(app.clicks(&short).await, CLICKS);
    let unknown = get(&format!("{}/zzzzzzz", app.url)).await;
    assert_eq!(unknown.status, 404, "{}", unknown.text());

    // A link that has gone refuses the next call, and what was stored is there when it is back.
    let operator = app.lattice.operator();
    let stored = operator.client().links().await.expect("a host answers");
    let link = stored
        .into_iter()
        .find(|link| link.key() == store_link().key())
        .expect("it was put");
    operator.unlink(&link).await;
    eventually("the store is out of reach", async || {
        let answer = get(&short).await;
        (answer.status == 503 && answer.member("detail").contains("no-link")).then_some(())
    })
    .await;
    operator.link(&link).await;
    eventually("the store is in reach again", async || {
        (get(&format!("{short}/stats")).await.status == 200).then_some(())
    })
    .await;
    assert_eq!(app.clicks(&short).await, CLICKS);
}

async fn an_http_server_is_configured_anew_under_load(setting: Setting) {
    let lattice = Lattice::start().await;
    let hosts = lattice.hosts(setting).await;
    lattice.run(&hosts[setting.actor()], "hello").await;
    let url = lattice
        .serve_by(setting.door, &hosts[0], "hello", &[], &[])
        .await;
    eventually("hello answers", async || {
        (get(&url).await.status == 200).then_some(())
    })
    .await;
    let load = Load::begin(&url, 4, 200, DEADLINE, |_, _| Ask::get("/"));
    let address = url.strip_prefix("http://").expect("a url");
    for number in 0..8 {
        let changed = format!("max-age={number}");
        let settings = [("address", address), ("cache_control", &*changed)];
        let operator = lattice.operator();
        operator.configure(&http_config("hello"), &settings).await;
        eventually("the change is seen", async || {
            (get(&url).await.header("cache-control") == changed).then_some(())
        })
        .await;
    }
    let tally = load.end().await;
    tally.assert_answered();
    assert!(tally.refused.is_empty(), "{:#?}", tally.kinds());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_http_server_whose_process_was_killed_listens_where_it_did() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").spawn().await;
    lattice.run(&host, "hello").await;
    let url = lattice
        .serve_by(Door::Process, &host, "hello", &[], &[])
        .await;
    assert_eq!(get(&url).await.status, 200);
    let before = provider_pids(host.pid());
    assert_eq!(kill_providers(host.pid()), 1);
    eventually("another process serves", async || {
        let answer = try_send("GET", &url, "").await.ok()?;
        let now = provider_pids(host.pid());
        (answer.status == 200 && !now.is_empty() && now != before).then_some(())
    })
    .await;
    // The host says in its log what became of it, under the provider's id.
    let log = host.log();
    let said = log
        .lines()
        .any(|line| line.contains("\"provider_id\":\"web-hello\"") && line.contains("SIGKILL"));
    assert!(said, "{log}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_providers_process_ends_with_its_host_however_that_ends_and_is_restored() {
    let lattice = Lattice::start().await;
    let mut host = lattice.host("a").spawn().await;
    lattice
        .provide(Door::Process, &host, "keyvalue-nats", "kv", &[])
        .await;
    let only = |host: &HostProcess| match provider_pids(host.pid())[..] {
        [only] => Some(only),
        _ => None,
    };
    let first = only(&host).expect("the provider is a process");
    host.kill();
    eventually("the killed host's provider has ended", async || {
        (!is_running(first)).then_some(())
    })
    .await;
    host.start_again(&lattice).await;
    let second = eventually("the provider runs again", async || only(&host)).await;
    host.terminate();
    assert_eq!(host.exit_code().await, Some(0));
    eventually("the stopped host's provider has ended", async || {
        (!is_running(second)).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_that_does_not_start_says_why_by_either_door() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    let mut told = Vec::new();
    for (door, id) in [(Door::BuiltIn, "cache-a"), (Door::Process, "cache-b")] {
        let wrong = [("prefixx", "a")];
        let tried = lattice.try_provide(door, &host, "keyvalue-redis", id, &wrong);
        let failed = tried.await.expect_err("there is no such key");
        assert!(failed.error.contains("prefixx"), "{failed:?}");
        told.push(failed.code);
    }
    assert_eq!(told[0], told[1]);

    let strict = lattice.host("b").without_files().start().await;
    let missing = lattice.files().join("missing");
    let text = lattice.files().join("text");
    std::fs::write(&text, "no program").expect("a file can be written");
    for (host, path, word) in [
        (&host, missing.as_path(), "missing"),
        (&host, text.as_path(), "text"),
        (&host, Path::new("/bin/true"), "/bin/true"),
        (&strict, Path::new("/bin/true"), "file"),
    ] {
        let reference = trellis_lattice_tests::actor::reference(path);
        let tried = lattice
            .operator()
            .start_provider(host.id(), &reference, "none", &[])
            .await;
        let failed = tried.expect_err("it is no provider");
        eprintln!("{failed:?}");
        assert!(!failed.code.is_empty(), "{failed:?}");
        assert!(failed.error.contains(word), "{failed:?}");
    }
    assert!(host.host().inventory().providers.is_empty());
}

/// A process that nobody has waited for yet has ended as well, and holds no memory.
fn is_running(pid: u32) -> bool {
    anonymous_bytes(pid).is_some()
}
