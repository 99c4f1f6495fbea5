//! Servers that die, that are silent, that refuse.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, stream};
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use trellis_messaging_nats::Factory;
use trellis_messaging_nats::wit::consumer;
use trellis_provider_sdk::harness::Harness;
use trellis_provider_sdk::{Health, LinkEnd};

use crate::fixture::{Fixture, Nats, PACKAGE, WITHIN, eventually, message};

#[tokio::test]
async fn after_the_server_was_killed_and_came_back_everything_works_again() {
    let mut fixture = Fixture::start().await;
    let record = fixture.recording("app", Duration::ZERO);
    fixture
        .receiver("app", [("subscriptions", "work|w")], 1)
        .await
        .unwrap();
    let mut sender = fixture.sender("sender", []).await;
    // Longer than a lost connection is waited for.
    sender.0 = sender.0.within(Duration::from_secs(10));
    let (confirmed, failed) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let stop = tokio_util::sync::CancellationToken::new();
    let publishing: Vec<_> = (0..8)
        .map(|_| {
            let (sender, stop) = (sender.clone(), stop.clone());
            let (confirmed, failed) = (confirmed.clone(), failed.clone());
            tokio::spawn(async move {
                while !stop.is_cancelled() {
                    // An error is the interface's own, before the deadline: a refusal would stop the actor.
                    match sender.publish(&message("work", "x")).await.unwrap() {
                        Ok(()) => confirmed.fetch_add(1, Ordering::Relaxed),
                        Err(error) => {
                            assert!(
                                error.contains("not connected")
                                    || error.contains("did not confirm")
                                    || error.contains("connecting to NATS"),
                                "{error}"
                            );
                            failed.fetch_add(1, Ordering::Relaxed)
                        }
                    };
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            })
        })
        .collect();
    eventually("messages", || record.len() > 100).await;
    fixture.nats.kill();
    eventually("failures", || failed.load(Ordering::Relaxed) > 0).await;
    fixture
        .health_becomes(|health| matches!(health, Health::Failing(_)))
        .await;
    fixture.nats.restart();
    let before = record.len();
    eventually("messages again", || record.len() > before + 100).await;
    stop.cancel();
    for task in publishing {
        task.await.unwrap();
    }
    fixture
        .health_becomes(|health| *health == Health::Healthy)
        .await;
    // What came after the server was back arrives, every one: the subscription is whole again.
    let before = record.len();
    eventually("quiet", || record.running() == 0).await;
    for _ in 0..100 {
        assert_eq!(sender.publish(&message("work", "y")).await.unwrap(), Ok(()));
    }
    eventually("the last hundred", || record.len() >= before + 100).await;
}

#[tokio::test]
async fn a_server_that_stays_away_fails_its_callers_at_once() {
    let mut fixture = Fixture::start().await;
    let app = fixture.sender("app", []).await;
    assert_eq!(app.publish(&message("a", "")).await.unwrap(), Ok(()));
    fixture.nats.kill();
    // One is under way when the connection goes, another may wait a while for it to come back.
    for _ in 0..2 {
        assert!(app.publish(&message("a", "")).await.unwrap().is_err());
    }
    let began = Instant::now();
    for _ in 0..10 {
        let told = app.publish(&message("a", "")).await.unwrap();
        assert!(told.unwrap_err().contains("not connected"));
    }
    let asked = app.request("a", b"", 5_000).await.unwrap();
    assert!(asked.unwrap_err().contains("not connected"));
    // Had each of them waited for the connection to come back, it would have been 2 s each.
    assert!(began.elapsed() < Duration::from_secs(15));
    fixture.nats.restart();
    fixture
        .health_becomes(|health| *health == Health::Healthy)
        .await;
    assert_eq!(app.publish(&message("a", "")).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_killed_server_loses_nothing_of_a_stream() {
    let mut fixture = Fixture::start().await;
    let context = jetstream::new(fixture.nats.client().await);
    let orders = stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    let workers = pull::Config {
        durable_name: Some("workers".to_owned()),
        ack_wait: Duration::from_secs(2),
        ..Default::default()
    };
    let orders = context.create_stream(orders).await.unwrap();
    orders.create_consumer(workers).await.unwrap();
    let record = fixture.recording("app", Duration::from_millis(2));
    let link = [("stream", "ORDERS"), ("consumer", "workers")];
    fixture.receiver("app", link, 1).await.unwrap();
    let mut sender = fixture.sender("sender", [("publish_ack", "stream")]).await;
    sender.0 = sender.0.within(Duration::from_secs(10));
    let mut confirmed = Vec::new();
    for number in 0..300 {
        if number == 100 {
            fixture.nats.kill();
            let body = message("orders.new", "away");
            assert!(sender.publish(&body).await.unwrap().is_err());
            fixture.nats.restart();
            fixture
                .health_becomes(|health| *health == Health::Healthy)
                .await;
        }
        let body = format!("{number:03}");
        if sender
            .publish(&message("orders.new", &body))
            .await
            .unwrap()
            .is_ok()
        {
            confirmed.push(body);
        }
    }
    assert!(confirmed.len() > 250, "{}", confirmed.len());
    eventually("all that was confirmed", || {
        let bodies = record.bodies();
        confirmed.iter().all(|body| bodies.contains(body))
    })
    .await;
}

#[tokio::test]
async fn wrong_credentials_are_said_to_the_actor_and_to_the_operator() {
    let nats = Nats::with_config("authorization { users: [ { user: u, password: right } ] }");
    let url = nats.url().replace("nats://", "nats://u:wrong@");
    let fixture = Fixture::on(nats).await;
    let app = fixture
        .sender("app", [("cluster_uris", url.as_str())])
        .await;
    let error = app.publish(&message("a", "")).await.unwrap().unwrap_err();
    assert!(error.contains("authorization"), "{error}");
    assert!(!error.contains("wrong"), "{error}");
    let link = [("cluster_uris", url.as_str()), ("subscriptions", "a")];
    fixture.receiver("app", link, 1).await.unwrap();
    let failing = |health: &Health| matches!(health, Health::Failing(reason) if reason.contains("authorization"));
    fixture.health_becomes(failing).await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_costs_its_callers_no_more_than_their_time() {
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", silent.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        let mut open = Vec::new();
        while let Ok((connection, _)) = silent.accept().await {
            open.push(connection);
        }
    });
    held_to_its_deadline(&url).await;
    accepting.abort();
}

#[tokio::test]
async fn a_server_that_greets_and_then_is_silent_costs_its_callers_no_more_than_their_time() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("nats://{}", listener.local_addr().unwrap());
    let accepting = tokio::spawn(async move {
        while let Ok((mut connection, _)) = listener.accept().await {
            tokio::spawn(async move {
                let info = r#"{"server_id":"x","version":"2.11.0","headers":true,"max_payload":1048576,"proto":1}"#;
                let greeting = format!("INFO {info}\r\n");
                connection.write_all(greeting.as_bytes()).await.unwrap();
                let mut bytes = [0; 4096];
                // The first ping belongs to the greeting.
                let _ = connection.read(&mut bytes).await;
                connection.write_all(b"PONG\r\n").await.unwrap();
                while connection.read(&mut bytes).await.is_ok_and(|read| read > 0) {}
            });
        }
    });
    held_to_its_deadline(&url).await;
    accepting.abort();
}

async fn held_to_its_deadline(url: &str) {
    let harness = Harness::new("messaging").with_config("cluster_uris", url);
    let provider = harness.start(&Factory).await.unwrap();
    let link = harness.link_from("app", PACKAGE, &["consumer"], []);
    provider.link_put(link).await.unwrap();
    let app = harness.caller(&provider, "app");
    // Whether it is held to is seen by the kind of answer: past the deadline it would be a refusal.
    let app = consumer::Client(app.within(Duration::from_millis(700)));
    let asking = (0..20).map(|number| {
        let app = &app;
        async move {
            let told = match number % 2 {
                0 => app.publish(&message("a", "")).await.unwrap(),
                _ => app.request("a", b"", 60_000).await.unwrap().map(|_| ()),
            };
            assert!(told.is_err());
        }
    });
    futures::future::join_all(asking).await;
    // A link to a receiver is put all the same, and goes again.
    let link = harness.link_to("app", PACKAGE, &["handler"], [("subscriptions", "a")]);
    let began = Instant::now();
    provider.link_put(link.clone()).await.unwrap();
    provider.link_delete(&link.key, LinkEnd::Source).await;
    provider.shutdown(Duration::from_secs(2)).await;
    assert!(began.elapsed() < WITHIN);
}

#[tokio::test]
async fn a_frozen_server_is_waited_for_within_the_deadline_and_goes_on_afterwards() {
    let fixture = Fixture::start().await;
    let mut app = fixture.sender("app", []).await;
    assert_eq!(app.publish(&message("a", "")).await.unwrap(), Ok(()));
    app.0 = app.0.within(Duration::from_secs(2));
    fixture.nats.signal(Signal::STOP);
    // Its threads stop one by one, so it may confirm some more.
    let frozen = Instant::now();
    let told = loop {
        match app.publish(&message("a", "")).await {
            Ok(Ok(())) if frozen.elapsed() < WITHIN => {}
            told => break told,
        }
    };
    fixture.nats.signal(Signal::CONT);
    let error = told.unwrap().unwrap_err();
    assert_eq!(
        error,
        "the server did not confirm the message: it may have been sent"
    );
    app.0 = app.0.within(Duration::from_secs(10));
    assert_eq!(app.publish(&message("a", "")).await.unwrap(), Ok(()));
}

#[tokio::test]
async fn a_link_is_good_while_its_server_is_away() {
    let mut nats = Nats::start();
    nats.kill();
    let mut fixture = Fixture::on(nats).await;
    let record = fixture.recording("app", Duration::ZERO);
    fixture
        .receiver("app", [("subscriptions", "work")], 1)
        .await
        .unwrap();
    let app = fixture.sender("app", []).await;
    assert!(app.publish(&message("work", "x")).await.unwrap().is_err());
    fixture.nats.restart();
    fixture
        .health_becomes(|health| *health == Health::Healthy)
        .await;
    assert_eq!(app.publish(&message("work", "x")).await.unwrap(), Ok(()));
    eventually("the message", || record.len() == 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_server_refuses_is_known_again_after_it_came_back() {
    let nats = Nats::with_config(
        "authorization { users = [ { user: app, password: p, permissions: { publish: { deny: [\"secret.>\"] } } } ] }",
    );
    let uris = nats.url().replace("nats://", "nats://app:p@");
    let mut fixture = Fixture::on(nats).await;
    let app = fixture
        .sender("app", [("cluster_uris", uris.as_str())])
        .await;
    for round in 0..3 {
        for number in 0..20 {
            let secret = message(&format!("secret.{round}.{number}"), "x");
            let told = app.publish(&secret).await.unwrap().unwrap_err();
            assert!(told.contains("does not permit"), "{told}");
            let open = message(&format!("open.{round}.{number}"), "x");
            assert_eq!(app.publish(&open).await.unwrap(), Ok(()));
        }
        fixture.nats.kill();
        let away = app.publish(&message("open", "x")).await.unwrap();
        assert!(away.is_err());
        fixture.nats.restart();
        fixture
            .health_becomes(|health| *health == Health::Healthy)
            .await;
    }
}
