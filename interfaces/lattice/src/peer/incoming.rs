//! Calls of peers to this host: admitted in the reader task, served on a task of their own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::OwnedSemaphorePermit;
use trellis_flow::{Arriving, StreamOut, abort, message, send_body, send_rest};
use trellis_protocol::frame::{CallNumber, Fields, Frame, STREAM_INITIAL_BYTES, Stream, rest_cost};
use trellis_protocol::limits::{FRAME_PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX};
use trellis_protocol::{InvocationHead, Lease, Refusal, RefusalCode};

use super::body::{Reader, Reading, ToPeer, reader};
use super::exchange::Exchange;
use super::outgoing::{deadline_exceeded, overloaded, too_large};
use super::remote::{Incoming, NotEntered, Remote};
use super::{HANDLER_GRACE, PeerBody, PeerRejection, ROOM_WAIT};

/// What a peer asks for.
pub(super) enum Asked {
    Invoke {
        payload: Bytes,
        rest: u32,
    },
    Http {
        method: String,
        uri: String,
        fields: Fields,
        has_body: bool,
    },
}

/// Admits a call or refuses it. Called by the reader task: it waits for nothing.
pub(super) fn admit(
    exchange: &Arc<Exchange>,
    from: &Arc<Remote>,
    number: CallNumber,
    head: Box<InvocationHead>,
    asked: Asked,
    delay_ms: u64,
) {
    match Call::admit(exchange, from, number, head, asked, delay_ms) {
        Ok(call) => {
            let ended = exchange.cancel.clone();
            exchange
                .calls
                .spawn(async move { ended.run_until_cancelled(call.serve()).await });
        }
        Err((reason, refusal)) => {
            if let Some(reason) = reason {
                exchange.rejected.count(reason);
            }
            exchange.refuse(from, number, refusal);
        }
    }
}

/// Hands the end of a peer's instance to the handler.
pub(super) fn release(exchange: &Arc<Exchange>, from: &Arc<Remote>, lease: Lease) {
    if *lease.host != *from.host.key {
        return exchange.rejected.count(PeerRejection::SourceNotAllowed);
    }
    let Ok(permit) = Arc::clone(&exchange.incoming_permits).try_acquire_owned() else {
        // The handles go when the peer goes.
        return exchange.rejected.count(PeerRejection::Overloaded);
    };
    let (exchange, from) = (Arc::clone(exchange), Arc::clone(from));
    exchange.calls.clone().spawn(async move {
        exchange.handler.release(&from.host, lease).await;
        drop(permit);
    });
}

struct Call {
    exchange: Arc<Exchange>,
    from: Arc<Remote>,
    number: CallNumber,
    state: Arc<Incoming>,
    head: Box<InvocationHead>,
    asked: Option<Asked>,
    deadline: Instant,
    /// Whether the caller was told that it need not wait for the work's end.
    answered: bool,
    /// Room for what the first frame brought.
    _room: OwnedSemaphorePermit,
    _permit: OwnedSemaphorePermit,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.from.leave_incoming(self.number);
        // Whatever the handler has left running on the caller's behalf ends here.
        self.state.end();
    }
}

