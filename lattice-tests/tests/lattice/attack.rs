//! Who may reach NATS is not yet a host: what strangers, impostors and echoes send executes nothing.

mod impostor;

use std::time::Duration;

use futures::StreamExt as _;
use trellis_claims::{KeyKind, SigningKey};
use trellis_lattice_tests::wait::{eventually_within, in_time};
use trellis_lattice_tests::{HostId as _, Lattice, eventually, http};
use trellis_protocol::subject::Subjects;

use crate::placement::APP_AWAY;
use crate::shortlink::App;
use impostor::{Impostor, certificate};

fn subjects(lattice: &Lattice) -> Subjects {
    lattice.options().subjects()
}

/// How many messages a host has dropped or refused for a reason.
fn rejected(host: &trellis_lattice_tests::HostFixture, reason: &str) -> u64 {
    let counts = host.host().rejected();
    let found = counts.iter().filter(|(name, _)| *name == reason);
    found.map(|(_, count)| count).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn noise_on_the_hosts_subjects_is_counted_and_dropped() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "hello").await;
    let (stranger, subjects) = (lattice.stranger().await, subjects(&lattice));
    let sender = SigningKey::generate(KeyKind::Host);
    let sender = sender.public().as_str();
    let malformed = rejected(&host, "malformed");
    for size in [0, 1, 64, 4_096, 100_000] {
        let noise: Vec<u8> = (0..size).map(|_| rand::random()).collect();
        for subject in [
            subjects.rpc(host.id(), sender),
            subjects.presence(sender),
            subjects.presence(host.id()),
            subjects.roster(host.id()),
            subjects.control_with("component", "scale", host.id()),
            subjects.control("link", "put"),
            subjects.event("host_stopped"),
        ] {
            let sent = stranger.publish(subject, noise.clone().into()).await;
            sent.expect("anyone may publish on a test's server");
        }
    }
    stranger.flush().await.expect("the server is there");
    eventually("the noise is counted", async || {
        (rejected(&host, "malformed") > malformed).then_some(())
    })
    .await;
    assert_eq!(http::get(&url).await.status, 200);
    assert!(host.host().routes().is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_nobody_certified_is_no_host() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "hello").await;
    let key = SigningKey::generate(KeyKind::Host);
    let own_account = SigningKey::generate(KeyKind::Account);
    let forged = certificate(&lattice, &own_account, &key, &["*"]);
    let impostor = Impostor::join(&lattice, key, Some(forged)).await;
    impostor.knows(&host).await;
    impostor.claims_to_run("hello");
    let refused = impostor.ask(&host, "web-hello", "hello").await;
    refused.expect_err("nobody believes it");
    eventually("its certificate was looked at", async || {
        (rejected(&host, "certificate") > 0).then_some(())
    })
    .await;
    eventually("its call is counted", async || {
        (rejected(&host, "stranger") > 0).then_some(())
    })
    .await;
    assert!(host.host().routes().is_empty(), "it is in nobody's routes");
    assert_eq!(http::get(&url).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_speaks_only_for_what_its_certificate_names() {
    let lattice = Lattice::start().await;
    let host = lattice.host("a").start().await;
    lattice.run(&host, "hello").await;
    let url = lattice.serve(&host, "hello").await;
    let key = SigningKey::generate(KeyKind::Host);
    let narrow = certificate(&lattice, lattice.account(), &key, &["other", "web-other"]);
    let impostor = Impostor::join(&lattice, key, Some(narrow)).await;
    impostor.knows(&host).await;
    impostor.is_known_to(&host).await;
    impostor.claims_to_run("hello");
    let refused = impostor.ask(&host, "web-hello", "hello").await;
    let refusal = refused.expect_err("it may not speak for `web-hello`");
    assert_eq!(refusal.code.as_str(), "unauthenticated", "{refusal}");
    assert!(rejected(&host, "source-not-allowed") > 0);
    let routes = host.host().routes();
    let id = trellis_lattice_tests::deploy::id("hello");
    assert!(
        routes.routes_to(&id).is_empty(),
        "and gets no calls for `hello`"
    );
    assert_eq!(http::get(&url).await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_actor_on_a_host_that_may_not_run_it_gets_no_calls() {
    let lattice = Lattice::start().await;
    let a = lattice.host("a").start().await;
    let b = lattice.host("b").may_run(&["codemaker"]).start().await;
    let url = lattice.serve(&a, "hello").await;
    // Whether the host starts it or not, nobody sends it anything.
    let _ = lattice.try_run(&b, &lattice.signed("hello"), "hello").await;
    lattice.run(&b, "codemaker").await;
    eventually("the other host is known with what it may run", async || {
        let id = trellis_lattice_tests::deploy::id("codemaker");
        let routes = a.host().routes().routes_to(&id);
        (!routes.is_empty()).then_some(())
    })
    .await;
    assert_eq!(http::get(&url).await.member("code"), "no-route");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_is_heard_again_executes_nothing() {
    let app = App::deploy(APP_AWAY).await;
    let short = app.short("https://example.org/once").await;
    let stranger = app.lattice.stranger().await;
    let recorded = format!("trellis.rpc.v1.{}.>", app.lattice.name());
    let mut heard = stranger
        .subscribe(recorded)
        .await
        .expect("anyone may listen");
    stranger.flush().await.expect("the server is there");
    assert_eq!(http::get(&short).await.status, 302);
    let mut messages = Vec::new();
    while let Ok(Some(message)) =
        tokio::time::timeout(Duration::from_millis(500), heard.next()).await
    {
        messages.push(message);
    }
    assert!(
        messages.len() >= 4,
        "the click crossed hosts: {}",
        messages.len()
    );
    let replayed = |app: &App| -> u64 {
        app.hosts
            .iter()
            .map(|host| rejected(host, "replayed"))
            .sum()
    };
    let before = replayed(&app);
    for message in &messages {
        let sent = stranger.publish(message.subject.clone(), message.payload.clone());
        sent.await.expect("anyone may publish on a test's server");
    }
    stranger.flush().await.expect("the server is there");
    eventually("every echo is counted", async || {
        (replayed(&app) >= before + messages.len() as u64).then_some(())
    })
    .await;
    assert_eq!(app.clicks(&short).await, 1, "one click was made");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_that_was_changed_on_its_way_is_not_believed() {
    let app = App::deploy(APP_AWAY).await;
    let short = app.short("https://example.org/once").await;
    let stranger = app.lattice.stranger().await;
    let recorded = format!("trellis.rpc.v1.{}.>", app.lattice.name());
    let mut heard = stranger
        .subscribe(recorded)
        .await
        .expect("anyone may listen");
    stranger.flush().await.expect("the server is there");
    assert_eq!(http::get(&short).await.status, 302);
    let message = in_time(Duration::from_secs(5), "a message", heard.next()).await;
    let message = message.expect("the subscription is open");
    for at in 0..message.payload.len() {
        let mut payload = message.payload.to_vec();
        payload[at] ^= 0x20;
        let sent = stranger.publish(message.subject.clone(), payload.into());
        sent.await.expect("anyone may publish on a test's server");
    }
    stranger.flush().await.expect("the server is there");
    eventually_within(
        Duration::from_secs(10),
        "forgeries are counted",
        async || {
            let counted: u64 = [
                "malformed",
                "signature",
                "unknown-version",
                "replayed",
                "stranger",
            ]
            .iter()
            .flat_map(|reason| app.hosts.iter().map(|host| rejected(host, reason)))
            .sum();
            (counted > 0).then_some(())
        },
    )
    .await;
    assert_eq!(app.clicks(&short).await, 1, "one click was made");
}
