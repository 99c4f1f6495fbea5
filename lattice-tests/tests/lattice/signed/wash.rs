//! `wash` signs by itself, with the key that signs the developer's actors.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use trellis_lattice_tests::binary::program;

use super::*;

/// A directory of keys with an account's in it.
fn keys(home: &Path, account: &SigningKey) -> PathBuf {
    let directory = home.join("keys");
    fs::create_dir(&directory).expect("a directory can be made");
    let file = directory.join("account.nk");
    fs::write(&file, account.seed().as_bytes()).expect("a file can be written");
    for (path, mode) in [(&directory, 0o700), (&file, 0o600)] {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("it is our own");
    }
    directory
}

async fn wash(site: &Site, home: &Path, arguments: &[&str]) -> Output {
    let mut command = Command::new(program("wash"));
    command
        .args(arguments)
        .env_clear()
        .env("HOME", home)
        .env("TRELLIS_KEYS_DIR", home.join("keys"))
        .env("TRELLIS_NATS_URL", site.lattice.url())
        .env("TRELLIS_LATTICE", site.lattice.name())
        .current_dir(home)
        .stdin(Stdio::null());
    tokio::task::spawn_blocking(move || command.output())
        .await
        .expect("running a command does not panic")
        .expect("the program can be run")
}

const PUT_LINK: [&str; 8] = [
    "link",
    "put",
    "a",
    "kv",
    "wasi",
    "keyvalue",
    "--interface",
    "store",
];

fn refused(output: &Output, code: &str) {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(&format!("{code}: ")), "{stderr}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_with_a_key_commands_a_lattice_that_insists_and_notices_nothing() {
    let site = Site::start().await;
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    keys(home.path(), site.lattice.account());
    for command in [
        &PUT_LINK[..],
        &["config", "put", "limits", "most=1"],
        &["link", "del", "a", "wasi", "keyvalue"],
        &PUT_LINK[..],
    ] {
        let output = wash(&site, home.path(), command).await;
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(!stderr.contains("sign"), "{stderr}");
    }
    let listed = wash(&site, home.path(), &["get", "links", "--output", "json"]).await;
    let listed: Value = serde_json::from_slice(&listed.stdout).expect("it prints JSON");
    assert_eq!(listed["links"][0]["signed"], true, "{listed}");
    let view = site.host.host().state().view();
    assert_eq!(view.links().count(), 1);
    assert_eq!(view.links_from(&"a".parse().expect("an id")).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_key_or_with_an_unknown_one_it_is_told_what_is_missing() {
    let site = Site::start().await;
    let home = tempfile::tempdir().expect("a temporary directory can be made");
    refused(&wash(&site, home.path(), &PUT_LINK).await, "unsigned");
    assert!(!home.path().join("keys").exists(), "no key is made for it");

    keys(home.path(), site.lattice.account());
    let nobody = [&PUT_LINK[..], &["--signer", "none"]].concat();
    refused(&wash(&site, home.path(), &nobody).await, "unsigned");

    let other = home.path().join("other.nk");
    let seed = SigningKey::generate(KeyKind::Account).seed();
    fs::write(&other, seed.as_bytes()).expect("a file can be written");
    fs::set_permissions(&other, fs::Permissions::from_mode(0o600)).expect("it is our own");
    let other = other.to_str().expect("a path of letters");
    let stranger = [&PUT_LINK[..], &["--signer", other]].concat();
    let output = wash(&site, home.path(), &stranger).await;
    refused(&output, "signature-untrusted");
}
