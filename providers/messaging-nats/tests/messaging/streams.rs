//! Messages of a JetStream consumer, and publishing to a stream.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::{AckPolicy, pull};
use async_nats::jetstream::{self, stream};
use trellis_provider_sdk::{Health, LinkEnd, Refusal, RefusalCode};

use crate::fixture::{Fixture, Nats, WITHIN, eventually, handled, message, message_of, text_of};

async fn make(fixture: &Fixture, consumer: pull::Config) -> jetstream::Context {
    let context = jetstream::new(fixture.nats.client().await);
    let stream = context
        .create_stream(stream::Config {
            name: "ORDERS".to_owned(),
            subjects: vec!["orders.>".to_owned()],
            ..Default::default()
        })
        .await
        .unwrap();
    let consumer = pull::Config {
        durable_name: Some("workers".to_owned()),
        ..consumer
    };
    stream.create_consumer(consumer).await.unwrap();
    context
}

const LINK: [(&str, &str); 3] = [
    ("stream", "ORDERS"),
    ("consumer", "workers"),
    ("max_in_flight", "4"),
];

async fn publish(context: &jetstream::Context, body: &str) {
    let published = context
        .publish("orders.new", body.to_owned().into())
        .await
        .unwrap();
    published.await.unwrap();
}

async fn all_are_acknowledged(context: &jetstream::Context) {
    let deadline = Instant::now() + WITHIN;
    while unacknowledged(context).await > 0 {
        assert!(Instant::now() < deadline, "some are still there");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn unacknowledged(context: &jetstream::Context) -> u64 {
    let stream = context.get_stream("ORDERS").await.unwrap();
    let info = stream.consumer_info("workers").await.unwrap();
    info.num_pending + info.num_ack_pending as u64
}

#[tokio::test]
async fn each_message_of_a_stream_is_handled_and_acknowledged() {
    let fixture = Fixture::start().await;
    let context = make(&fixture, pull::Config::default()).await;
    for number in 0..20 {
        publish(&context, &format!("before {number}")).await;
    }
    let record = fixture.recording("app", Duration::from_millis(5));
    fixture.receiver("app", LINK, 1).await.unwrap();
    for number in 0..20 {
        publish(&context, &format!("after {number}")).await;
    }
    eventually("forty messages", || record.len() == 40).await;
    assert!(record.most_running() <= 4);
    let got = record.messages();
    assert!(
        got.iter()
            .all(|m| m.subject == "orders.new" && m.reply_to.is_none())
    );
    all_are_acknowledged(&context).await;
    assert_eq!(record.len(), 40);
}

#[tokio::test]
async fn what_was_not_handled_comes_again_for_whatever_reason_it_was_not() {
    let fixture = Fixture::start().await;
    let context = make(&fixture, pull::Config::default()).await;
    let attempts = Arc::<Mutex<BTreeMap<String, u32>>>::default();
    let counted = attempts.clone();
    fixture.harness.actor("app", move |call| {
        let body = text_of(&message_of(&call.payload));
        let attempt = {
            let mut counted = counted.lock().unwrap();
            let attempt = counted.entry(body.clone()).or_default();
            *attempt += 1;
            *attempt
        };
        async move {
            match &*body {
                "fails once" if attempt == 1 => handled(Err("not now".to_owned())),
                "traps once" if attempt == 1 => {
                    Err(Refusal::new(RefusalCode::Trapped, "it stopped"))
                }
                "refused once" if attempt == 1 => {
                    // As where the actor itself was refused something, or is not the right one for a moment.
                    Err(Refusal::new(RefusalCode::TypeMismatch, "other type"))
                }
                _ => handled(Ok(())),
            }
        }
    });
    fixture.receiver("app", LINK, 1).await.unwrap();
    for body in ["fails once", "traps once", "refused once", "good"] {
        publish(&context, body).await;
    }
    let of = |body: &str| attempts.lock().unwrap().get(body).copied().unwrap_or(0);
    eventually("the redeliveries", || {
        of("fails once") == 2 && of("traps once") == 2 && of("refused once") == 2
    })
    .await;
    all_are_acknowledged(&context).await;
    assert_eq!(of("good"), 1);
}

#[tokio::test]
async fn a_poisonous_message_comes_as_often_as_its_consumer_says_and_stops_no_other() {
    let fixture = Fixture::start().await;
    let consumer = pull::Config {
        max_deliver: 2,
        ..Default::default()
    };
    let context = make(&fixture, consumer).await;
    let (poison, good) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let (poisoned, well) = (poison.clone(), good.clone());
    fixture.harness.actor("app", move |call| {
        let is_poison = text_of(&message_of(&call.payload)) == "poison";
        let counter = if is_poison { &poisoned } else { &well };
        counter.fetch_add(1, Ordering::Relaxed);
        async move {
            match is_poison {
                true => Err(Refusal::new(RefusalCode::Trapped, "it stopped")),
                false => handled(Ok(())),
            }
        }
    });
    fixture.receiver("app", LINK, 1).await.unwrap();
    for body in ["poison", "good", "poison", "good"] {
        publish(&context, body).await;
    }
    eventually("both deliveries of both", || {
        poison.load(Ordering::Relaxed) == 4
    })
    .await;
    publish(&context, "good").await;
    eventually("the good ones", || good.load(Ordering::Relaxed) == 3).await;
    tokio::time::sleep(Duration::from_millis(2500)).await;
    assert_eq!(poison.load(Ordering::Relaxed), 4);
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn what_no_call_can_carry_is_not_sent_again() {
    let fixture = Fixture::on(Nats::with_config("max_payload: 8388608")).await;
    let context = make(&fixture, pull::Config::default()).await;
    let record = fixture.recording("app", Duration::ZERO);
    publish(&context, &"x".repeat(5 * 1024 * 1024)).await;
    publish(&context, "good").await;
    fixture.receiver("app", LINK, 1).await.unwrap();
    eventually("the good one", || record.len() == 1).await;
    all_are_acknowledged(&context).await;
    assert_eq!(record.bodies(), ["good"]);
}

#[tokio::test]
async fn while_the_actor_works_the_message_is_not_handed_out_again() {
    let fixture = Fixture::start().await;
    let consumer = pull::Config {
        ack_wait: Duration::from_secs(3),
        ..Default::default()
    };
    let context = make(&fixture, consumer).await;
    let record = fixture.recording("app", Duration::from_secs(7));
    fixture.receiver("app", LINK, 1).await.unwrap();
    publish(&context, "long").await;
    eventually("it is handled", || record.len() == 1).await;
    all_are_acknowledged(&context).await;
    assert_eq!((record.len(), record.running()), (1, 0));
}

#[tokio::test]
async fn a_link_that_goes_leaves_the_rest_in_the_stream() {
    let fixture = Fixture::start().await;
    let context = make(&fixture, pull::Config::default()).await;
    let record = fixture.recording("app", Duration::from_millis(200));
    let link = fixture.link_to("app", LINK, 1);
    fixture.provider.link_put(link.clone()).await.unwrap();
    for number in 0..40 {
        publish(&context, &format!("{number}")).await;
    }
    eventually("some", || record.len() > 3).await;
    let end = LinkEnd::Source;
    fixture.provider.link_delete(&link.key, end).await;
    let handled = record.len();
    assert_eq!(record.running(), 0);
    assert!(handled < 40);
    tokio::time::sleep(Duration::from_millis(300)).await;
    assert_eq!(record.len(), handled);
    fixture.provider.link_put(link).await.unwrap();
    eventually("the rest", || record.len() == 40).await;
    let mut expected: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    expected.sort();
    assert_eq!(record.bodies(), expected);
}

#[tokio::test]
async fn a_consumer_that_is_missing_is_failing_until_it_is_there() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("app", Duration::ZERO);
    fixture.receiver("app", LINK, 1).await.unwrap();
    let names_it = |health: &Health| matches!(health, Health::Failing(reason) if reason.contains("stream ORDERS, consumer workers"));
    fixture.health_becomes(names_it).await;
    let context = make(&fixture, pull::Config::default()).await;
    publish(&context, "x").await;
    eventually("the message", || record.len() == 1).await;
    fixture
        .health_becomes(|health| *health == Health::Healthy)
        .await;
}

#[tokio::test]
async fn a_consumer_without_explicit_acknowledgements_is_not_used() {
    let fixture = Fixture::start().await;
    let consumer = pull::Config {
        ack_policy: AckPolicy::None,
        ..Default::default()
    };
    make(&fixture, consumer).await;
    fixture.receiver("app", LINK, 1).await.unwrap();
    let says_so =
        |health: &Health| matches!(health, Health::Failing(reason) if reason.contains("explicit"));
    fixture.health_becomes(says_so).await;
}

#[tokio::test]
async fn a_stream_confirms_what_it_keeps() {
    let fixture = Fixture::start().await;
    let context = make(&fixture, pull::Config::default()).await;
    let app = fixture.sender("app", [("publish_ack", "stream")]).await;
    let sent = message("orders.new", "kept");
    assert_eq!(app.publish(&sent).await.unwrap(), Ok(()));
    assert_eq!(unacknowledged(&context).await, 1);
    let lost = app.publish(&message("elsewhere", "x")).await.unwrap();
    assert_eq!(
        lost.unwrap_err(),
        "no stream confirmed the message: none has the subject `elsewhere`"
    );
}
