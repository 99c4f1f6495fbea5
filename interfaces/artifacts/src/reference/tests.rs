#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use super::*;

const DIGEST: &str = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";

fn written(text: &str) -> String {
    text.parse::<Reference>().unwrap().to_string()
}

#[test]
fn references_are_read_and_written() {
    for (text, same) in [
        ("file:///a/b.wasm", "file:///a/b.wasm"),
        ("oci://ghcr.io/a/b:1.0", "oci://ghcr.io/a/b:1.0"),
        ("ghcr.io/a/b:1.0", "oci://ghcr.io/a/b:1.0"),
        ("ghcr.io/a/b", "oci://ghcr.io/a/b:latest"),
        ("localhost/x", "oci://localhost/x:latest"),
        (
            "localhost:5000/a/b/c:v_1-x.y",
            "oci://localhost:5000/a/b/c:v_1-x.y",
        ),
        ("127.0.0.1:5000/a:1", "oci://127.0.0.1:5000/a:1"),
        ("[::1]:5000/a:1", "oci://[::1]:5000/a:1"),
        ("r:5000/a__b/c-d.e--f:1", "oci://r:5000/a__b/c-d.e--f:1"),
        ("lattice://shop", "lattice://shop:latest"),
        ("lattice://team/shop:2", "lattice://team/shop:2"),
    ] {
        assert_eq!(written(text), same);
        assert_eq!(written(same), same);
    }
    let pinned = format!("ghcr.io/a/b@{DIGEST}");
    assert_eq!(written(&pinned), format!("oci://{pinned}"));
    let both = format!("ghcr.io/a/b:1@{DIGEST}");
    assert_eq!(written(&both), format!("oci://{both}"));
    let lattice = format!("lattice://shop:1@{DIGEST}");
    assert_eq!(written(&lattice), lattice);
}

#[test]
fn what_is_no_reference_is_refused_with_what_would_be_one() {
    for text in [
        "",
        "http-server",
        "library/nginx",
        "file://a",
        "file://",
        "https://ghcr.io/a/b",
        "wasmcloud+builtin://http-server",
        "ghcr.io/",
        "ghcr.io/A",
        "ghcr.io//a",
        "ghcr.io/a/",
        "ghcr.io/a:",
        "ghcr.io/a:.x",
        "ghcr.io/a..b",
        "ghcr.io/a:1:2",
        "ghcr.io:99999/a",
        "ghcr.io/a@sha256:00",
        "ghcr.io/a@b@c",
        "ghcr.io/../b",
        "user@ghcr.io/a",
        "lattice://",
        "lattice://a b",
        "lattice://a:b/c",
        "lattice://../x",
        "[::zz]:1/a",
        "-a.b/c",
    ] {
        let error = text.parse::<Reference>().unwrap_err();
        assert_eq!(error.code(), "reference-unsupported", "{text}");
    }
    let long = format!("ghcr.io/{}", "a".repeat(REFERENCE_BYTES_MAX));
    assert!(matches!(
        long.parse::<Reference>(),
        Err(ReferenceError::TooLong { .. })
    ));
}

#[test]
fn only_what_is_not_pinned_is_the_latest() {
    let is_latest = |text: &str| match text.parse().unwrap() {
        Reference::Oci(oci) => oci.is_latest(),
        _ => false,
    };
    assert!(is_latest("ghcr.io/a"));
    assert!(is_latest("ghcr.io/a:latest"));
    assert!(!is_latest("ghcr.io/a:1"));
    assert!(!is_latest(&format!("ghcr.io/a:latest@{DIGEST}")));
    assert!(!is_latest(&format!("ghcr.io/a@{DIGEST}")));
}

#[test]
fn an_object_of_the_store_has_a_reference() {
    let reference = LatticeReference::of_object("team/shop/1.0").unwrap();
    assert_eq!(reference.to_string(), "lattice://team/shop:1.0");
    assert_eq!(reference.object(), "team/shop/1.0");
    assert_eq!(LatticeReference::of_object("x"), None);
    assert_eq!(LatticeReference::of_object("X/1"), None);
}
