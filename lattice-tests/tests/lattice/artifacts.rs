//! Components and providers from anywhere: the lattice's own store, archives, registries that hang. Whatever comes, a
//! host says what became of it and goes on.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use trellis_artifacts::artifacts::LatticeStore;
use trellis_artifacts::{
    ArchiveBuilder, ArtifactOptions, Artifacts, Digest, Kind, Reference, Upload,
};
use trellis_claims::provider::{NewProviderToken, Platform};
use trellis_claims::{KeyKind, SigningKey, UnixTime, Validity};
use trellis_lattice::client::Events;
use trellis_lattice_tests::actor::VALID_FOR;
use trellis_lattice_tests::binary::program;
use trellis_lattice_tests::deploy::{Failed, id, outcome, scale};
use trellis_lattice_tests::lattice::http_link;
use trellis_lattice_tests::ports::free_port;
use trellis_lattice_tests::version::Versions;
use trellis_lattice_tests::{HostId, HostProcess, Lattice, eventually, http};
use trellis_protocol::control::{
    RegistryCredential, RegistryCredentials, StartProvider, UpdateComponent,
};
use trellis_protocol::event::{EventData, ProviderStarted};
use trellis_test_backends::faulty::{Fault, FaultyRegistry, Image, Step};
use trellis_test_backends::registry::{PASSWORD, Registry, RegistryOptions, USER};

/// Long before a registry that is silent is given up.
const AT_ONCE: Duration = Duration::from_secs(8);

/// What people publish into a lattice's store with.
async fn store(lattice: &Lattice) -> Artifacts {
    let context = async_nats::jetstream::new(lattice.stranger().await);
    let store = LatticeStore {
        context,
        lattice: lattice.name().to_owned(),
    };
    Artifacts::open(ArtifactOptions::default(), Some(store)).expect("a store can be had")
}

async fn publish(artifacts: &Artifacts, reference: &str, kind: Kind, content: Vec<u8>) {
    let reference: Reference = reference.parse().expect("a test names references rightly");
    let content = Bytes::from(content);
    artifacts
        .push(
            &reference,
            kind,
            Upload::Bytes(&content),
            BTreeMap::new(),
            |_| {},
        )
        .await
        .expect("the store takes it");
}

async fn withdraw(artifacts: &Artifacts, reference: &str) {
    let Ok(Reference::Lattice(reference)) = reference.parse() else {
        panic!("{reference} is not in the store");
    };
    artifacts.remove(&reference).await.expect("it was there");
}

/// A registry that takes connections, and never says anything.
async fn silent_registry() -> (String, AbortOnDropHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let address = listener.local_addr().expect("it is bound").to_string();
    let silence = tokio::spawn(async move {
        let mut kept = Vec::new();
        while let Ok((connection, _)) = listener.accept().await {
            kept.push(connection);
        }
    });
    (address, AbortOnDropHandle::new(silence))
}

/// A host that would take anything from that registry.
async fn host_at(lattice: &Lattice, registry: &str) -> HostProcess {
    let flags = ["--insecure-registry", registry];
    lattice.host("a").flags(&flags).spawn().await
}

/// Waits for an event with this name.
async fn told(events: &mut Events, host: &str, name: &str) {
    outcome(events, host, |event| (event.name() == name).then_some(())).await;
}

/// The next outcomes of scalings: a number, or the code of a failure.
async fn scaled(events: &mut Events, host: &str) -> Result<u32, String> {
    outcome(events, host, |event| match event {
        EventData::ComponentScaled(scaled) => Some(Ok(scaled.max_instances)),
        EventData::ComponentScaleFailed(failed) => {
            Some(Err(failed.code.clone().unwrap_or_default()))
        }
        _ => None,
    })
    .await
}

