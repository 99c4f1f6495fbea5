//! The two bodies of an exchange. Whoever reads one sets its pace; nothing is kept beside what a connection has on the way.

use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use hyper::body::Incoming;
use tokio::sync::OwnedSemaphorePermit;
use tokio::time::{Instant, Sleep};
use tokio_util::sync::WaitForCancellationFutureOwned;
use tokio_util::task::task_tracker::TaskTrackerToken;
use trellis_provider_sdk::{BodyError, OutgoingError, OutgoingErrorCode as Code};

use crate::config::HEAD_BYTES;
use crate::fault;
use crate::fields;
use crate::hold::{Hold, Upload};

/// What both bodies of an exchange know of it.
#[derive(Debug, Clone)]
pub(crate) struct Progress(Arc<Known>);

#[derive(Debug)]
struct Known {
    begun: Instant,
    /// Milliseconds from then until a byte of the request was last taken.
    last_sent_ms: AtomicU64,
    /// Why the request's body ended before its end.
    fault: Mutex<Option<OutgoingError>>,
}

impl Progress {
    pub(crate) fn new() -> Self {
        Self(Arc::new(Known {
            begun: Instant::now(),
            last_sent_ms: AtomicU64::new(0),
            fault: Mutex::new(None),
        }))
    }

    fn sent(&self) {
        let millis = u64::try_from(self.0.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.0.last_sent_ms.store(millis, Ordering::Relaxed);
    }

    fn last_sent(&self) -> Instant {
        self.0.begun + Duration::from_millis(self.0.last_sent_ms.load(Ordering::Relaxed))
    }

    fn failed(&self, error: OutgoingError) {
        *self.0.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(error);
    }

    /// What was wrong with the request's body. It explains whatever became of the exchange.
    pub(crate) fn fault(&self) -> Option<OutgoingError> {
        let fault = self.0.fault.lock();
        fault.unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// A request's body on its way to the server.
pub(crate) struct RequestBody {
    upload: Upload,
    is_empty: bool,
    size: SizeHint,
    /// Bytes to come, where the head says how many there are.
    declared: Option<u64>,
    left: u64,
    limit_bytes: u64,
    unwanted: Pin<Box<WaitForCancellationFutureOwned>>,
    progress: Progress,
}

impl RequestBody {
    pub(crate) fn new(
        upload: Upload,
        declared: Option<u64>,
        limit_bytes: u64,
        progress: Progress,
    ) -> Self {
        let beginning = upload.with(|body| (body.is_end_stream(), body.size_hint()));
        let (is_empty, size) = beginning.unwrap_or((true, SizeHint::with_exact(0)));
        Self {
            is_empty,
            size,
            declared,
            left: limit_bytes,
            limit_bytes,
            unwanted: Box::pin(upload.unwanted().clone().cancelled_owned()),
            upload,
            progress,
        }
    }

    fn take(&mut self, bytes: u64) -> Result<(), BodyError> {
        self.progress.sent();
        match self.left.checked_sub(bytes) {
            Some(left) => self.left = left,
            None => {
                let text = format!("the request's body exceeds {} bytes", self.limit_bytes);
                let error = OutgoingError::new(Code::HttpRequestBodySize, text);
                self.progress.failed(error.with_number(self.limit_bytes));
                return Err(BodyError::TooLarge {
                    limit_bytes: self.limit_bytes,
                });
            }
        }
        if let Some(declared) = self.declared {
            self.declared = Some(
                declared
                    .checked_sub(bytes)
                    .ok_or_else(|| self.wrong_length())?,
            );
        }
        Ok(())
    }

    fn wrong_length(&self) -> BodyError {
        let reason = "the request's body has another length than its head says".to_owned();
        self.progress.failed(
            OutgoingError::new(Code::HttpRequestBodySize, &reason)
                .with_number(self.limit_bytes - self.left),
        );
        BodyError::Disconnected { reason }
    }
}

impl http_body::Body for RequestBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        let unwanted = || BodyError::Disconnected {
            reason: "nobody wants the response any more".to_owned(),
        };
        if self.unwanted.as_mut().poll(context).is_ready() {
            return Poll::Ready(Some(Err(unwanted())));
        }
        let polled = self.upload.with(|body| Pin::new(body).poll_frame(context));
        let Some(frame) = polled else {
            return Poll::Ready(Some(Err(unwanted())));
        };
        let frame = ready!(frame);
        Poll::Ready(match frame {
            Some(Ok(frame)) => {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                let ends_early = frame.is_trailers() && self.declared.is_some_and(|left| left > 0);
                if ends_early {
                    return Poll::Ready(Some(Err(self.wrong_length())));
                }
                Some(self.take(bytes).map(|()| frame))
            }
            Some(Err(error)) => {
                let text = format!("the request's body failed: {error}");
                let code = Code::ConnectionTerminated;
                self.progress.failed(OutgoingError::new(code, text));
                Some(Err(error))
            }
            None if self.declared.is_some_and(|left| left > 0) => Some(Err(self.wrong_length())),
            None => None,
        })
    }

    fn is_end_stream(&self) -> bool {
        // A body that was given up is at no proper end.
        let at_end = self.upload.with(|body| body.is_end_stream());
        at_end.unwrap_or(self.is_empty) && self.declared.is_none_or(|left| left == 0)
    }

    /// Asked for once, before the first frame.
    fn size_hint(&self) -> SizeHint {
        self.size
    }
}

impl Drop for RequestBody {
    /// Sent, or given up.
    fn drop(&mut self) {
        self.upload.end();
    }
}

/// What an exchange is counted by while it lasts: among those of its link, and among what a shutdown waits for.
pub(crate) type Counted = (OwnedSemaphorePermit, TaskTrackerToken);

/// A response's body on its way to the guest.
pub(crate) struct ResponseBody {
    body: Incoming,
    left: u64,
    limit_bytes: u64,
    idle_max: Duration,
    idle: Option<Pin<Box<Sleep>>>,
    progress: Progress,
    /// `None` once the body has ended, well or badly.
    held: Option<(Hold, Counted)>,
}

impl ResponseBody {
    pub(crate) fn new(
        body: Incoming,
        limit_bytes: u64,
        idle_max: Duration,
        progress: Progress,
        held: (Hold, Counted),
    ) -> Self {
        let mut body = Self {
            body,
            left: limit_bytes,
            limit_bytes,
            idle_max,
            idle: None,
            progress,
            held: Some(held),
        };
        // Nobody has to look at a body that has nothing.
        if body.body.is_end_stream() {
            body.end();
        }
        body
    }

