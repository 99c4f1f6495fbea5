//! An HTTP request served by an actor: a fresh instance, the head as soon as the guest sets it, the body as it comes.
//!
//! The guest runs on the task that asked, without a hop to another one, until the head of its response is there. Most
//! guests are done by then. One that is not goes on in a task of the host's, until its body is read or nobody wants it
//! any more.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Instant;

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::BodyExt;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trellis_protocol::{Refusal, RefusalCode};
use trellis_provider_sdk::{Body, BodyError, HttpRequest, HttpResponse};
use wasmtime_wasi_http::p2::bindings::ProxyPre;
use wasmtime_wasi_http::p2::bindings::http::types::{ErrorCode, Scheme};
use wasmtime_wasi_http::p2::body::HyperOutgoingBody;
use wasmtime_wasi_http::{Error as HttpError, WasiHttpView};

use super::Actor;
use super::instance::{Deadline, State};
use super::stop::refusal_of;
use crate::admission::Admitted;
use crate::invocation::Invocation;
use crate::limits::{AFTER_BODY_MIN, BODY_IDLE_MAX, BODY_TOTAL_MAX};
use crate::observe::span::trace_id;
use crate::router::Router;

type Head = Result<http::Response<HyperOutgoingBody>, ErrorCode>;

impl Actor {
    /// Serves a request. The future ends with the head of the response; dropping it, or the body, stops the guest.
    ///
    /// # Errors
    /// `unknown-operation` where the actor serves no HTTP; what admission refuses; `trapped`, `out-of-memory`,
    /// `deadline-exceeded` and `cancelled` where the guest stopped before its head was there.
    pub(crate) async fn http(
        self: &Arc<Self>,
        router: &Arc<Router>,
        mut invocation: Invocation,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        let Some(pre) = &self.prepared.http else {
            return Err(Refusal::new(
                RefusalCode::UnknownOperation,
                format!("`{}` does not export `wasi:http/incoming-handler`", self.id),
            ));
        };
        let admitted = self
            .admission
            .enter(invocation.depth, invocation.deadline, &invocation.cancel)
            .await?;
        // The guest's own token: fired by the caller's, and by whoever drops the response's body.
        let cancel = invocation.cancel.child_token();
        let deadline = invocation.deadline;
        let guest_deadline = Deadline::of(self, deadline);
        invocation.cancel = cancel.clone();
        let ids = (invocation.id, invocation.traceparent.clone());
        let (sender, mut head) = oneshot::channel();
        let stopped = Arc::<AtomicBool>::default();
        let mut run = Box::pin(run(
            Arc::clone(self),
            Arc::clone(router),
            pre.clone(),
            (invocation, guest_deadline.clone(), Arc::clone(&stopped)),
            request,
            sender,
            admitted,
        ));
        let mut dropped = false;
        let response = loop {
            tokio::select! {
                biased;
                done = &mut run => {
                    let head = if dropped { None } else { head.try_recv().ok() };
                    // What it wrote before it stopped is not all that it was to write.
                    let guest = done.is_err().then(|| Running {
                        cancel: cancel.clone(),
                        body_done: CancellationToken::new(),
                        stopped: Arc::clone(&stopped),
                    });
                    return finish(self, head.ok_or_else(|| no_response(self, done))?, guest);
                }
                head = &mut head, if !dropped => match head {
                    Ok(head) => break head,
                    // The guest gave up its way to answer. Why is told by its end, for which it has the same time.
                    Err(_) => dropped = true,
                },
                () = cancel.cancelled() => {
                    return Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone"));
                }
                () = tokio::time::sleep_until(guest_deadline.get().into()) => {
                    return Err(guest_deadline.exceeded());
                }
            }
        };
        guest_deadline.extend_to(Instant::now() + BODY_TOTAL_MAX);
        let until = guest_deadline.get();
        let guest = Running {
            cancel: cancel.clone(),
            body_done: CancellationToken::new(),
            stopped: Arc::clone(&stopped),
        };
        let (id, host) = (self.id.clone(), Arc::clone(router.host()));
        let body_done = guest.body_done.clone();
        self.tasks.spawn(async move {
            // What a guest does after its body is bounded as what it does before its head.
            let afterwards = async {
                body_done.cancelled().await;
                guest_deadline.extend_to(deadline.max(Instant::now() + AFTER_BODY_MIN));
                tokio::time::sleep_until(guest_deadline.get().into()).await;
            };
            let ended = tokio::select! {
                ended = &mut run => ended,
                () = cancel.cancelled() => {
                    stopped.store(true, Ordering::Release);
                    return;
                }
                () = tokio::time::sleep_until(until.into()) => Err(guest_deadline.exceeded()),
                () = afterwards => Err(guest_deadline.exceeded()),
            };
            if let Err(refusal) = ended {
                // Before the guest is dropped, which whoever reads would take for the end of its body.
                stopped.store(true, Ordering::Release);
                let (invocation_id, traceparent) = ids;
                let trace_id = traceparent.as_deref().and_then(trace_id);
                tracing::warn!(target: "actor", host_id = %host, actor_id = %id, %invocation_id, trace_id, %refusal, "the actor stopped after the head of its response");
            }
        });
        finish(self, response, Some(guest))
    }
}

