//! What does not start, and what is said about it.

use trellis_claims::{ActorToken, KeyKind, SigningKey, content_hash};
use trellis_lattice_tests::actor::{Signature, capabilities};
use trellis_lattice_tests::deploy::{self, Failed, scale};
use trellis_lattice_tests::{HostFixture, HostId as _, Lattice, binary, eventually};
use trellis_protocol::control::UpdateComponent;
use trellis_protocol::event::EventData;

async fn lattice_and_host() -> (Lattice, HostFixture) {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    (lattice, host)
}

/// How a host refuses these bytes; it runs nothing afterwards.
async fn refusal_of(make: impl FnOnce(&Lattice) -> Vec<u8>) -> Failed {
    let (lattice, host) = lattice_and_host().await;
    let reference = lattice.file(&make(&lattice));
    let refused = lattice.try_run(&host, &reference, "hello").await;
    let failed = refused.expect_err("the component must not start");
    assert!(host.host().inventory().components.is_empty());
    failed
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsigned_component_is_told_how_to_be_signed() {
    let failed = refusal_of(|_| binary::component("hello")).await;
    assert_eq!(failed.code, "claims-unsigned");
    assert!(failed.error.contains("wash claims sign"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_with_the_claims_of_another_is_refused() {
    let failed = refusal_of(|lattice| {
        Signature::of("hello", lattice.account())
            .over("codemaker")
            .component()
    })
    .await;
    assert_eq!(failed.code, "claims-hash-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_that_was_changed_after_signing_is_refused() {
    let failed = refusal_of(|lattice| {
        let mut component = Signature::of("hello", lattice.account()).component();
        // A custom section of somebody else: still a valid component, but not the one that was signed.
        component.extend_from_slice(&[0, 3, 1, b'x', b'y']);
        component
    })
    .await;
    assert_eq!(failed.code, "claims-hash-mismatch");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_token_is_refused() {
    let failed = refusal_of(|lattice| {
        Signature::of("hello", lattice.account())
            .expired()
            .component()
    })
    .await;
    assert_eq!(failed.code, "token-expired");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_issuer_that_nobody_trusts_is_refused() {
    let stranger = SigningKey::generate(KeyKind::Account);
    let failed = refusal_of(|_| Signature::of("hello", &stranger).component()).await;
    assert_eq!(failed.code, "token-untrusted-issuer");
    assert!(
        failed.error.contains(stranger.public().as_str()),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_without_a_grant_is_named_with_what_would_grant_it() {
    let (lattice, host) = lattice_and_host().await;
    let reference = lattice.signed("curious");
    let failed = lattice
        .try_run(&host, &reference, "curious")
        .await
        .expect_err("`curious` was never granted key-value");
    assert_eq!(failed.code, "grant-missing");
    assert!(failed.error.contains("wasi:keyvalue/store"), "{failed:?}");
    assert!(
        failed.error.contains("--cap wasi:keyvalue/store"),
        "{failed:?}"
    );
    let mut grants = capabilities("curious");
    grants.push("wasi:keyvalue/store".to_owned());
    let granted = Signature::of("curious", lattice.account())
        .granting(&grants)
        .component();
    let granted = lattice.file(&granted);
    let started = lattice.try_run(&host, &granted, "curious").await;
    assert_eq!(started, Ok(100), "with the grant it starts");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_outsiders_call_needs_a_grant_as_well() {
    let failed = refusal_of(|lattice| {
        Signature::of("hello", lattice.account())
            .granting::<&str>(&[])
            .component()
    })
    .await;
    assert_eq!(failed.code, "grant-missing");
    assert!(
        failed.error.contains("--cap wasi:http/incoming-handler"),
        "{failed:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_file_is_refused() {
    let failed = refusal_of(|_| Vec::new()).await;
    assert_eq!(failed.code, "artifact-empty");
    assert!(failed.error.contains("is empty"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_truncated_component_is_refused() {
    let failed = refusal_of(|lattice| {
        let mut component = Signature::of("hello", lattice.account()).component();
        component.truncate(component.len() / 2);
        component
    })
    .await;
    assert_eq!(failed.code, "artifact-truncated");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_is_no_webassembly_is_refused() {
    let failed = refusal_of(|_| b"#!/bin/sh\nexit 0\n".to_vec()).await;
    assert_eq!(failed.code, "not-a-component");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_missing_file_is_named() {
    let (lattice, host) = lattice_and_host().await;
    let failed = lattice
        .try_run(&host, "file:///nowhere/at-all.wasm", "hello")
        .await
        .expect_err("there is no such file");
    assert_eq!(failed.code, "artifact-missing");
    assert!(failed.error.contains("/nowhere/at-all.wasm"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_without_leave_loads_no_files() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").without_files().start().await;
    let failed = lattice
        .try_run(&host, &lattice.signed("hello"), "hello")
        .await
        .expect_err("files are not allowed");
    assert!(failed.error.contains("--allow-file"), "{failed:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_id_cannot_be_taken_by_another_subject() {
    let (lattice, host) = lattice_and_host().await;
    lattice.run(&host, "hello").await;
    let other = lattice.signed("hello");
    let mut command = scale(host.id(), &other, "hello", 1);
    command.allow_update = true;
    let failed = lattice
        .operator()
        .scale(&command)
        .await
        .expect_err("the id belongs to another subject");
    assert_eq!(failed.code, "id-taken");
    assert_ne!(host.host().inventory().components[0].image_ref, other);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_id_cannot_be_taken_by_another_issuer_that_names_its_subject() {
    let lattice = Lattice::start().await;
    let other = SigningKey::generate(KeyKind::Account);
    let host = lattice.host("a").trusting(other.public()).start().await;
    let seed = SigningKey::generate(KeyKind::Module).seed();
    let sign = |account: &SigningKey| {
        let subject = SigningKey::from_seed(&seed).expect("a seed that was just made");
        let signature = Signature::of("hello", account).for_subject(subject);
        lattice.file(&signature.component())
    };
    let first = sign(lattice.account());
    assert_eq!(lattice.try_run(&host, &first, "hello").await, Ok(100));
    let mut command = scale(host.id(), &sign(&other), "hello", 1);
    command.allow_update = true;
    let failed = lattice
        .operator()
        .scale(&command)
        .await
        .expect_err("the subject was signed by somebody else");
    assert_eq!(failed.code, "id-taken");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_of_the_same_subject_replaces_the_running_one() {
    let (lattice, host) = lattice_and_host().await;
    let seed = SigningKey::generate(KeyKind::Module).seed();
    let sign = || {
        let subject = SigningKey::from_seed(&seed).expect("a seed that was just made");
        let signature = Signature::of("hello", lattice.account()).for_subject(subject);
        lattice.file(&signature.component())
    };
    let (first, second) = (sign(), sign());
    assert_eq!(lattice.try_run(&host, &first, "hello").await, Ok(100));
    let mut command = scale(host.id(), &second, "hello", 7);
    command.allow_update = true;
    assert_eq!(lattice.operator().scale(&command).await, Ok(7));
    assert_eq!(host.host().inventory().components[0].image_ref, second);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_was_built_anew_is_refused_without_leave_and_replaces_what_runs_with_it() {
    let (lattice, host) = lattice_and_host().await;
    let seed = SigningKey::generate(KeyKind::Module).seed();
    let sign = |actor| {
        let subject = SigningKey::from_seed(&seed).expect("a seed that was just made");
        let signature = Signature::of(actor, lattice.account()).for_subject(subject);
        signature.component()
    };
    let (first, second) = (sign("hello"), sign("probe"));
    let reference = lattice.file(&first);
    let path = reference.strip_prefix("file://").expect("it is a file");
    let build = |component: &[u8]| std::fs::write(path, component).expect("the file is ours");
    let runs = || {
        let id = deploy::id("hello");
        let host = host.host();
        let roster = host.inventory().components.remove(0);
        assert_eq!(roster.image_ref, reference);
        let token = host.state().view().token(&id).map(str::to_owned);
        let token = token.expect("a running actor has a token in the state");
        let token = ActorToken::decode_unverified(&token).expect("the host has written it");
        (token.content_hash, roster.max_instances)
    };
    let hash = |component: &[u8]| content_hash(component).expect("an actor is a component");
    let mut command = scale(host.id(), &reference, "hello", 3);
    assert_eq!(lattice.operator().scale(&command).await, Ok(3));
    command.count = 4;
    assert_eq!(lattice.operator().scale(&command).await, Ok(4), "unchanged");

    build(&second);
    command.count = 5;
    let failed = lattice.operator().scale(&command).await;
    let failed = failed.expect_err("what runs is not what the file holds");
    assert_eq!(failed.code, "other-content");
    assert!(failed.error.contains("--allow-update"), "{failed:?}");
    assert_eq!(runs(), (hash(&first), 4));

    command.allow_update = true;
    assert_eq!(lattice.operator().scale(&command).await, Ok(5));
    eventually("the other content runs", async || {
        (runs() == (hash(&second), 5)).then_some(())
    })
    .await;

    build(&first);
    let update = UpdateComponent {
        component_id: deploy::id("hello"),
        annotations: None,
        new_component_ref: reference.clone(),
        host_id: host.id().to_owned(),
    };
    let client = lattice.operator().client();
    let mut events = lattice.operator().events().await;
    let accepted = client.update(host.id(), &update).await;
    accepted.expect("an update to the same reference is taken");
    // Its outcome is heard before the next command is given, or it would be taken for that one's.
    deploy::outcome(&mut events, host.id(), |event| match event {
        EventData::ComponentScaled(scaled) => Some(scaled.max_instances),
        _ => None,
    })
    .await;
    eventually("the former content runs again", async || {
        (runs() == (hash(&first), 5)).then_some(())
    })
    .await;

    std::fs::remove_file(path).expect("the file is ours");
    command.allow_update = false;
    command.count = 6;
    let scaled = lattice.operator().scale(&command).await;
    assert_eq!(scaled, Ok(6), "what runs needs no file");
}
