//! Bodies of any size, through every endpoint: in one process, through a provider's socket, to a peer host.
//!
//! Hosts are processes here, so that what they hold in memory can be looked at from outside.

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use trellis_lattice_tests::memory::{Held, Watch};
use trellis_lattice_tests::transfer::{Content, Exchange, Upload, Version};
use trellis_lattice_tests::{HostProcess, Lattice, Setting, eventually, http};

use crate::setting::over_all_settings;

const MIB: u64 = 1024 * 1024;

/// The large body.
const LARGE_BYTES: u64 = 100 * MIB;

/// By how much each host, and each provider's process, may grow while the large body passes: credit, sockets' buffers,
/// the guest's own memory, and what an allocator keeps. A sixth of the body, and a multiple of what was
/// measured.
const GROWTH_BYTES_MAX: u64 = 16 * MIB;

/// Largest request of these tests.
const BODY_BYTES_MAX: u64 = 128 * MIB;

/// Longest pause of a request's body here.
const IDLE: Duration = Duration::from_secs(3);

/// Permits of the probe: with so few, one that is never given back is noticed soon.
const PERMITS: u32 = 2;

/// Time in which a guest is stopped whose reader has left, on a busy machine. Whoever waited for a deadline or for an
/// idle time would need 30 s.
const STOPPED_WITHIN: Duration = Duration::from_secs(10);

over_all_settings! {
    bodies_of_every_size_come_back_as_they_went_through_bounded_memory
    readers_that_are_slow_or_leave_and_writers_that_stop_hold_nobody_up
}

/// The probe behind an HTTP server, both on hosts that are processes.
struct Probe {
    _lattice: Lattice,
    hosts: Vec<HostProcess>,
    url: String,
}

impl Probe {
    async fn deploy(setting: Setting) -> Self {
        let lattice = Lattice::start().await;
        let mut hosts = Vec::new();
        for name in ["a", "b"].iter().take(setting.hosts()) {
            hosts.push(lattice.host(name).spawn().await);
        }
        lattice
            .run_with(&hosts[setting.actor()], "probe", PERMITS, &[])
            .await;
        let config = [
            ("body_bytes_max", &*BODY_BYTES_MAX.to_string()),
            ("body_idle_timeout_ms", &*IDLE.as_millis().to_string()),
        ];
        let url = lattice
            .serve_by(setting.door, &hosts[0], "probe", &config, &[])
            .await;
        eventually("the probe answers", async || {
            (http::get(&url).await.status == 200).then_some(())
        })
        .await;
        Self {
            _lattice: lattice,
            hosts,
            url,
        }
    }

    async fn begin(&self, path: &str, body: Upload, expected: Content) -> Exchange {
        let url = format!("{}{path}", self.url);
        let begun = Exchange::begin(Version::Http1, &url, body, expected).await;
        begun.unwrap_or_else(|error| panic!("{path}: {error:?}"))
    }

    /// Sends a body and compares what comes back.
    async fn echo(&self, version: Version, body: Upload, bytes: u64) -> Exchange {
        let (url, content) = (format!("{}/echo", self.url), body.content());
        let mut exchange = Exchange::begin(version, &url, body, content)
            .await
            .unwrap_or_else(|error| panic!("{bytes} bytes: {error:?}"));
        assert_eq!(exchange.status(), 200, "{bytes} bytes");
        let read = exchange.read_to_end().await;
        let read = read.unwrap_or_else(|error| panic!("{bytes} bytes: {error:?}"));
        assert_eq!(read, bytes);
        exchange
    }

    /// Looks at the memory of all hosts and of the processes of their providers.
    fn watch(&self) -> Watch {
        let hosts: Vec<_> = self.hosts.iter().map(HostProcess::pid).collect();
        Watch::over(&hosts)
    }

    /// As many requests as there are permits are answered at once.
    async fn has_all_permits(&self, after: &str) {
        let begin = Instant::now();
        let slow = format!("{}/slow?n=100", self.url);
        for answer in futures::future::join_all((0..PERMITS).map(|_| http::get(&slow))).await {
            assert_eq!(answer.status, 200, "after {after}: {}", answer.text());
        }
        assert!(
            begin.elapsed() < STOPPED_WITHIN,
            "after {after}: {:?}",
            begin.elapsed()
        );
    }
}

/// # Panics
/// Where a process has grown by more than it may.
fn assert_bounded(held: &[Held], setting: Setting, what: &str) {
    let processes =
        setting.hosts() + usize::from(setting.door == trellis_lattice_tests::Door::Process);
    assert_eq!(held.len(), processes, "{held:?}");
    for held in held {
        eprintln!("{what}: {} grew by {} KiB", held.name, held.growth() / 1024);
        assert!(held.growth() < GROWTH_BYTES_MAX, "{what}: {held:?}");
    }
}

async fn bodies_of_every_size_come_back_as_they_went_through_bounded_memory(setting: Setting) {
    let probe = Probe::deploy(setting).await;
    for bytes in [0, 1, 40 * 1024, 40 * 1024 + 1, MIB - 1, MIB, MIB + 1] {
        for version in [Version::Http1, Version::Http2] {
            probe.echo(version, Upload::of(bytes), bytes).await;
        }
    }
    // A trailer, behind a body whose length nobody was told.
    let body = Upload::of(MIB + 1).with_trailer("x-sum", "17");
    let exchange = probe.echo(Version::Http2, body, MIB + 1).await;
    let trailers = exchange.trailers().expect("the trailers come back");
    assert_eq!(trailers["x-sum"], "17");

    let watch = probe.watch();
    probe
        .echo(Version::Http1, Upload::of(LARGE_BYTES), LARGE_BYTES)
        .await;
    assert_bounded(&watch.end(), setting, "100 MiB there and back");
}

