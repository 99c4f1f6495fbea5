//! Backends that fail under load, each a real server: nothing acknowledged is lost, every other request is told why not
//! before its deadline, and everything works again by itself.

use std::cell::RefCell;
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::Mutex;
use trellis_lattice_tests::load::{Ask, Load, Tally};
use trellis_lattice_tests::process::{freeze_providers, kill_providers};
use trellis_lattice_tests::{AnyHost, Door, Place, Setting};
use trellis_test_backends::faulty::{Mode, Proxy};

use trellis_test_backends::{Postgres, PostgresOptions, RedisOptions};

use crate::postgres::{ROLE, Shop, borrowed, restock, server, settings, wish};
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

/// Fewest kills that show anything: a process that ends again and again is started with longer and longer pauses, in which
/// there is nothing to kill.
const KILLS_MIN: usize = 8;

const PASSWORD: &str = "sesame";

/// What there is of an item that is ordered under load.
const PIECES: u64 = 1_000_000;

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
    short: Mutex<String>,
}

impl Clicks {
    fn on(app: App<AnyHost>) -> Self {
        Self {
            app,
            short: Mutex::default(),
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
async fn tell(stream: &Mutex<TcpStream>, lines: &[&str]) {
    let mut stream = stream.lock().await;
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
    let admin = Mutex::new(admin.expect("it listens"));
    tell(&admin, &[&format!("AUTH {PASSWORD}")]).await;
    survives(
        &clicks,
        "every connection that the server allows is somebody else's",
        async || {
            let take = ["CONFIG SET maxclients 1", "CLIENT KILL TYPE normal"];
            tell(&admin, &take).await;
        },
        async || tell(&admin, &["CONFIG SET maxclients 100"]).await,
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
    if setting.door == Door::Process {
        survives(
            &clicks,
            "the provider's process is stopped where it is",
            async || assert_eq!(freeze_providers(clicks.app.hosts[0].pid()), 1),
            // Its host notices that it does not answer, and starts another one.
            async || {},
        )
        .await;
    }
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

async fn nats_fails(setting: Setting) {
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
    nats_fails(Setting::new(Door::BuiltIn, Place::SameHost)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn nats_fails_under_a_provider_process_of_another_host() {
    nats_fails(Setting::new(Door::Process, Place::PeerHost)).await;
}

/// Orders of one item, each under a key of its own.
struct Orders<'a> {
    shop: Shop,
    postgres: &'a RefCell<Postgres>,
    tag: RefCell<String>,
}

impl<'a> Orders<'a> {
    fn of(shop: Shop, postgres: &'a RefCell<Postgres>) -> Self {
        Self {
            shop,
            postgres,
            tag: RefCell::default(),
        }
    }

    fn number(&self, sql: &str) -> u64 {
        let told = self.postgres.borrow().run(sql).expect("the server answers");
        told.trim().parse().expect("a number is asked for")
    }
}

impl Subject for Orders<'_> {
    async fn load(&self) -> Load {
        let tag = format!("{:016x}", rand::random::<u64>());
        *self.tag.borrow_mut() = tag.clone();
        restock(&self.shop.url, &tag, PIECES).await;
        Load::begin(
            &self.shop.url,
            CLIENTS,
            201,
            DEADLINE,
            move |client, number| {
                let key = format!("{tag}-{client}-{number}");
                Ask::post("/orders", wish(&tag, Some(&key)))
            },
        )
    }

    async fn settle(&self, tally: &Tally, what: &str) {
        let tag = self.tag.borrow().clone();
        let stored = self.number(&format!("SELECT count(*) FROM orders WHERE item = '{tag}'"));
        assert!(stored <= tally.asked(), "{what}: {stored} were never asked");
        let ids: Vec<_> = tally
            .acknowledged
            .iter()
            .map(|answer| answer.member("id"))
            .collect();
        let found = self.number(&format!(
            "SELECT count(*) FROM orders WHERE id IN ({})",
            ids.join(",")
        ));
        assert_eq!(found, tally.count(), "{what}: acknowledged orders are lost");
        let left = self.number(&format!("SELECT quantity FROM stock WHERE item = '{tag}'"));
        assert_eq!(left + stored, PIECES, "{what}: stock and orders disagree");
    }
}

async fn postgres_fails(setting: Setting) {
    let postgres = PostgresOptions::new().with_durability().start();
    let postgres = server(postgres.expect("PostgreSQL is installed"));
    let proxy = Proxy::start(postgres.address())
        .await
        .expect("a port is free");
    let right = settings(proxy.address());
    let shop = Shop::open(setting, &borrowed(&right), DEADLINE).await;
    let postgres = RefCell::new(postgres);
    let orders = Orders::of(shop, &postgres);
    let configure = async |settings: &[(&'static str, String)]| {
        let operator = orders.shop.lattice.operator();
        operator.configure("orders-sql", &borrowed(settings)).await;
    };
    let run = |sql: &str| {
        postgres
            .borrow()
            .run(sql)
            .expect("the superuser always gets in");
    };
    survives(
        &orders,
        "the server accepts and never answers",
        async || postgres.borrow().stop_process().expect("it runs"),
        async || postgres.borrow().continue_process().expect("it runs"),
    )
    .await;
    survives(
        &orders,
        "every connection is cut within a reply",
        async || proxy.set(Mode::CutAfter(2)),
        async || proxy.set(Mode::Pass),
    )
    .await;
    survives(
        &orders,
        "the password is wrong",
        async || {
            let mut wrong = right.clone();
            wrong.retain(|(key, _)| *key != "POSTGRES_PASSWORD");
            wrong.push(("POSTGRES_PASSWORD", "wrong".to_owned()));
            configure(&wrong).await;
        },
        async || configure(&right).await,
    )
    .await;
    survives(
        &orders,
        "the server allows no more connections",
        async || {
            run(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT 0"));
            run(&format!(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = '{ROLE}'"
            ));
        },
        async || run(&format!("ALTER ROLE {ROLE} CONNECTION LIMIT -1")),
    )
    .await;
    goes_on(
        &orders,
        "the link's configuration changes",
        async |number| {
            let mut changed = right.clone();
            changed.push(("POSTGRES_MAX_ROWS", (1_000 + number).to_string()));
            configure(&changed).await;
        },
    )
    .await;
    survives(
        &orders,
        "the server is killed and started again",
        async || postgres.borrow_mut().kill(),
        async || postgres.borrow_mut().restart().expect("it starts again"),
    )
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_fails_under_a_built_in_provider() {
    postgres_fails(Setting::new(Door::BuiltIn, Place::SameHost)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_fails_under_a_provider_process_of_another_host() {
    postgres_fails(Setting::new(Door::Process, Place::PeerHost)).await;
}

/// Kills the processes of a host's providers every second for a minute.
async fn killed_again_and_again(subject: &impl Subject, host: u32, provider: &str) {
    let load = subject.load().await;
    load.acknowledges(HEALTHY).await;
    let (begin, mut killed) = (Instant::now(), 0);
    while begin.elapsed() < KILL_FOR {
        killed += kill_providers(host);
        tokio::time::sleep(KILL_EVERY).await;
    }
    load.acknowledges(HEALTHY).await;
    let tally = load.end().await;
    let what = format!("the process of {provider} was killed {killed} times");
    report(&what, &tally);
    assert!(killed >= KILLS_MIN, "{what}");
    assert!(!tally.refused.is_empty(), "{what}, and nobody noticed");
    tally.assert_answered();
    subject.settle(&tally, &what).await;
}

/// All of them within the same minute, each with hosts of its own.
#[tokio::test(flavor = "multi_thread")]
async fn providers_whose_process_is_killed_every_second_for_a_minute_lose_nothing() {
    let setting = Setting::new(Door::Process, Place::PeerHost);
    let redis = RedisOptions::new().with_appendonly().start();
    let redis = redis.expect("redis-server is installed");
    let postgres = PostgresOptions::new().with_durability().start();
    let postgres = server(postgres.expect("PostgreSQL is installed"));
    let over_redis = async {
        let settings = [("url", &*redis.url())];
        let clicks = Clicks::on(App::over(setting, "keyvalue-redis", &settings, DEADLINE).await);
        killed_again_and_again(&clicks, clicks.app.hosts[0].pid(), "keyvalue-redis").await;
    };
    let over_jetstream = async {
        let clicks = Clicks::on(App::over(setting, "keyvalue-nats", &[], DEADLINE).await);
        killed_again_and_again(&clicks, clicks.app.hosts[0].pid(), "keyvalue-nats").await;
    };
    let over_postgres = async {
        let settings = settings(postgres.address());
        let shop = Shop::open(setting, &borrowed(&settings), DEADLINE).await;
        let (host, postgres) = (shop.hosts[0].pid(), RefCell::new(postgres));
        killed_again_and_again(&Orders::of(shop, &postgres), host, "sql-postgres").await;
    };
    tokio::join!(over_redis, over_jetstream, over_postgres);
}
