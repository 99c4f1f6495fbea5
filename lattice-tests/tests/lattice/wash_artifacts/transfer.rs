//! Artifacts on their way: into the lattice's own store and registries, and out of them again.

use serde_json::json;
use trellis_lattice_tests::Lattice;
use trellis_lattice_tests::actor::Signature;
use trellis_test_backends::registry::{PASSWORD, Registry, RegistryOptions, USER};

use super::{transcript, with_hello};
use crate::terminal::Terminal;

#[tokio::test(flavor = "multi_thread")]
async fn the_lattices_own_store_takes_and_gives_artifacts() {
    let lattice = Lattice::start().await;
    let terminal = Terminal::of(&lattice);
    terminal.write(
        "hello.wasm",
        Signature::of("hello", lattice.account()).component(),
    );
    let pushed = transcript(
        &terminal,
        &[
            "push",
            "lattice://demo/hello:1.0",
            "hello.wasm",
            "--annotation",
            "by=ada",
        ],
    )
    .await;
    assert_eq!(
        pushed,
        "\
Pushed  lattice://demo/hello:1.0
Kind    component
Size    <size>
Digest  sha256:…
Pinned  lattice://demo/hello:1.0@sha256:…
exit 0
"
    );
    let pulled = terminal
        .json(&[
            "pull",
            "lattice://demo/hello:1.0",
            "--destination",
            "again.wasm",
        ])
        .await;
    assert_eq!(pulled["kind"], "component");
    assert_eq!(pulled["annotations"], json!({"by": "ada"}));
    let read = |name: &str| std::fs::read(terminal.path(name)).expect("it is there");
    assert_eq!(read("hello.wasm"), read("again.wasm"));
    let digest = pulled["digest"].as_str().expect("a digest").to_owned();

    let here = terminal
        .json(&["pull", "lattice://demo/hello:1.0", "--digest", &digest])
        .await;
    assert!(
        here["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("/hello.wasm")),
        "{here}"
    );
    let other = format!("sha256:{}", "0".repeat(64));
    let refused = terminal
        .wash(&["pull", "lattice://demo/hello:1.0", "--digest", &other])
        .await;
    assert_eq!(refused.code, Some(1), "{refused:?}");
    assert_eq!(refused.stdout, "");
    let missing = terminal.wash(&["pull", "lattice://demo/nothing:1"]).await;
    assert_eq!(missing.code, Some(1), "{missing:?}");
    assert!(missing.stderr.contains("wash push"), "{missing:?}");
    let inspected = terminal
        .json(&["inspect", "lattice://demo/hello:1.0"])
        .await;
    assert_eq!(inspected["claims"]["name"], "hello");
    assert_eq!(inspected["digest"], digest);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_pushed_or_pulled_is_refused_before_anything_is_sent() {
    let terminal = with_hello();
    terminal.write("notes.txt", "no artifact");
    let push = async |arguments: &[&str]| {
        let said = terminal.wash(&[&["push"], arguments].concat()).await;
        assert_eq!(said.stdout, "", "{said:?}");
        (said.code.unwrap_or(-1), said.stderr)
    };
    assert_eq!(push(&["lattice://a:1", "missing.wasm"]).await.0, 5);
    assert_eq!(push(&["lattice://a:1", "notes.txt"]).await.0, 5);
    assert_eq!(push(&["hello", "hello.wasm"]).await.0, 2);
    let (code, words) = push(&["localhost:1/a:1", "hello.wasm", "--user", "ada"]).await;
    assert_eq!(code, 2);
    assert!(words.contains("TRELLIS_OCI_PASSWORD"), "{words}");
    let (code, words) = push(&[
        "localhost:1/a:1",
        "hello.wasm",
        "--insecure-skip-tls-verify",
    ])
    .await;
    assert_eq!(code, 2);
    assert!(words.contains("--ca"), "{words}");
    let latest = terminal.wash(&["pull", "localhost:1/a"]).await;
    assert_eq!(latest.code, Some(2), "{latest:?}");
    assert!(latest.stderr.contains("--allow-latest"), "{latest:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_takes_and_gives_artifacts() {
    let registry = tokio::task::spawn_blocking(Registry::start)
        .await
        .expect("starting does not panic")
        .expect("docker-registry can be had");
    let terminal = with_hello();
    let reference = format!("{}/demo/hello:1.0", registry.name());
    let masks = [(registry.name(), "<registry>".to_owned())];
    let masks: Vec<_> = masks
        .iter()
        .map(|(a, b)| (a.as_str(), b.as_str()))
        .collect();
    let said = terminal
        .wash(&[
            "push",
            &reference,
            "hello.wasm",
            "--insecure",
            "--annotation",
            "by=ada",
        ])
        .await;
    let bytes = std::fs::metadata(terminal.path("hello.wasm"))
        .expect("it is there")
        .len();
    let size = format!("{:.1} KiB", bytes as f64 / 1024.0);
    let size = [(size.as_str(), "<size>")];
    let expected = "\
Pushed  oci://<registry>/demo/hello:1.0
Kind    component
Size    <size>
Digest  sha256:…
Pinned  oci://<registry>/demo/hello:1.0@sha256:…
exit 0
";
    let shown = terminal.masked(&said.transcript(), &[&masks[..], &size[..]].concat());
    assert_eq!(shown, expected);

    let pulled = terminal
        .wash(&[
            "pull",
            &reference,
            "--insecure",
            "--destination",
            "again.wasm",
        ])
        .await;
    let shown = terminal.masked(&pulled.transcript(), &[&masks[..], &size[..]].concat());
    assert_eq!(
        shown,
        "\
File    ~/again.wasm
Kind    component
Size    <size>
Digest  sha256:…
Pinned  oci://<registry>/demo/hello:1.0@sha256:…
exit 0
"
    );
    let read = |name: &str| std::fs::read(terminal.path(name)).expect("it is there");
    assert_eq!(read("hello.wasm"), read("again.wasm"));

    let inspected = terminal.json(&["inspect", &reference, "--insecure"]).await;
    assert_eq!(inspected["verdict"]["holds"], true);
    assert_eq!(inspected["annotations"]["by"], "ada");
    let pinned = inspected["artifact"]
        .as_str()
        .expect("a reference")
        .to_owned();
    // What it is pinned to can be had although nobody answers any more: it is in the cache, checked again.
    drop(registry);
    let kept = terminal.json(&["inspect", &pinned, "--insecure"]).await;
    assert_eq!(kept["digest"], inspected["digest"]);
    let gone = terminal
        .wash(&["pull", &reference, "--insecure", "--no-cache"])
        .await;
    assert_eq!(gone.code, Some(3), "{gone:?}");
    assert_eq!(gone.stdout, "");
    assert!(
        gone.stderr.contains("cannot reach") || gone.stderr.contains("cannot fetch"),
        "{gone:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_wants_a_password_and_a_certificate_gets_both() {
    let registry =
        tokio::task::spawn_blocking(|| RegistryOptions::new().with_password().with_tls().start())
            .await
            .expect("starting does not panic")
            .expect("docker-registry can be had");
    let mut terminal = with_hello();
    terminal.write("provider", "#!/bin/sh\n");
    terminal
        .json(&[
            "par", "create", "--name", "files", "--vendor", "Example", "--binary", "provider",
        ])
        .await;
    let reference = format!("{}/demo/files:1.0", registry.name());
    let ca = registry
        .ca_file()
        .expect("it has certificates")
        .display()
        .to_string();
    let untrusted = terminal.wash(&["push", &reference, "provider.par"]).await;
    assert_eq!(untrusted.stdout, "");
    assert_ne!(untrusted.code, Some(0), "{untrusted:?}");
    let stranger = terminal
        .wash(&["push", &reference, "provider.par", "--ca", &ca])
        .await;
    assert_eq!(stranger.code, Some(1), "{stranger:?}");
    let wrong = terminal
        .wash(&[
            "push",
            &reference,
            "provider.par",
            "--ca",
            &ca,
            "--user",
            USER,
            "--password",
            "guess",
        ])
        .await;
    assert_eq!(wrong.code, Some(1), "{wrong:?}");
    assert!(!wrong.stderr.contains("guess"), "{wrong:?}");

    terminal.set("TRELLIS_OCI_CA", &ca);
    terminal.set("WASH_REG_USER", USER);
    terminal.set("TRELLIS_OCI_PASSWORD", PASSWORD);
    let pushed = terminal
        .wash(&["push", &reference, "provider.par", "--output", "json"])
        .await;
    assert_eq!(pushed.code, Some(0), "{pushed:?}");
    assert_eq!(pushed.json()["kind"], "provider");
    assert_eq!(
        pushed.stderr,
        "note: read WASH_REG_USER; its name is TRELLIS_OCI_USER now\n"
    );
    let pulled = terminal.json(&["pull", &reference, "--no-cache"]).await;
    assert!(
        pulled["path"]
            .as_str()
            .is_some_and(|path| path.ends_with("/files.par")),
        "{pulled}"
    );
    // Credentials of one registry are not shown to another.
    terminal.set("TRELLIS_OCI_REGISTRY", "registry.example");
    let elsewhere = terminal.wash(&["pull", &reference, "--no-cache"]).await;
    assert_eq!(elsewhere.code, Some(1), "{elsewhere:?}");
}
