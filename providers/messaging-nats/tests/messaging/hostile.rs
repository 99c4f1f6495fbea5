//! Peers on the same NATS who mean no good: forged answers, messages that are none, floods.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_nats::jetstream::consumer::pull;
use async_nats::jetstream::{self, stream};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use trellis_provider_sdk::Health;

use crate::fixture::{Fixture, Nats, WITHIN, eventually, message, settle, text_of};

/// A client that says whatever bytes it likes.
async fn say(nats: &Nats, bytes: &[u8]) {
    let address = nats.url().strip_prefix("nats://").unwrap();
    let mut stream = TcpStream::connect(address).await.unwrap();
    let mut said = b"CONNECT {\"verbose\":false,\"headers\":true,\"protocol\":1}\r\n".to_vec();
    said.extend_from_slice(bytes);
    said.extend_from_slice(b"PING\r\n");
    stream.write_all(&said).await.unwrap();
    let mut heard = Vec::new();
    let mut buffer = [0; 4096];
    while !heard.windows(4).any(|window| window == b"PONG") {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{}", String::from_utf8_lossy(&heard));
        heard.extend_from_slice(&buffer[..read]);
    }
}

/// A message of headers alone.
fn headers(subject: &[u8], block: &[u8]) -> Vec<u8> {
    let mut bytes = [b"HPUB ", subject, b" "].concat();
    bytes.extend(format!("{0} {0}\r\n", block.len()).into_bytes());
    bytes.extend([block, b"\r\n"].concat());
    bytes
}

#[tokio::test]
async fn who_was_asked_once_cannot_answer_for_others() {
    let fixture = Fixture::start().await;
    let client = fixture.nats.client().await;
    let mut asked = client.subscribe("asked.>").await.unwrap();
    settle(&client).await;
    let app = fixture.sender("app", []).await;
    let (first, second) = (app.clone(), app.clone());
    let first = tokio::spawn(async move { first.request("asked.first", b"", 60_000).await });
    let first_address = asked.next().await.unwrap().reply.unwrap();
    let second = tokio::spawn(async move { second.request("asked.second", b"", 1_500).await });
    let second_address = asked.next().await.unwrap().reply.unwrap();
    let (prefix, number) = first_address.rsplit_once('.').unwrap();
    assert_eq!(number.len(), 32, "{number}");
    assert!(second_address.starts_with(prefix));
    // Fewer than wait to be read: this is about what is guessed and not about a flood.
    for guess in 0..256 {
        let guessed = format!("{prefix}.{guess}");
        client.publish(guessed, "forged".into()).await.unwrap();
        let guessed = format!("{prefix}.{guess:032x}");
        client.publish(guessed, "forged".into()).await.unwrap();
    }
    client
        .publish(first_address, "honest".into())
        .await
        .unwrap();
    let answer = first.await.unwrap().unwrap().unwrap();
    assert_eq!(text_of(&answer), "honest");
    let told = second.await.unwrap().unwrap().unwrap_err();
    assert!(told.contains("no answer from"), "{told}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_subject_that_the_server_refuses_is_never_told_as_sent() {
    let nats = Nats::with_config(
        "authorization { users = [ { user: app, password: p, permissions: { publish: { deny: [\"secret.>\"] } } } ] }",
    );
    let address = nats.url().strip_prefix("nats://").unwrap().to_owned();
    let uris = format!("nats://app:p@{address}");
    let fixture = Fixture::on(nats).await;
    let config = [("cluster_uris", uris.as_str())];
    let app = fixture.sender("app", config).await;
    let wrong = Arc::new(AtomicUsize::new(0));
    let tasks: Vec<_> = (0..64)
        .map(|task| {
            let (app, wrong) = (app.clone(), wrong.clone());
            tokio::spawn(async move {
                for number in 0..200 {
                    let to = format!("secret.{task}.{number}\"\\é");
                    if app.publish(&message(&to, "x")).await.unwrap().is_ok() {
                        wrong.fetch_add(1, Ordering::Relaxed);
                    }
                    let to = format!("open.{task}.{number}");
                    assert_eq!(app.publish(&message(&to, "x")).await.unwrap(), Ok(()));
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(wrong.load(Ordering::Relaxed), 0);
}

#[tokio::test]
async fn bytes_that_no_client_should_send_cost_the_senders_nothing_and_end_nothing_for_good() {
    let fixture = Fixture::start().await;
    let record = fixture.recording("app", Duration::ZERO);
    fixture
        .receiver("app", [("subscriptions", "open.>")], 1)
        .await
        .unwrap();
    let sender = fixture.sender("sender", []).await;
    let hostile = [
        b"PUB open.a \xff\xfe 1\r\nx\r\n".to_vec(),
        b"PUB open.\xff\xfe 1\r\nx\r\n".to_vec(),
        headers(b"open.a", b"NATS/1.0\r\nno colon here\r\n\r\n"),
        headers(b"open.a", b"NATS/1.0 abc\r\n\r\n"),
        headers(b"open.a \xe2\x80\x83x", b"NATS/1.0\r\n\r\n"),
        headers(b"open.a", b"HTTP"),
    ];
    for bytes in hostile {
        let shown = String::from_utf8_lossy(&bytes).into_owned();
        say(&fixture.nats, &bytes).await;
        for _ in 0..20 {
            let sent = sender.publish(&message("open.b", "fine")).await.unwrap();
            assert_eq!(sent, Ok(()), "{shown}");
        }
    }
    let deadline = Instant::now() + WITHIN;
    while record
        .bodies()
        .last()
        .is_none_or(|body| body != "still here")
    {
        assert!(Instant::now() < deadline, "nothing comes any more");
        let sent = message("open.b", "still here");
        assert_eq!(sender.publish(&sent).await.unwrap(), Ok(()));
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    fixture
        .health_becomes(|health| *health == Health::Healthy)
        .await;
}

#[tokio::test]
async fn a_message_that_no_client_can_read_stops_no_other_of_its_stream() {
    let fixture = Fixture::start().await;
    let context = jetstream::new(fixture.nats.client().await);
    let orders = stream::Config {
        name: "ORDERS".to_owned(),
        subjects: vec!["orders.>".to_owned()],
        ..Default::default()
    };
    let workers = pull::Config {
        durable_name: Some("workers".to_owned()),
        ack_wait: Duration::from_secs(1),
        max_deliver: 3,
        ..Default::default()
    };
    let orders = context.create_stream(orders).await.unwrap();
    orders.create_consumer(workers).await.unwrap();
    let record = fixture.recording("app", Duration::ZERO);
    say(
        &fixture.nats,
        &headers(b"orders.a", b"NATS/1.0\r\nno colon here\r\n\r\n"),
    )
    .await;
    for number in 0..20 {
        let body = format!("{number:02}");
        let published = context.publish("orders.a", body.into()).await.unwrap();
        published.await.unwrap();
    }
    let link = [("stream", "ORDERS"), ("consumer", "workers")];
    fixture.receiver("app", link, 1).await.unwrap();
    eventually("all the others", || {
        let mut bodies = record.bodies();
        bodies.dedup();
        bodies.len() == 20
    })
    .await;
    fixture
        .health_becomes(|health| *health == Health::Healthy)
        .await;
}
