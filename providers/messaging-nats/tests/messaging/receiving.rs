//! What reaches an actor, how much at once, and how it answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::StreamExt;
use trellis_messaging_nats::Factory;
use trellis_messaging_nats::wit::types::BrokerMessage;
use trellis_provider_sdk::harness::Harness;
use trellis_provider_sdk::{Refusal, RefusalCode};

use crate::fixture::{Fixture, PACKAGE, WITHIN, eventually, handled, message, message_of, text_of};

const AT_ONCE: Duration = Duration::ZERO;

#[tokio::test]
async fn a_message_on_a_subject_of_the_link_reaches_its_actor() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("app", AT_ONCE);
    let config = [("subscriptions", "orders.*,audit.>")];
    fixture.receiver("app", config, 1).await.unwrap();
    let client = fixture.nats.client().await;
    // The link is put, so the subscription is there: nothing needs to be waited for.
    client.publish("orders.new", "one".into()).await.unwrap();
    client
        .publish_with_reply("audit.a.b", "answers.here", "two".into())
        .await
        .unwrap();
    client.publish("orders", "no".into()).await.unwrap();
    client.publish("orders.new.x", "no".into()).await.unwrap();
    client.publish("orders.last", "three".into()).await.unwrap();
    client.flush().await.unwrap();
    eventually("three messages", || record.len() == 3).await;
    assert_eq!(record.bodies(), ["one", "three", "two"]);
    let two = record.messages().into_iter().find(|m| text_of(m) == "two");
    let two = two.unwrap();
    assert_eq!(two.subject, "audit.a.b");
    assert_eq!(two.reply_to.as_deref(), Some("answers.here"));
}

#[tokio::test]
async fn the_members_of_a_queue_group_share_the_messages_and_others_get_all_of_them() {
    let fixture = Fixture::start().await;
    // Another host's provider of the same id.
    let other = Harness::new("messaging").with_config("cluster_uris", fixture.nats.url());
    let other_provider = other.start(&Factory).await.unwrap();
    let counts: [Arc<AtomicUsize>; 2] = Default::default();
    let mut records = Vec::new();
    for (harness, provider, count) in [
        (&fixture.harness, &fixture.provider, &counts[0]),
        (&other, &other_provider, &counts[1]),
    ] {
        let (worker, spy) = (Arc::new(AtomicUsize::new(0)), count.clone());
        records.push(worker.clone());
        harness.actor("worker", move |_| {
            worker.fetch_add(1, Ordering::Relaxed);
            async { handled(Ok(())) }
        });
        harness.actor("spy", move |_| {
            spy.fetch_add(1, Ordering::Relaxed);
            async { handled(Ok(())) }
        });
        for (actor, subscriptions) in [("worker", "jobs|workers"), ("spy", "jobs")] {
            let config = [("subscriptions", subscriptions), ("max_in_flight", "64")];
            let mut link = harness.link_to(actor, PACKAGE, &["handler"], config);
            link.key.name = trellis_provider_sdk::LinkName::new(actor).unwrap();
            provider.link_put(link).await.unwrap();
        }
    }
    let client = fixture.nats.client().await;
    for number in 0..400 {
        client
            .publish("jobs", format!("{number}").into())
            .await
            .unwrap();
    }
    client.flush().await.unwrap();
    let worked = || {
        records
            .iter()
            .map(|r| r.load(Ordering::Relaxed))
            .sum::<usize>()
    };
    eventually("each job once", || worked() == 400).await;
    eventually("each spy all", || {
        counts.iter().all(|c| c.load(Ordering::Relaxed) == 400)
    })
    .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(worked(), 400);
    assert!(records.iter().all(|r| r.load(Ordering::Relaxed) > 50));
}

