//! What actors see when their Redis, or the way to it, fails; and that all is well again afterwards, by itself.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixture;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fixture::{Fixture, bytes, other_client, said, until, until_well};
use trellis_keyvalue_redis::wit::store::{self, Bucket, Error};
use trellis_keyvalue_redis::wit::{atomics, batch};
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::harness::ProviderCaller;
use trellis_provider_sdk::{Health, RefusalCode};
use trellis_test_backends::faulty::{Mode, Proxy, Silent};
use trellis_test_backends::{Redis, RedisOptions};

/// Time that calls have in tests in which the server does not answer.
const HASTE: Duration = Duration::from_millis(500);

/// The provider behind a proxy.
async fn proxied<'a>(
    config: impl IntoIterator<Item = (&'a str, &'a str)>,
) -> (Fixture, Redis, Proxy) {
    let redis = Redis::start().unwrap();
    let proxy = Proxy::start(redis.address()).await.unwrap();
    let fixture = Fixture::new().await;
    let url = redis.url_through(proxy.address());
    let mut pairs: Vec<(&str, &str)> = vec![("URL", &url)];
    for (key, value) in config {
        pairs.push((key, value));
    }
    fixture.put("app", 1, pairs).await.unwrap();
    (fixture, redis, proxy)
}

fn url_of(address: SocketAddr) -> String {
    format!("redis://{address}")
}

/// Actors that write and count without pause, and what they were told.
struct Load {
    stop: Arc<AtomicBool>,
    workers: tokio::task::JoinSet<Vec<String>>,
    counted: Arc<AtomicU64>,
    unknown: Arc<AtomicU64>,
    refused: Arc<AtomicU64>,
}

/// Time of each call under load.
const LOAD_DEADLINE: Duration = Duration::from_secs(2);

impl Load {
    fn start(fixture: &Fixture, workers: usize) -> Self {
        let mut load = Self {
            stop: Arc::default(),
            workers: tokio::task::JoinSet::new(),
            counted: Arc::default(),
            unknown: Arc::default(),
            refused: Arc::default(),
        };
        for worker in 0..workers {
            let caller = fixture.app().within(LOAD_DEADLINE);
            let (stop, counted) = (load.stop.clone(), load.counted.clone());
            let (unknown, refused) = (load.unknown.clone(), load.refused.clone());
            load.workers.spawn(async move {
                let (store, atomics) = (store::Client(&caller), atomics::Client(&caller));
                let mut bucket = store.open("").await.unwrap().unwrap();
                let mut written = Vec::new();
                for n in 0.. {
                    if stop.load(Ordering::Relaxed) {
                        break;
                    }
                    let key = format!("w{worker}-{n}");
                    let began = Instant::now();
                    match store.bucket_set(bucket, &key, key.as_bytes()).await {
                        Ok(Ok(())) => written.push(key),
                        // Failures can come without a wait, and others want to run, too.
                        Ok(Err(Error::Other(_))) => {
                            tokio::time::sleep(Duration::from_millis(2)).await;
                        }
                        // The link was changed.
                        Err(refusal) if refusal.code == RefusalCode::BadHandle => {
                            bucket = store.open("").await.unwrap().unwrap();
                        }
                        other => panic!("{other:?}"),
                    }
                    match atomics.increment(bucket, "count", 1).await {
                        Ok(Ok(_)) => counted.fetch_add(1, Ordering::Relaxed),
                        Ok(Err(Error::Other(text))) if text.contains("may have happened") => {
                            unknown.fetch_add(1, Ordering::Relaxed)
                        }
                        Ok(Err(Error::Other(text))) if text.contains("nothing was sent") => {
                            refused.fetch_add(1, Ordering::Relaxed)
                        }
                        Err(refusal) if refusal.code == RefusalCode::BadHandle => 0,
                        other => panic!("{other:?}"),
                    };
                    // Answered, and not given up by a host at the deadline.
                    assert!(began.elapsed() < 2 * LOAD_DEADLINE);
                }
                written
            });
        }
        load
    }

    fn counted(&self) -> u64 {
        self.counted.load(Ordering::Relaxed)
    }

    /// Waits until some more were counted.
    async fn goes_on(&self) {
        let before = self.counted();
        until(|| async move {
            match self.counted() > before + 20 {
                true => Ok(()),
                false => Err("nothing counts".to_owned()),
            }
        })
        .await;
    }

