//! The body of a request on its way to an actor: bounded in size, and in the time between two frames.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as HttpBody, Frame, SizeHint};
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio::sync::Notify;
use tokio::time::{Instant, Sleep};
use trellis_provider_sdk::{Body, BodyError};

use crate::connection::Connection;
use crate::problem::Problem;

/// What went wrong with a body while its request is still without a response.
#[derive(Debug, Default)]
pub(crate) struct Fault {
    kind: AtomicU8,
    seen: Notify,
}

const TOO_LARGE: u8 = 1;
const IDLE: u8 = 2;

impl Fault {
    fn set(&self, kind: u8) {
        self.kind.store(kind, Ordering::Release);
        self.seen.notify_one();
    }

    /// Waits for a fault and says how to answer it.
    pub(crate) async fn wait(&self, limit_bytes: u64) -> Problem {
        loop {
            match self.kind.load(Ordering::Acquire) {
                TOO_LARGE => return Problem::body_too_large(limit_bytes),
                IDLE => return Problem::body_idle(),
                _ => self.seen.notified().await,
            }
        }
    }
}

/// A body that is still arriving.
pub(crate) struct RequestBody {
    inner: Incoming,
    limit_bytes: u64,
    left_bytes: u64,
    idle_timeout: Duration,
    /// Runs while somebody waits for a frame.
    timer: Option<Pin<Box<Sleep>>>,
    waiting: bool,
    ended: bool,
    fault: Arc<Fault>,
    connection: Arc<Connection>,
}

impl RequestBody {
    /// The body with its limits, and where its faults are seen.
    pub(crate) fn watched(inner: Incoming, connection: Arc<Connection>) -> (Body, Arc<Fault>) {
        let limits = &connection.server.config.limits;
        let fault = Arc::new(Fault::default());
        // Until the body is dropped its bytes are no next request's head.
        connection.pace.begin();
        let body = Self {
            inner,
            limit_bytes: limits.body_bytes,
            left_bytes: limits.body_bytes,
            idle_timeout: limits.body_idle_timeout,
            timer: None,
            waiting: false,
            ended: false,
            fault: fault.clone(),
            connection,
        };
        (body.boxed_unsync(), fault)
    }

    fn fail(
        &mut self,
        kind: u8,
        error: BodyError,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        // The rest stays unread, which `drop` notes.
        self.waiting = false;
        self.left_bytes = 0;
        self.fault.set(kind);
        Poll::Ready(Some(Err(error)))
    }

    fn poll_timer(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let until = || Instant::now() + self.idle_timeout;
        let timer = match &mut self.timer {
            Some(timer) => {
                if !self.waiting {
                    timer.as_mut().reset(until());
                }
                timer
            }
            None => self
                .timer
                .insert(Box::pin(tokio::time::sleep_until(until()))),
        };
        self.waiting = true;
        timer.as_mut().poll(cx)
    }
}

impl HttpBody for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let this = &mut *self;
        if this.ended || this.fault.kind.load(Ordering::Relaxed) != 0 {
            return Poll::Ready(None);
        }
        match Pin::new(&mut this.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                this.waiting = false;
                if let Some(data) = frame.data_ref() {
                    match this.left_bytes.checked_sub(data.len() as u64) {
                        Some(left) => this.left_bytes = left,
                        None => {
                            let limit_bytes = this.limit_bytes;
                            return this.fail(TOO_LARGE, BodyError::TooLarge { limit_bytes });
                        }
                    }
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                this.ended = true;
                Poll::Ready(Some(Err(BodyError::Disconnected {
                    reason: error.to_string(),
                })))
            }
            Poll::Ready(None) => {
                this.ended = true;
                Poll::Ready(None)
            }
            Poll::Pending => match this.poll_timer(cx) {
                Poll::Ready(()) => this.fail(IDLE, BodyError::IdleTimeout),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ended || self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}

impl Drop for RequestBody {
    fn drop(&mut self) {
        if !self.ended && !self.inner.is_end_stream() {
            self.connection.pace.leave_unread();
        }
        self.connection.pace.end(std::time::Instant::now());
    }
}
