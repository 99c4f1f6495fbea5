//! Calls of the other end: admitted in the reader task, served on a task of their own.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures::FutureExt as _;
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty};
use tokio::sync::OwnedSemaphorePermit;
use trellis_flow::{
    Arriving, Carrier as _, Reader, StreamOut, abort, message, send_body, send_rest,
};
use trellis_protocol::frame::{CallNumber, Fields, Frame, STREAM_INITIAL_BYTES, Stream, rest_cost};
use trellis_protocol::limits::{FRAME_PAYLOAD_BYTES_MAX, VALUE_BYTES_MAX};
use trellis_protocol::{InvocationHead, Refusal, RefusalCode};

use crate::calls::{Incoming, NotEntered};
use crate::error::PipeEnd;
use crate::exchange::Exchange;
use crate::refusals::{deadline_exceeded, gone, overloaded, too_large};
use crate::streams::{MESSAGE_COST_BYTES, PipeSource, Reading, Sending};
use crate::{HANDLER_GRACE, PipeBody, ROOM_WAIT};

/// What the other end asks for.
pub(crate) enum Asked {
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
pub(crate) fn admit(
    exchange: &Arc<Exchange>,
    number: CallNumber,
    head: Box<InvocationHead>,
    asked: Asked,
) -> Result<(), PipeEnd> {
    match Call::admit(exchange, number, head) {
        Ok(call) => match call.make_room(&asked) {
            Ok(room) => {
                tokio::spawn(call.serve(asked, room));
                Ok(())
            }
            Err(refusal) => {
                drop(call);
                exchange.refuse(number, refusal)
            }
        },
        Err(NotEntered::Ended(end)) => Err(end),
        Err(NotEntered::TooMany) => {
            let why = format!(
                "{} calls are served already, which is all this process takes",
                exchange.incoming_max
            );
            exchange.refuse(number, overloaded(&why))
        }
        Err(NotEntered::Twice) => Err(PipeEnd::broken(format!(
            "call {number} was begun while it was under way"
        ))),
    }
}

struct Call {
    exchange: Arc<Exchange>,
    number: CallNumber,
    state: Arc<Incoming>,
    head: Box<InvocationHead>,
    deadline: Instant,
}

impl Drop for Call {
    fn drop(&mut self) {
        self.exchange.calls().leave_incoming(self.number);
        // Whatever the handler has left running on the caller's behalf ends here.
        self.state.end();
    }
}

impl Call {
    fn admit(
        exchange: &Arc<Exchange>,
        number: CallNumber,
        head: Box<InvocationHead>,
    ) -> Result<Self, NotEntered> {
        // The other end spends nothing on a function's result before it is asked to.
        let state = Incoming::new(StreamOut::default());
        let most = exchange.incoming_max;
        let entered = exchange
            .calls()
            .enter_incoming(number, Arc::clone(&state), most);
        entered?;
        let deadline = Instant::now() + Duration::from_millis(u64::from(head.deadline_ms));
        Ok(Self {
            exchange: Arc::clone(exchange),
            number,
            state,
            head,
            deadline,
        })
    }

    /// Room for what the first frame brought, and for what the caller may send without being asked.
    fn make_room(&self, asked: &Asked) -> Result<OwnedSemaphorePermit, Refusal> {
        if self.head.deadline_ms == 0 {
            return Err(deadline_exceeded());
        }
        let no_room = || overloaded("the byte budget of the called process is used up");
        let budget = &self.exchange.budget;
        match asked {
            Asked::Invoke { payload, .. } => budget.first(payload.len()).ok_or_else(no_room),
            Asked::Http { has_body, .. } => {
                self.state.download.grant(STREAM_INITIAL_BYTES);
                if *has_body {
                    let window = budget.window().ok_or_else(no_room)?;
                    self.state.upload.open_body(window);
                }
                Ok(budget.nothing())
            }
        }
    }

    async fn serve(self, asked: Asked, room: OwnedSemaphorePermit) {
        let served = match asked {
            Asked::Invoke { payload, rest } => self.invoke(payload, rest).await,
            Asked::Http {
                method,
                uri,
                fields,
                has_body,
            } => self.http(&method, &uri, fields, has_body).await,
        };
        drop(room);
        let call = self.number;
        if self.exchange.calls().incoming(call).is_none() {
            return;
        }
        // Whatever was not answered to its end is now, so that the caller may use the place for another call.
        self.exchange.outbox.close(&self.state.lane);
        let refusal = served.err().unwrap_or_else(gone);
        let bytes = refusal.message.len() + MESSAGE_COST_BYTES;
        if let Some(place) = self.exchange.remains(bytes).await
            && self.exchange.calls().leave_incoming(call)
        {
            self.exchange
                .say(&Frame::Refuse { call, refusal }, vec![place]);
        }
    }

