//! Serves calls as their names say.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt as _;
use http_body::{Body, Frame};
use http_body_util::BodyExt as _;
use tokio_util::sync::CancellationToken;
use trellis_protocol::pipe::{Failure, FailureKind, Question};
use trellis_protocol::{InvocationHead, Lease, Refusal, RefusalCode};

use super::fixture::full;
use crate::{PipeBody, PipeHandler};

/// Bytes of one piece of a body that tests make.
pub(super) const PIECE_BYTES: usize = 50_000;

#[derive(Default)]
pub(super) struct TestHandler {
    /// Calls that are being served.
    pub(super) under_way: AtomicUsize,
    /// Bytes of request bodies that were read.
    pub(super) read: AtomicUsize,
    pub(super) told: Mutex<Vec<String>>,
}

struct UnderWay<'a>(&'a AtomicUsize);

impl<'a> UnderWay<'a> {
    fn new(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count)
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl TestHandler {
    pub(super) fn under_way(&self) -> usize {
        self.under_way.load(Ordering::SeqCst)
    }

    fn tell(&self, what: String) {
        self.told.lock().unwrap().push(what);
    }

    pub(super) fn told(&self) -> Vec<String> {
        self.told.lock().unwrap().clone()
    }
}

#[async_trait]
impl PipeHandler for TestHandler {
    async fn invoke(
        &self,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Bytes, Refusal> {
        let _under_way = UnderWay::new(&self.under_way);
        match &*head.operation.function {
            "echo" => Ok(payload),
            "refuse" => Err(Refusal::new(RefusalCode::NotGranted, "no").with_remedy("yes")),
            "left" => {
                let left = deadline.saturating_duration_since(Instant::now());
                Ok(left.as_millis().to_string().into())
            }
            "until-cancelled" => {
                cancel.cancelled().await;
                Err(Refusal::new(RefusalCode::Cancelled, "stopped"))
            }
            "stubborn" => std::future::pending().await,
            "huge" => Ok(vec![0; 5 * 1024 * 1024].into()),
            "panic" => panic!("as the test wants it"),
            other => Err(Refusal::new(RefusalCode::UnknownOperation, other)),
        }
    }

    async fn http(
        &self,
        _head: InvocationHead,
        _deadline: Instant,
        cancel: CancellationToken,
        request: http::Request<PipeBody>,
    ) -> Result<http::Response<PipeBody>, Refusal> {
        let _under_way = UnderWay::new(&self.under_way);
        let path = request.uri().path().to_owned();
        let mut response = http::Response::builder().header("x-path", &path);
        let body = match &*path {
            "/echo" => request.into_body(),
            "/count" => {
                let mut body = request.into_body();
                let mut bytes = 0;
                while let Some(frame) = body.frame().await {
                    if let Ok(data) = frame?.into_data() {
                        bytes += data.len();
                        self.read.fetch_add(data.len(), Ordering::SeqCst);
                    }
                }
                full(bytes.to_string())
            }
            "/ignore" => full("ignored"),
            "/empty" => full(""),
            "/many-fields" => {
                for i in 0..200 {
                    response = response.header(format!("f{i}"), "v");
                }
                full("")
            }
            "/broken-body" => broken_after(3),
            "/silent-body" => endless_then_silent(),
            "/hang" => {
                cancel.cancelled().await;
                return Err(Refusal::new(RefusalCode::Cancelled, "stopped"));
            }
            "/panic" => panic!("as the test wants it"),
            other => {
                let Some(bytes) = other.strip_prefix("/give/") else {
                    return Err(Refusal::new(RefusalCode::UnknownOperation, other));
                };
                pieces(bytes.parse().unwrap())
            }
        };
        Ok(response.body(body).unwrap())
    }

    async fn release(&self, lease: Lease) {
        self.tell(format!("release {} {}", lease.host, lease.instance));
    }

    async fn release_host(&self, host: String) {
        self.tell(format!("release-host {host}"));
    }

    async fn answer(&self, question: Question) -> Result<(), Failure> {
        self.tell(question.kind().to_owned());
        match question {
            Question::Start { config, .. } if config.contains_key("panic") => {
                panic!("as the test wants it")
            }
            Question::Start { config, .. } if config.contains_key("bad") => {
                Err(Failure::new(FailureKind::Config, "is bad").about("bad"))
            }
            Question::Shutdown { .. } => std::future::pending().await,
            _ => Ok(()),
        }
    }
}

/// What a body does once it has given some pieces.
#[derive(Clone, Copy)]
enum After {
    End,
    Fail,
    Nothing,
}

/// A body made as it is polled.
struct Pieces {
    left: usize,
    after: After,
}

impl Body for Pieces {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: std::pin::Pin<&mut Self>,
        _cx: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        use std::task::Poll;
        if self.left == 0 {
            return match self.after {
                After::End => Poll::Ready(None),
                After::Nothing => Poll::Pending,
                After::Fail => Poll::Ready(Some(Err(Refusal::new(
                    RefusalCode::ProviderFailed,
                    "broke",
                )))),
            };
        }
        let bytes = self.left.min(PIECE_BYTES);
        self.left -= bytes;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![7; bytes])))))
    }
}

/// A body of so many bytes.
pub(super) fn pieces(bytes: usize) -> PipeBody {
    Pieces {
        left: bytes,
        after: After::End,
    }
    .boxed_unsync()
}

fn broken_after(bytes: usize) -> PipeBody {
    Pieces {
        left: bytes,
        after: After::Fail,
    }
    .boxed_unsync()
}

/// A body that gives a little, and then nothing, for ever.
pub(super) fn endless_then_silent() -> PipeBody {
    Pieces {
        left: 10,
        after: After::Nothing,
    }
    .boxed_unsync()
}

/// Reads a body to its end, and says how long it was.
pub(super) async fn length(mut body: PipeBody) -> Result<usize, Refusal> {
    let mut bytes = 0;
    while let Some(frame) = body.frame().await {
        bytes += frame?.into_data().map_or(0, |data| data.len());
    }
    Ok(bytes)
}

/// Reads what a body gives at once.
pub(super) fn poll_once(body: &mut PipeBody) -> Option<Bytes> {
    let frame = body.frame().now_or_never()??;
    frame.unwrap().into_data().ok()
}

/// Waits a moment in which things that should not happen could.
pub(super) async fn moment() {
    tokio::time::sleep(Duration::from_millis(300)).await;
}
