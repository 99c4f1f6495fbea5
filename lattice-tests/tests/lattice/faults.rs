//! Backends that fail under load, each a real server: nothing acknowledged is lost, every other request is told why not
//! before its deadline, and everything works again by itself.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use trellis_lattice_tests::load::{Ask, Load, Tally};
use trellis_lattice_tests::memory::{children, name};
use trellis_lattice_tests::{AnyHost, Door, Place, Setting};
use trellis_test_backends::RedisOptions;
use trellis_test_backends::faulty::{Mode, Proxy};

use crate::shortlink::App;

/// Time that each request has. Half of what a provider waits for its backend by default would not fit into it, so the
/// deadline is what ends those that hang.
const DEADLINE: Duration = Duration::from_secs(4);

/// Clients at once.
const CLIENTS: u64 = 8;

/// Requests that are acknowledged before a fault, and again after it.
const HEALTHY: u64 = 100;

/// Requests that meet the fault.
const STRICKEN: u64 = 2 * CLIENTS;

/// How often something changes under load.
const CHANGES: u32 = 8;

/// How often, and for how long, a provider's process is killed.
const KILL_EVERY: Duration = Duration::from_secs(1);
const KILL_FOR: Duration = Duration::from_secs(60);

const PASSWORD: &str = "sesame";

/// What a fault is played on: requests that store something, and what is stored.
trait Subject {
    /// Begins a load that stores something new with each request.
    async fn load(&self) -> Load;

    /// Compares what was acknowledged with what is stored.
    async fn settle(&self, tally: &Tally, what: &str);
}

/// Breaks something under load, and mends it.
async fn survives(
    subject: &impl Subject,
    what: &str,
    break_it: impl AsyncFnOnce(),
    mend: impl AsyncFnOnce(),
) {
    let load = subject.load().await;
    load.acknowledges(HEALTHY).await;
    break_it().await;
    load.refuses(STRICKEN).await;
    mend().await;
    load.acknowledges(HEALTHY).await;
    let tally = load.end().await;
    report(what, &tally);
    tally.assert_answered();
    subject.settle(&tally, what).await;
}

/// The clicks on one short link.
struct Clicks {
    app: App<AnyHost>,
    short: tokio::sync::Mutex<String>,
}

impl Clicks {
    fn on(app: App<AnyHost>) -> Self {
        Self {
            app,
            short: tokio::sync::Mutex::default(),
        }
    }
}

impl Subject for Clicks {
    async fn load(&self) -> Load {
        let target = format!("https://example.org/{}", rand::random::<u64>());
        let short = self.app.short(&target).await;
        let path = short
            .strip_prefix(&self.app.url)
            .expect("a path")
            .to_owned();
        *self.short.lock().await = short;
        Load::begin(&self.app.url, CLIENTS, 302, DEADLINE, move |_, _| {
            Ask::get(&*path)
        })
    }

    async fn settle(&self, tally: &Tally, what: &str) {
        let stored = self.app.clicks(&self.short.lock().await).await;
        assert!(stored >= tally.count(), "{what}: {stored} of {tally:?}");
        // A click whose answer was lost may have been counted.
        assert!(stored <= tally.asked(), "{what}: {stored} of {tally:?}");
    }
}

/// Changes something again and again under load: whoever is asked meanwhile may say no, but nobody is left without an
/// answer, and the load goes on.
async fn goes_on(subject: &impl Subject, what: &str, mut change: impl AsyncFnMut(u32)) {
    let load = subject.load().await;
    for number in 0..CHANGES {
        change(number).await;
        load.acknowledges(HEALTHY / 4).await;
    }
    let tally = load.end().await;
    report(what, &tally);
    tally.assert_answered();
    subject.settle(&tally, what).await;
}

fn report(what: &str, tally: &Tally) {
    eprintln!(
        "{what}: {} acknowledged, {:#?}",
        tally.count(),
        tally.kinds()
    );
}

/// Says something to Redis in its inline form, and waits until it has answered each line.
async fn tell(stream: &mut TcpStream, lines: &[&str]) {
    for line in lines {
        let line = format!("{line}\r\n");
        stream.write_all(line.as_bytes()).await.expect("it listens");
        let mut answer = [0; 128];
        let bytes = stream.read(&mut answer).await.expect("it answers");
        let answer = String::from_utf8_lossy(&answer[..bytes]);
        assert!(!answer.starts_with('-'), "{line}: {answer}");
    }
}

