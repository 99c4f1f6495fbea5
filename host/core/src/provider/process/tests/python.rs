//! The example in Python, as a process of a host, called as actors call any provider of `wasi:keyvalue/store`.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use trellis_protocol::link::LinkKey;
use trellis_protocol::value::ByteList;
use trellis_protocol::{EntityId, LinkName, RefusalCode};
use trellis_provider_sdk::harness::{ProviderCaller, lease};
use trellis_provider_sdk::{Health, Link, LinkEnd, Provider};

use super::super::supervisor::{Phase, Supervised};
use super::fixture::{Workshop, phase};
use wit::store::{Client, Error};

mod wit {
    trellis_provider_sdk::interfaces!({
        path: ["../../interfaces/wit/wasi-keyvalue"],
        interfaces: ["wasi:keyvalue/store@0.2.0-draft"],
    });
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/provider-python/keyvalue.py")
}

async fn start(workshop: &Workshop) -> Supervised {
    let (process, hello) = Supervised::start(workshop.order(&example()))
        .await
        .unwrap_or_else(|error| panic!("the example needs python3 on the PATH: {error}"));
    assert_eq!(hello.name, "keyvalue-python");
    assert_eq!(hello.serves, ["wasi:keyvalue/store@0.2.0-draft"]);
    assert!(hello.calls.is_empty());
    process
}

fn link(source: &str) -> Link {
    Link {
        key: LinkKey {
            source_id: EntityId::new(source).unwrap(),
            name: LinkName::default(),
            wit_namespace: "wasi".to_owned(),
            wit_package: "keyvalue".to_owned(),
        },
        target: EntityId::new("p").unwrap(),
        interfaces: vec!["wasi:keyvalue/store".to_owned()],
        end: LinkEnd::Target,
        config: std::collections::BTreeMap::new(),
        generation: 1,
    }
}

fn caller(process: &Supervised, source: &str, instance: u64) -> ProviderCaller {
    ProviderCaller {
        provider: process.current().unwrap().door as Arc<dyn Provider>,
        source: EntityId::new(source).unwrap(),
        link: LinkName::default(),
        lease: lease(instance),
        within: Duration::from_secs(20),
        cancel: CancellationToken::new(),
    }
}

fn bytes(text: &str) -> ByteList {
    ByteList(text.as_bytes().to_vec())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_example_in_python_serves_the_store() {
    let workshop = Workshop::new();
    let process = start(&workshop).await;
    let door = process.current().unwrap().door;
    assert_eq!(door.health().await, Health::Healthy);
    door.link_put(link("app")).await.unwrap();
    let store = Client(caller(&process, "app", 1));
    let bucket = store.open("default").await.unwrap().unwrap();
    let key = "clé";
    assert_eq!(store.bucket_get(bucket, key).await.unwrap(), Ok(None));
    store
        .bucket_set(bucket, key, &bytes("value"))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store.bucket_get(bucket, key).await.unwrap(),
        Ok(Some(bytes("value")))
    );
    assert_eq!(store.bucket_exists(bucket, key).await.unwrap(), Ok(true));
    // More than a frame holds, both ways.
    let large = ByteList(vec![7; 1024 * 1024 + 1]);
    store
        .bucket_set(bucket, "large", &large)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(
        store.bucket_get(bucket, "large").await.unwrap(),
        Ok(Some(large))
    );
    let page = store.bucket_list_keys(bucket, None).await.unwrap().unwrap();
    assert_eq!(page.keys, [key, "large"]);
    assert_eq!(page.cursor, None);
    store.bucket_delete(bucket, key).await.unwrap().unwrap();
    assert_eq!(store.bucket_get(bucket, key).await.unwrap(), Ok(None));
    assert_eq!(
        store.open("other").await.unwrap().err(),
        Some(Error::NoSuchStore)
    );
    assert!(process.stop(Duration::from_secs(5)).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn its_handles_are_for_their_holder_and_links_apart_from_each_other() {
    let workshop = Workshop::new();
    let process = start(&workshop).await;
    let door = process.current().unwrap().door;
    for source in ["app", "other"] {
        door.link_put(link(source)).await.unwrap();
    }
    let store = Client(caller(&process, "app", 1));
    let bucket = store.open("").await.unwrap().unwrap();
    store
        .bucket_set(bucket, "k", &bytes("v"))
        .await
        .unwrap()
        .unwrap();
    let other = Client(caller(&process, "other", 2));
    assert_eq!(
        other.bucket_get(bucket, "k").await.unwrap_err().code,
        RefusalCode::BadHandle
    );
    let own = other.open("").await.unwrap().unwrap();
    assert_eq!(other.bucket_get(own, "k").await.unwrap(), Ok(None));
    door.release(&lease(1)).await;
    assert_eq!(
        store.bucket_get(bucket, "k").await.unwrap_err().code,
        RefusalCode::BadHandle
    );
    door.release_host(&lease(2).host).await;
    assert_eq!(
        other.bucket_get(own, "k").await.unwrap_err().code,
        RefusalCode::BadHandle
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handle_of_a_former_incarnation_leads_to_nothing() {
    let workshop = Workshop::new();
    let process = start(&workshop).await;
    process
        .current()
        .unwrap()
        .door
        .link_put(link("app"))
        .await
        .unwrap();
    let bucket = Client(caller(&process, "app", 1))
        .open("")
        .await
        .unwrap()
        .unwrap();
    process.kill();
    phase(&process, |phase| *phase == Phase::Up(2)).await;
    process
        .current()
        .unwrap()
        .door
        .link_put(link("app"))
        .await
        .unwrap();
    let store = Client(caller(&process, "app", 1));
    store.open("").await.unwrap().unwrap();
    assert_eq!(
        store.bucket_get(bucket, "k").await.unwrap_err().code,
        RefusalCode::BadHandle
    );
}
