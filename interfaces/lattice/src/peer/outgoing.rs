//! Calls of this host to its peers, from their first frame to their last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;
use trellis_flow::{Arriving, StreamOut, message, send_body, send_rest};
use trellis_protocol::frame::{CallNumber, Frame, Stream, rest_cost};
use trellis_protocol::limits::{DEADLINE_MAX, FRAME_PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX};
use trellis_protocol::{InvocationHead, Lease, Refusal, RefusalCode};

use super::PeerBody;
use super::body::{Reader, Reading, ToPeer, reader};
use super::courier::Say;
use super::exchange::{Exchange, lost_refusal};
use super::remote::{Answer, Outgoing, Remote};

/// Whom a call is for: a host in whatever run it is, or one run of it and no other.
#[derive(Clone, Copy)]
pub(super) struct Callee<'a> {
    pub(super) host: &'a str,
    pub(super) incarnation: Option<u64>,
}

impl Callee<'_> {
    fn is(&self, incarnation: u64) -> bool {
        self.incarnation.is_none_or(|wanted| wanted == incarnation)
    }

    /// It is not there, and nothing was sent.
    fn gone(&self) -> Refusal {
        match self.incarnation {
            None => not_here(self.host),
            Some(incarnation) => Refusal::new(
                RefusalCode::BadHandle,
                format!(
                    "run {incarnation} of host {}, which gave the handle, is gone",
                    self.host
                ),
            ),
        }
    }
}

/// A call in the table of its peer. Dropped before it is settled, it tells the peer that the caller has gone.
pub(super) struct OutgoingCall {
    exchange: Arc<Exchange>,
    remote: Arc<Remote>,
    number: CallNumber,
    state: Arc<Outgoing>,
    permit: Option<OwnedSemaphorePermit>,
    settled: bool,
}

impl OutgoingCall {
    fn begin(
        exchange: &Arc<Exchange>,
        callee: Callee<'_>,
        upload: StreamOut,
        idempotent: bool,
    ) -> Result<(Self, oneshot::Receiver<Answer>), Refusal> {
        let permit = Arc::clone(&exchange.outgoing_permits)
            .try_acquire_owned()
            .map_err(|_| overloaded("too many calls to other hosts are under way"))?;
        if exchange.cancel.is_cancelled() {
            return Err(Refusal::new(RefusalCode::Draining, "this host has stopped"));
        }
        let gone = || callee.gone();
        let remote = exchange.remote(callee.host).ok_or_else(gone)?;
        if !callee.is(remote.host.incarnation) {
            return Err(gone());
        }
        let (state, answer) = Outgoing::new(upload, idempotent);
        let number = exchange.next_call.fetch_add(1, Ordering::Relaxed);
        let entered = remote.enter_outgoing(number, Arc::clone(&state));
        entered.map_err(|_| gone())?;
        let call = Self {
            exchange: Arc::clone(exchange),
            remote,
            number,
            state,
            permit: Some(permit),
            // Nothing has been sent, so there is nothing to cancel.
            settled: true,
        };
        // The host may have left between the look at the routes and the entry; then nobody tells this call.
        let present = exchange.routes.identity(callee.host);
        if present.is_none_or(|(_, incarnation)| incarnation != call.remote.host.incarnation) {
            return Err(gone());
        }
        Ok((call, answer))
    }

    async fn send_first(&mut self, frame: &Frame) -> Result<(), Refusal> {
        // Cancelled halfway, the frame may or may not have left.
        self.settled = false;
        let sent = self
            .exchange
            .send_first(&self.remote, self.number, frame)
            .await;
        self.settled = sent.is_err();
        sent
    }

    fn reader(&self) -> Reader {
        let reading = Reading::Response(Arc::clone(&self.state));
        reader(&self.exchange, &self.remote, self.number, reading)
    }

    /// Ends a call that the peer knows to have ended.
    pub(super) fn settled(mut self) {
        self.settled = true;
    }
}

impl Drop for OutgoingCall {
    fn drop(&mut self) {
        self.remote.leave_outgoing(self.number);
        self.state
            .upload
            .close(Refusal::new(RefusalCode::Cancelled, "the call has ended"));
        if !self.settled {
            let permits = self.permit.take().into_iter().collect();
            self.exchange
                .signal(&self.remote, self.number, Say::Cancel, permits);
        }
    }
}

