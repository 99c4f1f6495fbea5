//! Requests of actors to web servers: what their link allows and nothing else, with bodies of any size.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::memory::Watch;
use trellis_lattice_tests::transfer::{Content, Exchange, Upload, Version};
use trellis_lattice_tests::{AnyHost, Door, Lattice, Setting, eventually, http};
use trellis_test_backends::faulty::{Mode, Proxy, Silent};

use crate::setting::over_all_settings;

const MIB: u64 = 1024 * 1024;

/// By how much each process may grow while a large body passes.
const GROWTH_BYTES_MAX: u64 = 16 * MIB;

/// Requests that the web server answers at once.
const SERVER_PERMITS: u32 = 2;

/// Time in which the web server's guest is stopped when the actor's own client has left, on a busy machine. Whoever waited
/// for an idle time would need 30 s.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

/// Time until a server that never answers is given up, by the link's configuration.
const RESPONSE_TIMEOUT: Duration = Duration::from_secs(1);

over_all_settings! {
    an_actor_reaches_what_its_link_allows_and_nothing_else
}

/// The probe, and a web server that it may call: another probe.
struct Web {
    lattice: Lattice,
    hosts: Vec<AnyHost>,
    /// Where the probe listens.
    probe: String,
    /// Where the web server does.
    server: String,
}

impl Web {
    async fn deploy(setting: Setting) -> Self {
        let lattice = Lattice::start().await;
        let hosts = lattice.hosts(setting).await;
        let home = &hosts[setting.actor()];
        lattice
            .run_as(home, "probe", "server", SERVER_PERMITS, &[])
            .await;
        let roomy = [("body_bytes_max", &*(128 * MIB).to_string())];
        let server = lattice
            .serve_by(Door::BuiltIn, home, "server", &roomy, &[])
            .await;
        lattice
            .provide(setting.door, &hosts[0], "http-client", "client", &[])
            .await;
        lattice.run(home, "probe").await;
        let probe = lattice
            .serve_by(Door::BuiltIn, home, "probe", &roomy, &[])
            .await;
        Self {
            lattice,
            hosts,
            probe,
            server,
        }
    }

    /// Lets the probe do so much.
    async fn allow(&self, settings: &[(&str, &str)]) {
        let out = link("probe", "client", "wasi:http/outgoing-handler");
        self.lattice.link_with(out, settings).await;
    }

    fn url(&self, to: &str) -> String {
        format!("{}/fetch?to={to}", self.probe)
    }

    async fn fetch(&self, to: &str) -> http::Answer {
        http::get(&self.url(to)).await
    }

    /// Waits until the probe is told so when it asks for this.
    async fn is_told(&self, to: &str, told: &str) {
        eventually(told, async || {
            let answer = self.fetch(to).await;
            (answer.status == 502 && answer.text().contains(told)).then_some(())
        })
        .await;
    }
}

