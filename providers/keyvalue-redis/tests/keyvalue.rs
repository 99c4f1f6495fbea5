//! The provider against a real Redis, when all is well.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixture;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use fixture::{Fixture, bytes, other_client, said};
use trellis_keyvalue_redis::wit::store::{self, Error};
use trellis_keyvalue_redis::wit::{atomics, batch};
use trellis_keyvalue_redis::{BATCH_KEYS_MAX, KEY_BYTES_MAX, STORED_BYTES_MAX};
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::harness::{ProviderCaller, lease};
use trellis_provider_sdk::{Health, LinkEnd, RefusalCode};
use trellis_test_backends::RedisOptions;

async fn run<T: redis::FromRedisValue>(
    client: &mut redis::aio::MultiplexedConnection,
    words: &[&str],
) -> T {
    let mut command = redis::cmd(words[0]);
    command.arg(&words[1..]);
    command.query_async(client).await.unwrap()
}

#[tokio::test]
async fn a_value_is_there_after_set_and_gone_after_delete() {
    let (fixture, _redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_get(bucket, "k").await.unwrap(), Ok(None));
    assert_eq!(store.bucket_exists(bucket, "k").await.unwrap(), Ok(false));
    assert_eq!(store.bucket_set(bucket, "k", b"one").await.unwrap(), Ok(()));
    assert_eq!(store.bucket_set(bucket, "k", b"two").await.unwrap(), Ok(()));
    assert_eq!(
        store.bucket_get(bucket, "k").await.unwrap(),
        Ok(Some(bytes("two")))
    );
    assert_eq!(store.bucket_exists(bucket, "k").await.unwrap(), Ok(true));
    assert_eq!(store.bucket_delete(bucket, "k").await.unwrap(), Ok(()));
    assert_eq!(store.bucket_get(bucket, "k").await.unwrap(), Ok(None));
    assert_eq!(store.bucket_delete(bucket, "k").await.unwrap(), Ok(()));
    assert_eq!(
        store.bucket_set(bucket, "empty", b"").await.unwrap(),
        Ok(())
    );
    assert_eq!(
        store.bucket_get(bucket, "empty").await.unwrap(),
        Ok(Some(bytes("")))
    );
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn any_bytes_are_a_value_and_any_string_is_a_key() {
    let (fixture, _redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    let long = "ä".repeat(KEY_BYTES_MAX / 2);
    let keys = ["plain", "a b", "*", "\0", "\r\n$5", "schön/🦀", &long];
    let every_byte: Vec<u8> = (0..=255).chain([b'\r', b'\n']).collect();
    for key in keys {
        let value = [key.as_bytes(), &every_byte].concat();
        assert_eq!(store.bucket_set(bucket, key, &value).await.unwrap(), Ok(()));
    }
    for key in keys {
        let value = [key.as_bytes(), &every_byte].concat();
        assert_eq!(
            store.bucket_get(bucket, key).await.unwrap(),
            Ok(Some(ByteList(value))),
            "{key}"
        );
    }
    let page = store.bucket_list_keys(bucket, None).await.unwrap().unwrap();
    assert_eq!(page.cursor, None);
    let listed: BTreeSet<_> = page.keys.iter().map(String::as_str).collect();
    assert_eq!(listed, keys.into_iter().collect());
    said(store.bucket_set(bucket, "", b"").await.unwrap());
    let longer = "a".repeat(KEY_BYTES_MAX + 1);
    assert!(said(store.bucket_get(bucket, &longer).await.unwrap()).contains("1024"));
}

#[tokio::test]
async fn the_largest_value_is_kept_and_a_larger_one_is_refused_with_the_limit() {
    let (fixture, redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    for length in [
        1024 * 1024 - 1,
        1024 * 1024,
        1024 * 1024 + 1,
        STORED_BYTES_MAX,
    ] {
        let value: Vec<u8> = (0..length).map(|n| n as u8).collect();
        assert_eq!(store.bucket_set(bucket, "k", &value).await.unwrap(), Ok(()));
        assert_eq!(
            store.bucket_get(bucket, "k").await.unwrap(),
            Ok(Some(ByteList(value)))
        );
    }
    let larger = vec![0; STORED_BYTES_MAX + 1];
    let limit = STORED_BYTES_MAX.to_string();
    assert!(said(store.bucket_set(bucket, "k", &larger).await.unwrap()).contains(&limit));
    // Somebody else can put more there. It is refused, and not even read whole.
    let mut other = other_client(&redis.url()).await;
    let _: i64 = run(&mut other, &["SETRANGE", "k", "100000000", "x"]).await;
    let before = Instant::now();
    assert!(said(store.bucket_get(bucket, "k").await.unwrap()).contains(&limit));
    let batch = batch::Client(fixture.app());
    said(batch.get_many(bucket, &["k".to_owned()]).await.unwrap());
    assert!(before.elapsed() < Duration::from_secs(5));
    assert_eq!(store.bucket_delete(bucket, "k").await.unwrap(), Ok(()));
}

#[tokio::test]
async fn keys_stand_as_they_are_so_that_others_data_is_found_under_every_identifier() {
    let (fixture, redis) = Fixture::linked().await;
    let mut other = other_client(&redis.url()).await;
    let _: () = run(&mut other, &["SET", "theirs", "7"]).await;
    let store = store::Client(fixture.app());
    for identifier in ["", "default", "anything"] {
        let bucket = store.open(identifier).await.unwrap().unwrap();
        assert_eq!(
            store.bucket_get(bucket, "theirs").await.unwrap(),
            Ok(Some(bytes("7"))),
            "{identifier}"
        );
    }
    let bucket = store.open("").await.unwrap().unwrap();
    store
        .bucket_set(bucket, "ours", b"8")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(run::<String>(&mut other, &["GET", "ours"]).await, "8");
    let atomics = atomics::Client(fixture.app());
    assert_eq!(atomics.increment(bucket, "theirs", 1).await.unwrap(), Ok(8));
    assert_eq!(run::<String>(&mut other, &["GET", "theirs"]).await, "8");
}

#[tokio::test]
async fn a_link_may_name_the_only_identifier() {
    let (fixture, _redis) = Fixture::linked_with(RedisOptions::new(), [("bucket", "mine")]).await;
    let store = store::Client(fixture.app());
    for identifier in ["", "default", "mine"] {
        assert!(
            store.open(identifier).await.unwrap().is_ok(),
            "{identifier}"
        );
    }
    assert_eq!(store.open("theirs").await.unwrap(), Err(Error::NoSuchStore));
}

#[tokio::test]
async fn a_prefix_keeps_actors_apart_and_is_never_shown() {
    let (fixture, redis) = Fixture::linked_with(RedisOptions::new(), [("prefix", "a*:")]).await;
    fixture
        .put("other", 1, [("URL", &*redis.url()), ("prefix", "ab:")])
        .await
        .unwrap();
    let (store, bucket) = fixture.open().await;
    let theirs = store::Client(fixture.harness.caller(&fixture.provider, "other"));
    let their_bucket = theirs.open("").await.unwrap().unwrap();
    store
        .bucket_set(bucket, "k", b"mine")
        .await
        .unwrap()
        .unwrap();
    theirs
        .bucket_set(their_bucket, "k", b"theirs")
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store.bucket_get(bucket, "k").await.unwrap(),
        Ok(Some(bytes("mine")))
    );
    let page = store.bucket_list_keys(bucket, None).await.unwrap().unwrap();
    assert_eq!((page.keys, page.cursor), (vec!["k".to_owned()], None));
    let mut other = other_client(&redis.url()).await;
    let mut keys: Vec<String> = run(&mut other, &["KEYS", "*"]).await;
    keys.sort();
    assert_eq!(keys, ["a*:k", "ab:k"]);
    let atomics = atomics::Client(fixture.app());
    assert_eq!(atomics.increment(bucket, "n", 1).await.unwrap(), Ok(1));
    assert_eq!(run::<String>(&mut other, &["GET", "a*:n"]).await, "1");
    let batch = batch::Client(fixture.app());
    let keys = ["k", "n"].map(str::to_owned);
    assert_eq!(batch.delete_many(bucket, &keys).await.unwrap(), Ok(()));
    assert_eq!(
        run::<Vec<String>>(&mut other, &["KEYS", "*"]).await,
        ["ab:k"]
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_listing_walks_ten_thousand_keys_while_others_are_answered() {
    let (fixture, redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    let batch = batch::Client(fixture.app());
    let key = |n: usize| format!("key-{n}");
    for start in (0..10_000).step_by(1000) {
        let pairs: Vec<_> = (start..start + 1000)
            .map(|n| (key(n), bytes("v")))
            .collect();
        assert_eq!(batch.set_many(bucket, &pairs).await.unwrap(), Ok(()));
    }
    let mut other = other_client(&redis.url()).await;
    let answered = tokio::spawn(async move {
        let mut slowest = Duration::ZERO;
        loop {
            let before = Instant::now();
            let _: Option<String> = run(&mut other, &["GET", "key-1"]).await;
            slowest = slowest.max(before.elapsed());
            if run::<Option<String>>(&mut other, &["GET", "stop"])
                .await
                .is_some()
            {
                return slowest;
            }
        }
    });
    let (mut listed, mut cursor, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = store.bucket_list_keys(bucket, cursor).await.unwrap();
        let page = page.unwrap();
        assert!(page.keys.len() < 5_000, "{} keys at once", page.keys.len());
        listed.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    store
        .bucket_set(bucket, "stop", b"")
        .await
        .unwrap()
        .unwrap();
    let slowest = answered.await.unwrap();
    assert!(slowest < Duration::from_secs(1), "{slowest:?}");
    assert!(pages >= 5, "{pages} pages");
    // A key may be met twice, and none is missed.
    let expected: BTreeSet<_> = (0..10_000).map(key).collect();
    assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
}

#[tokio::test]
async fn few_keys_among_many_of_others_are_found_by_bounded_steps() {
    let (fixture, redis) = Fixture::linked_with(RedisOptions::new(), [("prefix", "mine:")]).await;
    let mut other = other_client(&redis.url()).await;
    // More than one call looks at.
    let fill = "for n = 1, 200000 do redis.call('SET', 'theirs:' .. n, '') end";
    let _: () = run(&mut other, &["EVAL", fill, "0"]).await;
    let (store, bucket) = fixture.open().await;
    for key in ["a", "b"] {
        store.bucket_set(bucket, key, b"").await.unwrap().unwrap();
    }
    let (mut listed, mut cursor, mut pages) = (BTreeSet::new(), None, 0);
    loop {
        let page = store.bucket_list_keys(bucket, cursor).await.unwrap();
        let page = page.unwrap();
        listed.extend(page.keys);
        pages += 1;
        cursor = page.cursor;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(listed, ["a", "b"].map(str::to_owned).into());
    assert!((3..=10).contains(&pages), "{pages} pages");
}

#[tokio::test]
async fn a_cursor_that_nobody_gave_out_is_harmless() {
    let (fixture, _redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    store.bucket_set(bucket, "k", b"v").await.unwrap().unwrap();
    for cursor in [0, 1, 1_000_000, u64::MAX] {
        let page = store.bucket_list_keys(bucket, Some(cursor)).await.unwrap();
        assert!(page.unwrap().keys.len() <= 1);
    }
}

#[tokio::test]
async fn keys_that_an_actor_cannot_name_or_read_are_not_listed() {
    let (fixture, redis) = Fixture::linked().await;
    let mut other = other_client(&redis.url()).await;
    let _: i64 = run(&mut other, &["LPUSH", "list", "x"]).await;
    let _: () = run(&mut other, &["SET", &"a".repeat(KEY_BYTES_MAX + 1), "v"]).await;
    let _: () = redis::cmd("SET")
        .arg(b"\xff")
        .arg("v")
        .query_async(&mut other)
        .await
        .unwrap();
    let (store, bucket) = fixture.open().await;
    store.bucket_set(bucket, "k", b"v").await.unwrap().unwrap();
    let page = store.bucket_list_keys(bucket, None).await.unwrap().unwrap();
    assert_eq!(page.keys, ["k"]);
    assert!(said(store.bucket_get(bucket, "list").await.unwrap()).contains("WRONGTYPE"));
    let batch = batch::Client(fixture.app());
    let keys = ["list", "k"].map(str::to_owned);
    assert_eq!(
        batch.get_many(bucket, &keys).await.unwrap(),
        Ok(vec![None, Some(("k".to_owned(), bytes("v")))])
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_increments_at_once_all_count_exactly() {
    let (fixture, redis) = Fixture::linked().await;
    // As on another host.
    let other = Fixture::new().await;
    other.put("app", 1, [("URL", &*redis.url())]).await.unwrap();
    let mut counting = tokio::task::JoinSet::new();
    for (fixture, count) in [(&fixture, 3_000), (&other, 300)] {
        let (_, bucket) = fixture.open().await;
        for _ in 0..count {
            let atomics = atomics::Client(fixture.app());
            counting.spawn(async move {
                let sum = atomics.increment(bucket, "clicks", 2).await;
                sum.unwrap().unwrap()
            });
        }
    }
    let sums: BTreeSet<_> = counting.join_all().await.into_iter().collect();
    let expected: BTreeSet<_> = (1..=3_300).map(|n| 2 * n).collect();
    assert_eq!(sums, expected, "each count is seen exactly once");
}

#[tokio::test]
async fn a_counter_follows_what_others_write_and_refuses_what_is_no_number() {
    let (fixture, _redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    let atomics = atomics::Client(fixture.app());
    let increment = |delta| atomics.increment(bucket, "n", delta);
    let set = |text: &'static str| {
        let store = &store;
        async move {
            store
                .bucket_set(bucket, "n", text.as_bytes())
                .await
                .unwrap()
        }
    };
    assert_eq!(increment(0).await.unwrap(), Ok(0));
    assert_eq!(store.bucket_exists(bucket, "n").await.unwrap(), Ok(false));
    assert_eq!(increment(5).await.unwrap(), Ok(5));
    assert_eq!(set("41").await, Ok(()));
    assert_eq!(increment(1).await.unwrap(), Ok(42));
    for text in ["three", "", "1.5", "+1", "007", " 1", "9223372036854775808"] {
        assert_eq!(set(text).await, Ok(()));
        for delta in [0, 1] {
            let said = said(increment(delta).await.unwrap());
            assert!(said.contains("not a number"), "{text:?} {delta}: {said}");
        }
    }
    assert_eq!(set("9223372036854775806").await, Ok(()));
    assert_eq!(increment(1).await.unwrap(), Ok(i64::MAX as u64));
    assert_eq!(increment(0).await.unwrap(), Ok(i64::MAX as u64));
    for delta in [1, i64::MAX as u64, i64::MAX as u64 + 1, u64::MAX] {
        assert!(said(increment(delta).await.unwrap()).contains("exceeds"));
    }
    assert_eq!(increment(0).await.unwrap(), Ok(i64::MAX as u64));
    assert_eq!(set("-5").await, Ok(()));
    assert!(said(increment(0).await.unwrap()).contains("below zero"));
}

#[tokio::test]
async fn a_batch_answers_in_order_and_is_bounded() {
    let (fixture, _redis) = Fixture::linked().await;
    let (_, bucket) = fixture.open().await;
    let batch = batch::Client(fixture.app());
    let pairs = [("a".to_owned(), bytes("1")), ("b".to_owned(), bytes("2"))];
    assert_eq!(batch.set_many(bucket, &pairs).await.unwrap(), Ok(()));
    let keys = ["b", "x", "a", "b"].map(str::to_owned);
    assert_eq!(
        batch.get_many(bucket, &keys).await.unwrap(),
        Ok(vec![
            Some(pairs[1].clone()),
            None,
            Some(pairs[0].clone()),
            Some(pairs[1].clone())
        ])
    );
    assert_eq!(batch.delete_many(bucket, &keys).await.unwrap(), Ok(()));
    assert_eq!(
        batch.get_many(bucket, &keys).await.unwrap(),
        Ok(vec![None; 4])
    );
    let wrong = [("c".to_owned(), bytes("3")), (String::new(), bytes("4"))];
    said(batch.set_many(bucket, &wrong).await.unwrap());
    assert_eq!(
        batch.get_many(bucket, &["c".to_owned()]).await.unwrap(),
        Ok(vec![None])
    );
    assert_eq!(batch.get_many(bucket, &[]).await.unwrap(), Ok(vec![]));
    assert_eq!(batch.set_many(bucket, &[]).await.unwrap(), Ok(()));
    assert_eq!(batch.delete_many(bucket, &[]).await.unwrap(), Ok(()));
    let many = vec!["k".to_owned(); BATCH_KEYS_MAX + 1];
    assert_eq!(
        batch.get_many(bucket, &many[1..]).await.unwrap(),
        Ok(vec![None; BATCH_KEYS_MAX])
    );
    said(batch.get_many(bucket, &many).await.unwrap());
    said(batch.delete_many(bucket, &many).await.unwrap());

    let large = ("large".to_owned(), ByteList(vec![7; 1_000_000]));
    assert_eq!(batch.set_many(bucket, &[large]).await.unwrap(), Ok(()));
    let four = vec!["large".to_owned(); 4];
    assert!(said(batch.get_many(bucket, &four).await.unwrap()).contains("together"));
}

#[tokio::test]
async fn a_handle_is_good_for_its_instance_and_its_link_only() {
    let (fixture, redis) = Fixture::linked().await;
    let url = redis.url();
    let (store, bucket) = fixture.open().await;
    let refused = |caller: ProviderCaller| async move {
        let store = store::Client(caller);
        store.bucket_get(bucket, "k").await.unwrap_err().code
    };
    assert_eq!(
        refused(fixture.app().as_instance(2)).await,
        RefusalCode::BadHandle
    );
    assert_eq!(
        refused(fixture.app().by_link("second")).await,
        RefusalCode::NoLink
    );
    // The same link again changes nothing; another configuration ends what was opened under the former.
    fixture.put("app", 2, [("URL", &*url)]).await.unwrap();
    assert!(store.bucket_get(bucket, "k").await.is_ok());
    fixture
        .put("app", 3, [("URL", &*url), ("prefix", "p:")])
        .await
        .unwrap();
    assert_eq!(refused(fixture.app()).await, RefusalCode::BadHandle);
    fixture.put("app", 2, [("URL", &*url)]).await.unwrap();
    assert_eq!(refused(fixture.app()).await, RefusalCode::BadHandle);
    fixture.put("app", 4, [("URL", &*url)]).await.unwrap();
    assert!(store.bucket_get(bucket, "k").await.is_ok());
    fixture.provider.release(&lease(1)).await;
    assert_eq!(refused(fixture.app()).await, RefusalCode::BadHandle);
    let again = store.open("").await.unwrap().unwrap();
    store.drop_bucket(again).await.unwrap();
    store.drop_bucket(again).await.unwrap();
    let key = fixture.link("app", 4, []).key;
    fixture.provider.link_delete(&key, LinkEnd::Target).await;
    assert_eq!(store.open("").await.unwrap_err().code, RefusalCode::NoLink);
}

#[tokio::test]
async fn links_with_the_same_url_share_one_connection_which_closes_with_the_last() {
    let (fixture, redis) = Fixture::linked().await;
    let mut other = other_client(&redis.url()).await;
    for actor in ["one", "two"] {
        let config = [("url", &*redis.url()), ("prefix", actor)];
        fixture.put(actor, 1, config).await.unwrap();
    }
    let ours = |list: &str| list.matches("name=trellis").count();
    let list: String = run(&mut other, &["CLIENT", "LIST"]).await;
    assert_eq!(ours(&list), 1, "{list}");
    for actor in ["app", "one", "two"] {
        let key = fixture.link(actor, 1, []).key;
        fixture.provider.link_delete(&key, LinkEnd::Target).await;
    }
    fixture::until(|| {
        let mut other = other.clone();
        async move {
            let list: String = run(&mut other, &["CLIENT", "LIST"]).await;
            match ours(&list) {
                0 => Ok(()),
                _ => Err(list),
            }
        }
    })
    .await;
}

#[tokio::test]
async fn a_shutdown_refuses_further_calls_as_draining() {
    let (fixture, _redis) = Fixture::linked().await;
    let (store, bucket) = fixture.open().await;
    store.bucket_set(bucket, "k", b"v").await.unwrap().unwrap();
    fixture.provider.shutdown(Duration::from_secs(5)).await;
    let refusal = store.bucket_get(bucket, "k").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Draining);
}