#[tokio::test]
async fn an_actor_answers_a_requester_by_publishing_to_its_inbox() {
    let fixture = Fixture::start().await;
    let app = fixture.sender("echo", []).await;
    let stranger = fixture.sender("stranger", []).await;
    fixture.harness.actor("echo", move |call| {
        let (app, stranger) = (app.clone(), stranger.clone());
        async move {
            let asked = message_of(&call.payload);
            let answer = BrokerMessage {
                subject: asked.reply_to.unwrap(),
                body: asked.body,
                reply_to: None,
            };
            // Somebody who was not handed the inbox may not.
            assert!(stranger.publish(&answer).await?.is_err());
            handled(app.publish(&answer).await?)
        }
    });
    let config = [("subscriptions", "echo|e")];
    fixture.receiver("echo", config, 1).await.unwrap();
    let client = fixture.nats.client().await;
    for _ in 0..10 {
        let answer = client.request("echo", "hello".into()).await.unwrap();
        assert_eq!(answer.payload, "hello");
    }
    // Both ways through the provider.
    let asker = fixture.sender("asker", []).await;
    let answer = asker.request("echo", b"again", 60_000).await.unwrap();
    assert_eq!(text_of(&answer.unwrap()), "again");
}

#[tokio::test]
async fn a_message_cannot_make_its_receiver_publish_to_the_lattice() {
    let fixture = Fixture::start().await;
    let app = fixture.sender("echo", []).await;
    let told = Arc::new(std::sync::Mutex::new(Vec::new()));
    let kept = told.clone();
    fixture.harness.actor("echo", move |call| {
        let (app, kept) = (app.clone(), kept.clone());
        async move {
            let reply_to = message_of(&call.payload).reply_to.unwrap();
            let answered = app.publish(&message(&reply_to, "x")).await?;
            kept.lock().unwrap().push(answered);
            handled(Ok(()))
        }
    });
    let config = [("subscriptions", "echo")];
    fixture.receiver("echo", config, 1).await.unwrap();
    let client = fixture.nats.client().await;
    let forged = "wasmbus.ctl.v1.default.host.stop.N";
    client
        .publish_with_reply("echo", forged, "".into())
        .await
        .unwrap();
    client.flush().await.unwrap();
    eventually("an answer", || !told.lock().unwrap().is_empty()).await;
    let told = told.lock().unwrap()[0].clone();
    assert!(told.unwrap_err().contains("does not allow"));
}

#[tokio::test]
async fn a_wildcard_of_a_link_does_not_mean_the_lattices_own_subjects() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("app", AT_ONCE);
    fixture
        .receiver("app", [("subscriptions", ">")], 1)
        .await
        .unwrap();
    let client = fixture.nats.client().await;
    for subject in [
        "wasmbus.evt.x.y",
        "trellis.presence.v1.x.N",
        "_INBOX.a.b",
        "mine",
    ] {
        client.publish(subject, subject.into()).await.unwrap();
    }
    client.flush().await.unwrap();
    eventually("my message", || record.len() == 1).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(record.bodies(), ["mine"]);
}

#[tokio::test]
async fn a_slow_actor_has_so_many_at_once_and_no_more_and_the_rest_waits_within_limits() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("slow", Duration::from_millis(20));
    let quick = fixture.recording("quick", AT_ONCE);
    let config = [("subscriptions", "work"), ("max_in_flight", "4")];
    fixture.receiver("slow", config, 1).await.unwrap();
    let mut link = fixture.link_to("quick", [("subscriptions", "other")], 1);
    link.key.name = trellis_provider_sdk::LinkName::new("quick").unwrap();
    fixture.provider.link_put(link).await.unwrap();
    let client = fixture.nats.client().await;
    for number in 0..5_000 {
        client
            .publish("work", format!("{number}").into())
            .await
            .unwrap();
    }
    client.publish("other", "through".into()).await.unwrap();
    client.flush().await.unwrap();
    // Nobody else on the connection waits for the slow one.
    eventually("the other subscription", || quick.len() == 1).await;
    // What exceeds the limits is given up, and the actor goes on.
    let mut afterwards = 0;
    let deadline = Instant::now() + WITHIN;
    while !record.bodies().iter().any(|body| body == "afterwards") {
        assert!(Instant::now() < deadline, "nothing comes any more");
        client.publish("work", "afterwards".into()).await.unwrap();
        client.flush().await.unwrap();
        afterwards += 1;
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    assert_eq!(record.most_running(), 4);
    let kept = record.len();
    assert!((1024..5_000).contains(&kept), "{kept}, {afterwards}");
}

