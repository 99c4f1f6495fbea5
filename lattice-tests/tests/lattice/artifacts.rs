//! Components and providers from anywhere: the lattice's own store, archives, registries that hang. Whatever comes, a
//! host says what became of it and goes on.

mod archives;
mod registries;

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::TcpListener;
use tokio_util::task::AbortOnDropHandle;
use trellis_artifacts::artifacts::LatticeStore;
use trellis_artifacts::{ArtifactOptions, Artifacts, Kind, Reference, Upload};
use trellis_lattice::client::Events;
use trellis_lattice_tests::deploy::{id, outcome, scale};
use trellis_lattice_tests::ports::free_port;
use trellis_lattice_tests::version::Versions;
use trellis_lattice_tests::{HostId as _, HostProcess, Lattice, eventually, http};
use trellis_protocol::control::{StartProvider, UpdateComponent};
use trellis_protocol::event::EventData;

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
