//! Credentials of registries: every host takes them, and nobody sees them again.

use std::collections::BTreeMap;

use bytes::Bytes;
use serde_json::json;
use trellis_artifacts::{ArtifactOptions, Artifacts, Kind, Upload};
use trellis_lattice_tests::actor::Signature;
use trellis_lattice_tests::{HostId as _, Lattice, eventually};
use trellis_protocol::control::RegistryCredentials;
use trellis_test_backends::RegistryOptions;
use trellis_test_backends::registry::{PASSWORD, USER};

use super::{Asker, Wire, assert_accepted, assert_refused};

#[tokio::test(flavor = "multi_thread")]
async fn credentials_that_were_put_open_a_registry_to_every_host() {
    let registry = RegistryOptions::new().with_password().start();
    let registry = registry.expect("a registry can be started");
    let name = registry.name();
    let lattice = Lattice::start().await;
    let flags = ["--insecure-registry", name.as_str()];
    let hosts = [
        lattice.host("a").flags(&flags).spawn().await,
        lattice.host("b").flags(&flags).spawn().await,
    ];
    let credentials = json!({ &name: {"username": USER, "password": PASSWORD} });
    let own: RegistryCredentials =
        serde_json::from_value(credentials.clone()).expect("credentials are read");
    let options = ArtifactOptions {
        insecure_registries: vec![name.clone()],
        ..ArtifactOptions::default()
    };
    let developer = Artifacts::open(options, None).expect("artifacts can be handled");
    developer.set_registries(&own);
    let reference = format!("{name}/hello:0.1.0");
    let component = Bytes::from(Signature::of("hello", lattice.account()).component());
    developer
        .push(
            &reference.parse().expect("a reference of a test is one"),
            Kind::Component,
            Upload::Bytes(&component),
            BTreeMap::new(),
            |_| {},
        )
        .await
        .expect("the registry takes it");

    let refused = lattice.try_run(&hosts[0], &reference, "hello").await;
    let refused = refused.expect_err("nobody may read that");
    assert_eq!(refused.code, "registry-refused", "{refused:?}");
    let asker = Asker::of(&lattice).await;
    let subject = asker.subject("registry.put", None);
    asker
        .client
        .publish(subject, credentials.to_string().into())
        .await
        .expect("a request can be published");
    for host in &hosts {
        eventually("the host fetches with the credentials", async || {
            lattice.try_run(host, &reference, "hello").await.ok()
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_host_takes_credentials_without_a_reply_and_logs_none_of_them() {
    let lattice = Lattice::start().await;
    let hosts = [
        lattice.host("a").spawn().await,
        lattice.host("b").spawn().await,
    ];
    let asker = Asker::of(&lattice).await;
    let mut events = Wire::tap(&lattice).await;
    let subject = asker.subject("registry.put", None);
    let body = json!({
        "registry.example": {"username": "anna", "password": "hunter2", "registryType": "oci"},
        "other.example:5000": {"token": "t0ken-of-silence"}
    });
    asker
        .client
        .publish(subject.clone(), body.to_string().into())
        .await
        .expect("a request can be published");
    // What cannot be read is not logged either.
    let wrong = json!({"registry.example": {"password": ["hunter2"]}});
    asker
        .client
        .publish(subject, wrong.to_string().into())
        .await
        .expect("a request can be published");
    for host in &hosts {
        eventually("the host has taken them", async || {
            let log = host.log();
            (log.contains("credentials for registries were put")
                && log.contains("credentials for registries were not understood"))
            .then_some(())
        })
        .await;
        let inventory = asker.ask("host.get", Some(host.id()), "").await;
        for text in [host.log(), inventory.to_string()] {
            assert!(
                !text.contains("hunter2") && !text.contains("t0ken"),
                "{text}"
            );
        }
    }
    assert_accepted(&asker.ask_json("registry.put", None, &body).await);
    let refusal = assert_refused(&asker.ask_json("registry.put", None, &wrong).await);
    assert!(!refusal.contains("hunter2"), "{refusal}");
    let told = json!([
        events.next("host_heartbeat", None, |_| true).await,
        events.seen
    ]);
    assert!(!told.to_string().contains("hunter2"));
}
