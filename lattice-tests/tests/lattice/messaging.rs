//! Messages to and from actors: published by one, counted by another, each once.

use std::time::Duration;

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::stream;
use trellis_lattice_tests::deploy::link;
use trellis_lattice_tests::http::get;
use trellis_lattice_tests::process::kill_providers;
use trellis_lattice_tests::wait::eventually_within;
use trellis_lattice_tests::{AnyHost, Door, Lattice, Place, Setting, eventually};
use trellis_protocol::Link;

use crate::setting::over_all_settings;
use crate::shortlink::{App, store_link};

/// Time that each request has.
const DEADLINE: Duration = Duration::from_secs(10);

/// Messages that are sent at once.
const MESSAGES: u64 = 200;

/// Longest until what a killed server and a killed provider had in hand has come again.
const HANDLED_WITHIN: Duration = Duration::from_secs(60);

/// What `shortlink` publishes on.
const SUBJECT: &str = "shortlink.clicks";

/// With the queue group that counts them.
const SUBSCRIPTION: &str = "shortlink.clicks|counters";

over_all_settings! {
    a_click_is_published_by_one_actor_and_counted_by_another
}

/// Runs `clicks`, with its store, behind HTTP; gives back its URL.
async fn count_clicks(lattice: &Lattice, home: &AnyHost) -> String {
    lattice.run(home, "clicks").await;
    let store = link("clicks", "kv", "wasi:keyvalue/store,atomics");
    lattice.operator().link(&store).await;
    lattice.serve(home, "clicks").await
}

/// Lets `clicks` hear what a provider subscribes to.
async fn listen(lattice: &Lattice, broker: &str) -> Link {
    let handler = link(broker, "clicks", "wasmcloud:messaging/handler");
    lattice
        .link_from(handler, &[("subscriptions", SUBSCRIPTION)])
        .await
}

async fn counted(url: &str, code: &str) -> u64 {
    let answer = get(&format!("{url}/clicks/{code}")).await;
    answer.json()["clicks"].as_u64().unwrap_or_default()
}

/// A message as `shortlink` publishes it.
fn message(code: &str) -> bytes::Bytes {
    serde_json::json!({ "code": code }).to_string().into()
}

