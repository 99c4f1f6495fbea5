//! A provider by the generated trait, called through the generated client, over three interfaces that share types.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use trellis_protocol::value::ByteList;
use trellis_provider_sdk::harness::Harness;
use trellis_provider_sdk::interface::Caller;
use trellis_provider_sdk::{
    Call, Link, LinkEnd, LinkError, LinkKey, Operation, Provider, Refusal, RefusalCode,
};

use atomics::Atomics;
use batch::Batch;
use store::{Bucket, Error, KeyResponse, Store};

trellis_provider_sdk::interfaces!({
    path: ["../../../interfaces/wit/wasi-keyvalue"],
    interfaces: [
        "wasi:keyvalue/store@0.2.0-draft",
        "wasi:keyvalue/atomics@0.2.0-draft",
        "wasi:keyvalue/batch@0.2.0-draft",
    ],
});

/// Knows one key, `k`, and keeps the names of what it dropped.
#[derive(Default)]
struct OneKey {
    dropped: Mutex<Vec<Bucket>>,
}

type Answer<T> = Result<Result<T, Error>, Refusal>;

#[trellis_provider_sdk::__macro::async_trait]
impl Store for OneKey {
    async fn open(&self, _: &Call, identifier: String) -> Answer<Bucket> {
        Ok(match &*identifier {
            "default" => Ok(Bucket(7)),
            _ => Err(Error::NoSuchStore),
        })
    }

    async fn bucket_get(&self, _: &Call, self_: Bucket, key: String) -> Answer<Option<ByteList>> {
        if self_ != Bucket(7) {
            return Err(Refusal::new(RefusalCode::BadHandle, "not seven"));
        }
        Ok(Ok((key == "k").then(|| ByteList(vec![1, 2]))))
    }

    async fn bucket_set(&self, _: &Call, _: Bucket, _: String, _: ByteList) -> Answer<()> {
        Ok(Err(Error::AccessDenied))
    }

    async fn bucket_delete(&self, _: &Call, _: Bucket, _: String) -> Answer<()> {
        Ok(Ok(()))
    }

    async fn bucket_exists(&self, _: &Call, _: Bucket, key: String) -> Answer<bool> {
        Ok(Ok(key == "k"))
    }

    async fn bucket_list_keys(
        &self,
        _: &Call,
        _: Bucket,
        cursor: Option<u64>,
    ) -> Answer<KeyResponse> {
        Ok(Ok(KeyResponse {
            keys: vec!["k".to_owned()],
            cursor,
        }))
    }

    async fn drop_bucket(&self, _: &Call, handle: Bucket) -> Result<(), Refusal> {
        self.dropped.lock().unwrap().push(handle);
        Ok(())
    }
}

#[trellis_provider_sdk::__macro::async_trait]
impl Atomics for OneKey {
    // `atomics::Bucket` is `store::Bucket`.
    async fn increment(
        &self,
        _: &Call,
        bucket: atomics::Bucket,
        _: String,
        delta: u64,
    ) -> Answer<u64> {
        Ok(Ok(bucket.0 + delta))
    }
}

#[trellis_provider_sdk::__macro::async_trait]
impl Batch for OneKey {
    async fn get_many(
        &self,
        _: &Call,
        _: Bucket,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, ByteList)>>> {
        Ok(Ok(keys
            .into_iter()
            .map(|key| (key == "k").then(|| (key, ByteList(vec![1, 2]))))
            .collect()))
    }

    async fn set_many(&self, _: &Call, _: Bucket, _: Vec<(String, ByteList)>) -> Answer<()> {
        Ok(Ok(()))
    }

    async fn delete_many(&self, _: &Call, _: Bucket, _: Vec<String>) -> Answer<()> {
        Ok(Ok(()))
    }
}

#[trellis_provider_sdk::__macro::async_trait]
impl Provider for OneKey {
    async fn link_put(&self, _: Link) -> Result<(), LinkError> {
        Ok(())
    }

    async fn link_delete(&self, _: &LinkKey, _: LinkEnd) {}

    async fn invoke(&self, call: Call) -> Result<Bytes, Refusal> {
        if atomics::matches(&call.operation.interface) {
            atomics::dispatch(self, &call).await
        } else if batch::matches(&call.operation.interface) {
            batch::dispatch(self, &call).await
        } else {
            store::dispatch(self, &call).await
        }
    }