fn update(host: &str, reference: &str) -> UpdateComponent {
    UpdateComponent {
        component_id: id("hello"),
        new_component_ref: reference.to_owned(),
        host_id: host.to_owned(),
        annotations: None,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stop_does_not_wait_for_a_registry_that_hangs() {
    let lattice = Lattice::start().await;
    let (registry, _silence) = silent_registry().await;
    let host = host_at(&lattice, &registry).await;
    let client = lattice.operator().client();
    let mut events = lattice.operator().events().await;
    let reference = format!("{registry}/shop/hello:1");
    let start = scale(host.id(), &reference, "hello", 1);
    client.scale(host.id(), &start).await.expect("accepted");
    told(&mut events, host.id(), "component_fetching").await;
    let begin = Instant::now();
    let stop = scale(host.id(), &reference, "hello", 0);
    client.scale(host.id(), &stop).await.expect("accepted");
    assert_eq!(
        scaled(&mut events, host.id()).await,
        Err("superseded".to_owned())
    );
    assert_eq!(scaled(&mut events, host.id()).await, Ok(0));
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());

    let start = StartProvider {
        provider_id: id("kv"),
        provider_ref: format!("{registry}/shop/kv:1"),
        host_id: host.id().to_owned(),
        config: Vec::new(),
        annotations: None,
    };
    client
        .start_provider(host.id(), &start)
        .await
        .expect("accepted");
    told(&mut events, host.id(), "provider_fetching").await;
    let begin = Instant::now();
    client
        .stop_provider(host.id(), &id("kv"))
        .await
        .expect("it is given up");
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    told(&mut events, host.id(), "provider_start_failed").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_updates_the_later_one_counts_while_the_first_is_being_fetched() {
    let lattice = Lattice::start().await;
    let (registry, _silence) = silent_registry().await;
    let host = host_at(&lattice, &registry).await;
    let versions = Versions::of("hello");
    let old = versions.as_built(&lattice);
    assert_eq!(lattice.try_run(&host, &old, "hello").await, Ok(100));
    let client = lattice.operator().client();
    let mut events = lattice.operator().events().await;
    let hanging = update(host.id(), &format!("{registry}/shop/hello:2"));
    client.update(host.id(), &hanging).await.expect("accepted");
    told(&mut events, host.id(), "component_fetching").await;
    let begin = Instant::now();
    let new = versions.saying(&lattice, "Hello", "Howdy");
    let update = update(host.id(), &new);
    client.update(host.id(), &update).await.expect("accepted");
    assert_eq!(
        scaled(&mut events, host.id()).await,
        Err("superseded".to_owned())
    );
    assert_eq!(scaled(&mut events, host.id()).await, Ok(100));
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
    let inventory = client.inventory(host.id()).await.expect("the host answers");
    assert_eq!(inventory.components[0].image_ref, new);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_told_to_leave_does_not_wait_for_a_registry_that_hangs() {
    let lattice = Lattice::start().await;
    let (registry, _silence) = silent_registry().await;
    let mut host = host_at(&lattice, &registry).await;
    let mut events = lattice.operator().events().await;
    let start = scale(host.id(), &format!("{registry}/shop/hello:1"), "hello", 1);
    let client = lattice.operator().client();
    client.scale(host.id(), &start).await.expect("accepted");
    told(&mut events, host.id(), "component_fetching").await;
    let begin = Instant::now();
    host.terminate();
    assert_eq!(host.exit_code().await, Some(0));
    assert!(begin.elapsed() < AT_ONCE, "{:?}", begin.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
async fn hosts_share_components_through_the_lattices_store_and_restore_them_without_it() {
    const REFERENCE: &str = "lattice://shop/hello:1";
    let lattice = Lattice::start().await;
    let artifacts = store(&lattice).await;
    let versions = Versions::of("hello");
    let new = versions.component_saying(&lattice, "Hello", "Howdy");
    publish(&artifacts, REFERENCE, Kind::Component, new).await;
    let mut a = lattice.host("a").spawn().await;
    let b = lattice.host("b").without_files().start().await;
    assert_eq!(lattice.try_run(&a, REFERENCE, "hello").await, Ok(100));
    assert_eq!(lattice.try_run(&b, REFERENCE, "hello").await, Ok(100));
    let url = lattice.serve(&b, "hello").await;
    assert_eq!(http::get(&url).await.text(), "Howdy from Trellis!\n");

    // The same tag stands for other content by now. Whoever asks for an update gets it.
    let newer = versions.component_saying(&lattice, "Hello", "Salve");
    publish(&artifacts, REFERENCE, Kind::Component, newer).await;
    let client = lattice.operator().client();
    for host in [a.id(), b.id()] {
        let mut events = lattice.operator().events().await;
        let update = update(host, REFERENCE);
        client.update(host, &update).await.expect("accepted");
        assert_eq!(scaled(&mut events, host).await, Ok(100));
    }
    assert_eq!(http::get(&url).await.text(), "Salve from Trellis!\n");

    // Where the reference leads to nothing any more, what ran is had from the cache.
    withdraw(&artifacts, REFERENCE).await;
    a.kill();
    let mut events = lattice.operator().events().await;
    a.start_again(&lattice).await;
    assert_eq!(scaled(&mut events, a.id()).await, Ok(100));
    let (status, text) = {
        let wash =
            trellis_lattice_tests::deploy::link("wash", "hello", "wasi:http/incoming-handler");
        lattice.operator().link(&wash).await;
        eventually("the link is known", async || {
            lattice
                .operator()
                .call_http(a.id(), "hello", "/")
                .await
                .ok()
        })
        .await
    };
    assert_eq!((status, &*text), (200, "Salve from Trellis!\n"));
    // And who starts it anew is told that it is gone.
    let command = scale(a.id(), REFERENCE, "other", 1);
    let failed = lattice
        .operator()
        .scale(&command)
        .await
        .expect_err("it is gone");
    assert_eq!(failed.code, "artifact-missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_does_not_restore_a_version_that_the_lattice_has_replaced_meanwhile() {
    let lattice = Lattice::start().await;
    let mut a = lattice.host("a").spawn().await;
    let b = lattice.host("b").start().await;
    let versions = Versions::of("hello");
    let old = versions.as_built(&lattice);
    assert_eq!(lattice.try_run(&a, &old, "hello").await, Ok(100));
    a.kill();
    let new = versions.saying(&lattice, "Hello", "Howdy");
    assert_eq!(lattice.try_run(&b, &new, "hello").await, Ok(100));
    let mut events = lattice.operator().events().await;
    a.start_again(&lattice).await;
    let (code, restored) = outcome(&mut events, a.id(), |event| match event {
        EventData::ComponentScaleFailed(failed) => Some((failed.code.clone(), failed.restored)),
        EventData::ComponentScaled(scaled) => panic!("it runs: {scaled:?}"),
        _ => None,
    })
    .await;
    assert_eq!((code.as_deref(), restored), (Some("not-wanted"), true));
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_of_no_use_are_refused_by_their_kind_and_harm_nobody() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "hello").await;
    let huge = lattice.file(b"\0asm");
    let path = huge.strip_prefix("file://").expect("a file");
    let file = std::fs::File::options().write(true).open(path);
    file.and_then(|file| file.set_len(2 * 1024 * 1024 * 1024))
        .expect("a file with a hole takes no room");
    let component = Versions::of("hello").component_saying(&lattice, "Hello", "Howdy");
    let core = [&b"\0asm\x01\0\0\0"[..], &[0; 64]].concat();
    for (code, reference) in [
        ("artifact-empty", lattice.file(b"")),
        ("artifact-too-large", huge),
        (
            "artifact-truncated",
            lattice.file(&component[..component.len() / 2]),
        ),
        ("not-a-component", lattice.file(&core)),
        (
            "not-a-component",
            lattice.file(b"#!/bin/sh\necho no component\n"),
        ),
        ("artifact-missing", "file:///nowhere/x.wasm".to_owned()),
        ("artifact-missing", "lattice://nobody/put:1".to_owned()),
        (
            "registry-unreachable",
            format!("127.0.0.1:{}/a/b:1", free_port()),
        ),
    ] {
        let failed = lattice.try_run(&host, &reference, "victim").await;
        let failed = failed.expect_err("nothing of it runs");
        assert_eq!(failed.code, code, "{reference}: {}", failed.error);
        assert_eq!(http::get(&url).await.status, 200);
    }
    for reference in ["127.0.0.1:5000/a/b", "http://x/y", "relative.wasm", ""] {
        let failed = lattice.try_run(&host, reference, "victim").await;
        let failed = failed.expect_err("nothing of it runs");
        assert_eq!(failed.code, "refused", "{reference}: {}", failed.error);
    }
}

/// Whoever publishes into a registry.
fn publisher(registry: &Registry) -> Artifacts {
    let ca_files = registry.ca_file().map(Path::to_owned).into_iter().collect();
    let artifacts = Artifacts::open(
        ArtifactOptions {
            ca_files,
            ..ArtifactOptions::default()
        },
        None,
    );
    let artifacts = artifacts.expect("a temporary cache can be made");
    artifacts.set_registries(&credentials(registry));
    artifacts
}

fn credentials(registry: &Registry) -> RegistryCredentials {
    let credential = RegistryCredential {
        username: Some(USER.to_owned()),
        password: Some(PASSWORD.to_owned()),
        token: None,
        registry_type: "oci".to_owned(),
    };
    RegistryCredentials([(registry.name(), credential)].into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_stops_nothing_that_came_from_it() {
    let lattice = Lattice::start().await;
    let mut registry = RegistryOptions::new()
        .with_password()
        .with_tls()
        .start()
        .expect("`cargo xtask setup` gets a registry");
    let ca = registry.ca_file().expect("it speaks TLS").display().to_string();
    let mut host = lattice.host("a").flags(&["--oci-ca", &ca]).spawn().await;
    let reference = |tag: &str| format!("{}/shop/hello:{tag}", registry.name());
    let (old, new, latest) = (reference("1"), reference("2"), reference("latest"));
    let artifacts = publisher(&registry);
    let versions = Versions::of("hello");
    for (reference, text) in [(&old, "Howdy"), (&new, "Salve")] {
        let component = versions.component_saying(&lattice, "Hello", text);
        publish(&artifacts, reference, Kind::Component, component).await;
    }

    // Without credentials it is refused, with those of the operator it is had.
    let refused = lattice.try_run(&host, &old, "hello").await;
    assert_eq!(refused.expect_err("nobody may read it").code, "registry-refused");
    let client = lattice.operator().client();
    let put = client.put_registries(&credentials(&registry)).await;
    put.expect("it is published");
    let mut events = lattice.operator().events().await;
    eventually("the host has the credentials", async || {
        lattice.try_run(&host, &old, "hello").await.ok()
    })
    .await;
    let fetched = outcome(&mut events, host.id(), |event| match event {
        EventData::ComponentFetching(step) => {
            let fetched = &step.fetched;
            (fetched.received_bytes.is_some() && fetched.received_bytes == fetched.total_bytes)
                .then(|| fetched.received_bytes.unwrap_or_default())
        }
        _ => None,
    })
    .await;
    assert!(fetched > 10_000, "the last word says that all of it came: {fetched}");
    // What changes under its name is refused at once.
    let failed = lattice.try_run(&host, &latest, "hello").await;
    let failed = failed.expect_err("it was not allowed");
    assert_eq!(failed.code, "refused");
    assert!(failed.error.contains("--allow-latest"), "{}", failed.error);
    let url = lattice.serve(&host, "hello").await;
    let answers = async |text: &str| {
        let url = url.clone();
        eventually("it answers", async || {
            let answer = http::try_send("GET", &url, "").await.ok()?;
            (answer.text() == format!("{text} from Trellis!\n")).then_some(())
        })
        .await;
    };
    answers("Howdy").await;

    registry.kill();
    let mut events = lattice.operator().events().await;
    let update_to_new = update(host.id(), &new);
    client.update(host.id(), &update_to_new).await.expect("accepted");
    let failed = scaled(&mut events, host.id()).await;
    assert_eq!(failed, Err("registry-unreachable".to_owned()));
    answers("Howdy").await;
    // Not even a restart needs the registry, nor credentials, which the host has lost.
    host.kill();
    let mut events = lattice.operator().events().await;
    host.start_again(&lattice).await;
    assert_eq!(scaled(&mut events, host.id()).await, Ok(100));
    answers("Howdy").await;

    registry.restart().expect("it starts again");
    let put = client.put_registries(&credentials(&registry)).await;
    put.expect("it is published");
    // Published behind each other on one connection, so that the host takes them in this order.
    let mut events = lattice.operator().events().await;
    client.update(host.id(), &update_to_new).await.expect("accepted");
    assert_eq!(scaled(&mut events, host.id()).await, Ok(100));
    answers("Salve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_that_misbehave_are_told_by_what_they_do_and_harm_nobody() {
    let lattice = Lattice::start().await;
    let component = Versions::of("hello").component_saying(&lattice, "Hello", "Howdy");
    let faults = [
        (Fault::None, None),
        (Fault::ContentBytes, Some("digest-mismatch")),
        (Fault::ContentShort(100), Some("length-mismatch")),
        (Fault::ContentLong(100), Some("length-mismatch")),
        (Fault::ManifestDigest, Some("digest-mismatch")),
        (Fault::Huge(Step::Manifest), Some("registry-misbehaved")),
        (Fault::RedirectLoop, Some("registry-misbehaved")),
        (Fault::Garbage, Some("registry-misbehaved")),
        (Fault::Status(Step::Manifest, 404, usize::MAX), Some("artifact-missing")),
        (Fault::Status(Step::Content, 500, usize::MAX), Some("registry-failing")),
        // It is had in pieces, for as long as each attempt brings something.
        (Fault::Cut(20_000), None),
    ];
    let mut registries = Vec::new();
    let mut flags = Vec::new();
    for (fault, code) in faults {
        let image = image(component.clone());
        let registry = FaultyRegistry::start(image, fault.clone()).await;
        let registry = registry.expect("there is a free port");
        flags.extend(["--insecure-registry".to_owned(), registry.name()]);
        registries.push((registry, fault, code));
    }
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let host = lattice.host("a").flags(&flags).spawn().await;
    let (lattice, host) = (&lattice, &host);
    let trying = registries.iter().enumerate().map(async |(number, (registry, fault, code))| {
        let reference = format!("{}/shop/hello:1", registry.name());
        // Each under an id of its own, which subjects do not share: nothing waits for anything.
        let tried = lattice.try_run(host, &reference, &format!("hello-{number}")).await;
        match (tried, code) {
            (Ok(_), None) => {}
            (Err(failed), Some(code)) => assert_eq!(failed.code, *code, "{fault:?}: {}", failed.error),
            (tried, _) => panic!("{fault:?}: {tried:?}"),
        }
    });
    futures::future::join_all(trying).await;
    lattice.run(host, "hello").await;
}

/// A component as registries have it.
fn image(component: Vec<u8>) -> Image {
    let digest = Digest::of(&component);
    let empty = Digest::of(b"{}");
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": empty.to_string(), "size": 2
        },
        "layers": [{
            "mediaType": "application/wasm",
            "digest": digest.to_string(), "size": component.len()
        }]
    });
    let manifest = manifest.to_string().into_bytes();
    Image {
        manifest_digest: Digest::of(&manifest).to_string(),
        manifest,
        content: component,
    }
}

/// An archive with one executable for this machine.
fn archive(account: &SigningKey, provider: &str, platform: Platform) -> Vec<u8> {
    let token = NewProviderToken {
        subject: SigningKey::generate(KeyKind::Provider).public().clone(),
        name: "The web".to_owned(),
        version: "1.2.3".to_owned(),
        revision: 7,
        vendor: "Example".to_owned(),
        serves: std::iter::empty().collect(),
        calls: std::iter::empty().collect(),
        targets: BTreeMap::new(),
        config_schema: None,
        validity: Validity::starting(UnixTime::now(), VALID_FOR),
        account_token: None,
    };
    let mut archive = Vec::new();
    ArchiveBuilder::new(token)
        .executable(platform, &program(&format!("trellis-{provider}")))
        .sign(account, UnixTime::now(), &mut archive)
        .expect("an archive can be made");
    archive
}

async fn try_provide(
    lattice: &Lattice,
    host: &(impl HostId + ?Sized),
    reference: &str,
) -> Result<(), Failed> {
    lattice
        .operator()
        .start_provider(host.id(), reference, "web-hello", &[])
        .await
}

async fn provider_started(events: &mut Events, host: &str) -> ProviderStarted {
    outcome(events, host, |event| match event {
        EventData::ProviderStarted(started) => Some(started.clone()),
        EventData::ProviderStartFailed(failed) => panic!("it does not start: {failed:?}"),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_comes_in_an_archive_serves_and_is_restored_when_its_source_is_gone() {
    const REFERENCE: &str = "lattice://web:1";
    let lattice = Lattice::start().await;
    let artifacts = store(&lattice).await;
    let archive = archive(lattice.account(), "http-server", Platform::here());
    publish(&artifacts, REFERENCE, Kind::Provider, archive).await;
    let mut host = lattice.host("a").spawn().await;
    lattice.run(&host, "hello").await;
    let mut events = lattice.operator().events().await;
    try_provide(&lattice, &host, REFERENCE)
        .await
        .expect("it starts");
    let started = provider_started(&mut events, host.id()).await;
    assert_eq!(started.image_ref, REFERENCE);
    let claims = started.claims.expect("an archive has claims");
    assert_eq!((&*claims.name, &*claims.version), ("The web", "1.2.3"));
    assert_eq!(claims.issuer, lattice.account().public().to_string());
    assert!(started.public_key.is_some_and(|key| key.starts_with('V')));

    let address = format!("127.0.0.1:{}", free_port());
    let operator = lattice.operator();
    operator
        .configure("http-hello", &[("address", &address)])
        .await;
    operator.link(&http_link("hello")).await;
    let url = format!("http://{address}");
    let answers = async || http::try_send("GET", &url, "").await.ok();
    let answer = eventually("it serves", answers).await;
    assert_eq!(answer.text(), "Hello from Trellis!\n");

    withdraw(&artifacts, REFERENCE).await;
    host.kill();
    let mut events = operator.events().await;
    host.start_again(&lattice).await;
    let started = provider_started(&mut events, host.id()).await;
    assert!(started.restored, "the event says who started it");
    let answer = eventually("it serves again", async || {
        let answer = answers().await?;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), "Hello from Trellis!\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_no_use_is_refused_by_its_kind() {
    let lattice = Lattice::start().await;
    let artifacts = store(&lattice).await;
    let host = lattice.host("a").start().await;
    let stranger = SigningKey::generate(KeyKind::Account);
    let here = Platform::here();
    let elsewhere = Platform::new("sparc", "plan9").expect("a platform");
    let good = archive(lattice.account(), "http-server", here.clone());
    let mut tampered = good.clone();
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    let component = Versions::of("hello").component_saying(&lattice, "Hello", "Howdy");
    for (code, name, content) in [
        (
            "archive-untrusted",
            "untrusted",
            archive(&stranger, "http-server", here),
        ),
        (
            "platform-missing",
            "foreign",
            archive(lattice.account(), "http-server", elsewhere),
        ),
        ("archive-untrusted", "tampered", tampered),
        ("archive-invalid", "short", good[..good.len() / 2].to_vec()),
        ("not-a-provider", "component", component),
    ] {
        let path = lattice.files().join(name);
        std::fs::write(&path, &content).expect("a file can be written into a new directory");
        let reference = trellis_lattice_tests::actor::reference(&path);
        let failed = try_provide(&lattice, &host, &reference).await;
        let failed = failed.expect_err("nothing of it runs");
        assert_eq!(failed.code, code, "{name}: {}", failed.error);
    }
    publish(&artifacts, "lattice://good:1", Kind::Provider, good).await;
    try_provide(&lattice, &host, "lattice://good:1")
        .await
        .expect("the host is well");
}
