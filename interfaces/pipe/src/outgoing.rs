//! Calls of this end to the other, from their first frame to their last.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trellis_flow::{
    Arriving, Carrier as _, Reader, Settle, StreamOut, message, send_body, send_rest,
};
use trellis_protocol::frame::{CallNumber, Frame, STREAM_INITIAL_BYTES, Stream, rest_cost};
use trellis_protocol::limits::{DEADLINE_MAX, FRAME_PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX};
use trellis_protocol::{InvocationHead, Refusal, RefusalCode};

use crate::PipeBody;
use crate::calls::{Answer, NotEntered, Outgoing};
use crate::exchange::Exchange;
use crate::refusals::{deadline_exceeded, overloaded, too_large};
use crate::streams::{PipeSource, Reading, Sending};

/// A call in the table. Dropped before the other end has ended it, it tells that the caller has gone.
pub(crate) struct OutgoingCall {
    exchange: Arc<Exchange>,
    number: CallNumber,
    state: Arc<Outgoing>,
}

impl OutgoingCall {
    fn begin(
        exchange: &Arc<Exchange>,
        upload: StreamOut,
        is_function: bool,
    ) -> Result<(Self, oneshot::Receiver<Answer>), Refusal> {
        let (state, answer) = Outgoing::new(upload, is_function);
        let number = exchange.next_call.fetch_add(1, Ordering::Relaxed);
        let most = exchange.outgoing_max;
        let entered = exchange
            .calls()
            .enter_outgoing(number, Arc::clone(&state), most);
        match entered {
            Ok(()) => {}
            Err(NotEntered::Ended(end)) => return Err(end.not_here()),
            Err(_) => {
                let why =
                    format!("{most} calls to this process are under way, which is all it takes");
                return Err(overloaded(&why));
            }
        }
        let exchange = Arc::clone(exchange);
        Ok((
            Self {
                exchange,
                number,
                state,
            },
            answer,
        ))
    }

    async fn send(&self, frame: Frame) -> Result<(), Refusal> {
        let sent = self.carrier().send(frame).await;
        match &self.exchange.calls().ended {
            Some(end) => Err(end.lost()),
            None => sent,
        }
    }

    fn carrier(&self) -> Sending<'_> {
        Sending {
            exchange: &self.exchange,
            lane: &self.state.lane,
        }
    }

    fn reader(&self) -> Reader<PipeSource> {
        Reader::new(PipeSource {
            exchange: Arc::clone(&self.exchange),
            call: self.number,
            reading: Reading::Response(Arc::clone(&self.state)),
        })
    }
}

impl Settle for OutgoingCall {
    /// The other end's last frame took the call out of the table already.
    fn settle(self) {}
}

impl Drop for OutgoingCall {
    fn drop(&mut self) {
        let begun = self.exchange.outbox.close(&self.state.lane);
        let untold = self.exchange.calls().cancel(self.number, begun);
        let ended = Refusal::new(RefusalCode::Cancelled, "the call has ended");
        self.state.upload.close(ended);
        if untold {
            let cancel = Frame::Cancel { call: self.number };
            self.exchange.say(&cancel, Vec::new());
            self.exchange.cancelled.notify_one();
        }
    }
}

pub(crate) async fn invoke(
    exchange: &Arc<Exchange>,
    mut head: InvocationHead,
    payload: Bytes,
    deadline: Instant,
    cancel: &CancellationToken,
) -> Result<Bytes, Refusal> {
    if payload.len() > VALUE_BYTES_MAX {
        return Err(too_large("the parameters", payload.len()));
    }
    head.deadline_ms = milliseconds_left(deadline)?;
    let (call, answer) = OutgoingCall::begin(exchange, StreamOut::default(), true)?;
    within(deadline, cancel, async {
        let mut first = payload;
        let rest = first.split_off(first.len().min(FRAME_PAYLOAD_BYTES_MAX));
        call.send(Frame::Invoke {
            call: call.number,
            head: Box::new(head),
            payload: first,
            rest: length(&rest),
        })
        .await?;
        match answer_while_sending(&call, answer, rest).await? {
            Answer::Reply { result, rest: 0 } => Ok(result),
            Answer::Reply { result, rest } => {
                let result = rest_of_result(&call, &result, rest).await;
                result.map_err(after_the_work)
            }
            Answer::Refused(refusal) => Err(refusal),
            Answer::Http { .. } => Err(wrong_answer()),
        }
    })
    .await
}

/// Sends the rest of the parameters, as the other end asks for them, until they are sent or it answers.
async fn answer_while_sending(
    call: &OutgoingCall,
    mut answer: oneshot::Receiver<Answer>,
    rest: Bytes,
) -> Result<Answer, Refusal> {
    if !rest.is_empty() {
        let (carrier, upload) = (call.carrier(), &call.state.upload);
        let sending = send_rest(&carrier, call.number, Stream::ToCallee, upload, rest);
        tokio::select! {
            biased;
            answered = &mut answer => return answered.map_err(|_| forgotten()),
            // An end that stopped the stream answers as well, and its answer says why.
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
    call.exchange.say(&credit, Vec::new());
    reader.rest(beginning, rest).await.map(Bytes::from)
}

/// The other end has answered, so whatever is said of the result's rest, the work is done.
fn after_the_work(refusal: Refusal) -> Refusal {
    if !refusal.code.is_retryable() {
        return refusal;
    }
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        format!("the call was carried out, and its result lost: {refusal}"),
    )
}

pub(crate) async fn http(
    exchange: &Arc<Exchange>,
    mut head: InvocationHead,
    deadline: Instant,
    cancel: &CancellationToken,
    request: http::Request<PipeBody>,
) -> Result<http::Response<PipeBody>, Refusal> {
    head.deadline_ms = milliseconds_left(deadline)?;
    let (parts, body) = request.into_parts();
    let fields = message::to_fields(&parts.headers)?;
    let window = exchange.budget.window();
    let window = window.ok_or_else(|| overloaded("the byte budget for this process is used up"))?;
    let upload = StreamOut::with_credit(STREAM_INITIAL_BYTES);
    let (call, answer) = OutgoingCall::begin(exchange, upload, false)?;
    call.state.download.open_body(window);
    within(deadline, cancel, async {
        let has_body = !body.is_end_stream();
        call.send(Frame::HttpRequest {
            call: call.number,
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
            Answer::Refused(refusal) => return Err(refusal),
            Answer::Reply { .. } => return Err(wrong_answer()),
        };
        let response = message::response(status, fields, ())?;
        let body = if has_body {
            let cancelled = cancel.clone().cancelled_owned().boxed();
            Arriving::response(call.reader(), call, cancelled)
        } else {
            Empty::new().map_err(|never| match never {}).boxed_unsync()
        };
        Ok(response.map(|()| body))
    })
    .await
}

/// The body goes on beside the response, and ends with the call at the latest.
fn spawn_upload(call: &OutgoingCall, body: PipeBody) {
    let (exchange, number, state) = (
        Arc::clone(&call.exchange),
        call.number,
        Arc::clone(&call.state),
    );
    tokio::spawn(async move {
        let carrier = Sending {
            exchange: &exchange,
            lane: &state.lane,
        };
        send_body(&carrier, number, Stream::ToCallee, &state.upload, body).await;
    });
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

/// The reader task ends the pipe before a call sees such an answer.
fn wrong_answer() -> Refusal {
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        "the process answered with another kind of frame",
    )
}

fn forgotten() -> Refusal {
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        "the pipe ended before there was an answer",
    )
}
