//! One version takes the place of another: while thousands of requests a second come in, none is lost, each answer is of
//! one version or of the other, and what is of no use changes nothing.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use trellis_lattice::client::Events;
use trellis_lattice_tests::deploy::{id, outcome, scale};
use trellis_lattice_tests::http::Connection;
use trellis_lattice_tests::transfer::{Content, Exchange, Upload, Version};
use trellis_lattice_tests::version::Versions;
use trellis_lattice_tests::wait::eventually_within;
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, eventually, http};
use trellis_protocol::control::{ComponentDescription, Map, ScaleComponent, UpdateComponent};
use trellis_protocol::event::{ComponentScaleFailed, ComponentScaled, EventData};

/// What the first version answers, and the second.
const OLD: &str = "Hello from Trellis!\n";
const NEW: &str = "Howdy from Trellis!\n";

/// Clients of the load, each with a connection of its own. They ask as fast as they are answered.
const CLIENTS: usize = 16;

/// Answers that are waited for before and after a change.
const ANSWERS: u64 = 3_000;

/// Longest wait for so many, on a busy machine.
const ANSWERS_WITHIN: Duration = Duration::from_secs(60);

/// An actor that is updated while it serves.
struct Service {
    lattice: Lattice,
    host: HostFixture,
    url: String,
    versions: Versions,
    /// The version that it begins with.
    old: String,
    /// The host of the HTTP server, where that is another one.
    _web: Option<HostFixture>,
}

/// The names under which wadm knows what it manages.
fn managed(scaler: &str) -> Option<Map> {
    let pairs = [
        ("wasmcloud.dev/managed-by", "wadm"),
        ("wasmcloud.dev/appspec", "app"),
        ("wasmcloud.dev/scaler", scaler),
        ("wasmcloud.dev/spread_name", "default"),
    ];
    Some(pairs.map(|(k, v)| (k.to_owned(), v.to_owned())).into())
}

impl Service {
    /// Runs an actor behind HTTP, with these annotations.
    async fn start(actor: &str, annotations: Option<Map>) -> Self {
        let lattice = Lattice::start().await;
        let host = lattice.host("a").start().await;
        Self::start_on(lattice, host, None, actor, annotations).await
    }

    /// The same, with the HTTP server on a host of its own.
    async fn start_apart(actor: &str) -> Self {
        let lattice = Lattice::start().await;
        let host = lattice.host("a").start().await;
        let web = lattice.host("b").start().await;
        Self::start_on(lattice, host, Some(web), actor, None).await
    }

    async fn start_on(
        lattice: Lattice,
        host: HostFixture,
        web: Option<HostFixture>,
        actor: &str,
        annotations: Option<Map>,
    ) -> Self {
        let versions = Versions::of(actor);
        let old = versions.as_built(&lattice);
        let mut command = scale(host.id(), &old, actor, 100);
        command.annotations = annotations;
        assert_eq!(lattice.operator().scale(&command).await, Ok(100));
        let url = lattice.serve(web.as_ref().unwrap_or(&host), actor).await;
        eventually("the first version answers", async || {
            (http::get(&url).await.status == 200).then_some(())
        })
        .await;
        Self {
            lattice,
            host,
            url,
            versions,
            old,
            _web: web,
        }
    }

    /// A version that greets in another way.
    fn new_version(&self) -> String {
        self.versions
            .saying(&self.lattice, "Hello from", "Howdy from")
    }

    async fn send(&self, command: &ScaleComponent) {
        let client = self.lattice.operator().client();
        let accepted = client.scale(self.host.id(), command).await;
        accepted.expect("the command is acknowledged");
    }

    async fn update(&self, actor: &str, reference: &str) {
        let command = UpdateComponent {
            component_id: id(actor),
            new_component_ref: reference.to_owned(),
            host_id: self.host.id().to_owned(),
            annotations: None,
        };
        let client = self.lattice.operator().client();
        let accepted = client.update(self.host.id(), &command).await;
        accepted.expect("the command is acknowledged");
    }

    /// A command about `hello`.
    fn command(&self, reference: &str, count: u32, annotations: Option<Map>) -> ScaleComponent {
        let mut command = scale(self.host.id(), reference, "hello", count);
        command.annotations = annotations;
        command
    }

    /// The next outcome of a scaling.
    async fn scaled(&self, events: &mut Events) -> Result<ComponentScaled, ComponentScaleFailed> {
        outcome(events, self.host.id(), |event| match event {
            EventData::ComponentScaled(scaled) => Some(Ok(scaled.clone())),
            EventData::ComponentScaleFailed(failed) => Some(Err(failed.clone())),
            _ => None,
        })
        .await
    }

