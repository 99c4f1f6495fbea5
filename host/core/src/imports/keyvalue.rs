//! `wasi:keyvalue`, bound with typed functions: bytes stay bytes on the way (D16).
//!
//! What travels is made by the same generated code that a provider reads it with. A refusal reaches the guest as the
//! interface's own error, with the reason, so that an actor can answer for a store that it may not use; only a caller that
//! has gone, or a deadline that has passed, stops it.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use trellis_protocol::value::ByteList;
use trellis_protocol::{EntityId, InvocationId, LinkName, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::interface::Caller as LatticeCaller;
use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower, Resource, ResourceType};

use crate::actor::instance::State;
use crate::invocation::Invocation;
use crate::router::{Router, ServedBy};

trellis_provider_sdk::interfaces!({
    path: ["../../interfaces/wit/wasi-keyvalue"],
    interfaces: [
        "wasi:keyvalue/store@0.2.0-draft",
        "wasi:keyvalue/atomics@0.2.0-draft",
        "wasi:keyvalue/batch@0.2.0-draft",
    ],
});

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

type Answer<T> = wasmtime::Result<(Result<T, Error>,)>;

/// What a call over the lattice came to, as the guest sees it.
fn answer<T, U>(
    outcome: Result<Result<T, store::Error>, Refusal>,
    convert: impl FnOnce(T) -> U,
) -> Answer<U> {
    match outcome {
        Ok(Ok(value)) => Ok((Ok(convert(value)),)),
        Ok(Err(error)) => Ok((Err(error.into()),)),
        Err(refusal)
            if matches!(
                refusal.code,
                RefusalCode::Cancelled | RefusalCode::DeadlineExceeded
            ) =>
        {
            Err(refusal.into())
        }
        Err(refusal) => Ok((Err(Error::Other(refusal.to_string())),)),
    }
}

/// A way to one target over one link, for the generated client.
struct Way {
    router: Arc<Router>,
    template: Invocation,
    /// Whom to ask; the router chooses where nobody has given a handle yet.
    lender: Option<ServedBy>,
    served_by: Mutex<Option<ServedBy>>,
}

impl LatticeCaller for Way {
    async fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let invocation = Invocation {
            id: InvocationId::random(),
            operation: operation.clone(),
            type_hash,
            payload,
            ..self.template.clone()
        };
        match &self.lender {
            Some(lender) => self.router.invoke_lender(invocation, lender).await,
            None => {
                let (result, served_by) = self.router.invoke(invocation).await?;
                *self
                    .served_by
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner) = Some(served_by);
                Ok(result)
            }
        }
    }
}

/// The way to a target that the guest has not asked before.
fn first_way(state: &mut State) -> Result<Way, Refusal> {
    state.clock.let_go();
    let caller = &state.caller;
    let link = caller.link_for("wasi:keyvalue/store");
    let target = caller
        .router
        .target(&caller.actor.id, &link, &store::INTERFACE.into())?;
    Ok(way(state, target, link, None))
}

fn way(state: &State, target: EntityId, link: LinkName, lender: Option<ServedBy>) -> Way {
    let caller = &state.caller;
    Way {
        router: Arc::clone(&caller.router),
        template: caller.invocation(
            target,
            Operation::new(store::INTERFACE, ""),
            link,
            0,
            Bytes::new(),
        ),
        lender,
        served_by: Mutex::new(None),
    }
}

/// The way to whoever gave a bucket, and the bucket's handle there.
fn bucket_way(
    state: &mut State,
    bucket: &Resource<OpenBucket>,
) -> wasmtime::Result<(Way, store::Bucket)> {
    state.clock.let_go();
    let open = state.table.get(bucket)?;
    let (handle, target, link, lender) = (
        open.handle,
        open.target.clone(),
        open.link.clone(),
        open.lender.clone(),
    );
    Ok((way(state, target, link, Some(lender)), handle))
}