async fn readers_that_are_slow_or_leave_and_writers_that_stop_hold_nobody_up(setting: Setting) {
    let probe = Probe::deploy(setting).await;
    probe
        .echo(Version::Http1, Upload::of(8 * MIB), 8 * MIB)
        .await;

    // A client that reads nothing for a while holds the guest up, and nobody's memory.
    let watch = probe.watch();
    let path = format!("/bytes?n={}", 32 * MIB);
    let mut slow = probe.begin(&path, Upload::of(0), Content::Only(b'x')).await;
    for step in 1..=4 {
        tokio::time::sleep(IDLE / 6).await;
        let read = slow.read_to(step * 64 * 1024).await;
        assert!(!read.expect("the server waits for its reader"));
    }
    let read = slow.read_to_end().await.expect("the body is whole");
    assert_eq!(read, 32 * MIB);
    assert_bounded(&watch.end(), setting, "a slow client");

    // A guest that reads slowly holds its client up.
    let watch = probe.watch();
    let body = Upload::of(32 * MIB);
    let taken = body.taken();
    let url = format!("{}/count?n=300", probe.url);
    let counting = tokio::spawn(async move {
        Exchange::begin(Version::Http1, &url, body, Content::Only(b' ')).await
    });
    let mut before = 0;
    let waiting = eventually("the client has to wait", async || {
        tokio::time::sleep(Duration::from_millis(100)).await;
        let now = taken.load(Ordering::Relaxed);
        let waits = now > 0 && now == before;
        before = now;
        waits.then_some(now)
    })
    .await;
    assert!(waiting < 16 * MIB, "{waiting} bytes found room somewhere");
    counting.abort();
    assert!(counting.await.is_err_and(|error| error.is_cancelled()));
    assert_bounded(&watch.end(), setting, "a slow guest");
    probe
        .has_all_permits("a client that left its request unfinished")
        .await;

    // Readers that leave take their guests along.
    for _ in 0..2 * PERMITS {
        let endless = Content::Only(b'.');
        let mut left = probe.begin("/drip?n=5", Upload::of(0), endless).await;
        left.read_to(3).await.expect("it drips");
        drop(left);
        let mut left = probe.begin(&path, Upload::of(0), Content::Only(b'x')).await;
        left.read_to(MIB).await.expect("more comes");
        drop(left);
    }
    probe.has_all_permits("readers that left").await;

    // A writer that stops before there is an answer is told so.
    let begin = Instant::now();
    let body = Upload::of(2 * MIB).stopping_at(MIB);
    let stopped = probe.begin("/count", body, Content::Only(b' ')).await;
    assert_eq!(stopped.status(), 408);
    assert!(begin.elapsed() >= IDLE, "{:?}", begin.elapsed());
    let told = stopped.text().await.expect("the answer is whole");
    assert!(told.contains("\"code\":\"body-timeout\""), "{told}");
    // After the head of the answer only the connection can say it.
    let body = Upload::of(2 * MIB).stopping_at(MIB);
    let content = body.content();
    let mut stopped = probe.begin("/echo", body, content).await;
    assert_eq!(stopped.status(), 200);
    stopped
        .read_to_end()
        .await
        .expect_err("half a body must not look like a whole one");
    assert_eq!(stopped.read(), MIB, "what had been sent came back");
    probe.has_all_permits("writers that stopped").await;
}

/// The only case that takes as long as it does: how long a response may be silent is a constant of hosts.
#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_stops_writing_is_given_up_after_its_idle_time() {
    let lattice = Lattice::start().await;
    let hosts = [
        lattice.host("a").start().await,
        lattice.host("b").start().await,
    ];
    let (silent, lattice, hosts) = (Duration::from_secs(30), &lattice, &hosts);
    let waiting = Setting::ALL.iter().map(async |setting| {
        let id = format!("{setting:?}").to_lowercase();
        let id: String = id.chars().filter(char::is_ascii_alphanumeric).collect();
        lattice
            .run_as(&hosts[setting.actor()], "probe", &id, 1, &[])
            .await;
        let url = lattice
            .serve_by(setting.door, &hosts[0], &id, &[], &[])
            .await;
        eventually("the probe answers", async || {
            (http::get(&url).await.status == 200).then_some(())
        })
        .await;
        let path = format!("{url}/drip?n=300000");
        let drop = Content::Only(b'.');
        let mut dripping = Exchange::begin(Version::Http1, &path, Upload::of(0), drop)
            .await
            .expect("it answers at once");
        let begin = Instant::now();
        dripping
            .read_to_end()
            .await
            .expect_err("a body that stopped must not look like a whole one");
        assert_eq!(dripping.read(), 1);
        assert!(begin.elapsed() > silent / 2, "{:?}", begin.elapsed());
        let answer = http::get(&url).await;
        assert_eq!(answer.status, 200, "{setting:?}: {}", answer.text());
    });
    futures::future::join_all(waiting).await;
}