async fn redis_fails(setting: Setting) {
    let redis = RedisOptions::new()
        .with_password(PASSWORD)
        .with_appendonly()
        .start()
        .expect("redis-server is installed");
    let proxy = Proxy::start(redis.address()).await.expect("a port is free");
    let url = redis.url_through(proxy.address());
    let app = App::over(setting, "keyvalue-redis", &[("url", &url)], DEADLINE).await;
    let clicks = Clicks::on(app);
    let configure = async |settings: &[(&str, &str)]| {
        let operator = clicks.app.lattice.operator();
        operator.configure("shortlink-kv", settings).await;
    };
    survives(
        &clicks,
        "the server accepts and never answers",
        async || redis.stop_process().expect("it runs"),
        async || redis.continue_process().expect("it runs"),
    )
    .await;
    survives(
        &clicks,
        "every connection is cut within a reply",
        async || proxy.set(Mode::CutAfter(2)),
        async || proxy.set(Mode::Pass),
    )
    .await;
    survives(
        &clicks,
        "the password is wrong",
        async || {
            let wrong = url.replace(PASSWORD, "wrong");
            configure(&[("url", &wrong)]).await;
        },
        async || configure(&[("url", &url)]).await,
    )
    .await;
    let admin = TcpStream::connect(redis.address()).await;
    let admin = RefCell::new(admin.expect("it listens"));
    tell(&mut admin.borrow_mut(), &[&format!("AUTH {PASSWORD}")]).await;
    survives(
        &clicks,
        "every connection that the server allows is somebody else's",
        async || {
            let take = ["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal"];
            tell(&mut admin.borrow_mut(), &take).await;
        },
        async || tell(&mut admin.borrow_mut(), &["CONFIG SET maxclients 100"]).await,
    )
    .await;
    goes_on(
        &clicks,
        "the link's configuration changes",
        async |number| {
            let timeout = (2_000 + number).to_string();
            configure(&[("url", &url), ("response_timeout_ms", &timeout)]).await;
        },
    )
    .await;
    let redis = RefCell::new(redis);
    survives(
        &clicks,
        "the server is killed and started again",
        async || redis.borrow_mut().kill(),
        async || redis.borrow_mut().restart().expect("it starts again"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_fails_under_a_built_in_provider() {
    redis_fails(Setting::new(Door::BuiltIn, Place::SameHost)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn redis_fails_under_a_provider_process_of_another_host() {
    redis_fails(Setting::new(Door::Process, Place::PeerHost)).await;
}

async fn nats_fails(door: Door) {
    let setting = Setting::new(door, Place::SameHost);
    let app = App::over(setting, "keyvalue-nats", &[], DEADLINE).await;
    let clicks = Clicks::on(app);
    survives(
        &clicks,
        "the server is killed and started again",
        async || clicks.app.lattice.kill_nats(),
        async || clicks.app.lattice.start_nats_again(),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_fails_under_a_built_in_provider() {
    nats_fails(Door::BuiltIn).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_fails_under_a_provider_process() {
    nats_fails(Door::Process).await;
}

/// Kills the process of the provider of host 0 every second for a minute.
async fn killed_again_and_again(provider: &str, settings: &[(&str, &str)]) {
    let setting = Setting::new(Door::Process, Place::PeerHost);
    let app = App::over(setting, provider, settings, DEADLINE).await;
    let clicks = Clicks::on(app);
    let load = clicks.load().await;
    load.acknowledges(HEALTHY).await;
    let host = clicks.app.hosts[0].pid();
    let (begin, mut killed) = (Instant::now(), 0);
    while begin.elapsed() < KILL_FOR {
        for pid in children(host).into_iter().filter(|pid| is_provider(*pid)) {
            let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
            // It may have ended by itself since.
            let _ = kill_process(pid.expect("a process has an id"), Signal::KILL);
            killed += 1;
        }
        tokio::time::sleep(KILL_EVERY).await;
    }
    load.acknowledges(HEALTHY).await;
    let tally = load.end().await;
    let what = format!("the process of {provider} was killed {killed} times");
    report(&what, &tally);
    assert!(killed >= 5, "{what}");
    assert!(!tally.refused.is_empty(), "{what}, and nobody noticed");
    tally.assert_answered();
    clicks.settle(&tally, &what).await;
}

/// A host's children are the processes of providers.
fn is_provider(pid: u32) -> bool {
    name(pid).starts_with("trellis-")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_redis_provider_whose_process_is_killed_every_second_loses_nothing() {
    let redis = RedisOptions::new().with_appendonly().start();
    let redis = redis.expect("redis-server is installed");
    killed_again_and_again("keyvalue-redis", &[("url", &redis.url())]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_jetstream_provider_whose_process_is_killed_every_second_loses_nothing() {
    killed_again_and_again("keyvalue-nats", &[]).await;
}
