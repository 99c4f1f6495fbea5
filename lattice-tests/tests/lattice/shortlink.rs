//! The link shortener, whole: HTTP in, key-value, configuration, and an actor that calls another one.

use std::time::Duration;

use serde_json::json;
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::http::{Answer, get, post, send};
use trellis_lattice_tests::{AnyHost, HostFixture, Lattice, Setting, eventually};
use trellis_protocol::Link;

use crate::placement::{Placement, over_all_placements};

/// Longest that a refusal may take.
const AT_ONCE: Duration = Duration::from_secs(2);

/// Where the shortened link leads in these tests.
const TARGET: &str = "https://example.org/a/long/path?with=query";

/// The application, deployed on hosts of one kind or another.
pub(crate) struct App<H = HostFixture> {
    pub(crate) lattice: Lattice,
    pub(crate) hosts: Vec<H>,
    pub(crate) url: String,
}

pub(crate) fn store_link() -> Link {
    link("shortlink", "kv", "wasi:keyvalue/store,atomics")
}

pub(crate) fn codes_link() -> Link {
    link("shortlink", "codemaker", "trellis:shortlink/codes")
}

/// The body that asks for a short link.
pub(crate) fn wish(url: &str) -> String {
    json!({ "url": url }).to_string()
}

impl App {
    pub(crate) async fn deploy(placement: Placement) -> Self {
        let lattice = Lattice::start().await;
        let hosts = placement.start(&lattice).await;
        lattice.store(&hosts[placement.store]).await;
        lattice.run(&hosts[placement.codes], "codemaker").await;
        lattice.operator().configure("shortlink", &[]).await;
        lattice
            .run_with(&hosts[placement.app], "shortlink", 100, &["shortlink"])
            .await;
        lattice.operator().link(&store_link()).await;
        lattice.operator().link(&codes_link()).await;
        let url = lattice.serve(&hosts[0], "shortlink").await;
        let app = Self {
            lattice,
            hosts,
            url,
        };
        app.works_eventually().await;
        app
    }
}

impl App<AnyHost> {
    /// Over a key-value provider that runs as wished on host 0, with these settings of its link. Everything else is on the
    /// actor's host. Each request has `deadline`.
    pub(crate) async fn over(
        setting: Setting,
        provider: &str,
        settings: &[(&str, &str)],
        deadline: Duration,
    ) -> Self {
        let lattice = Lattice::start().await;
        let hosts = lattice.hosts(setting).await;
        lattice
            .provide(setting.door, &hosts[0], provider, "kv", &[])
            .await;
        lattice.link_with(store_link(), settings).await;
        Self::install(lattice, hosts, setting.actor(), deadline).await
    }

    /// With its actors and HTTP on one of these hosts. Its store runs somewhere and is linked. Each request has `deadline`.
    pub(crate) async fn install(
        lattice: Lattice,
        hosts: Vec<AnyHost>,
        home: usize,
        deadline: Duration,
    ) -> Self {
        lattice.operator().link(&codes_link()).await;
        let home = &hosts[home];
        lattice.run(home, "codemaker").await;
        lattice.run(home, "shortlink").await;
        let timeout = deadline.as_millis().to_string();
        let url = lattice
            .serve_with(home, "shortlink", &[("timeout_ms", &timeout)])
            .await;
        let app = Self {
            lattice,
            hosts,
            url,
        };
        app.works_eventually().await;
        app
    }
}

impl<H> App<H> {
    pub(crate) async fn shorten(&self, url: &str) -> Answer {
        post(&format!("{}/links", self.url), wish(url)).await
    }

    /// Shortens, and gives back the short link.
    pub(crate) async fn short(&self, url: &str) -> String {
        let answer = self.shorten(url).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        format!("{}/{}", self.url, answer.member("code"))
    }

    pub(crate) async fn clicks(&self, short: &str) -> u64 {
        let answer = get(&format!("{short}/stats")).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["clicks"].as_u64().unwrap_or(u64::MAX)
    }