    fn fail(&mut self, error: BodyError) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        self.held = None;
        Poll::Ready(Some(Err(error)))
    }

    fn end(&mut self) {
        if let Some((hold, _)) = self.held.take() {
            hold.done();
        }
    }

    fn take(&mut self, frame: &Frame<Bytes>) -> Result<(), BodyError> {
        if let Some(data) = frame.data_ref() {
            let left = self.left.checked_sub(data.len() as u64);
            self.left = left.ok_or(BodyError::TooLarge {
                limit_bytes: self.limit_bytes,
            })?;
        }
        match frame.trailers_ref() {
            Some(trailers) if !fields::fit(trailers) => Err(BodyError::TooLarge {
                limit_bytes: HEAD_BYTES as u64,
            }),
            _ => Ok(()),
        }
    }

    /// Waits for silence. What is sent meanwhile is none.
    fn poll_idle(&mut self, context: &mut Context<'_>) -> Poll<()> {
        let idle_max = self.idle_max;
        let idle = self
            .idle
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(idle_max)));
        loop {
            ready!(idle.as_mut().poll(context));
            let until = self.progress.last_sent() + idle_max;
            if until <= Instant::now() {
                return Poll::Ready(());
            }
            idle.as_mut().reset(until);
        }
    }
}

impl http_body::Body for ResponseBody {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if self.held.is_none() {
            return Poll::Ready(None);
        }
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(Some(Ok(mut frame))) => {
                self.idle = None;
                if let Some(trailers) = frame.trailers_mut() {
                    fields::prepare_response(trailers);
                }
                match self.take(&frame) {
                    Ok(()) => {
                        // Whoever knows the length stops reading here.
                        if self.body.is_end_stream() {
                            self.end();
                        }
                        Poll::Ready(Some(Ok(frame)))
                    }
                    Err(error) => self.fail(error),
                }
            }
            Poll::Ready(Some(Err(error))) => {
                let reason = match self.progress.fault() {
                    Some(fault) => fault.text,
                    None => format!(
                        "the response ended before its end: {}",
                        fault::chain(&error)
                    ),
                };
                self.fail(BodyError::Disconnected { reason })
            }
            Poll::Ready(None) => {
                self.end();
                Poll::Ready(None)
            }
            Poll::Pending => match self.poll_idle(context) {
                Poll::Ready(()) => self.fail(BodyError::IdleTimeout),
                Poll::Pending => Poll::Pending,
            },
        }
    }

    fn is_end_stream(&self) -> bool {
        self.held.is_none() || self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
