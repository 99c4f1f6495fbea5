//! A real registry: pushed there, fetched from there.

use std::collections::BTreeMap;
use std::path::Path;

use bytes::Bytes;
use futures::future::join_all;
use trellis_artifacts::{
    ArtifactOptions, Artifacts, Digest, Kind, Progress, PushError, Pushed, Upload,
};
use trellis_protocol::control::RegistryCredentials;
use trellis_test_backends::registry::{PASSWORD, USER};
use trellis_test_backends::{Registry, RegistryOptions};

use crate::fixture::{Told, component, files_below, open, options, reference};

async fn push(artifacts: &Artifacts, to: &str, content: &[u8]) -> Result<Pushed, PushError> {
    let content = Bytes::copy_from_slice(content);
    let annotations = BTreeMap::from([("org.example.note".to_owned(), "hello".to_owned())]);
    artifacts
        .push(
            &reference(to),
            Kind::Component,
            Upload::Bytes(&content),
            annotations,
            |_| {},
        )
        .await
}

fn credentials(registry: &str, password: &str) -> RegistryCredentials {
    let json = serde_json::json!({ registry: {"username": USER, "password": password} });
    serde_json::from_value(json).unwrap()
}

#[tokio::test]
async fn what_is_pushed_is_fetched_by_tag_and_by_digest() {
    let registry = Registry::start().unwrap();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let publisher = open(one.path(), &registry.name());
    let content = component(500_000);
    let name = format!("{}/team/app:1.0", registry.name());
    let pushed = push(&publisher, &name, &content).await.unwrap();
    assert_eq!(pushed.digest, Digest::of(&content));
    assert_eq!(pushed.bytes, content.len() as u64);

    let host = open(other.path(), &registry.name());
    let told = Told::default();
    for wanted in [
        reference(&name),
        reference(format!("oci://{name}")),
        pushed.resolved.clone(),
    ] {
        let hear = |progress| told.hear(progress);
        let artifact = host.fetch(&wanted, Kind::Component, hear).await.unwrap();
        assert_eq!(artifact.component().unwrap(), &content);
        assert_eq!(artifact.resolved, pushed.resolved);
        assert_eq!(artifact.digest, pushed.digest);
        assert_eq!(artifact.media_type, "application/wasm");
    }
    let all = told.all();
    assert_eq!(all.first(), Some(&Progress::Resolving));
    let total_bytes = Some(content.len() as u64);
    let whole = Progress::Fetching {
        received_bytes: content.len() as u64,
        total_bytes,
    };
    assert_eq!(all.iter().filter(|progress| **progress == whole).count(), 1);

    let download = host.download(&reference(&name), |_| {}).await.unwrap();
    assert_eq!(download.kind, Some(Kind::Component));
    assert_eq!(download.annotations["org.example.note"], "hello");
    assert_eq!(std::fs::read(&download.path).unwrap(), content);
}

