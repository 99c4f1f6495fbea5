//! Registries that misbehave: each ends in its own error, soon, and leaves nothing behind.

use std::time::{Duration, Instant};

use futures::future::join_all;
use trellis_artifacts::{Artifacts, FetchError, Kind, Progress};
use trellis_test_backends::faulty::{Fault, FaultyRegistry, Image, Silent, Step};

use crate::fixture::{Told, component, component_image, files_below, image, open, reference};

/// As much as some pieces.
const BYTES: usize = 300_000;

/// No fault may hold a fetch longer. All run at once on a small machine.
const SOON: Duration = Duration::from_secs(25);

struct Tried {
    result: Result<Vec<u8>, FetchError>,
    told: Told,
    requests: Vec<String>,
}

/// Fetches once, and sees to it that nothing but whole things are left.
async fn tried(image: Image, fault: Fault) -> Tried {
    let cache = tempfile::tempdir().unwrap();
    let registry = FaultyRegistry::start(image.clone(), fault.clone())
        .await
        .unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let told = Told::default();
    let begin = Instant::now();
    let result = fetch(&artifacts, &registry, &told).await;
    assert!(
        begin.elapsed() < SOON,
        "{fault:?} took {:?}",
        begin.elapsed()
    );
    if let Err(error) = &result {
        // Writing happens a little behind.
        let deadline = Instant::now() + Duration::from_secs(5);
        let has_draft = || !files_below(&cache.path().join("tmp")).is_empty();
        while has_draft() {
            assert!(
                Instant::now() < deadline,
                "{fault:?}: something half is left"
            );
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let kept = files_below(cache.path());
        let manifest = image.manifest.len() as u64;
        assert!(
            kept.values().all(|bytes| *bytes == manifest),
            "{fault:?}: {error}: {kept:?}"
        );
        // The same cache serves the next one.
        let honest = FaultyRegistry::start(image, Fault::None).await.unwrap();
        let artifacts = open(cache.path(), &honest.name());
        let next = fetch(&artifacts, &honest, &Told::default()).await;
        assert!(next.is_ok(), "after {fault:?}: {next:?}");
    }
    Tried {
        result,
        told,
        requests: registry.requests(),
    }
}

async fn fetch(
    artifacts: &Artifacts,
    registry: &FaultyRegistry,
    told: &Told,
) -> Result<Vec<u8>, FetchError> {
    let reference = reference(format!("{}/team/app:1", registry.name()));
    let fetched = artifacts
        .fetch(&reference, Kind::Component, |progress| told.hear(progress))
        .await?;
    Ok(fetched.component().unwrap().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn every_fault_has_its_own_error_and_harms_nothing() {
    let faults = [
        (Fault::Hang(Step::Manifest), "registry-timeout"),
        (Fault::Hang(Step::Content), "registry-timeout"),
        (Fault::Stall(0), "registry-timeout"),
        (Fault::ManifestDigest, "digest-mismatch"),
        (Fault::ContentBytes, "digest-mismatch"),
        (Fault::ContentShort(1), "length-mismatch"),
        (Fault::ContentLong(1), "length-mismatch"),
        (Fault::ContentLong(10_000_000), "length-mismatch"),
        (Fault::ContentShortSilently(1), "length-mismatch"),
        (Fault::CutWithoutRanges(0), "registry-unreachable"),
        (Fault::Endless(Step::Manifest), "registry-misbehaved"),
        (Fault::Endless(Step::Content), "length-mismatch"),
        (Fault::Huge(Step::Manifest), "registry-misbehaved"),
        (Fault::Huge(Step::Content), "length-mismatch"),
        (Fault::EndlessHead, "registry-misbehaved"),
        (Fault::Garbage, "registry-misbehaved"),
        (Fault::Page(Step::Manifest), "registry-misbehaved"),
        (Fault::Page(Step::Content), "length-mismatch"),
        (Fault::RedirectLoop, "registry-misbehaved"),
        (Fault::TokenLoop, "registry-refused"),
        (Fault::PasswordLoop, "registry-refused"),
        (Fault::TokenAnswer("{".to_owned()), "registry-misbehaved"),
        (
            Fault::TokenAnswer(r#"{"token":"a\nb"}"#.to_owned()),
            "registry-misbehaved",
        ),
        (
            Fault::TokenAnswer(r#"{"token":""}"#.to_owned()),
            "registry-misbehaved",
        ),
        (
            Fault::TokenAnswer(" ".repeat(100_000)),
            "registry-misbehaved",
        ),
        (Fault::Status(Step::Manifest, 404, 99), "artifact-missing"),
        (Fault::Status(Step::Content, 404, 99), "artifact-missing"),
        (Fault::Status(Step::Manifest, 403, 99), "registry-refused"),
        (Fault::Status(Step::Manifest, 429, 99), "registry-failing"),
        (Fault::Status(Step::Manifest, 503, 99), "registry-failing"),
        (Fault::Status(Step::Content, 500, 99), "registry-failing"),
        (
            Fault::Status(Step::Manifest, 304, 99),
            "registry-misbehaved",
        ),
    ];
    let all = faults.map(|(fault, code)| async move {
        let tried = tried(component_image(BYTES), fault.clone()).await;
        match tried.result {
            Ok(_) => Some(format!("{fault:?}: it was fetched")),
            Err(error) if error.code() != code => {
                Some(format!("{fault:?}: {}: {error}", error.code()))
            }
            Err(_) => None,
        }
    });
    let wrong: Vec<_> = join_all(all).await.into_iter().flatten().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[tokio::test]
async fn a_registry_that_hangs_before_it_speaks_is_given_up() {
    let cache = tempfile::tempdir().unwrap();
    let silent = Silent::start().await.unwrap();
    let artifacts = open(cache.path(), &silent.address().to_string());
    let reference = reference(format!("{}/a:1", silent.address()));
    let told = Told::default();
    let error = artifacts
        .fetch(&reference, Kind::Component, |progress| told.hear(progress))
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry-timeout");
    assert_eq!(told.retries(), 4);
    // With TLS it is the connection that does not come about.
    let over_tls = open(cache.path(), "other");
    let error = over_tls.fetch(&reference, Kind::Component, |_| {}).await;
    assert_eq!(error.unwrap_err().code(), "registry-timeout");
}

#[tokio::test]
async fn a_registry_that_is_not_there_is_unreachable() {
    let cache = tempfile::tempdir().unwrap();
    let port = trellis_test_backends::process::free_port().unwrap();
    let name = format!("127.0.0.1:{port}");
    let artifacts = open(cache.path(), &name);
    let reference = reference(format!("{name}/a:1"));
    let error = artifacts
        .fetch(&reference, Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), "registry-unreachable");
    assert!(error.to_string().contains(&name), "{error}");
}

#[tokio::test]
async fn a_fetch_that_is_cut_off_goes_on_where_it_was() {
    let tried = tried(component_image(BYTES), Fault::Cut(70_000)).await;
    assert_eq!(tried.result.unwrap(), component(BYTES));
    let ranges: Vec<_> = tried
        .requests
        .iter()
        .filter_map(|request| Some(request.split_once("range=bytes=")?.1.to_owned()))
        .collect();
    assert_eq!(ranges, ["70000-", "140000-", "210000-", "280000-"]);
    let received: Vec<_> = tried
        .told
        .all()
        .into_iter()
        .filter_map(|progress| match progress {
            Progress::Fetching {
                received_bytes,
                total_bytes,
            } => {
                assert_eq!(total_bytes, Some(component(BYTES).len() as u64));
                Some(received_bytes)
            }
            _ => None,
        })
        .collect();
    assert!(received.is_sorted(), "{received:?}");
    assert_eq!(tried.told.retries(), 4);
    assert_eq!(tried.told.all().last(), Some(&Progress::Cached));
}

#[tokio::test]
async fn a_registry_that_stalls_again_and_again_is_taken_at_what_it_sends() {
    let tried = tried(component_image(BYTES), Fault::Stall(100_000)).await;
    assert_eq!(tried.result.unwrap(), component(BYTES));
    assert_eq!(tried.told.retries(), 3);
}

#[tokio::test]
async fn a_registry_without_ranges_that_cuts_is_given_up_with_nothing_left() {
    let tried = tried(component_image(BYTES), Fault::CutWithoutRanges(70_000)).await;
    assert_eq!(tried.result.unwrap_err().code(), "registry-unreachable");
}

#[tokio::test]
async fn a_registry_that_fails_twice_is_asked_a_third_time() {
    for step in [Step::Manifest, Step::Content] {
        for status in [503, 429] {
            let tried = tried(component_image(10), Fault::Status(step, status, 2)).await;
            assert_eq!(tried.result.unwrap(), component(10));
            assert_eq!(tried.told.retries(), 2);
        }
    }
}

#[tokio::test]
async fn a_token_is_fetched_once_and_used_for_everything() {
    let tried = tried(component_image(10), Fault::TokenAnswer(String::new())).await;
    assert_eq!(tried.result.unwrap(), component(10));
    let tokens: Vec<_> = tried
        .requests
        .iter()
        .filter(|request| request.contains("/token"))
        .collect();
    assert_eq!(
        tokens,
        ["GET /token?service=tests&scope=repository%3Ateam%2Fapp%3Apull"]
    );
}

#[tokio::test]
async fn content_may_lie_elsewhere_and_no_credentials_go_there() {
    let image = component_image(10);
    let storage = FaultyRegistry::start(image.clone(), Fault::None)
        .await
        .unwrap();
    let there = format!("http://{}/v2/x/blobs/y", storage.name());
    let cache = tempfile::tempdir().unwrap();
    let registry = FaultyRegistry::start(image, Fault::Redirect(there))
        .await
        .unwrap();
    let artifacts = open(cache.path(), &registry.name());
    let credentials = serde_json::json!({ registry.name(): {"token": "secret"} });
    artifacts.set_registries(&serde_json::from_value(credentials).unwrap());
    fetch(&artifacts, &registry, &Told::default())
        .await
        .unwrap();
    assert_eq!(storage.requests(), ["GET /v2/x/blobs/y"]);
}

#[tokio::test]
async fn what_a_manifest_says_is_judged_before_anything_is_fetched() {
    let too_large = {
        let mut image = component_image(10);
        let text = String::from_utf8(image.manifest).unwrap();
        let length = component(10).len();
        let text = text.replace(&format!("\"size\":{length}"), "\"size\":2147483648");
        image.manifest_digest = trellis_artifacts::Digest::of(text.as_bytes()).to_string();
        image.manifest = text.into_bytes();
        image
    };
    for (image, code) in [
        (too_large, "artifact-too-large"),
        (image(b"x".to_vec(), "text/plain"), "media-type-unsupported"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let registry = FaultyRegistry::start(image, Fault::None).await.unwrap();
        let artifacts = open(cache.path(), &registry.name());
        let error = fetch(&artifacts, &registry, &Told::default())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        assert_eq!(registry.requests().len(), 1);
    }
}

#[tokio::test]
async fn content_that_is_no_component_is_not_kept() {
    for (content, code) in [
        (b"".to_vec(), "artifact-empty"),
        (b"\0asm\x01\0\0\0".to_vec(), "not-a-component"),
        (component(100)[..50].to_vec(), "artifact-truncated"),
        (b"<html>".to_vec(), "not-a-component"),
    ] {
        let cache = tempfile::tempdir().unwrap();
        let image = image(content, "application/wasm");
        let manifest = image.manifest.len() as u64;
        let registry = FaultyRegistry::start(image, Fault::None).await.unwrap();
        let artifacts = open(cache.path(), &registry.name());
        let error = fetch(&artifacts, &registry, &Told::default())
            .await
            .unwrap_err();
        assert_eq!(error.code(), code, "{error}");
        let kept: Vec<_> = files_below(cache.path()).into_values().collect();
        assert_eq!(kept, [manifest]);
    }
}

#[tokio::test]
async fn a_fetch_that_is_given_up_leaves_nothing() {
    let cache = tempfile::tempdir().unwrap();
    let image = component_image(BYTES);
    let registry = FaultyRegistry::start(image, Fault::Stall(100_000))
        .await
        .unwrap();
    let mut options = crate::fixture::options(cache.path());
    options.insecure_registries.push(registry.name());
    options.timeouts.stall = Duration::from_secs(60);
    let artifacts = Artifacts::open(options, None).unwrap();
    let told = Told::default();
    let fetching = fetch(&artifacts, &registry, &told);
    let given_up = tokio::time::timeout(Duration::from_secs(1), fetching).await;
    assert!(given_up.is_err());
    let deadline = Instant::now() + Duration::from_secs(5);
    while !files_below(&cache.path().join("tmp")).is_empty() {
        assert!(Instant::now() < deadline, "a draft is left");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
