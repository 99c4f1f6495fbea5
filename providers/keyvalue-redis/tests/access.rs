//! Who may do what: passwords, users, TLS, and configurations that are wrong.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod fixture;

use fixture::{Fixture, bytes, other_client, said, until_well};
use trellis_keyvalue_redis::Factory;
use trellis_keyvalue_redis::wit::store::{self, Error};
use trellis_keyvalue_redis::wit::{atomics, batch};
use trellis_provider_sdk::harness::Harness;
use trellis_provider_sdk::{Health, LinkError, RefusalCode, StartError};
use trellis_test_backends::RedisOptions;

#[tokio::test]
async fn a_password_and_a_database_are_taken_from_the_url() {
    let (fixture, redis) =
        Fixture::linked_with(RedisOptions::new().with_password("sesame"), []).await;
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_set(bucket, "k", b"v").await.unwrap(), Ok(()));
    fixture
        .put("other", 1, [("URL", &*format!("{}/5", redis.url()))])
        .await
        .unwrap();
    let other = store::Client(fixture.harness.caller(&fixture.provider, "other"));
    let fifth = other.open("").await.unwrap().unwrap();
    assert_eq!(other.bucket_get(fifth, "k").await.unwrap(), Ok(None));
}

#[tokio::test]
async fn the_providers_url_serves_links_that_have_none() {
    let redis = RedisOptions::new().with_password("sesame").start().unwrap();
    let harness = Harness::new("kv").with_config("url", redis.url());
    let provider = harness.start(&Factory).await.unwrap();
    let fixture = Fixture { harness, provider };
    fixture.put("app", 1, []).await.unwrap();
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_set(bucket, "k", b"v").await.unwrap(), Ok(()));
}

#[tokio::test]
async fn wrong_credentials_refuse_the_link_and_are_never_shown() {
    let redis = RedisOptions::new()
        .with_password("sesame")
        .with_user("ada", "hunter1", "~* +@all")
        .start()
        .unwrap();
    let fixture = Fixture::new().await;
    let address = redis.address();
    for url in [
        format!("redis://{address}"),
        format!("redis://:hunter2@{address}"),
        format!("redis://ada:hunter2@{address}"),
        format!("redis://nobody:hunter2@{address}"),
    ] {
        let error = fixture.put("app", 1, [("URL", &*url)]).await.unwrap_err();
        assert!(matches!(error, LinkError::Backend { .. }), "{error}");
        let text = format!("{error} {error:?}");
        assert!(text.contains(&address.to_string()), "{text}");
        assert!(
            text.contains("NOAUTH") || text.contains("WRONGPASS"),
            "{text}"
        );
        assert!(!text.contains("hunter"), "{text}");
        let refusal = store::Client(fixture.app()).open("").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
    }
    let url = redis.url_as("ada", "hunter1");
    fixture.put("app", 2, [("URL", &*url)]).await.unwrap();
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_set(bucket, "k", b"v").await.unwrap(), Ok(()));
}

#[tokio::test]
async fn credentials_that_are_withdrawn_deny_access_until_they_are_good_again() {
    let options = RedisOptions::new().with_user("ada", "hunter1", "~* +@all");
    let redis = options.start().unwrap();
    let fixture = Fixture::new().await;
    let url = redis.url_as("ada", "hunter1");
    fixture.put("app", 1, [("URL", &*url)]).await.unwrap();
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_set(bucket, "k", b"v").await.unwrap(), Ok(()));

    let mut admin = other_client(&redis.url()).await;
    // Ends the user's connections, too.
    let mut removed = redis::cmd("ACL");
    let removed = removed.arg("DELUSER").arg("ada");
    let _: i64 = removed.query_async(&mut admin).await.unwrap();
    fixture::until(|| async {
        match store.bucket_get(bucket, "k").await.unwrap() {
            Err(Error::AccessDenied) => Ok(()),
            other => Err(format!("{other:?}")),
        }
    })
    .await;
    assert_eq!(store.open("").await.unwrap(), Err(Error::AccessDenied));
    let Health::Failing(reason) = fixture.provider.health().await else {
        panic!("healthy without access");
    };
    assert!(reason.contains(&redis.address().to_string()), "{reason}");
    assert!(!reason.contains("hunter"), "{reason}");

    let mut made = redis::cmd("ACL");
    let made = made.arg("SETUSER").arg("ada").arg("on").arg(">hunter1");
    let made = made.arg("~*").arg("+@all");
    let _: () = made.query_async(&mut admin).await.unwrap();
    until_well(&store, bucket).await;
    assert_eq!(fixture.provider.health().await, Health::Healthy);
}