#[tokio::test]
async fn a_pinned_artifact_that_is_cached_needs_no_registry_and_a_tag_does() {
    let mut registry = Registry::start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let name = format!("{}/app:1", registry.name());
    let pushed = push(&artifacts, &name, &component(10)).await.unwrap();
    let fetch = async |wanted| {
        let again = open(cache.path(), &registry.name());
        again.fetch(wanted, Kind::Component, |_| {}).await
    };
    fetch(&reference(&name)).await.unwrap();
    registry.kill();
    let again = open(cache.path(), "none");
    let cached = again.fetch(&pushed.resolved, Kind::Component, |_| {}).await;
    assert_eq!(cached.unwrap().component().unwrap(), &component(10));
    let error = artifacts
        .fetch(&reference(&name), Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry-unreachable");
}

#[tokio::test]
async fn a_tag_that_moves_is_noticed() {
    let registry = Registry::start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let name = format!("{}/app:1", registry.name());
    for bytes in [10, 20] {
        push(&artifacts, &name, &component(bytes)).await.unwrap();
        let fetched = artifacts
            .fetch(&reference(&name), Kind::Component, |_| {})
            .await;
        assert_eq!(fetched.unwrap().component().unwrap(), &component(bytes));
    }
}

#[tokio::test]
async fn the_latest_is_fetched_only_where_that_is_allowed() {
    let registry = Registry::start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let pushed = push(
        &artifacts,
        &format!("{}/app", registry.name()),
        &component(10),
    )
    .await;
    let pinned = pushed.unwrap().resolved;
    let allowed = ArtifactOptions {
        allow_latest: true,
        insecure_registries: vec![registry.name()],
        ..options(cache.path())
    };
    let allowed = Artifacts::open(allowed, None).unwrap();
    for name in [
        format!("{}/app", registry.name()),
        format!("{}/app:latest", registry.name()),
    ] {
        let error = artifacts
            .fetch(&reference(&name), Kind::Component, |_| {})
            .await;
        let error = error.unwrap_err();
        assert_eq!(error.code(), "latest-not-allowed");
        assert!(error.to_string().contains("--allow-latest"), "{error}");
        allowed
            .fetch(&reference(&name), Kind::Component, |_| {})
            .await
            .unwrap();
    }
    artifacts
        .fetch(&pinned, Kind::Component, |_| {})
        .await
        .unwrap();
}

#[tokio::test]
async fn a_password_is_needed_where_one_is_set_and_is_never_told() {
    let registry = RegistryOptions::new().with_password().start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let name = format!("{}/app:1", registry.name());
    let anonymous = push(&artifacts, &name, &component(10)).await.unwrap_err();
    assert_eq!(anonymous.code(), "registry-refused");
    assert!(
        anonymous.to_string().contains("registry.put"),
        "{anonymous}"
    );

    artifacts.set_registries(&credentials(&registry.name(), "wrong-password"));
    let wrong = push(&artifacts, &name, &component(10)).await.unwrap_err();
    assert_eq!(wrong.code(), "registry-refused");
    let shown = format!("{wrong} {wrong:?} {artifacts:?}");
    assert!(!shown.contains("wrong-password"), "{shown}");

    artifacts.set_registries(&credentials("other.example", "x"));
    artifacts.set_registries(&credentials(&registry.name(), PASSWORD));
    push(&artifacts, &name, &component(10)).await.unwrap();
    let fetched = artifacts
        .fetch(&reference(&name), Kind::Component, |_| {})
        .await;
    assert_eq!(fetched.unwrap().component().unwrap(), &component(10));
}

#[tokio::test]
async fn a_private_authority_is_believed_only_where_it_is_named() {
    let registry = RegistryOptions::new().with_tls().start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let name = format!("{}/app:1", registry.name());
    let stranger = Artifacts::open(options(cache.path()), None).unwrap();
    let error = push(&stranger, &name, &component(10)).await.unwrap_err();
    assert_eq!(error.code(), "registry-untrusted", "{error} {error:?}");
    assert!(error.to_string().contains("--oci-ca"), "{error}");

    let believing = ArtifactOptions {
        ca_files: vec![registry.ca_file().unwrap().to_owned()],
        ..options(cache.path())
    };
    let believing = Artifacts::open(believing, None).unwrap();
    push(&believing, &name, &component(10)).await.unwrap();
    believing
        .fetch(&reference(&name), Kind::Component, |_| {})
        .await
        .unwrap();

    // Plain text to a registry that speaks TLS, and TLS to one that speaks plain text.
    let insecure = open(cache.path(), &registry.name());
    let error = push(&insecure, &name, &component(10)).await.unwrap_err();
    assert_eq!(error.code(), "registry-refused", "{error}");
    let plain = Registry::start().unwrap();
    let error = push(
        &believing,
        &format!("{}/app:1", plain.name()),
        &component(10),
    )
    .await;
    let error = error.unwrap_err();
    assert_eq!(error.code(), "registry-untrusted", "{error} {error:?}");
    assert!(error.to_string().contains("--insecure-registry"), "{error}");
}

#[test]
fn a_file_of_certificates_that_holds_none_is_refused_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let refused = |path: &Path| {
        let options = ArtifactOptions {
            ca_files: vec![path.to_owned()],
            ..options(dir.path())
        };
        Artifacts::open(options, None).unwrap_err().to_string()
    };
    let path = dir.path().join("ca.pem");
    assert!(refused(&path).contains("ca.pem"));
    std::fs::write(&path, "not one").unwrap();
    assert!(refused(&path).contains("PEM"));
}

