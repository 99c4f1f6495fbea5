//! Providers in archives: started, restored, and refused where they are of no use.

use std::collections::BTreeMap;

use trellis_artifacts::{ArchiveBuilder, Kind};
use trellis_claims::provider::{NewProviderToken, Platform};
use trellis_claims::{KeyKind, SigningKey, UnixTime, Validity};
use trellis_lattice::client::Events;
use trellis_lattice_tests::actor::VALID_FOR;
use trellis_lattice_tests::binary::program;
use trellis_lattice_tests::deploy::{Failed, outcome};
use trellis_lattice_tests::lattice::http_link;
use trellis_lattice_tests::ports::free_port;
use trellis_lattice_tests::version::Versions;
use trellis_lattice_tests::{HostId, Lattice, eventually, http};
use trellis_protocol::event::{EventData, ProviderStarted};

use super::{publish, store, withdraw};

/// What the manifest says of the provider's configuration.
const SCHEMA: &str = r#"{"type":"object"}"#;

/// An archive with one executable for this machine.
fn archive(account: &SigningKey, provider: &str, platform: Platform) -> Vec<u8> {
    let token = NewProviderToken {
        subject: SigningKey::generate(KeyKind::Provider).public().clone(),
        name: "The web".to_owned(),
        version: "1.2.3".to_owned(),
        revision: 7,
        vendor: "Example".to_owned(),
        serves: std::iter::empty().collect(),
        calls: std::iter::empty().collect(),
        targets: BTreeMap::new(),
        config_schema: Some(SCHEMA.to_owned()),
        validity: Validity::starting(UnixTime::now(), VALID_FOR),
        account_token: None,
    };
    let mut archive = Vec::new();
    ArchiveBuilder::new(token)
        .executable(platform, &program(&format!("trellis-{provider}")))
        .sign(account, UnixTime::now(), &mut archive)
        .expect("an archive can be made");
    archive
}

async fn try_provide(
    lattice: &Lattice,
    host: &(impl HostId + ?Sized),
    reference: &str,
) -> Result<(), Failed> {
    lattice
        .operator()
        .start_provider(host.id(), reference, "web-hello", &[])
        .await
}

async fn provider_started(events: &mut Events, host: &str) -> ProviderStarted {
    outcome(events, host, |event| match event {
        EventData::ProviderStarted(started) => Some(started.clone()),
        EventData::ProviderStartFailed(failed) => panic!("it does not start: {failed:?}"),
        _ => None,
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_provider_comes_in_an_archive_serves_and_is_restored_when_its_source_is_gone() {
    const REFERENCE: &str = "lattice://web:1";
    let lattice = Lattice::start().await;
    let artifacts = store(&lattice).await;
    let archive = archive(lattice.account(), "http-server", Platform::here());
    publish(&artifacts, REFERENCE, Kind::Provider, archive).await;
    let mut host = lattice.host("a").spawn().await;
    lattice.run(&host, "hello").await;
    let mut events = lattice.operator().events().await;
    try_provide(&lattice, &host, REFERENCE)
        .await
        .expect("it starts");
    let started = provider_started(&mut events, host.id()).await;
    assert_eq!(started.image_ref, REFERENCE);
    let claims = started.claims.expect("an archive has claims");
    assert_eq!((&*claims.name, &*claims.version), ("The web", "1.2.3"));
    assert_eq!(claims.issuer, lattice.account().public().to_string());
    let key = started.public_key.expect("an archive has a subject");
    assert!(key.starts_with('V'));
    let listed = lattice.operator().client().claims().await;
    let listed = listed.expect("a host answers");
    let of_web = listed.iter().find(|claims| claims["sub"] == key);
    let of_web = of_web.expect("its claims are public");
    assert_eq!(
        (&*of_web["name"], &*of_web["rev"], &*of_web["config_schema"]),
        ("The web", "7", SCHEMA)
    );
    assert!(!of_web.contains_key("tags") && !of_web.contains_key("call_alias"));

    let address = format!("127.0.0.1:{}", free_port());
    let operator = lattice.operator();
    operator
        .configure("http-hello", &[("address", &address)])
        .await;
    operator.link(&http_link("hello")).await;
    let url = format!("http://{address}");
    let answers = async || http::try_send("GET", &url, "").await.ok();
    let answer = eventually("it serves", answers).await;
    assert_eq!(answer.text(), "Hello from Trellis!\n");

    withdraw(&artifacts, REFERENCE).await;
    host.kill();
    let mut events = operator.events().await;
    host.start_again(&lattice).await;
    let started = provider_started(&mut events, host.id()).await;
    assert!(started.restored, "the event says who started it");
    let answer = eventually("it serves again", async || {
        let answer = answers().await?;
        (answer.status == 200).then_some(answer)
    })
    .await;
    assert_eq!(answer.text(), "Hello from Trellis!\n");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_archive_of_no_use_is_refused_by_its_kind() {
    let lattice = Lattice::start().await;
    let artifacts = store(&lattice).await;
    let host = lattice.host("a").start().await;
    let stranger = SigningKey::generate(KeyKind::Account);
    let here = Platform::here();
    let elsewhere = Platform::new("sparc", "plan9").expect("a platform");
    let good = archive(lattice.account(), "http-server", here.clone());
    let mut tampered = good.clone();
    let middle = tampered.len() / 2;
    tampered[middle] ^= 1;
    let component = Versions::of("hello").component_saying(&lattice, "Hello", "Howdy");
    for (code, name, content) in [
        (
            "archive-untrusted",
            "untrusted",
            archive(&stranger, "http-server", here),
        ),
        (
            "platform-missing",
            "foreign",
            archive(lattice.account(), "http-server", elsewhere),
        ),
        ("archive-untrusted", "tampered", tampered),
        ("archive-invalid", "short", good[..good.len() / 2].to_vec()),
        ("not-a-provider", "component", component),
    ] {
        let path = lattice.files().join(name);
        std::fs::write(&path, &content).expect("a file can be written into a new directory");
        let reference = trellis_lattice_tests::actor::reference(&path);
        let failed = try_provide(&lattice, &host, &reference).await;
        let failed = failed.expect_err("nothing of it runs");
        assert_eq!(failed.code, code, "{name}: {}", failed.error);
    }
    publish(&artifacts, "lattice://good:1", Kind::Provider, good).await;
    try_provide(&lattice, &host, "lattice://good:1")
        .await
        .expect("the host is well");
}