#[tokio::test]
async fn a_user_that_may_little_is_denied_the_rest() {
    let redis = RedisOptions::new()
        .with_user("reader", "r", "~app:* +@read")
        .start()
        .unwrap();
    let fixture = Fixture::new().await;
    let url = redis.url_as("reader", "r");
    let config = [("URL", &*url), ("prefix", "app:")];
    fixture.put("app", 1, config).await.unwrap();
    let (store, bucket) = fixture.open().await;
    assert_eq!(store.bucket_get(bucket, "k").await.unwrap(), Ok(None));
    assert_eq!(
        store.bucket_set(bucket, "k", b"v").await.unwrap(),
        Err(Error::AccessDenied)
    );
    assert_eq!(
        store.bucket_delete(bucket, "k").await.unwrap(),
        Err(Error::AccessDenied)
    );
    let atomics = atomics::Client(fixture.app());
    assert_eq!(
        atomics.increment(bucket, "n", 1).await.unwrap(),
        Err(Error::AccessDenied)
    );
    // Keys beyond what the user may read.
    fixture.put("other", 1, [("URL", &*url)]).await.unwrap();
    let other = store::Client(fixture.harness.caller(&fixture.provider, "other"));
    let their_bucket = other.open("").await.unwrap().unwrap();
    assert_eq!(
        other.bucket_get(their_bucket, "k").await.unwrap(),
        Err(Error::AccessDenied)
    );
    let batch = batch::Client(fixture.harness.caller(&fixture.provider, "other"));
    let keys = ["app:k", "k"].map(str::to_owned);
    assert_eq!(
        batch.get_many(their_bucket, &keys).await.unwrap(),
        Err(Error::AccessDenied)
    );
}

#[tokio::test]
async fn tls_is_spoken_with_the_given_roots_and_refused_with_others() {
    let redis = RedisOptions::new()
        .with_tls()
        .with_password("sesame")
        .start()
        .unwrap();
    let ca_file = redis.ca_file().unwrap().display().to_string();
    let fixture = Fixture::new().await;
    let by_name = redis.url().replace("127.0.0.1", "localhost");
    for (generation, url) in [(1, redis.url()), (2, by_name)] {
        let config = [("URL", &*url), ("tls_ca_file", &*ca_file)];
        fixture.put("app", generation, config).await.unwrap();
        let (store, bucket) = fixture.open().await;
        let value = "v".repeat(1_000_000);
        assert_eq!(
            store
                .bucket_set(bucket, "k", value.as_bytes())
                .await
                .unwrap(),
            Ok(())
        );
        assert_eq!(
            store.bucket_get(bucket, "k").await.unwrap(),
            Ok(Some(bytes(&value)))
        );
    }
    // The system's roots know nothing of this server. Nor is anything said to it in the clear.
    fixture
        .put("app", 3, [("URL", &*redis.url())])
        .await
        .unwrap();
    let (store, bucket) = fixture.open().await;
    let reason = said(store.bucket_get(bucket, "k").await.unwrap());
    assert!(reason.contains("certificate"), "{reason}");
    let plain = redis.url().replace("rediss", "redis");
    fixture.put("app", 4, [("URL", &*plain)]).await.unwrap();
    let (store, bucket) = fixture.open().await;
    said(store.bucket_get(bucket, "k").await.unwrap());
}

#[tokio::test]
async fn root_certificates_that_cannot_be_used_refuse_the_link() {
    let redis = RedisOptions::new().with_tls().start().unwrap();
    let fixture = Fixture::new().await;
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    for file in ["/no/such/file", manifest] {
        let config = [("URL", &*redis.url()), ("tls_ca_file", file)];
        match fixture.put("app", 1, config).await.unwrap_err() {
            LinkError::Config { key, .. } => assert_eq!(key, "tls_ca_file"),
            error => panic!("{error}"),
        }
    }
}

#[tokio::test]
async fn a_link_with_a_mistake_is_refused_and_no_longer_serves() {
    let (fixture, redis) = Fixture::linked().await;
    let (store, _) = fixture.open().await;
    for (generation, config) in [
        (2, [("URL", "redis://:hunter2@"), ("prefix", "")]),
        (3, [("URI", "redis://:hunter2@host"), ("prefix", "")]),
        (4, [("URL", &*redis.url()), ("retries", "many")]),
    ] {
        let error = fixture.put("app", generation, config).await.unwrap_err();
        assert!(matches!(error, LinkError::Config { .. }), "{error}");
        assert!(!format!("{error} {error:?}").contains("hunter2"));
        let refusal = store.open("").await.unwrap_err();
        assert_eq!(refusal.code, RefusalCode::ProviderFailed);
        assert!(!refusal.message.contains("hunter2"), "{refusal}");
    }
    let harness = Harness::new("kv").with_config("URL", "hunter2");
    let Err(error) = harness.start(&Factory).await else {
        panic!("started without a URL");
    };
    assert!(matches!(error, StartError::Config { .. }), "{error}");
    assert!(!error.to_string().contains("hunter2"), "{error}");
}
