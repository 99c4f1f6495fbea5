//! `wasi:keyvalue`, bound with typed functions: bytes stay bytes on the way (D16).
//!
//! What travels is made by the same generated code that a provider reads it with. A refusal reaches the guest as the
//! interface's own error, with the reason, so that an actor can answer for a store that it may not use; only a caller that
//! has gone, or a deadline that has passed, stops it.

use trellis_protocol::value::ByteList;
use trellis_protocol::{EntityId, LinkName};
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType};

use super::way::{self, Outcome, Way, anybody};
use crate::actor::instance::State;
use crate::router::ServedBy;

trellis_provider_sdk::interfaces!({
    path: ["../../interfaces/wit/wasi-keyvalue"],
    interfaces: [
        "wasi:keyvalue/store@0.2.0-draft",
        "wasi:keyvalue/atomics@0.2.0-draft",
        "wasi:keyvalue/batch@0.2.0-draft",
    ],
});

/// The names of the interface that gives buckets, first as links and choices of links have it.
const STORE: (&str, &str) = ("wasi:keyvalue/store", store::INTERFACE);

/// A bucket that a guest has opened: the provider's handle, and who gave it.
struct OpenBucket {
    handle: store::Bucket,
    target: EntityId,
    link: LinkName,
    lender: ServedBy,
}

#[derive(ComponentType, Lift, Lower)]
#[component(variant)]
enum Error {
    #[component(name = "no-such-store")]
    NoSuchStore,
    #[component(name = "access-denied")]
    AccessDenied,
    #[component(name = "other")]
    Other(String),
}

#[derive(ComponentType, Lift, Lower)]
#[component(record)]
struct KeyResponse {
    keys: Vec<String>,
    cursor: Option<u64>,
}

impl From<store::Error> for Error {
    fn from(error: store::Error) -> Self {
        match error {
            store::Error::NoSuchStore => Self::NoSuchStore,
            store::Error::AccessDenied => Self::AccessDenied,
            store::Error::Other(text) => Self::Other(text),
        }
    }
}

type Answer<T> = way::Answer<T, Error>;

/// What a call over the lattice came to, as the guest sees it.
fn answer<T, U>(outcome: Outcome<T, store::Error>, convert: impl FnOnce(T) -> U) -> Answer<U> {
    let outcome = outcome.map(|answer| answer.map(convert).map_err(Error::from));
    way::answer(outcome, |refusal| Error::Other(refusal.to_string()))
}

/// The way to whoever gave a bucket, and the bucket's handle there.
fn bucket_way(
    state: &State,
    bucket: &Resource<OpenBucket>,
) -> wasmtime::Result<(Way, store::Bucket)> {
    let open = state.table.get(bucket)?;
    let (target, link, lender) = (open.target.clone(), open.link.clone(), open.lender.clone());
    Ok((Way::to_lender(state, target, link, lender), open.handle))
}

async fn open(
    mut store: StoreContextMut<'_, State>,
    (identifier,): (String,),
) -> Answer<Resource<OpenBucket>> {
    let opened = match open_at(&mut store, &identifier).await {
        Ok(Ok(opened)) => Ok(Ok(store.data_mut().table.push(opened)?)),
        Ok(Err(error)) => Ok(Err(error)),
        Err(refusal) => Err(refusal),
    };
    answer(opened, |bucket| bucket)
}

async fn open_at(
    store: &mut StoreContextMut<'_, State>,
    identifier: &str,
) -> Outcome<OpenBucket, store::Error> {
    let way = Way::by_link(store.data(), STORE, anybody)?;
    let client = store::Client(&way);
    let opened = way.borrow(store, client.open(identifier)).await?;
    Ok(opened.map(|handle| OpenBucket {
        handle,
        target: way.target().clone(),
        link: way.link().clone(),
        lender: way.served_by().unwrap_or(ServedBy::Here),
    }))
}

type Bucket = Resource<OpenBucket>;

async fn get(
    store: StoreContextMut<'_, State>,
    (bucket, key): (Bucket, String),
) -> Answer<Option<Vec<u8>>> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        store::Client(&way).bucket_get(handle, &key).await,
        |value| value.map(Vec::from),
    )
}

