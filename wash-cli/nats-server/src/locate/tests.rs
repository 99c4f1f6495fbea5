//! The order of the search, with fake servers.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use super::*;

/// A directory with a script that claims to be a `nats-server` of some version.
fn fake_server(directory: &Path, says: &str) -> PathBuf {
    fs::create_dir_all(directory).unwrap();
    let path = directory.join("nats-server");
    fs::write(&path, format!("#!/bin/sh\necho '{says}'\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

fn search_path(directories: &[&Path]) -> OsString {
    env::join_paths(directories).unwrap()
}

fn no_fetch(_: &Path) -> Result<(PathBuf, Version), FetchError> {
    Err(FetchError::Download {
        why: "no network".to_owned(),
    })
}

fn version(major: u32, minor: u32, patch: u32) -> Version {
    Version {
        major,
        minor,
        patch,
    }
}

#[test]
fn an_old_server_on_the_path_is_skipped_for_a_newer_one_behind_it() {
    let root = tempfile::tempdir().unwrap();
    let (old, new) = (root.path().join("old"), root.path().join("new"));
    fake_server(&old, "nats-server: v2.9.10");
    let expected = fake_server(&new, "nats-server: v2.10.0");

    let found = locate_with(None, root.path(), &search_path(&[&old, &new]), no_fetch).unwrap();

    assert_eq!(
        found,
        NatsServer {
            path: expected,
            version: version(2, 10, 0),
            origin: Origin::Path
        }
    );
}

#[test]
fn a_broken_one_and_one_of_another_kind_on_the_path_are_skipped() {
    let root = tempfile::tempdir().unwrap();
    let (broken, other, good) = (
        root.path().join("broken"),
        root.path().join("other"),
        root.path().join("good"),
    );
    fs::write(
        {
            fs::create_dir_all(&broken).unwrap();
            broken.join("nats-server")
        },
        "not executable",
    )
    .unwrap();
    fake_server(&other, "some other program");
    let expected = fake_server(&good, "nats-server: v2.11.4");

    let found = locate_with(
        None,
        root.path(),
        &search_path(&[&broken, &other, &good]),
        no_fetch,
    )
    .unwrap();

    assert_eq!(found.path, expected);
}

#[test]
fn the_cache_goes_before_the_path() {
    let root = tempfile::tempdir().unwrap();
    let on_path = root.path().join("bin");
    fake_server(&on_path, "nats-server: v2.14.0");
    let cached = cached_path(root.path());
    fake_server(cached.parent().unwrap(), "nats-server: v2.15.1");

    let found = locate_with(None, root.path(), &search_path(&[&on_path]), no_fetch).unwrap();

    assert_eq!((found.origin, found.path), (Origin::Cache, cached));
}

#[test]
fn a_broken_cache_is_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let on_path = root.path().join("bin");
    fake_server(&on_path, "nats-server: v2.14.0");
    let cached = cached_path(root.path());
    fs::create_dir_all(cached.parent().unwrap()).unwrap();
    fs::write(&cached, "half a download").unwrap();

    let found = locate_with(None, root.path(), &search_path(&[&on_path]), no_fetch).unwrap();

    assert_eq!(found.origin, Origin::Path);
}

#[test]
fn an_explicit_one_goes_before_everything() {
    let root = tempfile::tempdir().unwrap();
    let named = fake_server(&root.path().join("named"), "nats-server: v2.10.3");
    let cached = cached_path(root.path());
    fake_server(cached.parent().unwrap(), "nats-server: v2.15.1");

    let found = locate_with(Some(&named), root.path(), OsStr::new(""), no_fetch).unwrap();

    assert_eq!((found.origin, found.path), (Origin::Explicit, named));
}

#[test]
fn an_explicit_old_one_is_an_error_that_names_both_versions() {
    let root = tempfile::tempdir().unwrap();
    let named = fake_server(root.path(), "nats-server: v2.9.10");

    let error = locate_with(Some(&named), root.path(), OsStr::new(""), no_fetch).unwrap_err();

    let text = error.to_string();
    assert!(
        text.contains("2.9.10") && text.contains("2.10.0 or newer"),
        "{text}"
    );
}

#[test]
fn an_explicit_one_that_is_missing_is_an_error_even_if_others_are_there() {
    let root = tempfile::tempdir().unwrap();
    let on_path = root.path().join("bin");
    fake_server(&on_path, "nats-server: v2.14.0");

    let error = locate_with(
        Some(&root.path().join("missing")),
        root.path(),
        &search_path(&[&on_path]),
        no_fetch,
    )
    .unwrap_err();

    assert!(matches!(error, LocateError::Explicit(_)), "{error}");
}

#[test]
fn with_nothing_at_all_the_error_says_what_to_install_and_what_was_passed_over() {
    let root = tempfile::tempdir().unwrap();
    let old = root.path().join("old");
    fake_server(&old, "nats-server: v2.9.10");

    let error = locate_with(None, root.path(), &search_path(&[&old]), no_fetch).unwrap_err();

    let text = error.to_string();
    assert!(
        text.contains("install nats-server 2.10.0 or newer"),
        "{text}"
    );
    assert!(text.contains("is 2.9.10"), "{text}");
}

#[test]
fn a_relative_directory_of_the_path_is_not_searched() {
    assert_eq!(candidates(OsStr::new(".:bin:")).count(), 0);
}