/// Runs the guest to its end.
async fn run(
    actor: Arc<Actor>,
    router: Arc<Router>,
    pre: ProxyPre<State>,
    (invocation, deadline, stopped): (Invocation, Deadline, Arc<AtomicBool>),
    request: HttpRequest,
    sender: oneshot::Sender<Head>,
    _admitted: Admitted,
) -> Result<(), Refusal> {
    let mut store = State::store(&actor, &router, &invocation, deadline);
    let scheme = match request.uri().scheme_str() {
        Some("https") => Scheme::Https,
        _ => Scheme::Http,
    };
    let request = request.map(|body| body.map_err(from_body_error));
    let bad_request =
        |error: wasmtime::Error| Refusal::new(RefusalCode::BadPayload, format!("{error:#}"));
    let request = store
        .data_mut()
        .http()
        .new_incoming_request(scheme, request)
        .map_err(bad_request)?;
    let out = store
        .data_mut()
        .http()
        .new_response_outparam(sender)
        .map_err(bad_request)?;
    let result = match pre.instantiate_async(&mut store).await {
        Ok(proxy) => {
            proxy
                .wasi_http_incoming_handler()
                .call_handle(&mut store, request, out)
                .await
        }
        Err(error) => Err(error),
    };
    result.map_err(|error| {
        // Before the store goes, and with it the guest's end of the body.
        stopped.store(true, Ordering::Release);
        refusal_of(&actor.id, error, store.data())
    })
}

/// What to say where the guest ended without a head.
fn no_response(actor: &Actor, done: Result<(), Refusal>) -> Refusal {
    done.err().unwrap_or_else(|| {
        Refusal::new(
            RefusalCode::Trapped,
            format!("`{}` ended without setting a response", actor.id),
        )
    })
}

fn finish(actor: &Actor, head: Head, guest: Option<Running>) -> Result<HttpResponse, Refusal> {
    let response = head.map_err(|code| {
        Refusal::new(
            RefusalCode::Trapped,
            format!(
                "`{}` answered with an error instead of a response: {code}",
                actor.id
            ),
        )
    })?;
    let declared = response
        .headers()
        .get(http::header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok());
    Ok(response.map(|body| {
        Body::new(ResponseBody {
            // A body that the guest writes piece by piece has no length of its own. The guest is held to the declared
            // one, and whoever reads stops there.
            left: body.size_hint().exact().or(declared),
            body,
            idle: None,
            ended: false,
            guest,
        })
    }))
}

/// A guest that still writes its body.
struct Running {
    /// Stops it.
    cancel: CancellationToken,
    /// Says that the body went out whole.
    body_done: CancellationToken,
    /// Whether the guest was stopped, so that the end of what it wrote is not the end of its body.
    stopped: Arc<AtomicBool>,
}

/// The body of a response, with a limit on silence.
struct ResponseBody {
    body: HyperOutgoingBody,
    /// Bytes to come, where the guest said how many there are.
    left: Option<u64>,
    idle: Option<Pin<Box<tokio::time::Sleep>>>,
    ended: bool,
    guest: Option<Running>,
}

impl ResponseBody {
    /// Whether the guest was stopped while something of its body was to come. Told once.
    fn is_cut_short(&self) -> bool {
        let is_stopped = |guest: &Running| guest.stopped.load(Ordering::Acquire);
        !self.ended && self.left != Some(0) && self.guest.as_ref().is_some_and(is_stopped)
    }
}

impl Drop for ResponseBody {
    /// Whoever reads a body may drop it as soon as its last byte is there. Only a body that is dropped before that says
    /// that nobody wants the guest's work any more.
    fn drop(&mut self) {
        if let Some(guest) = self.guest.take() {
            if self.ended || self.left == Some(0) || self.body.is_end_stream() {
                guest.body_done.cancel();
            } else {
                guest.cancel.cancel();
            }
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
        match Pin::new(&mut self.body).poll_frame(context) {
            Poll::Ready(frame) => {
                self.idle = None;
                match &frame {
                    Some(Ok(frame)) => {
                        if let (Some(left), Some(data)) = (&mut self.left, frame.data_ref()) {
                            *left = left.saturating_sub(data.len() as u64);
                        }
                    }
                    Some(Err(_)) => {}
                    None if self.is_cut_short() => {
                        self.ended = true;
                        return Poll::Ready(Some(Err(BodyError::Disconnected {
                            reason: "the actor was stopped before it had written its whole body"
                                .to_owned(),
                        })));
                    }
                    None => self.ended = true,
                }
                Poll::Ready(frame.map(|frame| frame.map_err(to_body_error)))
            }
            Poll::Pending => {
                let idle = self
                    .idle
                    .get_or_insert_with(|| Box::pin(tokio::time::sleep(BODY_IDLE_MAX)));
                match idle.as_mut().poll(context) {
                    Poll::Ready(()) => Poll::Ready(Some(Err(BodyError::IdleTimeout))),
                    Poll::Pending => Poll::Pending,
                }
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

fn from_body_error(error: BodyError) -> HttpError {
    match error {
        BodyError::IdleTimeout => HttpError::ConnectionReadTimeout,
        BodyError::TooLarge { limit_bytes } => HttpError::HttpRequestBodySize(Some(limit_bytes)),
        BodyError::Disconnected { .. } => HttpError::ConnectionTerminated,
        other => HttpError::InternalError(Some(other.to_string())),
    }
}

fn to_body_error(error: HttpError) -> BodyError {
    BodyError::Disconnected {
        reason: format!("the actor did not finish its body: {error:?}"),
    }
}