async fn a_click_is_published_by_one_actor_and_counted_by_another(setting: Setting) {
    let lattice = Lattice::start().await;
    let hosts = lattice.hosts(setting).await;
    let home = setting.actor();
    lattice.store(&hosts[home]).await;
    lattice.operator().link(&store_link()).await;
    let app = App::install(lattice, hosts, home, DEADLINE).await;
    let (lattice, home) = (&app.lattice, &app.hosts[home]);
    let url = count_clicks(lattice, home).await;
    lattice
        .provide(setting.door, &app.hosts[0], "messaging-nats", "broker", &[])
        .await;
    let publish = link("shortlink", "broker", "wasmcloud:messaging/consumer");
    lattice.operator().link(&publish).await;
    let listening = listen(lattice, "broker").await;

    let short = app.short("https://example.org/told").await;
    let code = short.rsplit('/').next().expect("a code").to_owned();
    let mut followed = 0;
    eventually("the first click is heard of", async || {
        assert_eq!(get(&short).await.status, 302);
        followed += 1;
        (counted(&url, &code).await > 0).then_some(())
    })
    .await;
    // Those before may have been published before anybody listened; from now on each is counted.
    tokio::time::sleep(Duration::from_millis(200)).await;
    let before = counted(&url, &code).await;
    assert!(before <= followed);
    for _ in 0..20 {
        assert_eq!(get(&short).await.status, 302);
    }
    eventually("all clicks are counted", async || {
        (counted(&url, &code).await == before + 20).then_some(())
    })
    .await;

    // The subscription goes with its link.
    lattice.operator().unlink(&listening).await;
    let stranger = lattice.stranger().await;
    eventually("nobody listens any more", async || {
        let asked = stranger.request(SUBJECT, message("nobody")).await;
        let kind = asked.err()?.kind();
        (kind == async_nats::RequestErrorKind::NoResponders).then_some(())
    })
    .await;
    assert_eq!(counted(&url, &code).await, before + 20);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_queue_group_over_two_hosts_gets_each_message_once() {
    let lattice = Lattice::start().await;
    // The first provider is a process, the second built in: the group does not care.
    let hosts = lattice
        .hosts(Setting::new(Door::Process, Place::PeerHost))
        .await;
    lattice.store(&hosts[0]).await;
    let url = count_clicks(&lattice, &hosts[0]).await;
    let doors = [(Door::Process, "broker-a"), (Door::BuiltIn, "broker-b")];
    for (host, (door, broker)) in hosts.iter().zip(doors) {
        lattice
            .provide(door, host, "messaging-nats", broker, &[])
            .await;
        listen(&lattice, broker).await;
    }
    let stranger = lattice.stranger().await;
    let publish = async |code: &str| {
        let sent = stranger.publish(SUBJECT, message(code)).await;
        sent.expect("anyone may publish");
    };
    eventually("somebody listens", async || {
        publish("first").await;
        (counted(&url, "first").await > 0).then_some(())
    })
    .await;
    // Both have subscribed when nothing is left that could: the second link was put before the first message was heard.
    for _ in 0..MESSAGES {
        publish("each").await;
    }
    eventually("every message is counted", async || {
        (counted(&url, "each").await >= MESSAGES).then_some(())
    })
    .await;
    // What came twice would have come by now.
    tokio::time::sleep(Duration::from_millis(500)).await;
    assert_eq!(counted(&url, "each").await, MESSAGES);
}

/// Publishes into a stream that confirms each message, and counts the confirmations.
async fn publish_confirmed(stream: &async_nats::jetstream::Context, messages: u64) -> u64 {
    let mut confirmed = 0;
    for _ in 0..messages {
        if let Ok(acknowledged) = stream.publish(SUBJECT, message("kept")).await
            && acknowledged.await.is_ok()
        {
            confirmed += 1;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    confirmed
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_of_a_stream_are_all_handled_though_provider_and_server_are_killed() {
    let lattice = Lattice::start().await;
    let hosts = lattice
        .hosts(Setting::new(Door::Process, Place::PeerHost))
        .await;
    lattice.store(&hosts[1]).await;
    let url = count_clicks(&lattice, &hosts[1]).await;
    let stranger = async_nats::jetstream::new(lattice.stranger().await);
    let stream = stranger
        .create_stream(stream::Config {
            name: "CLICKS".to_owned(),
            subjects: vec![SUBJECT.to_owned()],
            ..stream::Config::default()
        })
        .await
        .expect("a stream can be made");
    stream
        .create_consumer(pull::Config {
            durable_name: Some("counter".to_owned()),
            ack_wait: Duration::from_secs(2),
            ..pull::Config::default()
        })
        .await
        .expect("a consumer can be made");
    lattice
        .provide(Door::Process, &hosts[0], "messaging-nats", "broker", &[])
        .await;
    let handler = link("broker", "clicks", "wasmcloud:messaging/handler");
    let settings = [("stream", "CLICKS"), ("consumer", "counter")];
    lattice.link_from(handler, &settings).await;

    let mut confirmed = publish_confirmed(&stranger, MESSAGES / 4).await;
    eventually("the first messages are handled", async || {
        (counted(&url, "kept").await > 0).then_some(())
    })
    .await;
    let (more, ()) = tokio::join!(publish_confirmed(&stranger, MESSAGES), async {
        assert_eq!(kill_providers(hosts[0].pid()), 1);
        tokio::time::sleep(Duration::from_millis(400)).await;
        lattice.kill_nats();
        tokio::time::sleep(Duration::from_millis(400)).await;
        lattice.start_nats_again();
    });
    confirmed += more;
    confirmed += eventually("the stream confirms again", async || {
        let more = publish_confirmed(&stranger, 1).await;
        (more > 0).then_some(more)
    })
    .await;
    eventually_within(HANDLED_WITHIN, "every message is handled", async || {
        (counted(&url, "kept").await >= confirmed).then_some(())
    })
    .await;
}