    /// Stops, and gives back the keys of all acknowledged writes.
    async fn stop(&mut self) -> Vec<String> {
        self.stop.store(true, Ordering::Relaxed);
        let mut acknowledged = Vec::new();
        while let Some(written) = self.workers.join_next().await {
            acknowledged.extend(written.unwrap());
        }
        acknowledged
    }
}

async fn missing(fixture: &Fixture, bucket: Bucket, keys: &[String]) -> Vec<String> {
    let batch = batch::Client(fixture.app());
    let mut missing = Vec::new();
    for keys in keys.chunks(1000) {
        let values = batch.get_many(bucket, keys).await.unwrap().unwrap();
        for (key, value) in keys.iter().zip(values) {
            if value != Some((key.clone(), bytes(key))) {
                missing.push(key.clone());
            }
        }
    }
    missing
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_nothing_that_was_acknowledged_and_serves_again() {
    let options = RedisOptions::new().with_appendonly();
    let (fixture, mut redis) = Fixture::linked_with(options, []).await;
    let (store, bucket) = fixture.open().await;
    let mut load = Load::start(&fixture, 8);
    for _ in 0..3 {
        load.goes_on().await;
        redis.kill();
        // Long enough for calls that fail at once.
        tokio::time::sleep(Duration::from_millis(1500)).await;
        tokio::task::block_in_place(|| redis.restart()).unwrap();
        until_well(&store, bucket).await;
    }
    load.goes_on().await;
    let acknowledged = load.stop().await;
    assert!(acknowledged.len() > 60, "{}", acknowledged.len());
    assert_eq!(missing(&fixture, bucket, &acknowledged).await, [""; 0]);

    let (counted, unknown) = (load.counted(), load.unknown.load(Ordering::Relaxed));
    let atomics = atomics::Client(fixture.app());
    let count = atomics
        .increment(bucket, "count", 0)
        .await
        .unwrap()
        .unwrap();
    assert!(
        (counted..=counted + unknown).contains(&count),
        "{counted} acknowledged, {unknown} unknown, {count} there"
    );
    assert!(load.refused.load(Ordering::Relaxed) > 0, "nobody noticed");
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_at_once_and_good_again_when_it_is_back() {
    let (fixture, mut redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_set(bucket, "k", b"v").await.unwrap(), Ok(()));
    redis.kill();
    until(|| async {
        let began = Instant::now();
        let reason = said(store.bucket_get(bucket, "k").await.unwrap());
        match reason.contains("unavailable") && began.elapsed() < Duration::from_millis(50) {
            true => Ok(()),
            false => Err(reason),
        }
    })
    .await;
    let address = redis.address().to_string();
    until(|| async {
        match fixture.provider.health().await {
            Health::Failing(reason) if reason.contains(&address) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    redis.restart().unwrap();
    until_well(&store, bucket).await;
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn a_link_to_a_server_that_is_away_serves_when_the_server_comes() {
    let mut redis = Redis::start().unwrap();
    redis.kill();
    let fixture = Fixture::new().await;
    let began = Instant::now();
    let url = redis.url();
    fixture.put("app", 1, [("URL", &*url)]).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(1));
    let (store, bucket) = fixture.open().await;
    said(store.bucket_get(bucket, "k").await.unwrap());
    redis.restart().unwrap();
    until_well(&store, bucket).await;
}

#[tokio::test]
async fn a_call_that_comes_right_after_a_loss_waits_for_the_next_connection() {
    let (fixture, _redis, proxy) = proxied([]).await;
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_set(bucket, "k", b"v").await.unwrap(), Ok(()));
    for _ in 0..5 {
        // Everybody is cut off, and may come again at once.
        proxy.set(Mode::Refuse);
        until(|| async {
            match tokio::net::TcpStream::connect(proxy.address()).await {
                Err(_) => Ok(()),
                Ok(_) => Err("still there".to_owned()),
            }
        })
        .await;
        proxy.set(Mode::Pass);
        assert_eq!(
            store.bucket_get(bucket, "k").await.unwrap(),
            Ok(Some(bytes("v")))
        );
    }
}

#[tokio::test]
async fn a_frozen_server_is_noticed_and_used_again_when_it_goes_on() {
    let (fixture, redis) =
        Fixture::linked_with(RedisOptions::new(), [("response_timeout_ms", "1000")]).await;
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_set(bucket, "k", b"v").await.unwrap(), Ok(()));
    redis.stop_process().unwrap();
    // Before the deadline, by the interface's own error.
    let hasty = store::Client(fixture.app().within(HASTE));
    for _ in 0..3 {
        let reason = said(hasty.bucket_get(bucket, "k").await.unwrap());
        assert!(reason.contains("did not answer"), "{reason}");
    }
    let reason = said(hasty.bucket_set(bucket, "k", b"w").await.unwrap());
    assert!(
        reason.contains("may have happened") || reason.contains("nothing was sent"),
        "{reason}"
    );
    // Once the connection has been given up, calls no longer wait at all.
    until(|| async {
        let began = Instant::now();
        let reason = said(store.bucket_get(bucket, "k").await.unwrap());
        match reason.contains("unavailable") && began.elapsed() < Duration::from_millis(100) {
            true => Ok(()),
            false => Err(reason),
        }
    })
    .await;
    redis.continue_process().unwrap();
    until_well(&store, bucket).await;
    assert!(store.bucket_get(bucket, "k").await.unwrap().is_ok());
}

#[tokio::test]
async fn a_frozen_server_is_noticed_without_any_call() {
    let (fixture, redis) =
        Fixture::linked_with(RedisOptions::new(), [("response_timeout_ms", "200")]).await;
    redis.stop_process().unwrap();
    until(|| async {
        match fixture.provider.health().await {
            Health::Failing(_) => Ok(()),
            Health::Healthy => Err("healthy".to_owned()),
        }
    })
    .await;
    redis.continue_process().unwrap();
    until(|| async {
        match fixture.provider.health().await {
            Health::Healthy => Ok(()),
            Health::Failing(reason) => Err(reason),
        }
    })
    .await;
}

#[tokio::test]
async fn a_server_that_accepts_and_never_answers_is_tried_again_and_again() {
    let silent = Silent::start().await.unwrap();
    let fixture = Fixture::new().await;
    let url = url_of(silent.address());
    let began = Instant::now();
    let config = [("URL", &*url), ("connect_timeout_ms", "200")];
    fixture.put("app", 1, config).await.unwrap();
    assert!(began.elapsed() < Duration::from_secs(5));
    let (store, bucket) = fixture.open().await;
    let hasty = store::Client(fixture.app().within(HASTE));
    let reason = said(hasty.bucket_get(bucket, "k").await.unwrap());
    assert!(reason.contains("no answer within"), "{reason}");
    until(|| async {
        match silent.accepted() {
            3.. => Ok(()),
            few => Err(format!("{few} attempts")),
        }
    })
    .await;
    said(store.bucket_set(bucket, "k", b"v").await.unwrap());
}

#[tokio::test]
async fn half_a_reply_is_a_lost_connection_and_never_a_value() {
    let (fixture, _redis, proxy) = proxied([("retries", "0")]).await;
    let (store, bucket) = fixture.open().await;
    let value = ByteList(vec![b'x'; 10_000]);
    assert_eq!(store.bucket_set(bucket, "k", &value).await.unwrap(), Ok(()));
    for bytes in [1, 4, 7, 5_000, 10_008] {
        proxy.set(Mode::CutAfter(bytes));
        let reason = said(store.bucket_get(bucket, "k").await.unwrap());
        assert!(
            reason.contains("lost") || reason.contains("unavailable"),
            "{reason}"
        );
        proxy.set(Mode::Pass);
        until_well(&store, bucket).await;
        assert_eq!(
            store.bucket_get(bucket, "k").await.unwrap(),
            Ok(Some(value.clone()))
        );
    }
    // A write whose confirmation was cut off.
    proxy.set(Mode::CutAfter(2));
    let reason = said(store.bucket_set(bucket, "k", b"w").await.unwrap());
    assert!(reason.contains("may have happened"), "{reason}");
    proxy.set(Mode::Pass);
    until_well(&store, bucket).await;
}

#[tokio::test]
async fn a_read_is_asked_again_after_a_loss_and_a_count_is_not() {
    let (fixture, _redis, proxy) = proxied([("retries", "10")]).await;
    let (store, bucket) = fixture.open().await;
    let atomics = atomics::Client(fixture.app());
    assert_eq!(atomics.increment(bucket, "n", 1).await.unwrap(), Ok(1));
    proxy.set(Mode::CutAfter(1));
    let reading = store.bucket_get(bucket, "n");
    let mending = async {
        let before = proxy.accepted();
        while proxy.accepted() == before {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        proxy.set(Mode::Pass);
    };
    let (read, ()) = tokio::join!(reading, mending);
    assert_eq!(read.unwrap(), Ok(Some(bytes("1"))));

    until_well(&store, bucket).await;
    proxy.set(Mode::CutAfter(1));
    let reason = said(atomics.increment(bucket, "n", 1).await.unwrap());
    assert!(reason.contains("may have happened"), "{reason}");
    proxy.set(Mode::Pass);
    until_well(&store, bucket).await;
    // It did happen, and once.
    assert_eq!(atomics.increment(bucket, "n", 0).await.unwrap(), Ok(2));
}

#[tokio::test]
async fn a_server_without_room_for_another_client_is_said_to_be_full() {
    let redis = RedisOptions::new().with_max_clients(2).start().unwrap();
    let mut taken = Vec::new();
    for _ in 0..2 {
        taken.push(other_client(&redis.url()).await);
    }
    let fixture = Fixture::new().await;
    let url = redis.url();
    fixture.put("app", 1, [("URL", &*url)]).await.unwrap();
    let (store, bucket) = fixture.open().await;
    for _ in 0..20 {
        let reason = said(store.bucket_get(bucket, "k").await.unwrap());
        assert!(reason.contains("limit of clients"), "{reason}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    drop(taken);
    until_well(&store, bucket).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_led_elsewhere_under_load_loses_nothing() {
    let (fixture, one) = Fixture::linked().await;
    let two = Redis::start().unwrap();
    let mut load = Load::start(&fixture, 8);
    let mut generation = 1;
    for _ in 0..5 {
        for redis in [&two, &one] {
            generation += 1;
            let url = redis.url();
            fixture
                .put("app", generation, [("URL", &*url)])
                .await
                .unwrap();
            load.goes_on().await;
        }
    }
    let acknowledged = load.stop().await;
    let mut left = acknowledged;
    let mut counted = 0;
    for redis in [&one, &two] {
        generation += 1;
        let url = redis.url();
        fixture
            .put("app", generation, [("URL", &*url)])
            .await
            .unwrap();
        let (_, bucket) = fixture.open().await;
        left = missing(&fixture, bucket, &left).await;
        let atomics = atomics::Client(fixture.app());
        counted += atomics
            .increment(bucket, "count", 0)
            .await
            .unwrap()
            .unwrap();
    }
    assert_eq!(left, [""; 0]);
    assert_eq!(load.unknown.load(Ordering::Relaxed), 0);
    assert_eq!(counted, load.counted());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn calls_that_are_dropped_leave_the_connection_good_for_the_others() {
    let (fixture, _redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    for n in 0..10 {
        let (key, value) = (format!("k{n}"), vec![n; 100_000]);
        assert_eq!(
            store.bucket_set(bucket, &key, &value).await.unwrap(),
            Ok(())
        );
    }
    let mut readers = tokio::task::JoinSet::new();
    for n in 0..10_u8 {
        let caller = fixture.app();
        readers.spawn(async move {
            let store = store::Client(caller);
            let key = format!("k{n}");
            for round in 0..200_u64 {
                // Given up somewhere between the question and the end of the answer.
                let hasty = Duration::from_micros(round * 7 % 1500);
                let _ = tokio::time::timeout(hasty, store.bucket_get(bucket, &key)).await;
                if round % 10 == 0 {
                    let value = store.bucket_get(bucket, &key).await.unwrap().unwrap();
                    assert_eq!(value, Some(ByteList(vec![n; 100_000])));
                }
            }
        });
    }
    readers.join_all().await;
}

#[tokio::test]
async fn a_call_whose_caller_has_gone_ends_at_once() {
    let (fixture, redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    redis.stop_process().unwrap();
    let caller: ProviderCaller = fixture.app();
    let cancel = caller.cancel.clone();
    let leaving = store::Client(caller);
    let (refused, ()) = tokio::join!(leaving.bucket_get(bucket, "k"), async {
        tokio::time::sleep(Duration::from_millis(50)).await;
        cancel.cancel();
    });
    assert_eq!(refused.unwrap_err().code, RefusalCode::Cancelled);
    redis.continue_process().unwrap();
    assert_eq!(store.bucket_get(bucket, "k").await.unwrap(), Ok(None));
}