    async fn shutdown(&self, _: Duration) {}
}

#[tokio::test]
async fn calls_go_from_the_client_to_the_trait_and_back() {
    let one_key = Arc::new(OneKey::default());
    let provider: Arc<dyn Provider> = one_key.clone();
    let caller = Harness::new("kv").caller(&provider, "app");
    let store = store::Client(&caller);

    assert_eq!(store.open("other").await.unwrap(), Err(Error::NoSuchStore));
    let bucket = store.open("default").await.unwrap().unwrap();
    assert_eq!(
        store.bucket_get(bucket, "k").await.unwrap(),
        Ok(Some(ByteList(vec![1, 2])))
    );
    assert_eq!(store.bucket_get(bucket, "l").await.unwrap(), Ok(None));
    assert_eq!(
        store.bucket_get(Bucket(8), "k").await.unwrap_err().code,
        RefusalCode::BadHandle
    );
    assert_eq!(
        store.bucket_set(bucket, "k", b"v").await.unwrap(),
        Err(Error::AccessDenied)
    );
    assert_eq!(store.bucket_exists(bucket, "k").await.unwrap(), Ok(true));
    let page = store
        .bucket_list_keys(bucket, Some(3))
        .await
        .unwrap()
        .unwrap();
    assert_eq!(page.cursor, Some(3));
    assert_eq!(
        atomics::Client(&caller)
            .increment(bucket, "k", 3)
            .await
            .unwrap(),
        Ok(10)
    );
    let keys = ["k".to_owned(), "l".to_owned()];
    assert_eq!(
        batch::Client(&caller)
            .get_many(bucket, &keys)
            .await
            .unwrap(),
        Ok(vec![Some(("k".to_owned(), ByteList(vec![1, 2]))), None])
    );
    store.drop_bucket(bucket).await.unwrap();
    assert_eq!(*one_key.dropped.lock().unwrap(), [bucket]);
}

#[tokio::test]
async fn another_function_type_or_payload_is_refused_with_its_code() {
    let provider: Arc<dyn Provider> = Arc::new(OneKey::default());
    let caller = Harness::new("kv").caller(&provider, "app");
    let refused = |interface, function, hash, payload: &'static [u8]| {
        let caller = caller.clone();
        let operation = Operation::new(interface, function);
        async move {
            caller
                .call(&operation, hash, Bytes::from_static(payload))
                .await
                .map_err(|refusal| refusal.code)
        }
    };
    let open = store::type_hash::OPEN;
    let params = b"\x91\xa7default";
    let unknown = Err(RefusalCode::UnknownOperation);
    assert!(
        refused(store::INTERFACE, "open", open, params)
            .await
            .is_ok()
    );
    assert!(
        refused("wasi:keyvalue/store", "open", open, params)
            .await
            .is_ok()
    );
    assert!(
        refused("wasi:keyvalue/store@0.2.4", "open", open, params)
            .await
            .is_ok()
    );
    assert_eq!(
        refused("wasi:keyvalue/store@0.3.0", "open", open, params).await,
        unknown
    );
    assert_eq!(
        refused("wasi:keyvalue/stores", "open", open, params).await,
        unknown
    );
    assert_eq!(
        refused(store::INTERFACE, "close", open, params).await,
        unknown
    );
    assert_eq!(
        refused(store::INTERFACE, "open", open ^ 1, params).await,
        Err(RefusalCode::TypeMismatch)
    );
    let bad = Err(RefusalCode::BadPayload);
    assert_eq!(refused(store::INTERFACE, "open", open, b"").await, bad);
    assert_eq!(refused(store::INTERFACE, "open", open, b"\x90").await, bad);
    assert_eq!(
        refused(store::INTERFACE, "open", open, b"\x91\x01").await,
        bad
    );
    assert_eq!(
        refused(store::INTERFACE, "open", open, b"\x91\xa7defa").await,
        bad
    );
    assert_eq!(
        refused(store::INTERFACE, "open", open, b"\x91\xa1a\xc0").await,
        bad
    );
    assert_eq!(
        refused(store::INTERFACE, "open", open, b"\x91\xdd\xff\xff\xff\xff").await,
        Err(RefusalCode::TooLarge)
    );
}
