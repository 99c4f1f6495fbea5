//! The lattice's own store.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use async_nats::jetstream;
use bytes::Bytes;
use tokio::io::AsyncReadExt as _;
use trellis_artifacts::{
    ArtifactOptions, Artifacts, Kind, LatticeReference, LatticeStore, Progress, Pushed, Reference,
    Upload, media_type,
};
use trellis_nats_server::{Launch, Running, cache_dir, explicit_path, locate};

use crate::fixture::{Provider, Told, component, files_below, options, reference};

const LATTICE: &str = "testing";

struct Lattice {
    server: Running,
    context: jetstream::Context,
    _dir: tempfile::TempDir,
}

impl Lattice {
    async fn start() -> Self {
        Self::start_with("").await
    }

    async fn start_with(config: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let server = tokio::task::block_in_place(|| {
            let found = locate(explicit_path().as_deref(), &cache_dir().unwrap()).unwrap();
            Launch::new(&found.path, dir.path())
                .extra_config(config)
                .start()
                .unwrap()
        });
        let client = async_nats::connect(server.url()).await.unwrap();
        let mut context = jetstream::new(client);
        context.set_timeout(Duration::from_millis(500));
        Self {
            server,
            context,
            _dir: dir,
        }
    }

    fn store(&self) -> Option<LatticeStore> {
        Some(LatticeStore {
            context: self.context.clone(),
            lattice: LATTICE.to_owned(),
        })
    }

    fn artifacts(&self, cache: &Path) -> Artifacts {
        Artifacts::open(options(cache), self.store()).unwrap()
    }

    /// Messages in the bucket.
    async fn messages(&self) -> u64 {
        let stream = self
            .context
            .get_stream(format!("OBJ_ARTIFACTS_{LATTICE}"))
            .await;
        stream.unwrap().cached_info().state.messages
    }
}

fn lattice(text: &str) -> LatticeReference {
    match reference(text) {
        Reference::Lattice(lattice) => lattice,
        other => panic!("{other}"),
    }
}

