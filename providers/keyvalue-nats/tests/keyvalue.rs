//! The provider against a real nats-server, called as actors call it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use tempfile::TempDir;
use trellis_keyvalue_nats::Factory;
use trellis_keyvalue_nats::wit::store::{Bucket, Error};
use trellis_keyvalue_nats::wit::{atomics, batch, store};
use trellis_nats_server::{Launch, Running, cache_dir, explicit_path, locate};
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::harness::{Harness, ProviderCaller, lease};
use trellis_provider_sdk::{Health, LinkEnd, Provider, RefusalCode};

/// A server of its own, in a directory of its own.
struct Nats {
    running: Running,
    _store: TempDir,
}

impl Nats {
    fn start() -> Self {
        Self::with_config("")
    }

    fn with_config(config: &str) -> Self {
        // Found, and perhaps fetched, once for all tests of this binary.
        static EXECUTABLE: OnceLock<std::path::PathBuf> = OnceLock::new();
        let executable = EXECUTABLE.get_or_init(|| {
            let explicit = explicit_path();
            locate(explicit.as_deref(), &cache_dir().unwrap())
                .unwrap()
                .path
        });
        let store = TempDir::new().unwrap();
        let running = Launch::new(executable, store.path())
            .extra_config(config)
            .start()
            .unwrap();
        Self {
            running,
            _store: store,
        }
    }

    fn url(&self) -> &str {
        self.running.url()
    }

    async fn jetstream(&self) -> async_nats::jetstream::Context {
        async_nats::jetstream::new(async_nats::connect(self.url()).await.unwrap())
    }
}

/// The provider with one link of the actor `app`.
struct Fixture {
    nats: Nats,
    harness: Harness,
    provider: Arc<dyn Provider>,
}

impl Fixture {
    async fn linked<'a>(config: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        let nats = Nats::start();
        let harness = Harness::new("kv").with_config("cluster_uris", nats.url());
        let provider = harness.start(&Factory).await.unwrap();
        let fixture = Self {
            nats,
            harness,
            provider,
        };
        fixture.link("app", config, 1).await;
        fixture
    }

    async fn link<'a>(
        &self,
        actor: &str,
        config: impl IntoIterator<Item = (&'a str, &'a str)>,
        generation: u64,
    ) {
        let mut link = self.harness.link_from(
            actor,
            "wasi:keyvalue",
            &["store", "atomics", "batch"],
            config,
        );
        link.generation = generation;
        self.provider.link_put(link).await.unwrap();
    }

    fn app(&self) -> ProviderCaller {
        self.harness.caller(&self.provider, "app")
    }

    async fn open(&self) -> (store::Client<ProviderCaller>, Bucket) {
        let store = store::Client(self.app());
        let bucket = store.open("default").await.unwrap().unwrap();
        (store, bucket)
    }
}

fn bytes(text: &str) -> ByteList {
    ByteList(text.as_bytes().to_vec())
}

fn said<T: std::fmt::Debug>(answer: Result<T, Error>) -> String {
    match answer {
        Err(Error::Other(text)) => text,
        answer => panic!("expected words, got {answer:?}"),
    }
}

#[tokio::test]
async fn a_value_is_there_after_set_and_gone_after_delete() {
    let fixture = Fixture::linked([]).await;
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
}

#[tokio::test]
async fn any_string_is_a_key_and_is_listed_as_it_was_given() {
    let fixture = Fixture::linked([]).await;
    let (store, bucket) = fixture.open().await;
    let long = "ä".repeat(512);
    let keys = [
        "plain",
        "a.b",
        ".",
        "..",
        "a..b",
        "*",
        ">",
        "a b",
        "=",
        "=41",
        "A",
        "_kv",
        "schön/🦀",
        "\0",
        &long,
    ];
    for key in keys {
        assert_eq!(
            store.bucket_set(bucket, key, key.as_bytes()).await.unwrap(),
            Ok(()),
            "{key}"
        );
    }
    for key in keys {
        assert_eq!(
            store.bucket_get(bucket, key).await.unwrap(),
            Ok(Some(bytes(key))),
            "{key}"
        );
    }
    let page = store.bucket_list_keys(bucket, None).await.unwrap().unwrap();
    assert_eq!(page.cursor, None);
    let listed: BTreeSet<_> = page.keys.iter().map(String::as_str).collect();
    assert_eq!(listed, keys.into_iter().collect());
    said(store.bucket_set(bucket, "", b"").await.unwrap());
    said(store.bucket_get(bucket, &"a".repeat(1025)).await.unwrap());
}