impl Call {
    fn admit(
        exchange: &Arc<Exchange>,
        from: &Arc<Remote>,
        number: CallNumber,
        head: Box<InvocationHead>,
        asked: Asked,
        delay_ms: u64,
    ) -> Result<Self, (Option<PeerRejection>, Refusal)> {
        let host = &from.host.key;
        if !exchange.routes.speaks_for(host, &head.source) || *head.lease.host != **host {
            let refusal = Refusal::new(
                RefusalCode::Unauthenticated,
                format!("host {host} may not speak for `{}`", head.source),
            );
            let refusal = refusal.with_remedy("a host certificate that lists the id in `may_run`");
            return Err((Some(PeerRejection::SourceNotAllowed), refusal));
        }
        if exchange.draining.load(Ordering::Relaxed) {
            let refusal = Refusal::new(RefusalCode::Draining, "this host is shutting down");
            return Err((None, refusal));
        }
        let left_ms = u64::from(head.deadline_ms).saturating_sub(delay_ms);
        if left_ms == 0 {
            return Err((Some(PeerRejection::TooLate), deadline_exceeded()));
        }
        let full = |why: &str| (Some(PeerRejection::Overloaded), overloaded(why));
        let permit = Arc::clone(&exchange.incoming_permits).try_acquire_owned();
        let permit = permit.map_err(|_| full("this host serves too many calls of other hosts"))?;
        let (bytes, has_body) = match &asked {
            Asked::Invoke { payload, .. } => (payload.len(), false),
            Asked::Http { has_body, .. } => (0, *has_body),
        };
        let no_room = || full("this host's byte budget for other hosts is used up");
        let room = exchange.budget.first(bytes).ok_or_else(no_room)?;
        let download = match asked {
            Asked::Invoke { .. } => StreamOut::default(),
            Asked::Http { .. } => StreamOut::with_credit(STREAM_INITIAL_BYTES),
        };
        let state = Incoming::new(download);
        if has_body {
            state
                .upload
                .open_body(exchange.budget.window().ok_or_else(no_room)?);
        }
        let most = exchange.limits.incoming_calls_per_peer;
        from.enter_incoming(number, Arc::clone(&state), most)
            .map_err(|error| match error {
                NotEntered::Lost => (None, lost_sight()),
                NotEntered::TooMany => full("this host serves too many calls of the caller's host"),
                NotEntered::Twice => {
                    let refusal =
                        Refusal::new(RefusalCode::BadPayload, "this call's number is in use");
                    (Some(PeerRejection::BadFrame), refusal)
                }
            })?;
        Ok(Self {
            exchange: Arc::clone(exchange),
            from: Arc::clone(from),
            number,
            state,
            head,
            asked: Some(asked),
            deadline: Instant::now() + Duration::from_millis(left_ms),
            answered: false,
            _room: room,
            _permit: permit,
        })
    }

    async fn serve(mut self) {
        let served = match self.asked.take() {
            Some(Asked::Invoke { payload, rest }) => self.invoke(payload, rest).await,
            Some(Asked::Http {
                method,
                uri,
                fields,
                has_body,
            }) => self.http(&method, &uri, fields, has_body).await,
            None => Ok(()),
        };
        let Err(mut refusal) = served else { return };
        if self.state.cancel.is_cancelled() && refusal.code == RefusalCode::Cancelled {
            if self.answered || !self.state.is_lost() {
                // A caller that has gone itself wants no answer.
                return;
            }
            refusal = lost_sight();
        }
        let refuse = Frame::Refuse {
            call: self.number,
            refusal,
        };
        self.answer(&refuse).await;
    }

    async fn invoke(&mut self, payload: Bytes, rest: u32) -> Result<(), Refusal> {
        let payload = if rest == 0 {
            payload
        } else {
            self.parameters(&payload, rest).await?
        };
        let (exchange, from) = (Arc::clone(&self.exchange), Arc::clone(&self.from));
        let (head, cancel) = (self.head.as_ref().clone(), self.state.cancel.clone());
        let deadline = self.deadline;
        let work = exchange
            .handler
            .invoke(&from.host, head, payload, deadline, cancel);
        let mut result = self.run(work).await?;
        if result.len() > VALUE_BYTES_MAX {
            return Err(too_large("the result", result.len()));
        }
        let rest = result.split_off(result.len().min(FRAME_PAYLOAD_BYTES_MAX));
        let rest_bytes = u32::try_from(rest.len()).unwrap_or(u32::MAX);
        let (call, stream) = (self.number, Stream::ToCaller);
        let reply = Frame::Reply {
            call,
            result,
            rest: rest_bytes,
        };
        exchange.send(&from, &reply).await?;
        if !rest.is_empty() {
            let out = &self.state.download;
            let carrier = self.carrier();
            let sent = send_rest(&carrier, call, stream, out, rest).await;
            if let Err(refusal) = sent {
                tracing::debug!(host = %from.host.key, %refusal, "a result was not sent to its end");
                // The caller waits for the rest, and would do so until its deadline.
                abort(&carrier, call, stream, out, refusal).await;
            }
        }
        Ok(())
    }