    /// The code of the next outcome, which is a failure.
    async fn failure(&self, events: &mut Events) -> String {
        let failed = self.scaled(events).await;
        let failed = failed.expect_err("a version of no use does not start");
        assert!(!failed.error.is_empty());
        failed.code.expect("every failure has a code")
    }

    /// Waits until so many invocations run.
    async fn in_flight(&self, count: u64) {
        eventually("they run", async || {
            let stats = self.host.host().stats();
            let running: u64 = stats.components.iter().map(|actor| actor.in_flight).sum();
            (running >= count).then_some(())
        })
        .await;
    }

    async fn running(&self) -> Vec<ComponentDescription> {
        let client = self.lattice.operator().client();
        let inventory = client.inventory(self.host.id()).await;
        inventory.expect("the host answers").components
    }
}

/// Requests as fast as they are answered, until the end.
struct Crowd {
    end: CancellationToken,
    clients: JoinSet<Vec<(String, u64)>>,
    answered: Arc<AtomicU64>,
    begin: Instant,
}

impl Crowd {
    fn begin(url: &str) -> Self {
        let mut clients = JoinSet::new();
        let (end, answered) = (CancellationToken::new(), Arc::<AtomicU64>::default());
        for _ in 0..CLIENTS {
            let (url, end, answered) = (url.to_owned(), end.clone(), Arc::clone(&answered));
            clients.spawn(async move {
                // What was answered, in this order, with how often in a row.
                let mut said: Vec<(String, u64)> = Vec::new();
                let mut connection = Connection::open(&url).await.expect("it listens");
                while !end.is_cancelled() {
                    let text = match connection.send("GET", "/", "").await {
                        Ok(answer) if answer.status == 200 => answer.text(),
                        Ok(answer) => format!("{}: {}", answer.status, answer.text()),
                        Err(error) => {
                            connection = Connection::open(&url).await.expect("it listens");
                            format!("no answer: {error}")
                        }
                    };
                    match said.last_mut() {
                        Some((last, times)) if *last == text => *times += 1,
                        _ => said.push((text, 1)),
                    }
                    answered.fetch_add(1, Ordering::Relaxed);
                }
                said
            });
        }
        Self {
            end,
            clients,
            answered,
            begin: Instant::now(),
        }
    }

    /// Waits until many more have been answered.
    async fn goes_on(&self) {
        let aim = self.answered.load(Ordering::Relaxed) + ANSWERS;
        eventually_within(ANSWERS_WITHIN, "requests are answered", async || {
            (self.answered.load(Ordering::Relaxed) >= aim).then_some(())
        })
        .await;
    }