pub(super) async fn invoke(
    exchange: &Arc<Exchange>,
    callee: Callee<'_>,
    mut head: InvocationHead,
    payload: Bytes,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Result<Bytes, Refusal> {
    if payload.len() > VALUE_BYTES_MAX {
        return Err(too_large("the parameters", payload.len()));
    }
    head.deadline_ms = milliseconds_left(deadline)?;
    let (mut call, answer) =
        OutgoingCall::begin(exchange, callee, StreamOut::default(), head.idempotent)?;
    within(deadline, cancel, async {
        let mut first = payload;
        let rest = first.split_off(first.len().min(FRAME_PAYLOAD_BYTES_MAX));
        let number = call.number;
        call.send_first(&Frame::Invoke {
            call: number,
            head: Box::new(head),
            payload: first,
            rest: length(&rest),
        })
        .await?;
        let answer = answer_while_sending(&call, answer, rest).await?;
        let (beginning, rest) = match answer {
            Answer::Reply { result, rest } => (result, rest),
            Answer::Refused(refusal) => {
                call.settled = true;
                return Err(refusal);
            }
            Answer::Http { .. } => return Err(wrong_answer()),
        };
        if rest == 0 {
            call.settled = true;
            return Ok(beginning);
        }
        let result = rest_of_result(&call, &beginning, rest).await;
        let result = result.map_err(after_the_work)?;
        call.settled = true;
        Ok(result)
    })
    .await
}

/// Sends the rest of the parameters, as the peer asks for them, until they are sent or the peer answers.
///
/// # Errors
/// They cannot be sent, for a reason of this host's own. The peer does not know yet: the call is not settled.
async fn answer_while_sending(
    call: &OutgoingCall,
    mut answer: oneshot::Receiver<Answer>,
    rest: Bytes,
) -> Result<Answer, Refusal> {
    if !rest.is_empty() {
        let upload = &call.state.upload;
        let carrier = ToPeer {
            exchange: &call.exchange,
            to: &call.remote,
        };
        let sending = send_rest(&carrier, call.number, Stream::ToCallee, upload, rest);
        tokio::select! {
            biased;
            answered = &mut answer => return answered.map_err(|_| forgotten()),
            // A peer that stopped the stream answers as well, and its answer says why.
            sent = sending => if let Err(refusal) = sent && !upload.is_closed() {
                return Err(refusal);
            },
        }
    }
    answer.await.map_err(|_| forgotten())
}

async fn rest_of_result(
    call: &OutgoingCall,
    beginning: &[u8],
    rest: u32,
) -> Result<Bytes, Refusal> {
    let cost = rest_cost(rest);
    let reader = call.reader();
    let room = tokio::select! {
        biased;
        failure = reader.failure() => return Err(failure),
        room = call.exchange.budget.result(cost) => room,
    };
    call.state.download.open_value(cost, room);
    let credit = Frame::Credit {
        call: call.number,
        stream: Stream::ToCaller,
        bytes: u32::try_from(cost).unwrap_or(u32::MAX),
    };
    call.exchange.send(&call.remote, &credit).await?;
    reader.rest(beginning, rest).await.map(Bytes::from)
}

/// The peer has answered, so whatever it or this host says of the result's rest, the work is done.
fn after_the_work(refusal: Refusal) -> Refusal {
    if !refusal.code.is_retryable() {
        return refusal;
    }
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        format!("the call was carried out, and its result lost: {refusal}"),
    )
}

