//! A full disk under the cache.
//!
//! The disk is a small tmpfs in a mount namespace of its own, so the test runs itself again inside one. That takes root, or
//! user namespaces; where there is neither it says so.

use std::path::{Path, PathBuf};
use std::process::Command;

use trellis_artifacts::{ArtifactOptions, Artifacts, Kind};
use trellis_test_backends::faulty::{Fault, FaultyRegistry};

use crate::fixture::{
    Provider, component, component_image, files_below, image, options, reference,
};

/// Where the small disk is mounted, in the inner process.
const DISK_VARIABLE: &str = "TRELLIS_TEST_SMALL_DISK";

/// Runs a test of this file again with a disk of 1 MiB. True if it did.
fn rerun_with_small_disk(test: &str) -> bool {
    if std::env::var_os(DISK_VARIABLE).is_some() {
        return false;
    }
    let disk = tempfile::tempdir().unwrap();
    let unshare = |arguments: &[&str]| {
        let mut command = Command::new("unshare");
        match rustix::process::geteuid().is_root() {
            true => command.arg("--mount"),
            false => command.args(["--mount", "--user", "--map-root-user"]),
        };
        command.args(arguments).env(DISK_VARIABLE, disk.path());
        command.output()
    };
    let mount =
        format!("mount -t tmpfs -o size=1m trellis-test \"${DISK_VARIABLE}\" && exec \"$@\"");
    if !unshare(&["sh", "-c", &mount, "sh", "true"]).is_ok_and(|tried| tried.status.success()) {
        eprintln!("!!! NOT TESTED: {test} needs a mount namespace, and this machine gives none");
        return true;
    }
    let this = std::env::current_exe().unwrap();
    let this = this.to_str().unwrap();
    let inner = unshare(&[
        "sh",
        "-c",
        &mount,
        "sh",
        this,
        "--exact",
        test,
        "--nocapture",
    ]);
    let inner = inner.unwrap();
    let said = String::from_utf8_lossy(&inner.stderr);
    assert!(
        inner.status.success(),
        "{}{said}",
        String::from_utf8_lossy(&inner.stdout)
    );
    true
}

fn disk() -> PathBuf {
    std::env::var_os(DISK_VARIABLE).unwrap().into()
}

fn open(cache: &Path, registry: &FaultyRegistry, provider: &Provider) -> Artifacts {
    let options = ArtifactOptions {
        insecure_registries: vec![registry.name()],
        trust: provider.trust(),
        ..options(cache)
    };
    Artifacts::open(options, None).unwrap()
}

#[test]
fn a_full_disk_is_an_error_and_nothing_half_is_left_on_it() {
    let test = "disk::a_full_disk_is_an_error_and_nothing_half_is_left_on_it";
    if rerun_with_small_disk(test) {
        return;
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let provider = Provider::new();
        let large = FaultyRegistry::start(component_image(2_000_000), Fault::None)
            .await
            .unwrap();
        let small = FaultyRegistry::start(component_image(100_000), Fault::None)
            .await
            .unwrap();
        let cache = disk().join("cache");
        let wanted = |registry: &FaultyRegistry| reference(format!("{}/app:1", registry.name()));

        let artifacts = open(&cache, &large, &provider);
        let error = artifacts
            .fetch(&wanted(&large), Kind::Component, |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.code(), "cache-full", "{error}");
        assert!(error.to_string().contains("--artifact-cache"), "{error}");
        assert!(files_below(&cache.join("tmp")).is_empty());
        let artifacts = open(&cache, &small, &provider);
        let fetched = artifacts
            .fetch(&wanted(&small), Kind::Component, |_| {})
            .await
            .unwrap();
        assert_eq!(fetched.component().unwrap(), &component(100_000));

        // An archive that fits, and whose program does not fit beside it.
        let program = [std::fs::read("/bin/true").unwrap(), vec![0; 600_000]].concat();
        let provider = Provider::of(trellis_claims::Platform::here(), program);
        let archive = image(
            provider.archive.clone(),
            trellis_artifacts::media_type::PROVIDER_ARCHIVE,
        );
        let registry = FaultyRegistry::start(archive, Fault::None).await.unwrap();
        let artifacts = open(&cache, &registry, &provider);
        let error = artifacts
            .fetch(&wanted(&registry), Kind::Provider, |_| {})
            .await
            .unwrap_err();
        assert_eq!(error.code(), "cache-full", "{error}");
        assert!(files_below(&cache.join("tmp")).is_empty());
        assert!(files_below(&cache.join("programs")).is_empty());
        let artifacts = open(&cache, &small, &provider);
        artifacts
            .fetch(&wanted(&small), Kind::Component, |_| {})
            .await
            .unwrap();
    });
}

#[tokio::test]
async fn a_cache_that_may_hold_less_than_an_artifact_says_so() {
    let cache = tempfile::tempdir().unwrap();
    let registry = FaultyRegistry::start(component_image(100_000), Fault::None)
        .await
        .unwrap();
    let options = ArtifactOptions {
        insecure_registries: vec![registry.name()],
        cache_bytes_max: 50_000,
        ..options(cache.path())
    };
    let artifacts = Artifacts::open(options, None).unwrap();
    let wanted = reference(format!("{}/app:1", registry.name()));
    let error = artifacts
        .fetch(&wanted, Kind::Component, |_| {})
        .await
        .unwrap_err();
    assert_eq!(error.code(), "cache-full", "{error}");
    assert_eq!(registry.requests().len(), 1);
}