async fn push(artifacts: &Artifacts, to: &str, content: &[u8]) -> Pushed {
    let content = Bytes::copy_from_slice(content);
    let annotations = BTreeMap::from([("note".to_owned(), "hello".to_owned())]);
    artifacts
        .push(
            &reference(to),
            Kind::Component,
            Upload::Bytes(&content),
            annotations,
            |_| {},
        )
        .await
        .unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_one_machine_pushes_another_fetches() {
    let nats = Lattice::start().await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = component(1_000_000);
    let pushed = push(
        &nats.artifacts(one.path()),
        "lattice://team/shop:1",
        &content,
    )
    .await;
    let host = nats.artifacts(other.path());
    let told = Told::default();
    let hear = |progress| told.hear(progress);
    let wanted = reference("lattice://team/shop:1");
    let artifact = host.fetch(&wanted, Kind::Component, hear).await.unwrap();
    assert_eq!(artifact.component().unwrap(), &content);
    assert_eq!(artifact.resolved, pushed.resolved);
    assert_eq!(artifact.media_type, media_type::WASM);
    assert_eq!(told.retries(), 0);
    let total_bytes = Some(content.len() as u64);
    let received_bytes = content.len() as u64;
    assert!(told.all().contains(&Progress::Fetching {
        received_bytes,
        total_bytes
    }));
    // Again, from the cache.
    let told = Told::default();
    let hear = |progress| told.hear(progress);
    host.fetch(&pushed.resolved, Kind::Component, hear)
        .await
        .unwrap();
    // Even without a lattice.
    let alone = Artifacts::open(options(other.path()), None).unwrap();
    let cached = alone.fetch(&pushed.resolved, Kind::Component, |_| {}).await;
    assert_eq!(cached.unwrap().component().unwrap(), &content);
    assert!(
        !told
            .all()
            .iter()
            .any(|p| matches!(p, Progress::Fetching { .. }))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn it_is_an_object_store_that_other_clients_read() {
    let nats = Lattice::start().await;
    let cache = tempfile::tempdir().unwrap();
    let content = component(300_000);
    push(&nats.artifacts(cache.path()), "lattice://shop", &content).await;
    let bucket = nats
        .context
        .get_object_store("ARTIFACTS_testing")
        .await
        .unwrap();
    let mut object = bucket.get("shop/latest").await.unwrap();
    let mut read = Vec::new();
    object.read_to_end(&mut read).await.unwrap();
    assert_eq!(read, content);
    assert_eq!(object.info.metadata["annotation:note"], "hello");
}

#[tokio::test(flavor = "multi_thread")]
async fn artifacts_are_listed_replaced_and_removed_and_no_chunk_is_left() {
    let nats = Lattice::start().await;
    let cache = tempfile::tempdir().unwrap();
    let artifacts = nats.artifacts(cache.path());
    assert_eq!(artifacts.list().await.unwrap(), []);
    let first = push(&artifacts, "lattice://shop:1", &component(300_000)).await;
    push(&artifacts, "lattice://other", &component(10)).await;
    let before = nats.messages().await;
    let second = push(&artifacts, "lattice://shop:1", &component(300_001)).await;
    assert_eq!(nats.messages().await, before);

    let names: Vec<_> = artifacts
        .list()
        .await
        .unwrap()
        .into_iter()
        .map(|stored| (stored.reference.to_string(), stored.digest, stored.bytes))
        .collect();
    assert_eq!(names.len(), 2);
    assert_eq!(names[0].0, "lattice://other:latest");
    assert_eq!(
        names[1],
        ("lattice://shop:1".to_owned(), second.digest, second.bytes)
    );

    let error = artifacts
        .fetch(&first.resolved, Kind::Component, |_| {})
        .await;
    assert_eq!(error.unwrap_err().code(), "digest-mismatch");
    let Reference::Lattice(pinned) = &first.resolved else {
        panic!("{}", first.resolved);
    };
    assert_eq!(
        artifacts.remove(pinned).await.unwrap_err().code(),
        "digest-mismatch"
    );
    artifacts
        .remove(&lattice("lattice://shop:1"))
        .await
        .unwrap();
    artifacts.remove(&lattice("lattice://other")).await.unwrap();
    assert_eq!(artifacts.list().await.unwrap(), []);
    // The two that say they are deleted.
    assert_eq!(nats.messages().await, 2);
    let error = artifacts
        .remove(&lattice("lattice://other"))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "artifact-missing");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_not_of_the_kind_or_too_large_is_refused() {
    let nats = Lattice::start().await;
    let cache = tempfile::tempdir().unwrap();
    let artifacts = nats.artifacts(cache.path());
    let wanted = reference("lattice://shop:1");
    let missing = artifacts
        .fetch(&wanted, Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(missing.code(), "artifact-missing");
    assert!(missing.to_string().contains("wash push"), "{missing}");
    push(&artifacts, "lattice://shop:1", &component(1000)).await;
    let other = artifacts
        .fetch(&reference("lattice://shop:2"), Kind::Component, |_| {})
        .await;
    assert_eq!(other.unwrap_err().code(), "artifact-missing");
    let provider = artifacts
        .fetch(&wanted, Kind::Provider, |_| {})
        .await
        .unwrap_err();
    assert_eq!(provider.code(), "media-type-unsupported", "{provider}");
    let small = ArtifactOptions {
        component_bytes_max: 999,
        ..options(cache.path())
    };
    let small = Artifacts::open(small, nats.store()).unwrap();
    let large = small
        .fetch(&wanted, Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(large.code(), "artifact-too-large");
    let nowhere = Artifacts::open(options(cache.path()), None).unwrap();
    let error = nowhere
        .fetch(&wanted, Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store-unavailable");
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_that_lie_or_are_not_ours_are_refused_and_leave_nothing() {
    let nats = Lattice::start().await;
    let cache = tempfile::tempdir().unwrap();
    let artifacts = nats.artifacts(cache.path());
    push(&artifacts, "lattice://shop:1", &component(1000)).await;
    let bucket = nats
        .context
        .get_object_store("ARTIFACTS_testing")
        .await
        .unwrap();
    let put = async |digest: &str, content: &[u8]| {
        let metadata = jetstream::object_store::ObjectMetadata {
            name: "shop/1".to_owned(),
            metadata: [
                ("trellis-digest".to_owned(), digest.to_owned()),
                ("trellis-media-type".to_owned(), media_type::WASM.to_owned()),
            ]
            .into(),
            ..Default::default()
        };
        bucket.put(metadata, &mut &content[..]).await.unwrap();
    };
    let fetch = async || {
        let wanted = reference("lattice://shop:1");
        let fetched = artifacts.fetch(&wanted, Kind::Component, |_| {}).await;
        fetched.unwrap_err()
    };
    let other = format!("sha256:{}", "0".repeat(64));
    put(&other, &component(10)).await;
    assert_eq!(fetch().await.code(), "digest-mismatch");
    put("none", &component(10)).await;
    assert_eq!(fetch().await.code(), "store-malformed");
    let digest = trellis_artifacts::Digest::of(b"no component");
    put(&digest.to_string(), b"no component").await;
    assert_eq!(fetch().await.code(), "not-a-component");
    assert!(files_below(cache.path()).is_empty());
    assert_eq!(artifacts.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_nats_it_is_unavailable_soon_and_works_again_afterwards() {
    let nats = Lattice::start().await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = component(3_000_000);
    push(&nats.artifacts(one.path()), "lattice://shop:1", &content).await;
    let artifacts = nats.artifacts(other.path());
    let wanted = reference("lattice://shop:1");
    let pid = rustix::process::Pid::from_raw(nats.server.pid().try_into().unwrap()).unwrap();
    let signal = |signal| rustix::process::kill_process(pid, signal).unwrap();
    signal(rustix::process::Signal::STOP);
    let begin = std::time::Instant::now();
    let error = artifacts
        .fetch(&wanted, Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store-unavailable");
    assert!(begin.elapsed() < Duration::from_secs(20));
    signal(rustix::process::Signal::CONT);
    // Stopped again in the middle, and going on at the first retry.
    let told = Told::default();
    let stopped = std::sync::atomic::AtomicBool::new(false);
    let hear = |progress: Progress| {
        match progress {
            Progress::Fetching { received_bytes, .. }
                if received_bytes > 0
                    && !stopped.swap(true, std::sync::atomic::Ordering::Relaxed) =>
            {
                signal(rustix::process::Signal::STOP);
            }
            Progress::Retrying { .. } => signal(rustix::process::Signal::CONT),
            _ => {}
        }
        told.hear(progress);
    };
    let artifact = artifacts.fetch(&wanted, Kind::Component, hear).await;
    signal(rustix::process::Signal::CONT);
    assert_eq!(artifact.unwrap().component().unwrap(), &content);
    assert!(files_below(&other.path().join("tmp")).is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_store_takes_nothing_half() {
    let nats = Lattice::start().await;
    let config = jetstream::object_store::Config {
        bucket: "ARTIFACTS_testing".to_owned(),
        max_bytes: 1_000_000,
        num_replicas: 1,
        ..Default::default()
    };
    nats.context.create_object_store(config).await.unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = nats.artifacts(cache.path());
    let content = Bytes::from(component(2_000_000));
    let wanted = reference("lattice://shop:1");
    let error = artifacts
        .push(
            &wanted,
            Kind::Component,
            Upload::Bytes(&content),
            BTreeMap::new(),
            |_| {},
        )
        .await
        .unwrap_err();
    assert_eq!(error.code(), "store-full", "{error}");
    assert_eq!(artifacts.list().await.unwrap(), []);
    // What had come is cleared away, and there is room for something smaller.
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while nats.messages().await > 0 {
        assert!(
            std::time::Instant::now() < deadline,
            "chunks are left: {}",
            nats.messages().await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    push(&artifacts, "lattice://shop:1", &component(500_000)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_push_that_is_given_up_leaves_no_chunks() {
    let nats = Lattice::start().await;
    let cache = tempfile::tempdir().unwrap();
    let artifacts = nats.artifacts(cache.path());
    push(&artifacts, "lattice://other", &component(10)).await;
    let before = nats.messages().await;
    let content = Bytes::from(component(30_000_000));
    let (begun, has_begun) = tokio::sync::oneshot::channel();
    let begun = std::sync::Mutex::new(Some(begun));
    let wanted = reference("lattice://shop:1");
    let pushing = artifacts.push(
        &wanted,
        Kind::Component,
        Upload::Bytes(&content),
        BTreeMap::new(),
        |_| {
            if let Some(begun) = begun.lock().unwrap().take() {
                let _ = begun.send(());
            }
        },
    );
    tokio::select! {
        _ = pushing => panic!("it was too quick"),
        _ = has_begun => {}
    }
    let deadline = std::time::Instant::now() + Duration::from_secs(10);
    while nats.messages().await > before {
        assert!(
            std::time::Instant::now() < deadline,
            "chunks are left: {}",
            nats.messages().await
        );
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(artifacts.list().await.unwrap().len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_with_small_messages_takes_large_artifacts() {
    let nats = Lattice::start_with("max_payload: 8192").await;
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let provider = Provider::new();
    let archive = Bytes::from(provider.archive.clone());
    let wanted = reference("lattice://providers/testing:1");
    nats.artifacts(one.path())
        .push(
            &wanted,
            Kind::Provider,
            Upload::Bytes(&archive),
            BTreeMap::new(),
            |_| {},
        )
        .await
        .unwrap();
    let trusting = ArtifactOptions {
        trust: provider.trust(),
        ..options(other.path())
    };
    let host = Artifacts::open(trusting, nats.store()).unwrap();
    let artifact = host.fetch(&wanted, Kind::Provider, |_| {}).await.unwrap();
    let program = &artifact.program().unwrap().path;
    assert_eq!(std::fs::read(program).unwrap(), provider.program);
}