    async fn invoke(&self, payload: Bytes, rest: u32) -> Result<(), Refusal> {
        let payload = if rest == 0 {
            payload
        } else {
            self.parameters(&payload, rest).await?
        };
        let (head, cancel) = (self.head.as_ref().clone(), self.state.cancel.clone());
        let work = self
            .exchange
            .handler
            .invoke(head, payload, self.deadline, cancel);
        let mut result = self.run(work).await?;
        if result.len() > VALUE_BYTES_MAX {
            return Err(too_large("the result", result.len()));
        }
        let rest = result.split_off(result.len().min(FRAME_PAYLOAD_BYTES_MAX));
        let (call, stream) = (self.number, Stream::ToCaller);
        let reply = Frame::Reply {
            call,
            result,
            rest: u32::try_from(rest.len()).unwrap_or(u32::MAX),
        };
        let carrier = self.carrier();
        carrier.send(reply).await?;
        if !rest.is_empty() {
            let out = &self.state.download;
            if let Err(refusal) = send_rest(&carrier, call, stream, out, rest).await {
                tracing::debug!(%refusal, "a result was not sent to its end");
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
            let nothing = self.exchange.budget.nothing();
            self.state.upload.open_value(cost, nothing);
            let reader = self.reader();
            let credit = Frame::Credit {
                call: self.number,
                stream: Stream::ToCallee,
                bytes: u32::try_from(cost).unwrap_or(u32::MAX),
            };
            self.exchange.say(&credit, Vec::new());
            let value = reader.rest(beginning, rest).await?;
            Ok(Bytes::from_owner(Roomed { value, _room: room }))
        };
        tokio::select! {
            gathered = gathered => gathered,
            () = self.state.cancel.cancelled() => Err(gone()),
            () = tokio::time::sleep_until(self.deadline.into()) => Err(deadline_exceeded()),
        }
    }

    async fn http(
        &self,
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
        let (head, cancel) = (self.head.as_ref().clone(), self.state.cancel.clone());
        let work = self
            .exchange
            .handler
            .http(head, self.deadline, cancel, request);
        let response = self.run(work).await?;
        self.respond(response).await
    }

    async fn respond(&self, response: http::Response<PipeBody>) -> Result<(), Refusal> {
        let (parts, body) = response.into_parts();
        let has_body = !body.is_end_stream();
        let fields = message::to_fields(&parts.headers)?;
        let (call, status) = (self.number, parts.status.as_u16());
        let carrier = self.carrier();
        carrier
            .send(Frame::HttpResponse {
                call,
                status,
                fields,
                has_body,
            })
            .await?;
        if has_body {
            let out = &self.state.download;
            let sending = send_body(&carrier, call, Stream::ToCaller, out, body);
            // The stream is closed together with the token; this only spares the wait for the next piece.
            self.state.cancel.run_until_cancelled(sending).await;
        }
        Ok(())
    }

    /// Runs the handler's work until it ends, or a grace after its caller has gone or its deadline has passed. The caller
    /// is told when it has ended: until then the call counts among those it may have.
    async fn run<T>(&self, work: impl Future<Output = Result<T, Refusal>>) -> Result<T, Refusal> {
        let work = AssertUnwindSafe(work).catch_unwind();
        tokio::pin!(work);
        let panicked = |_| {
            Err(Refusal::new(
                RefusalCode::Internal,
                "the handler panicked; this is a fault",
            ))
        };
        let refusal = tokio::select! {
            biased;
            done = &mut work => return done.unwrap_or_else(panicked),
            () = self.state.cancel.cancelled() => gone(),
            () = tokio::time::sleep_until(self.deadline.into()) => deadline_exceeded(),
        };
        self.state.cancel.cancel();
        if tokio::time::timeout(HANDLER_GRACE, work).await.is_err() {
            tracing::warn!(invocation = %self.head.id, "a call's work did not end when it was told to, and was dropped");
        }
        Err(refusal)
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
            reading: Reading::Request(Arc::clone(&self.state)),
        })
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