pub(super) async fn http(
    exchange: &Arc<Exchange>,
    callee: Callee<'_>,
    mut head: InvocationHead,
    deadline: Instant,
    cancel: &CancellationToken,
    request: http::Request<PeerBody>,
) -> Result<http::Response<PeerBody>, Refusal> {
    head.deadline_ms = milliseconds_left(deadline)?;
    let (parts, body) = request.into_parts();
    let fields = message::to_fields(&parts.headers)?;
    let window = exchange.budget.window();
    let window = window.ok_or_else(|| overloaded("the byte budget for other hosts is used up"))?;
    let upload = StreamOut::with_credit(trellis_protocol::frame::STREAM_INITIAL_BYTES);
    let (mut call, answer) = OutgoingCall::begin(exchange, callee, upload, head.idempotent)?;
    call.state.download.open_body(window);
    within(deadline, cancel, async {
        let has_body = !body.is_end_stream();
        let number = call.number;
        call.send_first(&Frame::HttpRequest {
            call: number,
            head: Box::new(head),
            method: parts.method.as_str().to_owned(),
            uri: parts.uri.to_string(),
            fields,
            has_body,
        })
        .await?;
        if has_body {
            spawn_upload(&call, body);
        }
        let answer = answer
            .await
            .unwrap_or_else(|_| Answer::Refused(forgotten()));
        let (status, fields, has_body) = match answer {
            Answer::Http {
                status,
                fields,
                has_body,
            } => (status, fields, has_body),
            Answer::Refused(refusal) => {
                call.settled();
                return Err(refusal);
            }
            Answer::Reply { .. } => return Err(wrong_answer()),
        };
        let response = message::response(status, fields, ())?;
        let body = if has_body {
            let cancelled = cancel.clone().cancelled_owned().boxed();
            Arriving::response(call.reader(), call, cancelled)
        } else {
            call.settled();
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        };
        Ok(response.map(|()| body))
    })
    .await
}

/// The body goes on beside the response, and ends with the call at the latest.
fn spawn_upload(call: &OutgoingCall, body: PeerBody) {
    let (exchange, remote) = (Arc::clone(&call.exchange), Arc::clone(&call.remote));
    let (number, state) = (call.number, Arc::clone(&call.state));
    let ended = exchange.cancel.clone();
    call.exchange.calls.spawn(async move {
        let carrier = ToPeer {
            exchange: &exchange,
            to: &remote,
        };
        let sending = send_body(&carrier, number, Stream::ToCallee, &state.upload, body);
        ended.run_until_cancelled(sending).await;
    });
}

pub(super) async fn release(exchange: &Arc<Exchange>, host: &str, lease: Lease) {
    let Some(remote) = exchange.remote(host) else {
        return;
    };
    if let Err(error) = exchange.send(&remote, &Frame::Release { lease }).await {
        tracing::debug!(host, %error, "cannot release an instance's handles");
    }
}

/// Runs a call's work until its deadline, or until it is cancelled. Dropping the work does the rest.
async fn within<T>(
    deadline: Instant,
    cancel: &CancellationToken,
    work: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        result = work => result,
        () = cancel.cancelled() => {
            Err(Refusal::new(RefusalCode::Cancelled, "the call was cancelled"))
        }
        () = tokio::time::sleep_until(deadline.into()) => Err(deadline_exceeded()),
    }
}

fn milliseconds_left(deadline: Instant) -> Result<u32, Refusal> {
    let left = deadline
        .saturating_duration_since(Instant::now())
        .min(DEADLINE_MAX);
    if left < Duration::from_millis(1) {
        return Err(deadline_exceeded());
    }
    Ok(u32::try_from(left.as_millis()).unwrap_or(u32::MAX))
}

fn length(bytes: &Bytes) -> u32 {
    u32::try_from(bytes.len()).unwrap_or(u32::MAX)
}

/// What `No responders` makes of a call.
pub(super) fn no_responders(exchange: &Exchange, host: &str, idempotent: bool) -> Refusal {
    if idempotent || exchange.limits.inbox_is_closed {
        not_here(host)
    } else {
        lost_refusal(host, "nobody seems to listen there")
    }
}

fn not_here(host: &str) -> Refusal {
    Refusal::new(
        RefusalCode::NotHere,
        format!("host {host} is not in the lattice at present"),
    )
}

pub(super) fn overloaded(why: &str) -> Refusal {
    Refusal::new(RefusalCode::Overloaded, why)
}

pub(super) fn deadline_exceeded() -> Refusal {
    Refusal::new(
        RefusalCode::DeadlineExceeded,
        "the deadline passed before there was an answer",
    )
}

pub(super) fn too_large(what: &str, bytes: usize) -> Refusal {
    Refusal::new(
        RefusalCode::TooLarge,
        format!("{what} of {bytes} bytes exceed the limit of {VALUE_BYTES_MAX}"),
    )
}

fn wrong_answer() -> Refusal {
    Refusal::new(
        RefusalCode::Internal,
        "the host answered with another kind of frame",
    )
}

fn forgotten() -> Refusal {
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        "this host stopped before there was an answer",
    )
}