async fn an_actor_reaches_what_its_link_allows_and_nothing_else(setting: Setting) {
    let web = Web::deploy(setting).await;
    let refused = web.fetch(&web.server).await;
    assert_eq!(refused.status, 502, "without a link: {}", refused.text());

    // A server on the loopback interface is none of the public: naming it is not enough.
    let silent = Silent::start().await.expect("a port is free");
    let silence = format!("http://{}", silent.address());
    let proxy = Proxy::start(address_of(&web.server)).await;
    let proxy = proxy.expect("a port is free");
    let broken = format!("http://{}", proxy.address());
    let hosts = format!("{}, {silence}, {broken}", web.server);
    web.allow(&[("allowed_hosts", &hosts)]).await;
    web.is_told(&web.server, "DestinationIpProhibited").await;
    let timeout = RESPONSE_TIMEOUT.as_millis().to_string();
    web.allow(&[
        ("allowed_hosts", &hosts),
        ("allowed_addresses", "127.0.0.0/8"),
        ("allowed_methods", "GET, POST"),
        ("response_timeout_ms", &timeout),
    ])
    .await;
    let server = &web.server;
    eventually("the server is in reach", async || {
        let answer = web.fetch(server).await;
        (answer.status == 200).then_some(())
    })
    .await;
    // The server's own refusals come back as they are.
    let trapped = web.fetch(&format!("{server}/trap")).await;
    assert_eq!(trapped.status, 500, "{}", trapped.text());
    assert_eq!(trapped.member("code"), "trapped");
    // Neither another server, nor the same one by another name, nor with another method.
    let port = server.rsplit(':').next().expect("it has a port");
    for (method, to) in [
        ("GET", web.probe.clone()),
        ("GET", format!("http://localhost:{port}")),
        ("GET", "http://169.254.169.254/latest/meta-data".to_owned()),
        ("DELETE", server.clone()),
    ] {
        let answer = http::send(method, &web.url(&to), "").await;
        assert_eq!(answer.status, 502, "{method} {to}: {}", answer.text());
        let told = answer.text();
        assert!(told.contains("HttpRequestDenied"), "{method} {to}: {told}");
    }
    // Who never answers is given up in time.
    let given_up = web.fetch(&silence).await;
    assert_eq!(given_up.status, 502, "{}", given_up.text());
    assert!(given_up.text().contains("Timeout"), "{}", given_up.text());
    assert!(given_up.took < 4 * RESPONSE_TIMEOUT, "{:?}", given_up.took);

    // Half a reply is none, before the body and within it.
    assert_eq!(web.fetch(&broken).await.status, 200);
    proxy.set(Mode::CutAfter(10));
    let cut = web.fetch(&broken).await;
    assert_eq!(cut.status, 502, "{}", cut.text());
    assert!(cut.text().starts_with("ErrorCode::"), "{}", cut.text());
    proxy.set(Mode::CutAfter(64 * 1024));
    let url = web.url(&format!("{broken}/bytes?n={MIB}"));
    let cut = http::try_send("GET", &url, "").await;
    assert!(cut.is_err(), "half a body must not look like a whole one");
    proxy.set(Mode::Pass);
    assert_eq!(web.fetch(&broken).await.status, 200);

    // Who leaves takes the actor along, and that the server's work.
    for _ in 0..2 * SERVER_PERMITS {
        let url = web.url(&format!("{server}/drip?n=5"));
        let mut left = Exchange::begin(Version::Http1, &url, Upload::of(0), Content::Only(b'.'))
            .await
            .expect("it answers");
        left.read_to(3).await.expect("it drips");
        drop(left);
    }
    let begin = Instant::now();
    assert_eq!(http::get(server).await.status, 200);
    assert!(begin.elapsed() < STOPPED_WITHIN, "{:?}", begin.elapsed());

    bodies_pass(&web).await;
}

fn address_of(url: &str) -> SocketAddr {
    let address = url.strip_prefix("http://").expect("a url");
    address.parse().expect("an address")
}

async fn bodies_pass(web: &Web) {
    for bytes in [0, 1, MIB - 1, MIB, MIB + 1] {
        let url = web.url(&format!("{}/count", web.server));
        let body = Upload::of(bytes);
        let sent = Exchange::begin(Version::Http1, &url, body, Content::Only(b' ')).await;
        let told = sent.expect("it answers").text().await;
        assert_eq!(told.expect("the answer is whole"), format!("{bytes}\n"));
        let url = web.url(&format!("{}/bytes?n={bytes}", web.server));
        let mut got = Exchange::begin(Version::Http1, &url, Upload::of(0), Content::Only(b'x'))
            .await
            .expect("it answers");
        assert_eq!(got.read_to_end().await.expect("it is whole"), bytes);
    }
    // The hosts that are processes are looked at; in this process, everything else of the tests is.
    let pids: Vec<_> = web.hosts.iter().filter_map(process).collect();
    let watch = Watch::over(&pids);
    let url = web.url(&format!("{}/bytes?n={}", web.server, 100 * MIB));
    let mut got = Exchange::begin(Version::Http1, &url, Upload::of(0), Content::Only(b'x'))
        .await
        .expect("it answers");
    assert_eq!(got.read_to_end().await.expect("it is whole"), 100 * MIB);
    for held in watch.end() {
        assert!(held.growth() < GROWTH_BYTES_MAX, "{held:?}");
    }
}

fn process(host: &AnyHost) -> Option<u32> {
    match host {
        AnyHost::Here(_) => None,
        AnyHost::Process(_) => Some(host.pid()),
    }
}