#[tokio::test]
async fn a_cursor_that_nobody_gave_out_is_the_end_or_an_error() {
    let fixture = Fixture::linked([]).await;
    let (store, bucket) = fixture.open().await;
    store.bucket_set(bucket, "k", b"v").await.unwrap().unwrap();
    let page = store
        .bucket_list_keys(bucket, Some(1_000_000))
        .await
        .unwrap()
        .unwrap();
    assert_eq!((page.keys.len(), page.cursor), (0, None));
    let _ = store
        .bucket_list_keys(bucket, Some(u64::MAX))
        .await
        .unwrap();
    assert!(store.bucket_get(bucket, "k").await.unwrap().is_ok());
}

#[tokio::test]
async fn a_listing_walks_all_pages_and_leaves_out_what_was_deleted() {
    for history in [1, 5] {
        let fixture = Fixture::linked([("bucket", "many")]).await;
        fixture
            .nats
            .jetstream()
            .await
            .create_key_value(async_nats::jetstream::kv::Config {
                bucket: "many".to_owned(),
                history,
                ..Default::default()
            })
            .await
            .unwrap();
        let (store, bucket) = fixture.open().await;
        let batch = batch::Client(fixture.app());
        let key = |n: usize| format!("key-{n}");
        for start in (0..2_500).step_by(500) {
            let pairs: Vec<_> = (start..start + 500).map(|n| (key(n), bytes("v"))).collect();
            assert_eq!(batch.set_many(bucket, &pairs).await.unwrap(), Ok(()));
        }
        let gone: Vec<_> = (0..500).map(key).collect();
        assert_eq!(batch.delete_many(bucket, &gone).await.unwrap(), Ok(()));
        // Written again: still listed once, although a history keeps both values.
        assert_eq!(
            store.bucket_set(bucket, "key-600", b"w").await.unwrap(),
            Ok(())
        );

        let (mut listed, mut cursor, mut pages) = (Vec::new(), None, 0);
        loop {
            let page = store
                .bucket_list_keys(bucket, cursor)
                .await
                .unwrap()
                .unwrap();
            assert!(page.keys.len() <= 1000);
            listed.extend(page.keys);
            pages += 1;
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        assert!(pages >= 2, "{pages} pages");
        let expected: BTreeSet<_> = (500..2_500).map(key).collect();
        assert_eq!(listed.len(), expected.len(), "history {history}");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), expected);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn thousands_of_increments_at_once_all_count_exactly() {
    let fixture = Fixture::linked([]).await;
    // A second provider on the same bucket, as on another host: only compare-and-swap is between the two.
    let other = fixture.harness.start(&Factory).await.unwrap();
    other
        .link_put(
            fixture
                .harness
                .link_from("app", "wasi:keyvalue", &["atomics"], []),
        )
        .await
        .unwrap();
    let mut counting = tokio::task::JoinSet::new();
    for (provider, count) in [(&fixture.provider, 3_000), (&other, 300)] {
        let caller = fixture.harness.caller(provider, "app");
        let bucket = store::Client(&caller).open("").await.unwrap().unwrap();
        for _ in 0..count {
            let atomics = atomics::Client(caller.clone());
            counting.spawn(async move {
                atomics
                    .increment(bucket, "clicks", 2)
                    .await
                    .unwrap()
                    .unwrap()
            });
        }
    }
    let sums: BTreeSet<_> = counting.join_all().await.into_iter().collect();
    let expected: BTreeSet<_> = (1..=3_300).map(|n| 2 * n).collect();
    assert_eq!(sums, expected, "each count is seen exactly once");
    let (store, bucket) = fixture.open().await;
    let text = store.bucket_get(bucket, "clicks").await.unwrap().unwrap();
    assert_eq!(text, Some(bytes("6600")));
}

#[tokio::test]
async fn a_counter_follows_what_others_write_and_refuses_what_is_no_number() {
    let fixture = Fixture::linked([]).await;
    let (store, bucket) = fixture.open().await;
    let atomics = atomics::Client(fixture.app());
    let increment = |delta| atomics.increment(bucket, "n", delta);
    assert_eq!(increment(0).await.unwrap(), Ok(0));
    assert_eq!(store.bucket_exists(bucket, "n").await.unwrap(), Ok(false));
    assert_eq!(increment(5).await.unwrap(), Ok(5));
    store.bucket_set(bucket, "n", b"41").await.unwrap().unwrap();
    assert_eq!(increment(1).await.unwrap(), Ok(42));
    store.bucket_delete(bucket, "n").await.unwrap().unwrap();
    assert_eq!(increment(3).await.unwrap(), Ok(3));
    store
        .bucket_set(bucket, "n", b"three")
        .await
        .unwrap()
        .unwrap();
    assert!(said(increment(1).await.unwrap()).contains("not a number"));
    let full = u64::MAX.to_string();
    store
        .bucket_set(bucket, "n", full.as_bytes())
        .await
        .unwrap()
        .unwrap();
    assert_eq!(increment(0).await.unwrap(), Ok(u64::MAX));
    assert!(said(increment(1).await.unwrap()).contains("exceeds"));
    assert_eq!(increment(0).await.unwrap(), Ok(u64::MAX));
}

#[tokio::test]
async fn a_bucket_without_direct_gets_is_read_from_its_leader() {
    let fixture = Fixture::linked([("bucket", "led")]).await;
    let jetstream = fixture.nats.jetstream().await;
    let config = async_nats::jetstream::kv::Config {
        bucket: "led".to_owned(),
        ..Default::default()
    };
    let made = jetstream.create_key_value(config).await.unwrap();
    let mut config = made.stream.cached_info().config.clone();
    config.allow_direct = false;
    jetstream.update_stream(config).await.unwrap();

    let (store, bucket) = fixture.open().await;
    let atomics = atomics::Client(fixture.app());
    assert_eq!(store.bucket_get(bucket, "k").await.unwrap(), Ok(None));
    store.bucket_set(bucket, "k", b"7").await.unwrap().unwrap();
    assert_eq!(
        store.bucket_get(bucket, "k").await.unwrap(),
        Ok(Some(bytes("7")))
    );
    assert_eq!(atomics.increment(bucket, "k", 1).await.unwrap(), Ok(8));
    store.bucket_delete(bucket, "k").await.unwrap().unwrap();
    assert_eq!(store.bucket_get(bucket, "k").await.unwrap(), Ok(None));
    assert_eq!(atomics.increment(bucket, "k", 1).await.unwrap(), Ok(1));
}

#[tokio::test]
async fn a_batch_answers_in_order_and_is_bounded() {
    let fixture = Fixture::linked([]).await;
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
    let wrong = [("c".to_owned(), bytes("3")), (String::new(), bytes("4"))];
    said(batch.set_many(bucket, &wrong).await.unwrap());
    assert_eq!(
        batch.get_many(bucket, &["c".to_owned()]).await.unwrap(),
        Ok(vec![None])
    );
    let many = vec!["k".to_owned(); 1025];
    assert_eq!(
        batch.get_many(bucket, &many[..1024]).await.unwrap(),
        Ok(vec![None; 1024])
    );
    said(batch.get_many(bucket, &many).await.unwrap());

    let large = ("large".to_owned(), ByteList(vec![7; 1_000_000]));
    assert_eq!(batch.set_many(bucket, &[large]).await.unwrap(), Ok(()));
    let four = vec!["large".to_owned(); 4];
    assert!(said(batch.get_many(bucket, &four).await.unwrap()).contains("together"));
}

#[tokio::test]
async fn the_largest_value_is_kept_and_a_larger_one_is_refused_with_the_limit() {
    let fixture = Fixture::linked([]).await;
    let (store, bucket) = fixture.open().await;
    // The server takes 1 MiB a message; a KiB of it is left to headers.
    let largest = vec![1; 1024 * 1024 - 1024];
    assert_eq!(
        store.bucket_set(bucket, "k", &largest).await.unwrap(),
        Ok(())
    );
    assert_eq!(
        store.bucket_get(bucket, "k").await.unwrap(),
        Ok(Some(ByteList(largest.clone())))
    );
    let larger = [largest, vec![1]].concat();
    assert!(said(store.bucket_set(bucket, "k", &larger).await.unwrap()).contains("1047552"));
}

#[tokio::test]
async fn an_actor_opens_the_bucket_of_its_link_and_no_other() {
    let fixture = Fixture::linked([("bucket", "mine")]).await;
    fixture.link("other", [("bucket", "theirs")], 1).await;
    let store = store::Client(fixture.app());
    for identifier in ["", "default", "mine"] {
        assert!(
            store.open(identifier).await.unwrap().is_ok(),
            "{identifier}"
        );
    }
    for identifier in ["theirs", "mine2", "KV_mine", "*"] {
        assert_eq!(
            store.open(identifier).await.unwrap(),
            Err(Error::NoSuchStore)
        );
    }
    let mine = store.open("").await.unwrap().unwrap();
    store
        .bucket_set(mine, "k", b"secret")
        .await
        .unwrap()
        .unwrap();
    let theirs = store::Client(fixture.harness.caller(&fixture.provider, "other"));
    let bucket = theirs.open("").await.unwrap().unwrap();
    assert_eq!(theirs.bucket_get(bucket, "k").await.unwrap(), Ok(None));
}

#[tokio::test]
async fn a_missing_bucket_is_no_such_store_unless_it_may_be_made() {
    let fixture = Fixture::linked([("enable_bucket_auto_create", "false")]).await;
    let store = store::Client(fixture.app());
    assert_eq!(store.open("").await.unwrap(), Err(Error::NoSuchStore));
    fixture
        .link("app", [("enable_bucket_auto_create", "true")], 2)
        .await;
    assert!(store.open("").await.unwrap().is_ok());
}

#[tokio::test]
async fn a_handle_is_good_for_its_instance_and_its_link_only() {
    let fixture = Fixture::linked([]).await;
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
    fixture.link("app", [], 2).await;
    assert!(store.bucket_get(bucket, "k").await.is_ok());
    fixture.link("app", [("bucket", "elsewhere")], 3).await;
    assert_eq!(refused(fixture.app()).await, RefusalCode::BadHandle);
    fixture.link("app", [], 2).await;
    assert_eq!(refused(fixture.app()).await, RefusalCode::BadHandle);
    fixture.link("app", [], 4).await;
    assert!(store.bucket_get(bucket, "k").await.is_ok());
    fixture.provider.release(&lease(1)).await;
    assert_eq!(refused(fixture.app()).await, RefusalCode::BadHandle);
    let again = store.open("").await.unwrap().unwrap();
    store.drop_bucket(again).await.unwrap();
    store.drop_bucket(again).await.unwrap();
    let key = fixture
        .harness
        .link_from("app", "wasi:keyvalue", &["store"], [])
        .key;
    fixture.provider.link_delete(&key, LinkEnd::Target).await;
    assert_eq!(store.open("").await.unwrap_err().code, RefusalCode::NoLink);
}

#[tokio::test]
async fn a_link_with_a_mistake_is_refused_and_no_longer_serves() {
    let fixture = Fixture::linked([]).await;
    let (store, _) = fixture.open().await;
    let mut link = fixture
        .harness
        .link_from("app", "wasi:keyvalue", &["store"], [("buckit", "b")]);
    link.generation = 2;
    fixture.provider.link_put(link).await.unwrap_err();
    let refusal = store.open("").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    assert!(refusal.message.contains("buckit"), "{refusal}");
}

#[tokio::test]
async fn a_server_that_is_away_is_an_error_at_once_and_good_again_when_it_is_back() {
    let mut fixture = Fixture::linked([]).await;
    let (store, bucket) = fixture.open().await;
    store.bucket_set(bucket, "k", b"v").await.unwrap().unwrap();
    assert_eq!(fixture.provider.health().await, Health::Healthy);

    let port = fixture
        .nats
        .url()
        .rsplit(':')
        .next()
        .unwrap()
        .parse()
        .unwrap();
    let directory = fixture.nats._store;
    let executable = locate(explicit_path().as_deref(), &cache_dir().unwrap())
        .unwrap()
        .path;
    fixture.nats.running.stop(Duration::from_secs(10)).unwrap();

    let hasty = store::Client(
        fixture
            .harness
            .caller(&fixture.provider, "app")
            .within(Duration::from_millis(300)),
    );
    let refusal = hasty.bucket_get(bucket, "k").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::DeadlineExceeded);
    assert!(matches!(
        fixture.provider.health().await,
        Health::Failing(_)
    ));
    // A link to a server that nobody has been connected to is good; only opening its bucket fails.
    fixture
        .provider
        .link_put(fixture.harness.link_from(
            "late",
            "wasi:keyvalue",
            &["store"],
            [("cluster_uris", "nats://127.0.0.1:1")],
        ))
        .await
        .unwrap();
    let late = store::Client(fixture.harness.caller(&fixture.provider, "late"));
    assert!(said(late.open("").await.unwrap()).contains("connecting"));

    let running = Launch::new(&executable, directory.path())
        .port(Some(port))
        .start()
        .unwrap();
    fixture.nats = Nats {
        running,
        _store: directory,
    };
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        match store.bucket_get(bucket, "k").await {
            Ok(Ok(value)) => {
                assert_eq!(value, Some(bytes("v")));
                break;
            }
            other => assert!(tokio::time::Instant::now() < deadline, "still {other:?}"),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn a_shutdown_refuses_further_calls_as_draining() {
    let fixture = Fixture::linked([]).await;
    let (store, bucket) = fixture.open().await;
    store.bucket_set(bucket, "k", b"v").await.unwrap().unwrap();
    fixture.provider.shutdown(Duration::from_secs(5)).await;
    let refusal = store.bucket_get(bucket, "k").await.unwrap_err();
    assert_eq!(refusal.code, RefusalCode::Draining);
}

#[tokio::test]
async fn a_login_in_the_url_opens_a_server_that_asks_for_one() {
    let nats = Nats::with_config("authorization { users = [ { user: app, password: hunter2 } ] }");
    let address = nats.url().strip_prefix("nats://").unwrap();
    let uri = format!("nats://app:hunter2@{address}");
    let harness = Harness::new("kv").with_config("cluster_uris", uri);
    let provider = harness.start(&Factory).await.unwrap();
    let link = harness.link_from("app", "wasi:keyvalue", &["store"], []);
    provider.link_put(link).await.unwrap();
    let store = store::Client(harness.caller(&provider, "app"));
    let bucket = store.open("default").await.unwrap().unwrap();
    assert_eq!(store.bucket_set(bucket, "k", b"one").await.unwrap(), Ok(()));

    let wrong = format!("nats://app:other@{address}");
    let mut link = harness.link_from(
        "app",
        "wasi:keyvalue",
        &["store"],
        [("cluster_uris", wrong.as_str())],
    );
    link.generation = 2;
    provider.link_put(link).await.unwrap();
    let told = said(store.open("default").await.unwrap());
    assert!(told.contains("authorization violation"), "{told}");
    assert!(!told.contains("other"), "{told}");
}