    /// Gathers parameters that did not fit into the first frame. The work has not begun, so failures are retryable.
    async fn parameters(&self, beginning: &Bytes, rest: u32) -> Result<Bytes, Refusal> {
        let cost = rest_cost(rest);
        let gathered = async {
            let room = tokio::time::timeout(ROOM_WAIT, self.exchange.budget.parameters(cost)).await;
            let room = room.map_err(|_| overloaded("no room for the call's parameters in time"))?;
            // Not the stream's to give back: the handler holds the bytes on.
            let (state, number) = (&self.state, self.number);
            state
                .upload
                .open_value(cost, self.exchange.budget.nothing());
            let reader = self.reader();
            let credit = u32::try_from(cost).unwrap_or(u32::MAX);
            let stream = Stream::ToCallee;
            self.exchange
                .send(
                    &self.from,
                    &Frame::Credit {
                        call: number,
                        stream,
                        bytes: credit,
                    },
                )
                .await
                .map_err(|_| overloaded("the rest of the parameters cannot be asked for"))?;
            let value =
                reader
                    .rest(beginning, rest)
                    .await
                    .map_err(|refusal| match refusal.code {
                        RefusalCode::OutcomeUnknown => {
                            overloaded("a part of the parameters was lost")
                        }
                        _ => refusal,
                    })?;
            Ok(Bytes::from_owner(Roomed { value, _room: room }))
        };
        tokio::select! {
            gathered = gathered => gathered,
            () = self.state.cancel.cancelled() => Err(gone()),
            () = tokio::time::sleep_until(self.deadline.into()) => Err(deadline_exceeded()),
        }
    }

    async fn http(
        &mut self,
        method: &str,
        uri: &str,
        fields: Fields,
        has_body: bool,
    ) -> Result<(), Refusal> {
        let body = if has_body {
            Arriving::request(self.reader())
        } else {
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        };
        let request = message::request(method, uri, fields, body)?;
        let (exchange, from) = (Arc::clone(&self.exchange), Arc::clone(&self.from));
        let (head, cancel) = (self.head.as_ref().clone(), self.state.cancel.clone());
        let work = exchange
            .handler
            .http(&from.host, head, self.deadline, cancel, request);
        let response = self.run(work).await?;
        self.respond(response).await
    }

    async fn respond(&self, response: http::Response<PeerBody>) -> Result<(), Refusal> {
        let (parts, body) = response.into_parts();
        let has_body = !body.is_end_stream();
        let fields = message::to_fields(&parts.headers)?;
        let (call, status) = (self.number, parts.status.as_u16());
        let head = Frame::HttpResponse {
            call,
            status,
            fields,
            has_body,
        };
        self.exchange.send(&self.from, &head).await?;
        if has_body {
            let out = &self.state.download;
            let carrier = self.carrier();
            let sending = send_body(&carrier, call, Stream::ToCaller, out, body);
            // The stream is closed together with the token; this only spares the wait for the next piece.
            self.state.cancel.run_until_cancelled(sending).await;
        }
        Ok(())
    }

    /// Runs the handler's work until it ends, or a grace after its caller has gone or its deadline has passed.
    async fn run<T>(
        &mut self,
        work: impl Future<Output = Result<T, Refusal>>,
    ) -> Result<T, Refusal> {
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        let panicked = |_| {
            Err(Refusal::new(
                RefusalCode::Internal,
                "the host's handler panicked; this is a fault",
            ))
        };
        let ended_by = tokio::select! {
            biased;
            done = &mut work => return done.unwrap_or_else(panicked),
            () = self.state.cancel.cancelled() => self.state.is_lost().then(lost_sight),
            () = tokio::time::sleep_until(self.deadline.into()) => Some(deadline_exceeded()),
        };
        self.state.cancel.cancel();
        // Told at once, whatever time the work still needs to end.
        if let Some(refusal) = ended_by {
            self.answered = true;
            self.answer(&Frame::Refuse {
                call: self.number,
                refusal,
            })
            .await;
        }
        if tokio::time::timeout(HANDLER_GRACE, work).await.is_err() {
            tracing::warn!(invocation = %self.head.id, "a call's work did not end when it was told to, and was dropped");
        }
        Err(gone())
    }

    async fn answer(&self, frame: &Frame) {
        if let Err(error) = self.exchange.send(&self.from, frame).await {
            tracing::debug!(host = %self.from.host.key, %error, "cannot answer a call");
        }
    }

    fn carrier(&self) -> ToPeer<'_> {
        ToPeer {
            exchange: &self.exchange,
            to: &self.from,
        }
    }

    fn reader(&self) -> Reader {
        let reading = Reading::Request(Arc::clone(&self.state));
        reader(&self.exchange, &self.from, self.number, reading)
    }
}

/// Parameters that hold their room in the budget until the last reference to them is gone.
struct Roomed {
    value: Vec<u8>,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for Roomed {
    fn as_ref(&self) -> &[u8] {
        &self.value
    }
}

/// For a caller that this host no longer hears: it may hear this one.
fn lost_sight() -> Refusal {
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        "the host that served the call lost sight of the caller's, and stopped the work",
    )
}

fn gone() -> Refusal {
    Refusal::new(RefusalCode::Cancelled, "the caller has gone")
}
