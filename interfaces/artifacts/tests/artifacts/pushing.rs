//! Pushing to registries that misbehave, and pushing nonsense.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::future::join_all;
use trellis_artifacts::{Kind, PushError, Pushed, Upload};
use trellis_test_backends::faulty::{Fault, FaultyRegistry, Image, Step};

use crate::fixture::{component, open, reference};

async fn push(registry: &str, to: &str, content: Vec<u8>) -> Result<Pushed, PushError> {
    let cache = tempfile::tempdir().unwrap();
    let content = Bytes::from(content);
    open(cache.path(), registry)
        .push(
            &reference(to),
            Kind::Component,
            Upload::Bytes(&content),
            BTreeMap::new(),
            |_| {},
        )
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_own_error() {
    let faults = [
        (Fault::None, "ok"),
        (Fault::Hang(Step::Upload), "registry-timeout"),
        (Fault::Hang(Step::Put), "registry-timeout"),
        (Fault::Hang(Step::PutManifest), "registry-timeout"),
        (Fault::Status(Step::Upload, 403, 99), "registry-refused"),
        (Fault::Status(Step::Put, 413, 99), "registry-refused"),
        (Fault::Status(Step::Put, 500, 99), "registry-failing"),
        (Fault::Status(Step::Put, 500, 2), "ok"),
        (
            Fault::Status(Step::PutManifest, 400, 99),
            "registry-refused",
        ),
        (
            Fault::Location("http://[".to_owned()),
            "registry-misbehaved",
        ),
        (
            Fault::Location("ftp://example.org/x".to_owned()),
            "registry-misbehaved",
        ),
        (Fault::Location("/v2/upload/relative".to_owned()), "ok"),
        (Fault::TokenLoop, "registry-refused"),
        (Fault::TokenAnswer(String::new()), "ok"),
        (Fault::Garbage, "registry-misbehaved"),
        (Fault::Endless(Step::Upload), "registry-misbehaved"),
    ];
    let all = faults.map(|(fault, code)| async move {
        let registry = FaultyRegistry::start(Image::default(), fault.clone())
            .await
            .unwrap();
        let begin = Instant::now();
        let name = registry.name();
        let pushed = push(&name, &format!("{name}/app:1"), component(3_000_000)).await;
        assert!(begin.elapsed() < Duration::from_secs(25), "{fault:?}");
        let found = pushed.as_ref().map_or_else(PushError::code, |_| "ok");
        (found != code).then(|| format!("{fault:?}: {pushed:?}"))
    });
    let wrong: Vec<_> = join_all(all).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn what_cannot_be_pushed_is_refused_before_anybody_is_asked() {
    for (to, content, code) in [
        ("file:///tmp/x", component(1), "reference-unsupported"),
        ("r:1/a:1", b"x".to_vec(), "not-a-component"),
        ("r:1/a:1", Vec::new(), "artifact-empty"),
        (
            "r:1/a:1",
            component(100)[..60].to_vec(),
            "artifact-truncated",
        ),
        ("lattice://a:1", component(1), "store-unavailable"),
    ] {
        let error = push("r:1", to, content).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let pinned = format!("r:1/a@sha256:{}", "0".repeat(64));
    let error = push("r:1", &pinned, component(1)).await.unwrap_err();
    assert_eq!(error.code(), "reference-unsupported");
}
