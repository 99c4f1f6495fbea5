//! The cases, and the values that they work on.

use std::future::Future;
use std::hint::black_box;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use anyhow::Result;
use async_trait::async_trait;
use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::frame::Frame;
use trellis_protocol::value::{self, ByteList};
use trellis_protocol::{
    EntityId, InvocationHead, InvocationId, Lease, LinkName, Operation, Refusal,
};
use trellis_provider_sdk::Call;
use trellis_provider_sdk::interface::Caller;

use super::Case;
use wit::store;

/// Rust for key-value, as its providers have it.
mod wit {
    trellis_provider_sdk::interfaces!({
        path: ["../../interfaces/wit/wasi-keyvalue"],
        interfaces: ["wasi:keyvalue/store@0.2.0-draft"],
    });
}

/// Bytes of a small value, and of one that fills a good part of a frame.
const SMALL_BYTES: usize = 64;
const LARGE_BYTES: usize = 16 * 1024;

const KEY: &str = "customers/4711/orders";

/// Every case.
pub(super) fn all() -> Result<Vec<Case>> {
    let mut cases = values()?;
    cases.extend(frames()?);
    cases.extend(dispatch()?);
    Ok(cases)
}

fn case(name: &'static str, run: impl FnMut() + 'static) -> Case {
    Case {
        name,
        run: Box::new(run),
    }
}

/// What a result is for here: a failure would be counted as success, so it ends the program.
fn done<T, E: std::fmt::Debug>(result: Result<T, E>) -> T {
    match result {
        Ok(value) => black_box(value),
        Err(error) => unreachable!("a case that must work has failed: {error:?}"),
    }
}

type GetResult = Result<Option<ByteList>, store::Error>;

/// Parameters and results of `get` and `set` on a bucket.
fn values() -> Result<Vec<Case>> {
    let get = (store::Bucket(7), KEY.to_owned());
    let get_bytes = value::encode(&get)?;
    let mut cases = vec![
        case("value/get-parameters/encode", move || {
            done(value::encode(black_box(&get)));
        }),
        case("value/get-parameters/decode", move || {
            done(value::decode::<(store::Bucket, String)>(black_box(
                &get_bytes,
            )));
        }),
    ];
    for (bytes, [set_encode, set_decode, result_encode, result_decode]) in [
        (
            SMALL_BYTES,
            [
                "value/set-parameters-64/encode",
                "value/set-parameters-64/decode",
                "value/get-result-64/encode",
                "value/get-result-64/decode",
            ],
        ),
        (
            LARGE_BYTES,
            [
                "value/set-parameters-16k/encode",
                "value/set-parameters-16k/decode",
                "value/get-result-16k/encode",
                "value/get-result-16k/decode",
            ],
        ),
    ] {
        let set = (
            store::Bucket(7),
            KEY.to_owned(),
            ByteList::from(vec![0x5a; bytes]),
        );
        let set_bytes = value::encode(&set)?;
        let result: GetResult = Ok(Some(ByteList::from(vec![0x5a; bytes])));
        let result_bytes = value::encode(&result)?;
        cases.extend([
            case(set_encode, move || {
                done(value::encode(black_box(&set)));
            }),
            case(set_decode, move || {
                done(value::decode::<(store::Bucket, String, ByteList)>(
                    black_box(&set_bytes),
                ));
            }),
            case(result_encode, move || {
                done(value::encode(black_box(&result)));
            }),
            case(result_decode, move || {
                done(done(value::decode::<GetResult>(black_box(&result_bytes))));
            }),
        ]);
    }
    Ok(cases)
}

fn head() -> Result<InvocationHead> {
    Ok(InvocationHead {
        id: InvocationId(0x0123_4567_89ab_cdef_0123_4567_89ab_cdef),
        source: EntityId::new("orders")?,
        target: EntityId::new("cache")?,
        operation: Operation::new("wasi:keyvalue/store@0.2.0-draft", "[method]bucket.get"),
        link: LinkName::default(),
        deadline_ms: 30_000,
        depth: 1,
        type_hash: 0x0123_4567_89ab_cdef,
        idempotent: false,
        lease: Lease {
            host: Arc::from("NAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"),
            instance: 4_711,
        },
        chain: Vec::new(),
        traceparent: None,
        state_sequence: 99,
    })
}

