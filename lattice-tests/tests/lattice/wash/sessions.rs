//! Sessions with `wash` against a lattice that is there, word for word.

use trellis_claims::{KeyKind, SigningKey};
use trellis_lattice_tests::Lattice;
use trellis_lattice_tests::actor::Signature;

use super::shell::{Home, Shell, write_program};
use super::transcript::Transcript;

/// Two versions of an actor, which are one identity.
fn two_versions(lattice: &Lattice, actor: &str) -> (String, String) {
    let subject = SigningKey::generate(KeyKind::Module);
    let seed = subject.seed();
    let version = || {
        let subject = SigningKey::from_seed(&seed).expect("a key's own seed is one");
        let signed = Signature::of(actor, lattice.account()).for_subject(subject);
        lattice.file(&signed.component())
    };
    (version(), version())
}

fn session<'a>(name: &'static str, shell: &'a Shell) -> Transcript<'a> {
    Transcript::new(name, &shell.home)
        .with("URL", shell.lattice.url(), "<url>")
        .with("LATTICE", shell.lattice.name(), "<lattice>")
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_from_its_start_to_its_end() {
    let shell = Shell::open().await;
    let (first, second) = two_versions(&shell.lattice, "hello");
    session("actor", &shell)
        .with("FIRST", &first, "<first>")
        .with("SECOND", &second, "<second>")
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_and_its_host_from_start_to_end() {
    let lattice = Lattice::start().await;
    // Processes of their own, since they are to end.
    let _hosts = (
        lattice.host("alpha").spawn().await,
        lattice.host("beta").spawn().await,
    );
    let home = Home::new()
        .with("TRELLIS_NATS_URL", lattice.url())
        .with("TRELLIS_LATTICE", lattice.name());
    Transcript::new("provider", &home)
        .with("LATTICE", lattice.name(), "<lattice>")
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn links_configurations_and_labels() {
    let shell = Shell::open().await;
    std::fs::write(
        shell.home.path().join("site.toml"),
        "port = 8080\nname = \"s\"\n",
    )
    .expect("a file can be written");
    let hello = shell.lattice.signed("hello");
    session("links", &shell)
        .with("HELLO", &hello, "<hello>")
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails() {
    let shell = Shell::open().await;
    let curious = shell.lattice.signed("curious");
    session("failures", &shell)
        .with("CURIOUS", &curious, "<curious>")
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn contexts() {
    let shell = Shell::open().await;
    // The contexts are to lead to the lattice, not the environment.
    let home = Home::new();
    write_program(&home.path().join("editor"), "#!/bin/sh\ntrue\n");
    let older = format!(
        r#"{{"name":"old","cluster_seed":"","ctl_host":"127.0.0.1","ctl_port":{},"ctl_jwt":"","ctl_seed":"","ctl_credsfile":null,"ctl_timeout":2000,"lattice":"{}","rpc_host":"127.0.0.1","rpc_port":4222}}"#,
        port(shell.lattice.url()),
        shell.lattice.name()
    );
    let contexts = home.path().join(".config/trellis/contexts");
    std::fs::create_dir_all(&contexts).expect("a directory can be made");
    std::fs::write(contexts.join("old.json"), older).expect("a file can be written");
    std::fs::write(contexts.join("broken.json"), "{").expect("a file can be written");
    Transcript::new("contexts", &home)
        .with("URL", shell.lattice.url(), "<url>")
        .with("LATTICE", shell.lattice.name(), "<lattice>")
        .play()
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn caches_are_emptied() {
    let home = Home::new();
    let state = home.path().join(".local/state/trellis");
    for cache in ["artifacts/sha256", "artifacts/programs", "aot"] {
        let cache = state.join(cache);
        std::fs::create_dir_all(&cache).expect("a directory can be made");
        std::fs::write(cache.join("x"), "x").expect("a file can be written");
    }
    let downloads = home.path().join("downloads");
    std::fs::create_dir_all(&downloads).expect("a directory can be made");
    let home = home.with(
        trellis_nats_server::CACHE_DIR_VARIABLE,
        &downloads.to_string_lossy(),
    );
    Transcript::new("drain", &home).play().await;
    let left = std::fs::read_dir(state.join("artifacts")).expect("the directory stays");
    assert_eq!(left.count(), 0);
}

fn port(url: &str) -> &str {
    url.rsplit(':')
        .next()
        .unwrap_or_default()
        .trim_end_matches('/')
}
