//! `file://`.

use std::path::Path;

use trellis_artifacts::{ArtifactOptions, Artifacts, FetchError, Kind, media_type};
use trellis_claims::Platform;

use crate::fixture::{Provider, component, options, reference};

fn open(cache: &Path) -> Artifacts {
    let options = ArtifactOptions {
        allow_file: true,
        component_bytes_max: 1000,
        ..options(cache)
    };
    Artifacts::open(options, None).unwrap()
}

async fn fetch(artifacts: &Artifacts, path: &Path, kind: Kind) -> Result<(), FetchError> {
    let reference = reference(format!("file://{}", path.display()));
    artifacts.fetch(&reference, kind, |_| {}).await.map(drop)
}

#[tokio::test]
async fn files_are_taken_only_where_they_are_allowed() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("c.wasm");
    std::fs::write(&path, component(10)).unwrap();
    let refused = Artifacts::open(options(dir.path()), None).unwrap();
    let error = fetch(&refused, &path, Kind::Component).await.unwrap_err();
    assert_eq!(error.code(), "files-not-allowed");
    assert!(error.to_string().contains("--allow-file"), "{error}");
    fetch(&open(dir.path()), &path, Kind::Component)
        .await
        .unwrap();
}

#[tokio::test]
async fn a_component_is_told_from_everything_else() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = open(dir.path());
    let path = dir.path().join("c.wasm");
    let whole = component(500);
    for (content, code) in [
        (b"".to_vec(), "artifact-empty"),
        (whole[..3].to_vec(), "artifact-truncated"),
        (whole[..300].to_vec(), "artifact-truncated"),
        (b"\0asm\x01\0\0\0".to_vec(), "not-a-component"),
        (b"not wasm".to_vec(), "not-a-component"),
        (std::fs::read("/bin/true").unwrap(), "artifact-too-large"),
        (component(1000), "artifact-too-large"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = fetch(&artifacts, &path, Kind::Component).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    let file = std::fs::File::create(&path).unwrap();
    file.set_len(2 << 30).unwrap();
    let error = fetch(&artifacts, &path, Kind::Component).await.unwrap_err();
    assert_eq!(error.code(), "artifact-too-large");
    let missing = dir.path().join("missing");
    let error = fetch(&artifacts, &missing, Kind::Component)
        .await
        .unwrap_err();
    assert_eq!(error.code(), "artifact-missing");
}

#[tokio::test]
async fn a_providers_file_is_an_executable_of_this_machine_or_an_archive() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = open(dir.path());
    let path = dir.path().join("provider");
    let mut foreign = std::fs::read("/bin/true").unwrap();
    for (content, code) in [
        (b"".to_vec(), "artifact-empty"),
        (foreign[..foreign.len() / 2].to_vec(), "artifact-truncated"),
        (component(10), "not-a-provider"),
        (b"\x1f\x8b\x08 of wasmCloud".to_vec(), "archive-invalid"),
        // Nobody is trusted here.
        (Provider::new().archive, "archive-untrusted"),
    ] {
        std::fs::write(&path, content).unwrap();
        let error = fetch(&artifacts, &path, Kind::Provider).await.unwrap_err();
        assert_eq!(error.code(), code, "{error}");
    }
    // ELF's number of the machine.
    foreign[18..20].copy_from_slice(&[22, 0]);
    std::fs::write(&path, &foreign).unwrap();
    let error = fetch(&artifacts, &path, Kind::Provider).await.unwrap_err();
    assert_eq!(error.code(), "platform-missing");
    let text = error.to_string();
    assert!(
        text.contains("s390x-linux") && text.contains(&Platform::here().to_string()),
        "{text}"
    );

    let program = reference("file:///bin/true");
    let artifact = artifacts
        .fetch(&program, Kind::Provider, |_| {})
        .await
        .unwrap();
    assert_eq!(artifact.program().unwrap().path, Path::new("/bin/true"));
    assert_eq!(artifact.media_type, media_type::EXECUTABLE);
    assert_eq!(artifact.resolved, program);
}

#[tokio::test]
async fn a_file_can_be_looked_at_by_anybody() {
    let dir = tempfile::tempdir().unwrap();
    let artifacts = Artifacts::open(options(dir.path()), None).unwrap();
    let path = dir.path().join("x");
    for (content, kind) in [
        (component(10), Some(Kind::Component)),
        (Provider::new().archive, Some(Kind::Provider)),
        (b"words".to_vec(), None),
    ] {
        std::fs::write(&path, &content).unwrap();
        let found = reference(format!("file://{}", path.display()));
        let download = artifacts.download(&found, |_| {}).await.unwrap();
        assert_eq!(download.kind, kind);
        assert_eq!(download.bytes, content.len() as u64);
        assert_eq!(download.path, path);
    }
}