async fn set(
    store: StoreContextMut<'_, State>,
    (bucket, key, value): (Bucket, String, Vec<u8>),
) -> Answer<()> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        store::Client(&way).bucket_set(handle, &key, &value).await,
        |()| (),
    )
}

async fn delete(store: StoreContextMut<'_, State>, (bucket, key): (Bucket, String)) -> Answer<()> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        store::Client(&way).bucket_delete(handle, &key).await,
        |()| (),
    )
}

async fn exists(
    store: StoreContextMut<'_, State>,
    (bucket, key): (Bucket, String),
) -> Answer<bool> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        store::Client(&way).bucket_exists(handle, &key).await,
        |exists| exists,
    )
}

async fn list_keys(
    store: StoreContextMut<'_, State>,
    (bucket, cursor): (Bucket, Option<u64>),
) -> Answer<KeyResponse> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        store::Client(&way).bucket_list_keys(handle, cursor).await,
        |page| KeyResponse {
            keys: page.keys,
            cursor: page.cursor,
        },
    )
}

async fn increment(
    store: StoreContextMut<'_, State>,
    (bucket, key, delta): (Bucket, String, u64),
) -> Answer<u64> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        atomics::Client(&way).increment(handle, &key, delta).await,
        |value| value,
    )
}

type Entry = Option<(String, Vec<u8>)>;

async fn get_many(
    store: StoreContextMut<'_, State>,
    (bucket, keys): (Bucket, Vec<String>),
) -> Answer<Vec<Entry>> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        batch::Client(&way).get_many(handle, &keys).await,
        |entries| {
            entries
                .into_iter()
                .map(|entry| entry.map(|(key, value)| (key, Vec::from(value))))
                .collect()
        },
    )
}

async fn set_many(
    store: StoreContextMut<'_, State>,
    (bucket, entries): (Bucket, Vec<(String, Vec<u8>)>),
) -> Answer<()> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    let entries: Vec<_> = entries
        .into_iter()
        .map(|(key, value)| (key, ByteList::from(value)))
        .collect();
    answer(
        batch::Client(&way).set_many(handle, &entries).await,
        |()| {},
    )
}

async fn delete_many(
    store: StoreContextMut<'_, State>,
    (bucket, keys): (Bucket, Vec<String>),
) -> Answer<()> {
    let (way, handle) = bucket_way(store.data(), &bucket)?;
    answer(
        batch::Client(&way).delete_many(handle, &keys).await,
        |()| {},
    )
}

/// Binds each interface under the name that components import.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(store::INTERFACE)?;
    // The provider's side is released with the lease, when the instance ends; this is the host's side alone.
    instance.resource(
        "bucket",
        ResourceType::host::<OpenBucket>(),
        |mut store, rep| {
            let bucket = Resource::<OpenBucket>::new_own(rep);
            store.data_mut().table.delete(bucket)?;
            Ok(())
        },
    )?;
    instance.func_wrap_async("open", |store, params| Box::new(open(store, params)))?;
    instance.func_wrap_async("[method]bucket.get", |store, p| Box::new(get(store, p)))?;
    instance.func_wrap_async("[method]bucket.set", |store, p| Box::new(set(store, p)))?;
    instance.func_wrap_async("[method]bucket.delete", |store, p| {
        Box::new(delete(store, p))
    })?;
    instance.func_wrap_async("[method]bucket.exists", |store, p| {
        Box::new(exists(store, p))
    })?;
    instance.func_wrap_async("[method]bucket.list-keys", |store, p| {
        Box::new(list_keys(store, p))
    })?;
    let mut instance = linker.instance(atomics::INTERFACE)?;
    instance.func_wrap_async("increment", |store, p| Box::new(increment(store, p)))?;
    let mut instance = linker.instance(batch::INTERFACE)?;
    instance.func_wrap_async("get-many", |store, p| Box::new(get_many(store, p)))?;
    instance.func_wrap_async("set-many", |store, p| Box::new(set_many(store, p)))?;
    instance.func_wrap_async("delete-many", |store, p| Box::new(delete_many(store, p)))?;
    Ok(())
}
