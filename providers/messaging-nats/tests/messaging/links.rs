//! Links come, change and go while messages come.

use std::time::Duration;

use trellis_provider_sdk::{Health, LinkEnd, LinkError};

use crate::fixture::{Fixture, eventually, message};

/// Publishes numbers until it is told to stop; gives back how many.
struct Stream {
    stop: tokio_util::sync::CancellationToken,
    task: tokio::task::JoinHandle<usize>,
}

impl Stream {
    async fn on(fixture: &Fixture, subject: &'static str) -> Self {
        let client = fixture.nats.client().await;
        let stop = tokio_util::sync::CancellationToken::new();
        let stopping = stop.clone();
        let task = tokio::spawn(async move {
            let mut sent = 0;
            while !stopping.is_cancelled() {
                client
                    .publish(subject, format!("{sent}").into())
                    .await
                    .unwrap();
                sent += 1;
                if sent % 20 == 0 {
                    client.flush().await.unwrap();
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
            }
            client.flush().await.unwrap();
            sent
        });
        Self { stop, task }
    }

    async fn end(self) -> usize {
        self.stop.cancel();
        self.task.await.unwrap()
    }
}

fn numbers(count: usize) -> Vec<String> {
    let mut numbers: Vec<_> = (0..count).map(|number| number.to_string()).collect();
    numbers.sort();
    numbers
}

#[tokio::test]
async fn a_link_that_changes_under_load_loses_and_doubles_nothing() {
    let fixture = Fixture::start().await;
    let (first, second) = (
        fixture.recording("first", Duration::ZERO),
        fixture.recording("second", Duration::ZERO),
    );
    let mut link = fixture.link_to("first", [("subscriptions", "work|w")], 1);
    fixture.provider.link_put(link.clone()).await.unwrap();
    let stream = Stream::on(&fixture, "work").await;
    for generation in 2..40 {
        // Another subject beside it, other limits, another actor: the subscription stays.
        let (subscriptions, in_flight) = match generation % 3 {
            0 => ("work|w", "7"),
            1 => ("work|w, more.>", "64"),
            _ => ("even.more, work|w", "32"),
        };
        link.generation = generation;
        link.config = [
            ("subscriptions".to_owned(), subscriptions.to_owned()),
            ("max_in_flight".to_owned(), in_flight.to_owned()),
        ]
        .into();
        let actor = if generation % 2 == 0 {
            "second"
        } else {
            "first"
        };
        link.target = trellis_provider_sdk::EntityId::new(actor).unwrap();
        fixture.provider.link_put(link.clone()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    let sent = stream.end().await;
    eventually("every message", || first.len() + second.len() >= sent).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let mut bodies = [first.bodies(), second.bodies()].concat();
    bodies.sort();
    assert!(first.len() > 0 && second.len() > 0);
    assert!(bodies == numbers(sent), "{} of {sent}", bodies.len());
}

#[tokio::test]
async fn a_subject_that_moves_to_a_queue_group_loses_nothing() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("app", Duration::ZERO);
    fixture
        .receiver("app", [("subscriptions", "work|a")], 1)
        .await
        .unwrap();
    let client = fixture.nats.client().await;
    for generation in 2..12 {
        let queue = if generation % 2 == 0 {
            "work|b"
        } else {
            "work|a"
        };
        let before = record.len();
        client.publish("work", "between".into()).await.unwrap();
        client.flush().await.unwrap();
        eventually("the message", || record.len() > before).await;
        fixture
            .receiver("app", [("subscriptions", queue)], generation)
            .await
            .unwrap();
    }
}

#[tokio::test]
async fn a_link_that_goes_finishes_what_is_handled_and_gets_nothing_more() {
    let fixture = Fixture::start().await;
    // Long enough that all five are seen at once.
    let record = fixture.recording("app", Duration::from_secs(2));
    let link = fixture.link_to("app", [("subscriptions", "work")], 1);
    fixture.provider.link_put(link.clone()).await.unwrap();
    let client = fixture.nats.client().await;
    for _ in 0..5 {
        client.publish("work", "x".into()).await.unwrap();
    }
    client.flush().await.unwrap();
    eventually("five begun", || record.running() == 5).await;
    let end = LinkEnd::Source;
    fixture.provider.link_delete(&link.key, end).await;
    assert_eq!((record.len(), record.running()), (5, 0));
    client.publish("work", "late".into()).await.unwrap();
    client.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!((record.len(), record.running()), (5, 0));
    // It comes back as if it had never been there.
    fixture.provider.link_put(link).await.unwrap();
    client.publish("work", "again".into()).await.unwrap();
    client.flush().await.unwrap();
    eventually("the next message", || record.len() == 6).await;
}

#[tokio::test]
async fn links_come_and_go_under_load_and_the_last_one_works() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("app", Duration::from_millis(1));
    let stream = Stream::on(&fixture, "work").await;
    for generation in 1..15 {
        let link = fixture.link_to("app", [("subscriptions", "work")], generation);
        let key = link.key.clone();
        fixture.provider.link_put(link).await.unwrap();
        tokio::time::sleep(Duration::from_millis(10)).await;
        fixture.provider.link_delete(&key, LinkEnd::Source).await;
        assert_eq!(record.running(), 0);
    }
    stream.end().await;
    assert!(record.len() > 0);
    let before = record.len();
    fixture
        .receiver("app", [("subscriptions", "work")], 99)
        .await
        .unwrap();
    let sender = fixture.sender("other", []).await;
    assert_eq!(sender.publish(&message("work", "x")).await.unwrap(), Ok(()));
    eventually("the last message", || record.len() == before + 1).await;
}

#[tokio::test]
async fn a_link_that_cannot_be_served_says_why_and_no_longer_serves() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("app", Duration::ZERO);
    fixture
        .receiver("app", [("subscriptions", "work")], 1)
        .await
        .unwrap();
    let refused = fixture
        .receiver("app", [("subscriptions", "a..b")], 2)
        .await;
    let Err(LinkError::Config { key, .. }) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(key, "subscriptions");
    // The same and older generations change nothing.
    assert!(
        fixture
            .receiver("app", [("subscriptions", "work")], 2)
            .await
            .is_err()
    );
    assert!(
        fixture
            .receiver("app", [("subscriptions", "work")], 1)
            .await
            .is_err()
    );
    let client = fixture.nats.client().await;
    client.publish("work", "x".into()).await.unwrap();
    client.flush().await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(record.len(), 0);
    fixture
        .receiver("app", [("subscriptions", "work")], 3)
        .await
        .unwrap();
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}