async fn open(
    mut store: StoreContextMut<'_, State>,
    (identifier,): (String,),
) -> Answer<Resource<OpenBucket>> {
    let way = match first_way(store.data_mut()) {
        Ok(way) => way,
        Err(refusal) => return answer(Err(refusal), |never: Resource<OpenBucket>| never),
    };
    let target = way.template.target.clone();
    let is_news = store.data_mut().caller.asks(&target);
    let opened = store::Client(&way).open(&identifier).await;
    let caller = &mut store.data_mut().caller;
    let may_be_lent = matches!(
        &opened,
        Err(refusal) if matches!(
            refusal.code,
            RefusalCode::Cancelled | RefusalCode::DeadlineExceeded | RefusalCode::OutcomeUnknown
        )
    );
    // With those refusals the bucket may have been opened all the same.
    if is_news && !may_be_lent {
        caller.answered(&target);
    }
    let handle = match opened {
        Ok(Ok(handle)) => handle,
        Ok(Err(error)) => return answer(Ok(Err(error)), |never: Resource<OpenBucket>| never),
        Err(refusal) => return answer(Err(refusal), |never: Resource<OpenBucket>| never),
    };
    let lender = way
        .served_by
        .into_inner()
        .unwrap_or_else(PoisonError::into_inner)
        .unwrap_or(ServedBy::Here);
    caller.borrowed_from(target.clone(), lender.clone());
    let state = store.data_mut();
    let bucket = state.table.push(OpenBucket {
        handle,
        target,
        link: way.template.link,
        lender,
    })?;
    Ok((Ok(bucket),))
}

type Bucket = Resource<OpenBucket>;

async fn get(
    mut store: StoreContextMut<'_, State>,
    (bucket, key): (Bucket, String),
) -> Answer<Option<Vec<u8>>> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
    answer(
        store::Client(&way).bucket_get(handle, &key).await,
        |value| value.map(Vec::from),
    )
}

async fn set(
    mut store: StoreContextMut<'_, State>,
    (bucket, key, value): (Bucket, String, Vec<u8>),
) -> Answer<()> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
    answer(
        store::Client(&way).bucket_set(handle, &key, &value).await,
        |()| (),
    )
}

async fn delete(
    mut store: StoreContextMut<'_, State>,
    (bucket, key): (Bucket, String),
) -> Answer<()> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
    answer(
        store::Client(&way).bucket_delete(handle, &key).await,
        |()| (),
    )
}

async fn exists(
    mut store: StoreContextMut<'_, State>,
    (bucket, key): (Bucket, String),
) -> Answer<bool> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
    answer(
        store::Client(&way).bucket_exists(handle, &key).await,
        |exists| exists,
    )
}

async fn list_keys(
    mut store: StoreContextMut<'_, State>,
    (bucket, cursor): (Bucket, Option<u64>),
) -> Answer<KeyResponse> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
    answer(
        store::Client(&way).bucket_list_keys(handle, cursor).await,
        |page| KeyResponse {
            keys: page.keys,
            cursor: page.cursor,
        },
    )
}

async fn increment(
    mut store: StoreContextMut<'_, State>,
    (bucket, key, delta): (Bucket, String, u64),
) -> Answer<u64> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
    answer(
        atomics::Client(&way).increment(handle, &key, delta).await,
        |value| value,
    )
}

type Entry = Option<(String, Vec<u8>)>;

async fn get_many(
    mut store: StoreContextMut<'_, State>,
    (bucket, keys): (Bucket, Vec<String>),
) -> Answer<Vec<Entry>> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
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
    mut store: StoreContextMut<'_, State>,
    (bucket, entries): (Bucket, Vec<(String, Vec<u8>)>),
) -> Answer<()> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
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
    mut store: StoreContextMut<'_, State>,
    (bucket, keys): (Bucket, Vec<String>),
) -> Answer<()> {
    let (way, handle) = bucket_way(store.data_mut(), &bucket)?;
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