#[tokio::test]
async fn a_few_large_messages_wait_and_many_do_not() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("slow", Duration::from_millis(100));
    let config = [("subscriptions", "work"), ("max_in_flight", "1")];
    fixture.receiver("slow", config, 1).await.unwrap();
    let client = fixture.nats.client().await;
    for _ in 0..40 {
        client
            .publish("work", vec![b'x'; 1_000_000].into())
            .await
            .unwrap();
        client.flush().await.unwrap();
    }
    // 8 MiB wait, one is handled.
    eventually("all that was kept", || {
        record.len() >= 9 && record.running() == 0
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert!((9..20).contains(&record.len()), "{}", record.len());
}

#[tokio::test]
async fn an_actor_that_has_no_room_is_offered_the_message_again() {
    let fixture = Fixture::start().await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    fixture.harness.actor("busy", move |_| {
        let attempt = counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match attempt {
                0 => Err(Refusal::new(RefusalCode::Overloaded, "no room")),
                1 => Err(Refusal::new(RefusalCode::NoRoute, "nobody")),
                _ => handled(Ok(())),
            }
        }
    });
    fixture
        .receiver("busy", [("subscriptions", "work")], 1)
        .await
        .unwrap();
    let client = fixture.nats.client().await;
    client.publish("work", "".into()).await.unwrap();
    client.flush().await.unwrap();
    eventually("the third attempt", || {
        attempts.load(Ordering::Relaxed) == 3
    })
    .await;
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(attempts.load(Ordering::Relaxed), 3);
}

#[tokio::test]
async fn what_may_have_been_done_is_not_done_again_and_no_message_is_offered_for_ever() {
    let fixture = Fixture::start().await;
    let attempts = Arc::new(AtomicUsize::new(0));
    let counted = attempts.clone();
    fixture.harness.actor("app", move |call| {
        counted.fetch_add(1, Ordering::Relaxed);
        async move {
            match &*text_of(&message_of(&call.payload)) {
                "trap" => Err(Refusal::new(RefusalCode::Trapped, "it stopped")),
                "error" => handled(Err("no".to_owned())),
                _ => Err(Refusal::new(RefusalCode::Overloaded, "never any room")),
            }
        }
    });
    fixture
        .receiver("app", [("subscriptions", "work")], 1)
        .await
        .unwrap();
    let client = fixture.nats.client().await;
    for (body, expected) in [("trap", 1), ("error", 2), ("busy", 8)] {
        client.publish("work", body.into()).await.unwrap();
        client.flush().await.unwrap();
        eventually(body, || attempts.load(Ordering::Relaxed) == expected).await;
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!(attempts.load(Ordering::Relaxed), expected, "{body}");
    }
}

#[tokio::test]
async fn a_shutdown_finishes_what_is_handled_and_takes_no_more() {
    let fixture = Fixture::start().await;
    // Long enough that all ten are seen at once.
    let record = fixture.recording("slow", Duration::from_secs(2));
    fixture
        .receiver("slow", [("subscriptions", "work")], 1)
        .await
        .unwrap();
    let client = fixture.nats.client().await;
    let mut spy = client.subscribe("work").await.unwrap();
    for number in 0..10 {
        client
            .publish("work", format!("{number}").into())
            .await
            .unwrap();
    }
    client.flush().await.unwrap();
    eventually("ten begun", || record.running() == 10).await;
    fixture.provider.shutdown(WITHIN).await;
    assert_eq!(record.len(), 10);
    client.publish("work", "late".into()).await.unwrap();
    while spy.next().await.unwrap().payload != "late" {}
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!((record.len(), record.running()), (10, 0));
    let app = fixture.harness.caller(&fixture.provider, "slow");
    let refusal = trellis_messaging_nats::wit::consumer::Client(app)
        .publish(&message("a", ""))
        .await
        .unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Draining);
}