#[tokio::test]
async fn what_is_not_there_is_missing() {
    let registry = Registry::start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = open(cache.path(), &registry.name());
    push(
        &artifacts,
        &format!("{}/app:1", registry.name()),
        &component(10),
    )
    .await
    .unwrap();
    for name in [
        "app:2",
        "other:1",
        &format!("app@sha256:{}", "0".repeat(64)),
    ] {
        let wanted = reference(format!("{}/{name}", registry.name()));
        let error = artifacts
            .fetch(&wanted, Kind::Component, |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.code(), "artifact-missing", "{error}");
    }
}

#[tokio::test]
async fn a_blob_that_was_tampered_with_is_refused_and_one_in_the_cache_is_fetched_again() {
    let registry = Registry::start().unwrap();
    let (one, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let content = component(1000);
    let name = format!("{}/app:1", registry.name());
    let artifacts = open(one.path(), &registry.name());
    let pushed = push(&artifacts, &name, &content).await.unwrap();
    artifacts
        .fetch(&reference(&name), Kind::Component, |_| {})
        .await
        .unwrap();
    let cached = one.path().join("blobs").join(pushed.digest.hex());
    std::fs::write(&cached, component(999)).unwrap();
    let fetched = artifacts
        .fetch(&pushed.resolved, Kind::Component, |_| {})
        .await
        .unwrap();
    assert_eq!(fetched.component().unwrap(), &content);

    let mut changed = content.clone();
    changed[500] ^= 1;
    std::fs::write(registry.blob_file(&pushed.digest.to_string()), changed).unwrap();
    let fresh = open(other.path(), &registry.name());
    let error = fresh
        .fetch(&reference(&name), Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), "digest-mismatch", "{error}");
    assert!(
        !other
            .path()
            .join("blobs")
            .join(pushed.digest.hex())
            .exists()
    );
    assert!(files_below(&other.path().join("tmp")).is_empty());
}

#[tokio::test]
async fn many_who_want_the_same_fetch_it_once() {
    let registry = Registry::start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let name = reference(format!("{}/app:1", registry.name()));
    push(&artifacts, &name.to_string(), &component(100_000))
        .await
        .unwrap();
    let told = Told::default();
    let all = (0..20).map(|_| {
        let artifacts = artifacts.clone();
        let (name, told) = (&name, &told);
        async move {
            let hear = |progress| told.hear(progress);
            artifacts.fetch(name, Kind::Component, hear).await.unwrap()
        }
    });
    for artifact in join_all(all).await {
        assert_eq!(
            artifact.component().unwrap().len(),
            component(100_000).len()
        );
    }
    let begun = |progress: &&Progress| {
        matches!(
            progress,
            Progress::Fetching {
                received_bytes: 0,
                ..
            }
        )
    };
    assert_eq!(told.all().iter().filter(begun).count(), 1);
}

#[tokio::test]
async fn a_registry_that_was_stopped_goes_on_within_the_same_fetch() {
    let registry = Registry::start().unwrap();
    let cache = tempfile::tempdir().unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let name = reference(format!("{}/app:1", registry.name()));
    push(&artifacts, &name.to_string(), &component(10))
        .await
        .unwrap();
    registry.stop_process().unwrap();
    let told = Told::default();
    let hear = |progress: Progress| {
        if matches!(progress, Progress::Retrying { .. }) {
            registry.continue_process().unwrap();
        }
        told.hear(progress);
    };
    artifacts.fetch(&name, Kind::Component, hear).await.unwrap();
    assert_eq!(told.retries(), 1);
}