/// Frames between hosts, and between a host and a provider process.
fn frames() -> Result<Vec<Case>> {
    let mut cases = Vec::new();
    for (bytes, [invoke_encode, invoke_decode, reply_encode, reply_decode]) in [
        (
            SMALL_BYTES,
            [
                "frame/invoke-64/encode",
                "frame/invoke-64/decode",
                "frame/reply-64/encode",
                "frame/reply-64/decode",
            ],
        ),
        (
            LARGE_BYTES,
            [
                "frame/invoke-16k/encode",
                "frame/invoke-16k/decode",
                "frame/reply-16k/encode",
                "frame/reply-16k/decode",
            ],
        ),
    ] {
        let invoke = Frame::Invoke {
            call: 4_711,
            head: Box::new(head()?),
            payload: Bytes::from(vec![0x5a; bytes]),
            rest: 0,
        };
        let reply = Frame::Reply {
            call: 4_711,
            result: Bytes::from(vec![0x5a; bytes]),
            rest: 0,
        };
        let invoke_bytes = Bytes::from(invoke.encode()?);
        let reply_bytes = Bytes::from(reply.encode()?);
        cases.extend([
            case(invoke_encode, move || {
                done(black_box(&invoke).encode());
            }),
            case(invoke_decode, move || {
                done(Frame::decode(black_box(&invoke_bytes)));
            }),
            case(reply_encode, move || {
                done(black_box(&reply).encode());
            }),
            case(reply_decode, move || {
                done(Frame::decode(black_box(&reply_bytes)));
            }),
        ]);
    }
    Ok(cases)
}

/// From a generated client through bytes to a provider's typed trait, and back.
fn dispatch() -> Result<Vec<Case>> {
    let getting = store::Client(Direct::new()?);
    let setting = store::Client(Direct::new()?);
    Ok(vec![
        case("dispatch/get-64", move || {
            let got = ready(getting.bucket_get(store::Bucket(7), KEY));
            done(done(got));
        }),
        case("dispatch/set-64", move || {
            let set = ready(setting.bucket_set(store::Bucket(7), KEY, &[0x5a; SMALL_BYTES]));
            done(done(set));
        }),
    ])
}

/// A provider without a backend: what is counted is the way to it.
#[derive(Default)]
struct Nothing;

/// Hands an encoded call to the provider at once, as a host does whose router has decided.
struct Direct {
    provider: Nothing,
    source: EntityId,
    lease: Lease,
    deadline: Instant,
    cancel: CancellationToken,
}

impl Direct {
    fn new() -> Result<Self> {
        let head = head()?;
        Ok(Self {
            provider: Nothing,
            source: head.source,
            lease: head.lease,
            deadline: Instant::now() + Duration::from_secs(30),
            cancel: CancellationToken::new(),
        })
    }
}

impl Caller for Direct {
    async fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let call = Call {
            id: InvocationId(4_711),
            source: self.source.clone(),
            link: LinkName::default(),
            operation: operation.clone(),
            type_hash,
            payload,
            deadline: self.deadline,
            cancel: self.cancel.clone(),
            lease: self.lease.clone(),
            depth: 1,
            chain: Arc::default(),
            traceparent: None,
        };
        store::dispatch(&self.provider, &call).await
    }
}

type Answer<T> = Result<Result<T, store::Error>, Refusal>;

#[async_trait]
impl store::Store for Nothing {
    async fn open(&self, _: &Call, _: String) -> Answer<store::Bucket> {
        Ok(Ok(store::Bucket(7)))
    }

    async fn bucket_get(&self, _: &Call, _: store::Bucket, _: String) -> Answer<Option<ByteList>> {
        Ok(Ok(Some(ByteList::from(vec![0x5a; SMALL_BYTES]))))
    }

    async fn bucket_set(&self, _: &Call, _: store::Bucket, _: String, _: ByteList) -> Answer<()> {
        Ok(Ok(()))
    }

    async fn bucket_delete(&self, _: &Call, _: store::Bucket, _: String) -> Answer<()> {
        Ok(Ok(()))
    }

    async fn bucket_exists(&self, _: &Call, _: store::Bucket, _: String) -> Answer<bool> {
        Ok(Ok(true))
    }

    async fn bucket_list_keys(
        &self,
        _: &Call,
        _: store::Bucket,
        _: Option<u64>,
    ) -> Answer<store::KeyResponse> {
        Ok(Err(store::Error::AccessDenied))
    }

    async fn drop_bucket(&self, _: &Call, _: store::Bucket) -> Result<(), Refusal> {
        Ok(())
    }
}

/// What a future gives that waits for nothing.
fn ready<T>(future: impl Future<Output = T>) -> T {
    let mut context = Context::from_waker(Waker::noop());
    match pin!(future).poll(&mut context) {
        Poll::Ready(value) => value,
        Poll::Pending => unreachable!("nothing here waits"),
    }
}
