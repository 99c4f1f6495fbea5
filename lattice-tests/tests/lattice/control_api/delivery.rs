//! How far links are: which ends have applied them, which have not yet, and which never will as they are.

use serde_json::{Value, json};
use trellis_lattice_tests::actor::Signature;
use trellis_lattice_tests::deploy::{id, link};
use trellis_lattice_tests::{Door, HostId as _, Lattice, eventually};
use trellis_protocol::control::LinkEnd;
use trellis_protocol::control::delivery::{End, EndKind, EndState};

use super::moody::{NAME, REFUSE, WAIT_FOR, with_moody};
use super::{Asker, keys};

/// The one end of links with this id on a host.
async fn end_of(lattice: &Lattice, host: &str, end: &str) -> Option<LinkEnd> {
    let ends = lattice.operator().client().link_ends(host).await;
    let ends = ends.expect("the host answers");
    let mut of_it = ends.into_iter().filter(|found| found.id().as_str() == end);
    let found = of_it.next();
    assert!(of_it.next().is_none(), "one end has this id");
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn each_end_of_a_link_is_told_by_the_host_that_runs_what_is_there() {
    let lattice = Lattice::start().await;
    let a = lattice.host("a").start().await;
    let b = lattice.host("b").start().await;
    let signature = Signature::of("hello", lattice.account());
    let signature = signature.granting(&["wasi:http/incoming-handler", "wasi:keyvalue"]);
    let reference = lattice.file(&signature.component());
    lattice
        .try_run(&a, &reference, "hello")
        .await
        .expect("it starts");
    lattice.store(&b).await;
    let put = link("hello", "kv", "wasi:keyvalue/store");
    lattice.operator().link(&put).await;
    let source = eventually("the actor's host has the link", async || {
        end_of(&lattice, a.id(), "hello").await
    })
    .await;
    assert_eq!((&source.key, source.end), (&put.key(), End::Source));
    assert_eq!(
        (source.kind, source.state, source.generation),
        (EndKind::Component, EndState::Applied, 0)
    );
    let target = eventually("the provider has taken the link", async || {
        let end = end_of(&lattice, b.id(), "kv").await?;
        (end.state == EndState::Applied).then_some(end)
    })
    .await;
    assert_eq!(
        (target.kind, target.end, target.generation),
        (EndKind::Provider, End::Target, 1)
    );
    assert_eq!((target.target, target.error), (id("kv"), None));
    // As it is on the wire, and nothing of it on the other host.
    let asker = Asker::of(&lattice).await;
    let answer = asker.ask("host.links", Some(b.id()), "").await;
    let [end] = answer["response"].as_array().expect("a list").as_slice() else {
        panic!("{answer}");
    };
    assert_eq!(
        keys(end),
        [
            "end",
            "generation",
            "kind",
            "name",
            "source_id",
            "state",
            "target",
            "wit_namespace",
            "wit_package"
        ]
    );
    lattice.operator().unlink(&put).await;
    eventually("both ends are gone", async || {
        let ends = [
            end_of(&lattice, a.id(), "hello").await,
            end_of(&lattice, b.id(), "kv").await,
        ];
        ends.iter().all(Option::is_none).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_end_is_pending_until_the_provider_answers_and_failed_with_its_reason() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").adjusted(with_moody).start().await;
    lattice
        .provide(Door::BuiltIn, &host, NAME, "moody", &[])
        .await;
    let gate = lattice.files().join("gate");
    let gate = gate.to_str().expect("a path of a test is a text");
    let put = link("caller", "moody", "test:p/i");
    lattice.link_with(put.clone(), &[(WAIT_FOR, gate)]).await;
    let state = async |state, generation| {
        eventually("the end has come so far", async || {
            let end = end_of(&lattice, host.id(), "moody").await?;
            ((end.state, end.generation) == (state, generation)).then_some(end)
        })
        .await
    };
    let pending = state(EndState::Pending, 0).await;
    assert!(
        pending
            .error
            .expect("it says what it waits for")
            .contains("not answered")
    );
    std::fs::write(gate, "").expect("a file can be written");
    state(EndState::Applied, 1).await;

    let config = "caller-moody";
    let configure =
        async |settings: &[(&str, &str)]| lattice.operator().configure(config, settings).await;
    configure(&[(REFUSE, "not on a Sunday")]).await;
    let failed = state(EndState::Failed, 2).await;
    assert!(failed.error.expect("a reason").contains("not on a Sunday"));
    configure(&[]).await;
    let applied = state(EndState::Applied, 3).await;
    assert_eq!(applied.error, None);
    // A configuration that is gone.
    let client = lattice.operator().client();
    client.del_config(config).await.expect("it is deleted");
    let failed = state(EndState::Failed, 3).await;
    let reason = failed.error.expect("a reason");
    assert!(
        reason.contains(config) && reason.contains("does not exist"),
        "{reason}"
    );
    configure(&[]).await;
    state(EndState::Applied, 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_outside_the_claims_has_failed_at_the_actors_end() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    // Put before anybody knows the claims; refused afterwards.
    let put = link("hello", "kv", "wasi:keyvalue/store");
    lattice.operator().link(&put).await;
    lattice.run(&host, "hello").await;
    let end = eventually("the end is told", async || {
        end_of(&lattice, host.id(), "hello").await
    })
    .await;
    assert_eq!(end.state, EndState::Failed);
    let reason = end.error.expect("a reason");
    assert!(reason.contains("--cap wasi:keyvalue/store"), "{reason}");
    let refused = lattice.operator().client().put_link(&put).await;
    assert!(
        refused
            .expect_err("now it is refused")
            .to_string()
            .contains("--cap")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_link_that_a_strict_host_does_not_believe_has_failed_at_its_ends() {
    let lattice = Lattice::start().await.signing();
    let host = lattice
        .host("a")
        .adjusted(with_moody)
        .adjusted(|options| options.require_signed = true)
        .start()
        .await;
    lattice
        .provide(Door::BuiltIn, &host, NAME, "moody", &[])
        .await;
    // Written past the hosts, by whoever may write the bucket.
    let put = link("caller", "moody", "test:p/i");
    let stored = json!({"url": "", "links": [put]}).to_string();
    let context = async_nats::jetstream::new(lattice.stranger().await);
    let bucket = context
        .get_key_value(format!("LATTICEDATA_{}", lattice.name()))
        .await
        .expect("the host has made it");
    let written = bucket.put("COMPONENT_caller", stored.into()).await;
    written.expect("the server takes it");
    let failed = eventually("the end is told", async || {
        end_of(&lattice, host.id(), "moody").await
    })
    .await;
    assert_eq!(
        (failed.state, failed.kind),
        (EndState::Failed, EndKind::Provider)
    );
    assert!(
        failed
            .error
            .expect("a reason")
            .contains("insists on signed links")
    );
    // And put again by one whose key counts.
    lattice.operator().link(&put).await;
    eventually("the end is applied", async || {
        let end = end_of(&lattice, host.id(), "moody").await?;
        (end.state == EndState::Applied).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reference_to_a_secret_is_not_handed_to_a_provider_as_a_configuration() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").adjusted(with_moody).start().await;
    lattice
        .provide(Door::BuiltIn, &host, NAME, "moody", &[])
        .await;
    let asker = Asker::of(&lattice).await;
    let reference = json!({"name": "db", "type": "secret.wasmcloud.dev/v1alpha1", "backend": "b"});
    let put = asker
        .ask_json("config.put", Some("SECRET_db"), &reference)
        .await;
    assert_eq!(put["success"], Value::Bool(true));
    let mut wanting = link("caller", "moody", "test:p/i");
    wanting.target_config = vec!["SECRET_db".to_owned()];
    lattice.operator().link(&wanting).await;
    let failed = eventually("the end has failed", async || {
        let end = end_of(&lattice, host.id(), "moody").await?;
        (end.state == EndState::Failed).then_some(end)
    })
    .await;
    let reason = failed.error.expect("a reason");
    assert!(reason.contains("reference to a secret"), "{reason}");
}
