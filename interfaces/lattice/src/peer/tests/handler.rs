//! What a host under test does with calls: the function's name says.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http_body::{Body, Frame};
use http_body_util::{BodyExt, Empty};
use tokio_util::sync::CancellationToken;
use trellis_protocol::{InvocationHead, Lease, Refusal, RefusalCode};

use crate::peer::{PeerBody, PeerHandler, PeerHost};

/// What the handler has seen.
#[derive(Debug, Default)]
pub(super) struct Handler {
    pub(super) begun: AtomicUsize,
    pub(super) cancelled: AtomicUsize,
    /// Bytes that [`Endless`] bodies have produced.
    pub(super) produced: Arc<AtomicUsize>,
    /// Bodies of requests and responses that were dropped.
    pub(super) dropped: Arc<AtomicUsize>,
    pub(super) released: Mutex<Vec<Lease>>,
}

#[async_trait]
impl PeerHandler for Handler {
    async fn invoke(
        &self,
        _from: &PeerHost,
        head: InvocationHead,
        payload: Bytes,
        _deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Bytes, Refusal> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        match &*head.operation.function {
            "echo" => Ok(payload),
            "length" => Ok(Bytes::from(payload.len().to_string())),
            "refuse" => Err(Refusal::new(RefusalCode::NoLink, "no").with_remedy("a link")),
            "panic" => panic!("a handler's fault, which must stay in its own call"),
            "produce" => {
                let bytes: usize = std::str::from_utf8(&payload).unwrap().parse().unwrap();
                Ok(Bytes::from(vec![9; bytes]))
            }
            "hang" => {
                cancel.cancelled().await;
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                Err(Refusal::new(RefusalCode::Cancelled, "told to stop"))
            }
            other => Err(Refusal::new(RefusalCode::UnknownOperation, other)),
        }
    }

    async fn http(
        &self,
        _from: &PeerHost,
        head: InvocationHead,
        _deadline: Instant,
        cancel: CancellationToken,
        request: http::Request<PeerBody>,
    ) -> Result<http::Response<PeerBody>, Refusal> {
        self.begun.fetch_add(1, Ordering::SeqCst);
        let (parts, body) = request.into_parts();
        let response = http::Response::builder()
            .status(207)
            .header("x-method", parts.method.as_str())
            .header("x-uri", parts.uri.to_string())
            .header(
                "x-given",
                parts
                    .headers
                    .get("x-given")
                    .cloned()
                    .unwrap_or_else(|| "".parse().unwrap()),
            );
        let body = match &*head.operation.function {
            // Streams back what comes, as it comes.
            "echo" => body,
            "empty" => Empty::new().map_err(|never| match never {}).boxed_unsync(),
            "swallow" => {
                let bytes = body.collect().await?.to_bytes().len();
                full(bytes.to_string())
            }
            // Answers without reading the request's body.
            "ignore" => full("ignored"),
            "endless" => self.endless(usize::MAX).boxed_unsync(),
            "break" => Breaking(2).boxed_unsync(),
            "hang" => {
                cancel.cancelled().await;
                self.cancelled.fetch_add(1, Ordering::SeqCst);
                return Err(Refusal::new(RefusalCode::Cancelled, "told to stop"));
            }
            other => return Err(Refusal::new(RefusalCode::UnknownOperation, other)),
        };
        Ok(response.body(body).unwrap())
    }

    async fn release(&self, _from: &PeerHost, lease: Lease) {
        self.released.lock().unwrap().push(lease);
    }
}

impl Handler {
    pub(super) fn endless(&self, bytes: usize) -> Endless {
        Endless {
            left: bytes,
            produced: Arc::clone(&self.produced),
            dropped: Arc::clone(&self.dropped),
        }
    }
}

pub(super) fn full(bytes: impl Into<Bytes>) -> PeerBody {
    http_body_util::Full::new(bytes.into())
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// A body that produces as fast as it is polled, and counts.
pub(super) struct Endless {
    left: usize,
    produced: Arc<AtomicUsize>,
    dropped: Arc<AtomicUsize>,
}

impl Body for Endless {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        let bytes = self.left.min(10_000);
        self.left -= bytes;
        self.produced.fetch_add(bytes, Ordering::SeqCst);
        Poll::Ready(Some(Ok(Frame::data(Bytes::from(vec![5; bytes])))))
    }
}

impl Drop for Endless {
    fn drop(&mut self) {
        self.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

/// A body that breaks after some pieces.
struct Breaking(usize);

impl Body for Breaking {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        if self.0 == 0 {
            return Poll::Ready(Some(Err(Refusal::new(RefusalCode::Trapped, "broke"))));
        }
        self.0 -= 1;
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(b"piece")))))
    }
}
