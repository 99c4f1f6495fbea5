//! Components from registries: a real one that wants credentials and goes away, and some that misbehave.

use std::path::Path;

use trellis_artifacts::{ArtifactOptions, Artifacts, Digest, Kind};
use trellis_lattice_tests::deploy::outcome;
use trellis_lattice_tests::version::Versions;
use trellis_lattice_tests::{HostId as _, Lattice, eventually, http};
use trellis_protocol::control::{RegistryCredential, RegistryCredentials};
use trellis_protocol::event::EventData;
use trellis_test_backends::faulty::{Fault, FaultyRegistry, Image, Step};
use trellis_test_backends::registry::{PASSWORD, Registry, RegistryOptions, USER};

use super::{publish, scaled, update};

/// Whoever publishes into a registry.
fn publisher(registry: &Registry) -> Artifacts {
    let ca_files = registry.ca_file().map(Path::to_owned).into_iter().collect();
    let artifacts = Artifacts::open(
        ArtifactOptions {
            ca_files,
            ..ArtifactOptions::default()
        },
        None,
    );
    let artifacts = artifacts.expect("a temporary cache can be made");
    artifacts.set_registries(&credentials(registry));
    artifacts
}

fn credentials(registry: &Registry) -> RegistryCredentials {
    let credential = RegistryCredential {
        username: Some(USER.to_owned()),
        password: Some(PASSWORD.to_owned()),
        token: None,
        registry_type: "oci".to_owned(),
    };
    RegistryCredentials([(registry.name(), credential)].into())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_registry_that_is_gone_stops_nothing_that_came_from_it() {
    let lattice = Lattice::start().await;
    let mut registry = RegistryOptions::new()
        .with_password()
        .with_tls()
        .start()
        .expect("`cargo xtask setup` gets a registry");
    let ca = registry
        .ca_file()
        .expect("it speaks TLS")
        .display()
        .to_string();
    let mut host = lattice.host("a").flags(&["--oci-ca", &ca]).spawn().await;
    let reference = |tag: &str| format!("{}/shop/hello:{tag}", registry.name());
    let (old, new, latest) = (reference("1"), reference("2"), reference("latest"));
    let artifacts = publisher(&registry);
    let versions = Versions::of("hello");
    for (reference, text) in [(&old, "Howdy"), (&new, "Salve")] {
        let component = versions.component_saying(&lattice, "Hello", text);
        publish(&artifacts, reference, Kind::Component, component).await;
    }

    // Without credentials it is refused, with those of the operator it is had.
    let refused = lattice.try_run(&host, &old, "hello").await;
    assert_eq!(
        refused.expect_err("nobody may read it").code,
        "registry-refused"
    );
    let client = lattice.operator().client();
    let put = client.put_registries(&credentials(&registry)).await;
    put.expect("it is published");
    let mut events = lattice.operator().events().await;
    eventually("the host has the credentials", async || {
        lattice.try_run(&host, &old, "hello").await.ok()
    })
    .await;
    let fetched = outcome(&mut events, host.id(), |event| match event {
        EventData::ComponentFetching(step) => {
            let fetched = &step.fetched;
            (fetched.received_bytes.is_some() && fetched.received_bytes == fetched.total_bytes)
                .then(|| fetched.received_bytes.unwrap_or_default())
        }
        _ => None,
    })
    .await;
    assert!(
        fetched > 10_000,
        "the last word says that all of it came: {fetched}"
    );
    // What changes under its name is refused at once.
    let failed = lattice.try_run(&host, &latest, "hello").await;
    let failed = failed.expect_err("it was not allowed");
    assert_eq!(failed.code, "refused");
    assert!(failed.error.contains("--allow-latest"), "{}", failed.error);
    let url = lattice.serve(&host, "hello").await;
    let answers = async |text: &str| {
        let url = url.clone();
        eventually("it answers", async || {
            let answer = http::try_send("GET", &url, "").await.ok()?;
            (answer.text() == format!("{text} from Trellis!\n")).then_some(())
        })
        .await;
    };
    answers("Howdy").await;

    registry.kill();
    let mut events = lattice.operator().events().await;
    let update_to_new = update(host.id(), &new);
    client
        .update(host.id(), &update_to_new)
        .await
        .expect("accepted");
    let failed = scaled(&mut events, host.id()).await;
    assert_eq!(failed, Err("registry-unreachable".to_owned()));
    answers("Howdy").await;
    // Not even a restart needs the registry, nor credentials, which the host has lost.
    host.kill();
    let mut events = lattice.operator().events().await;
    host.start_again(&lattice).await;
    assert_eq!(scaled(&mut events, host.id()).await, Ok(100));
    answers("Howdy").await;

    registry.restart().expect("it starts again");
    let put = client.put_registries(&credentials(&registry)).await;
    put.expect("it is published");
    let mut events = lattice.operator().events().await;
    eventually("the new version comes", async || {
        let accepted = client.update(host.id(), &update_to_new).await;
        accepted.expect("the command is acknowledged");
        scaled(&mut events, host.id()).await.ok()
    })
    .await;
    answers("Salve").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn registries_that_misbehave_are_told_by_what_they_do_and_harm_nobody() {
    let lattice = Lattice::start().await;
    let versions = Versions::of("hello");
    let faults = [
        (Fault::None, None),
        (Fault::ContentBytes, Some("digest-mismatch")),
        (Fault::ContentShort(100), Some("length-mismatch")),
        (Fault::ContentLong(100), Some("length-mismatch")),
        (Fault::ManifestDigest, Some("digest-mismatch")),
        (Fault::Huge(Step::Manifest), Some("registry-misbehaved")),
        (Fault::RedirectLoop, Some("registry-misbehaved")),
        (Fault::Garbage, Some("registry-misbehaved")),
        (
            Fault::Status(Step::Manifest, 404, usize::MAX),
            Some("artifact-missing"),
        ),
        (
            Fault::Status(Step::Content, 500, usize::MAX),
            Some("registry-failing"),
        ),
        // It is had in pieces, for as long as each attempt brings something.
        (Fault::Cut(20_000), None),
    ];
    let mut registries = Vec::new();
    let mut flags = Vec::new();
    for (number, (fault, code)) in faults.into_iter().enumerate() {
        // Each has content of its own: what came from one would be in the cache for the others.
        let text = format!("Hel{number:02}");
        let image = image(versions.component_saying(&lattice, "Hello", &text));
        let registry = FaultyRegistry::start(image, fault.clone()).await;
        let registry = registry.expect("there is a free port");
        flags.extend(["--insecure-registry".to_owned(), registry.name()]);
        registries.push((registry, fault, code));
    }
    let flags: Vec<_> = flags.iter().map(String::as_str).collect();
    let host = lattice.host("a").flags(&flags).spawn().await;
    let (lattice, host) = (&lattice, &host);
    let trying = registries
        .iter()
        .enumerate()
        .map(async |(number, (registry, fault, code))| {
            let reference = format!("{}/shop/hello:1", registry.name());
            // Each under an id of its own, which subjects do not share: nothing waits for anything.
            let tried = lattice
                .try_run(host, &reference, &format!("hello-{number}"))
                .await;
            match (tried, code) {
                (Ok(_), None) => {}
                (Err(failed), Some(code)) => {
                    assert_eq!(failed.code, *code, "{fault:?}: {}", failed.error)
                }
                (tried, _) => panic!("{fault:?}: {tried:?}"),
            }
        });
    futures::future::join_all(trying).await;
    lattice.run(host, "hello").await;
}

/// A component as registries have it.
fn image(component: Vec<u8>) -> Image {
    let digest = Digest::of(&component);
    let empty = Digest::of(b"{}");
    let manifest = serde_json::json!({
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": {
            "mediaType": "application/vnd.wasm.config.v0+json",
            "digest": empty.to_string(), "size": 2
        },
        "layers": [{
            "mediaType": "application/wasm",
            "digest": digest.to_string(), "size": component.len()
        }]
    });
    let manifest = manifest.to_string().into_bytes();
    Image {
        manifest_digest: Digest::of(&manifest).to_string(),
        manifest,
        content: component,
    }
}