    /// Waits until every part knows of every other.
    pub(crate) async fn works_eventually(&self) {
        eventually("the link shortener works", async || {
            let answer = self.shorten("https://example.org/warm").await;
            (answer.status == 201).then_some(())
        })
        .await;
    }
}

over_all_placements! {
    a_shortened_link_is_followed_and_counted
    without_its_store_it_answers_with_the_reason
    without_its_code_maker_the_refusal_reaches_the_client
}

async fn a_shortened_link_is_followed_and_counted(placement: Placement) {
    let app = App::deploy(placement).await;
    let created = app.shorten(TARGET).await;
    assert_eq!(created.status, 201, "{}", created.text());
    assert_eq!(created.member("url"), TARGET);
    let code = created.member("code");
    assert_eq!(created.header("location"), format!("/{code}"));
    let short = format!("{}/{code}", app.url);

    assert_eq!(app.clicks(&short).await, 0);
    for _ in 0..3 {
        let followed = get(&short).await;
        assert_eq!(followed.status, 302, "{}", followed.text());
        assert_eq!(followed.header("location"), TARGET);
    }
    assert_eq!(send("HEAD", &short, "").await.status, 302);
    assert_eq!(app.clicks(&short).await, 3, "HEAD does not count");
    assert_eq!(
        app.shorten(TARGET).await.member("code"),
        code,
        "a URL has one code"
    );
}

async fn without_its_store_it_answers_with_the_reason(placement: Placement) {
    let app = App::deploy(placement).await;
    let short = app.short(TARGET).await;
    app.lattice.operator().unlink(&store_link()).await;
    let refused = eventually("the store is out of reach", async || {
        let answer = get(&short).await;
        (answer.status != 302).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 503, "{}", refused.text());
    assert_eq!(refused.header("content-type"), "application/problem+json");
    assert!(
        refused.member("detail").contains("no-link"),
        "{}",
        refused.text()
    );
    assert!(refused.took < AT_ONCE, "{:?}", refused.took);

    app.lattice.operator().link(&store_link()).await;
    eventually("the store is in reach again", async || {
        (get(&short).await.status == 302).then_some(())
    })
    .await;
}

async fn without_its_code_maker_the_refusal_reaches_the_client(placement: Placement) {
    let app = App::deploy(placement).await;
    let short = app.short(TARGET).await;
    app.lattice.operator().unlink(&codes_link()).await;
    let refused = eventually("the code maker is out of reach", async || {
        let answer = app.shorten(TARGET).await;
        (answer.status != 201).then_some(answer)
    })
    .await;
    assert_eq!(refused.status, 502, "{}", refused.text());
    assert_eq!(refused.member("code"), "no-link", "{}", refused.text());
    assert!(refused.took < AT_ONCE, "{:?}", refused.took);
    assert_eq!(
        get(&short).await.status,
        302,
        "what needs no code maker works"
    );

    app.lattice.operator().link(&codes_link()).await;
    app.works_eventually().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mistakes_of_clients_are_told_as_problems() {
    let app = App::deploy(crate::placement::TOGETHER).await;
    let links = format!("{}/links", app.url);
    let too_large = wish(&format!("https://example.org/{}", "x".repeat(200_000)));
    for (method, url, body, status) in [
        ("POST", links.clone(), "{".to_owned(), 400),
        ("POST", links.clone(), wish("no url"), 422),
        ("POST", links.clone(), wish("ftp://example.org/"), 422),
        ("POST", links.clone(), too_large, 413),
        ("GET", format!("{}/zzzzzzz", app.url), String::new(), 404),
        ("GET", format!("{}/a.b/c", app.url), String::new(), 404),
        ("DELETE", links.clone(), String::new(), 405),
    ] {
        let answer = send(method, &url, body).await;
        assert_eq!(answer.status, status, "{method} {url}: {}", answer.text());
        assert_eq!(answer.header("content-type"), "application/problem+json");
        assert_eq!(answer.json()["status"], status);
        assert!(!answer.member("detail").is_empty());
    }
    assert_eq!(
        send("DELETE", &links, "").await.header("allow"),
        "POST",
        "a wrong method is told the right one"
    );
}
