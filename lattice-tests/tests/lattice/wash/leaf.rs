//! Lattices over more than one NATS server, by `wash up` alone: a leaf of a hub, and a cluster.

use std::path::Path;

use serde_json::Value;
use trellis_claims::SigningKey;
use trellis_lattice_tests::actor::Signature;
use trellis_lattice_tests::eventually;
use trellis_lattice_tests::ports::free_port;

use super::shell::{Cleared, Home};

/// Where a home keeps the developer's account.
const ACCOUNT: &str = ".config/trellis/keys/account.nk";

/// An actor that calls another one when it is asked over HTTP, and echoes what it is called with.
const RELAY: &str = "relay";

/// Two homes of one developer.
fn two_homes() -> (Home, Home) {
    let (one, other) = (Home::new(), Home::new());
    let key = SigningKey::generate(trellis_claims::KeyKind::Account);
    for home in [&one, &other] {
        let path = home.path().join(ACCOUNT);
        let directory = path.parent().expect("a key is in a directory");
        std::fs::create_dir_all(directory).expect("a directory can be made");
        write_private(&path, &key.seed());
    }
    (one, other)
}

fn write_private(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).expect("a file can be written");
    for (path, mode) in [
        (path, 0o600),
        (path.parent().expect("it is in a directory"), 0o700),
    ] {
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
            .expect("a mode can be set");
    }
}

fn signed_relay(home: &Home) -> String {
    let seed = std::fs::read_to_string(home.path().join(ACCOUNT)).expect("the key is there");
    let account = SigningKey::from_seed(seed.trim()).expect("a key's own seed is one");
    let path = home.path().join("relay.wasm");
    std::fs::write(&path, Signature::of(RELAY, &account).component())
        .expect("a file can be written");
    path.to_string_lossy().into_owned()
}

async fn up(home: &Home, flags: &[&str]) -> String {
    let started = home
        .json(
            &[
                &["up", "--detached", "--nats-port", "0", "-t", "60000"],
                flags,
            ]
            .concat(),
        )
        .await;
    let url = started["nats_url"].as_str().expect("a URL is a text");
    url.to_owned()
}

/// Puts a relay on each side, and has each call the other.
async fn actors_call_each_other(one: (&Home, &str), other: (&Home, &str)) {
    for ((home, url), id, peer) in [(one, "north", "south"), (other, "south", "north")] {
        let relay = signed_relay(home);
        let at = ["--nats-url", url];
        home.json(
            &[
                &["start", "component", &relay, id, "--host-id", id],
                &at[..],
            ]
            .concat(),
        )
        .await;
        let link = [
            "link",
            "put",
            id,
            peer,
            "trellis",
            "relay",
            "--interface",
            "echo",
        ];
        home.json(&[&link[..], &at[..]].concat()).await;
    }
    for ((home, url), id) in [(one, "north"), (other, "south")] {
        // `wash` calls one actor at a time by a link of one name.
        let at = ["--nats-url", url];
        let own = [
            "wash",
            id,
            "wasi",
            "http",
            "--interface",
            "incoming-handler",
        ];
        home.json(&[&["link", "put"], &own[..], &at[..]].concat())
            .await;
        let call = [
            "call",
            id,
            "wasi:http/incoming-handler.handle",
            "--http-path",
            "/calls?n=3&bytes=100",
            "--output",
            "json",
        ];
        let answer: Value = eventually("the other side's actor answers", async || {
            let outcome = home.wash(&[&call[..], &at[..]].concat()).await;
            (outcome.code == Some(0))
                .then(|| outcome.json())
                .filter(|answer| answer["status"] == 200)
        })
        .await;
        let body = answer["body"].as_str().expect("nanoseconds are text");
        assert_eq!(body.lines().count(), 3, "{id} called three times: {body}");
        home.json(&[&["link", "del", "wash", "wasi", "http"], &at[..]].concat())
            .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn actors_on_a_leaf_and_on_its_hub_call_each_other() {
    let (hub, leaf) = two_homes();
    let (_hub, _leaf) = (Cleared(&hub), Cleared(&leaf));
    let port = free_port().to_string();
    let at_hub = up(
        &hub,
        &["--friendly-name", "north", "--nats-leaf-port", &port],
    )
    .await;
    let remote = format!("nats-leaf://127.0.0.1:{port}");
    let at_leaf = up(
        &leaf,
        &[
            "--friendly-name",
            "south",
            "--nats-remote-url",
            &remote,
            "--js-domain",
            "hub",
        ],
    )
    .await;
    assert_ne!(at_hub, at_leaf);
    let hosts = hub.json(&["get", "hosts", "--nats-url", &at_hub]).await;
    assert_eq!(hosts["hosts"].as_array().map(Vec::len), Some(2), "{hosts}");
    actors_call_each_other((&hub, &at_hub), (&leaf, &at_leaf)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leaf_with_jetstream_of_its_own_names_the_domain_of_the_hubs() {
    let (hub, leaf) = two_homes();
    let (_hub, _leaf) = (Cleared(&hub), Cleared(&leaf));
    let port = free_port().to_string();
    let hub_flags = [
        "--friendly-name",
        "north",
        "--nats-leaf-port",
        &port,
        "--nats-js-domain",
        "centre",
    ];
    let at_hub = up(&hub, &hub_flags).await;
    let remote = format!("nats-leaf://127.0.0.1:{port}");
    let leaf_flags = [
        "--friendly-name",
        "south",
        "--nats-remote-url",
        &remote,
        "--nats-js-domain",
        "edge",
        "--js-domain",
        "centre",
    ];
    let at_leaf = up(&leaf, &leaf_flags).await;
    actors_call_each_other((&hub, &at_hub), (&leaf, &at_leaf)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn actors_on_two_members_of_a_cluster_call_each_other() {
    let (one, other) = two_homes();
    let (_one, _other) = (Cleared(&one), Cleared(&other));
    let (first, second) = (free_port().to_string(), free_port().to_string());
    let (to_first, to_second) = (
        format!("nats://127.0.0.1:{first}"),
        format!("nats://127.0.0.1:{second}"),
    );
    let flags = |name, server, port, route| {
        [
            "--friendly-name",
            name,
            "--nats-server-name",
            server,
            "--nats-cluster",
            "home",
            "--nats-cluster-port",
            port,
            "--nats-route",
            route,
        ]
    };
    // A cluster has no JetStream before most of its members are there.
    let (north, south) = (
        flags("north", "a", first.as_str(), to_second.as_str()),
        flags("south", "b", second.as_str(), to_first.as_str()),
    );
    let (at_one, at_other) = tokio::join!(up(&one, &north), up(&other, &south));
    assert_ne!(at_one, at_other);
    actors_call_each_other((&one, &at_one), (&other, &at_other)).await;
}