    /// Ends, and demands that each client got these answers, one after the other, and nothing else in between. Says how
    /// many there were of each.
    async fn got(mut self, expected: &[&str]) -> BTreeMap<String, u64> {
        let took = self.begin.elapsed();
        self.end.cancel();
        let mut sum = BTreeMap::new();
        while let Some(said) = self.clients.join_next().await {
            let said = said.expect("a client does not panic");
            let texts: Vec<_> = said.iter().map(|(text, _)| text.as_str()).collect();
            assert_eq!(texts, expected, "{said:?}");
            for (text, times) in said {
                *sum.entry(text).or_default() += times;
            }
        }
        let rate = self.answered.load(Ordering::Relaxed) as f64 / took.as_secs_f64();
        eprintln!("{rate:.0} requests a second, none lost: {sum:?}");
        sum
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_update_under_load_loses_no_request_and_each_answer_says_its_version() {
    is_updated_under_load(Service::start("hello", None).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_does_one_of_an_actor_on_another_host_than_its_callers() {
    is_updated_under_load(Service::start_apart("hello").await).await;
}

async fn is_updated_under_load(service: Service) {
    let new = service.new_version();
    let crowd = Crowd::begin(&service.url);
    crowd.goes_on().await;
    let mut events = service.lattice.operator().events().await;
    service.update("hello", &new).await;
    let scaled = service.scaled(&mut events).await.expect("it is replaced");
    assert_eq!(
        (scaled.image_ref.as_str(), scaled.max_instances),
        (&*new, 100)
    );
    crowd.goes_on().await;
    let got = crowd.got(&[OLD, NEW]).await;
    assert!(got.values().all(|times| *times >= ANSWERS), "{got:?}");
    let running = service.running().await;
    assert_eq!(running.len(), 1);
    assert_eq!(running[0].image_ref, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_scaling_that_may_update_loses_no_request_either() {
    let service = Service::start("hello", None).await;
    let new = service.new_version();
    let crowd = Crowd::begin(&service.url);
    crowd.goes_on().await;
    // Without leave the reference stays, and only the number changes.
    assert_eq!(
        service
            .lattice
            .operator()
            .scale(&service.command(&new, 60, None))
            .await,
        Ok(60)
    );
    assert_eq!(service.running().await[0].image_ref, service.old);
    crowd.goes_on().await;
    let mut command = service.command(&new, 80, None);
    command.allow_update = true;
    assert_eq!(service.lattice.operator().scale(&command).await, Ok(80));
    crowd.goes_on().await;
    crowd.got(&[OLD, NEW]).await;
    let running = &service.running().await[0];
    assert_eq!(
        (running.image_ref.as_str(), running.max_instances),
        (&*new, 80)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_application_managers_upgrade_has_no_gap_and_ends_only_what_was_replaced() {
    let service = Service::start("hello", managed("old")).await;
    let new = service.new_version();
    let crowd = Crowd::begin(&service.url);
    crowd.goes_on().await;
    let mut events = service.lattice.operator().events().await;
    // The new version first, without leave to update; then the end of the old one, by its annotations.
    service
        .send(&service.command(&new, 100, managed("new")))
        .await;
    service
        .send(&service.command(&service.old, 0, managed("old")))
        .await;
    let mut told = Vec::new();
    for _ in 0..4 {
        let scaled = service.scaled(&mut events).await.expect("nothing fails");
        told.push((scaled.annotations, scaled.image_ref, scaled.max_instances));
    }
    let ended = (managed("old").unwrap_or_default(), service.old.clone(), 0);
    let serves = (managed("new").unwrap_or_default(), new.clone(), 100);
    assert_eq!(told, [ended.clone(), serves.clone(), ended, serves]);
    crowd.goes_on().await;
    crowd.got(&[OLD, NEW]).await;
    let running = &service.running().await[0];
    assert_eq!(running.annotations, managed("new"));
    assert_eq!(
        (running.image_ref.as_str(), running.max_instances),
        (&*new, 100)
    );

    // Its own end is meant, as is that of whoever names no scaler.
    service
        .send(&service.command(&new, 0, managed("new")))
        .await;
    let ended = service.scaled(&mut events).await.expect("it is stopped");
    assert_eq!(
        (ended.annotations, ended.max_instances),
        (managed("new").unwrap_or_default(), 0)
    );
    assert!(service.running().await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn versions_of_no_use_change_nothing_whoever_asks_for_them() {
    let service = Service::start("hello", managed("old")).await;
    let (versions, lattice) = (&service.versions, &service.lattice);
    let before = service.running().await;
    let bad = [
        (
            "component-does-not-start",
            versions.that_traps_at_start(lattice),
        ),
        ("id-taken", versions.of_another_subject(lattice)),
        ("grant-missing", versions.without_grants(lattice)),
        ("claims-unsigned", versions.unsigned(lattice)),
        ("artifact-truncated", versions.cut_short(lattice)),
        (
            "not-a-component",
            lattice.file(b"this is not WebAssembly at all"),
        ),
        ("artifact-empty", lattice.file(b"")),
        ("artifact-missing", "file:///nowhere/at-all.wasm".to_owned()),
    ];
    let crowd = Crowd::begin(&service.url);
    crowd.goes_on().await;
    let mut events = lattice.operator().events().await;
    for (code, reference) in &bad {
        service.update("hello", reference).await;
        assert_eq!(service.failure(&mut events).await, *code, "{reference}");
        let mut command = service.command(reference, 7, managed("old"));
        command.allow_update = true;
        service.send(&command).await;
        assert_eq!(service.failure(&mut events).await, *code, "{reference}");
        // An application manager ends the old version behind the new one, whatever becomes of that.
        service
            .send(&service.command(reference, 7, managed("new")))
            .await;
        service
            .send(&service.command(&service.old, 0, managed("old")))
            .await;
        assert_eq!(service.failure(&mut events).await, *code, "{reference}");
        assert_eq!(service.failure(&mut events).await, "not-replaced");
        assert_eq!(service.running().await, before);
    }
    crowd.goes_on().await;
    crowd.got(&[OLD]).await;
    // Who asks for its end once more gets it.
    service
        .send(&service.command(&service.old, 0, managed("old")))
        .await;
    let ended = service.scaled(&mut events).await.expect("it is stopped");
    assert_eq!(ended.max_instances, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_old_version_has_begun_it_finishes() {
    const BODY_BYTES: u64 = 4 * 1024 * 1024;
    let service = Service::start("probe", None).await;
    let new = service
        .versions
        .saying(&service.lattice, "done\n", "new!\n");
    let echo = format!("{}/echo", service.url);
    let upload = Upload::of(BODY_BYTES);
    let content = upload.content();
    // An answer that takes its time; a body that goes in and out, read up to its middle; and one that is only written, by
    // the host, into a slow reader.
    let slow = format!("{}/slow?n=6000", service.url);
    let slow = tokio::spawn(async move { http::get(&slow).await });
    service.in_flight(1).await;
    let mut echoed = Exchange::begin(Version::Http1, &echo, upload, content)
        .await
        .expect("the head comes");
    let bytes = format!("{}/bytes?n={BODY_BYTES}", service.url);
    let mut read = Exchange::begin(Version::Http1, &bytes, Upload::of(0), Content::Only(b'x'))
        .await
        .expect("the head comes");
    for exchange in [&mut echoed, &mut read] {
        let ended = exchange.read_to(BODY_BYTES / 8).await.expect("it goes on");
        assert!(!ended);
    }

    let mut events = service.lattice.operator().events().await;
    service.update("probe", &new).await;
    service.scaled(&mut events).await.expect("it is replaced");
    assert_eq!(http::get(&service.url).await.text(), "new!\n");
    assert!(!slow.is_finished(), "it was to last longer than the update");
    for exchange in [&mut echoed, &mut read] {
        let length = exchange.read_to_end().await.expect("it goes on to its end");
        assert_eq!(length, BODY_BYTES);
    }
    let answer = slow.await.expect("a request does not panic");
    assert_eq!((answer.status, answer.text().as_str()), (200, "done\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_leaves_waits_for_what_a_replaced_version_has_begun() {
    let service = Service::start("probe", None).await;
    let new = service
        .versions
        .saying(&service.lattice, "done\n", "new!\n");
    // Asked over the control interface: the HTTP server would wait for its own requests.
    let operator = service.lattice.another_operator().await;
    let host = service.host.id().to_owned();
    let wash = trellis_lattice_tests::deploy::link("wash", "probe", "wasi:http/incoming-handler");
    operator.link(&wash).await;
    let asked =
        tokio::spawn(async move { operator.call_http(&host, "probe", "/slow?n=3000").await });
    service.in_flight(1).await;
    let mut events = service.lattice.operator().events().await;
    service.update("probe", &new).await;
    service.scaled(&mut events).await.expect("it is replaced");
    assert!(
        service.host.stop(Duration::from_secs(20)).await,
        "all was finished"
    );
    let answer = asked.await.expect("a call does not panic");
    assert_eq!(answer.expect("it is answered"), (200, "done\n".to_owned()));
}

#[tokio::test(flavor = "multi_thread")]
async fn each_step_of_a_start_is_told_before_its_outcome() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    // Of this content nothing has been compiled yet.
    let word: String = (0..5).map(|_| rand::random_range('a'..='z')).collect();
    let reference = Versions::of("hello").saying(&lattice, "Hello", &word);
    let mut events = lattice.operator().events().await;
    let mut command = scale(host.id(), &reference, "hello", 1);
    command.annotations = managed("s");
    let client = lattice.operator().client();
    client.scale(host.id(), &command).await.expect("accepted");
    let mut told = Vec::new();
    outcome(&mut events, host.id(), |event| {
        if let EventData::ComponentFetching(step)
        | EventData::ComponentVerifying(step)
        | EventData::ComponentCompiling(step)
        | EventData::ComponentWarming(step) = event
        {
            assert_eq!(
                (step.component_id.as_str(), &step.image_ref),
                ("hello", &reference)
            );
            assert_eq!(Some(&step.annotations), managed("s").as_ref());
            assert!(!step.restored);
        }
        // A heartbeat may come in between.
        if event.name().starts_with("component_") {
            told.push(event.name());
        }
        matches!(event, EventData::ComponentScaled(_)).then_some(())
    })
    .await;
    told.dedup();
    assert_eq!(
        told,
        [
            "component_fetching",
            "component_verifying",
            "component_compiling",
            "component_warming",
            "component_scaled"
        ]
    );
}
