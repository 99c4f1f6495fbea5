//! How streams travel over the pipe: data in the lane of its call, credit past all lanes.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use trellis_flow::{Budget, Carrier, Source, StreamIn};
use trellis_protocol::frame::{CallNumber, Frame, Stream};
use trellis_protocol::{Refusal, RefusalCode};

use crate::calls::{Incoming, Outgoing};
use crate::exchange::Exchange;
use crate::outbox::{Lane, Message};

/// What a message that waits costs beside its bytes.
pub(crate) const MESSAGE_COST_BYTES: usize = 512;

/// A stream that this end reads: the request's of the other's call, or the response's of its own.
#[derive(Clone)]
pub(crate) enum Reading {
    Request(Arc<Incoming>),
    Response(Arc<Outgoing>),
}

impl Reading {
    pub(crate) fn stream_in(&self) -> &StreamIn {
        match self {
            Self::Request(call) => &call.upload,
            Self::Response(call) => &call.download,
        }
    }

    pub(crate) fn stream(&self) -> Stream {
        match self {
            Self::Request(_) => Stream::ToCallee,
            Self::Response(_) => Stream::ToCaller,
        }
    }
}

/// A stream from the other end.
pub(crate) struct PipeSource {
    pub(crate) exchange: Arc<Exchange>,
    pub(crate) call: CallNumber,
    pub(crate) reading: Reading,
}

impl Source for PipeSource {
    fn stream(&self) -> &StreamIn {
        self.reading.stream_in()
    }

    fn budget(&self) -> &Budget {
        &self.exchange.budget
    }

    fn credit_due(&self) {
        self.exchange.credit(self.call, self.reading.clone());
    }

    fn abandoned(&self, permits: Vec<OwnedSemaphorePermit>) {
        // A response that nobody reads ends with its call, which says so itself.
        if !matches!(self.reading, Reading::Request(_)) {
            return;
        }
        let stop = Frame::Stop {
            call: self.call,
            stream: self.reading.stream(),
        };
        self.exchange.say(&stop, permits);
    }
}

/// Takes the frames of a call to the other end, in order.
pub(crate) struct Sending<'a> {
    pub(crate) exchange: &'a Exchange,
    pub(crate) lane: &'a Arc<Lane>,
}

impl Carrier for Sending<'_> {
    async fn send(&self, frame: Frame) -> Result<(), Refusal> {
        let mut message = Message::call(&frame).map_err(|error| error.to_refusal())?;
        if matches!(frame, Frame::Data { .. }) {
            self.exchange.outbox.room(self.lane).await?;
        }
        // The other end may begin another call as soon as it has read this.
        if let Some(call) = ends(&frame) {
            let bytes = self.lane.bytes() + message.bytes() + MESSAGE_COST_BYTES;
            let place = self.exchange.remains(bytes).await.ok_or_else(ended)?;
            message = message.holding(vec![place]);
            self.exchange.calls().leave_incoming(call);
        }
        if self.exchange.outbox.push(self.lane, message) {
            Ok(())
        } else {
            Err(ended())
        }
    }
}

fn ended() -> Refusal {
    Refusal::new(RefusalCode::Cancelled, "the call has ended")
}

/// The call that a frame of its callee ends.
pub(crate) fn ends(frame: &Frame) -> Option<CallNumber> {
    match *frame {
        Frame::Refuse { call, .. }
        | Frame::Reply { call, rest: 0, .. }
        | Frame::HttpResponse {
            call,
            has_body: false,
            ..
        }
        | Frame::Data {
            call,
            stream: Stream::ToCaller,
            last: true,
            ..
        }
        | Frame::Abort {
            call,
            stream: Stream::ToCaller,
            ..
        } => Some(call),
        _ => None,
    }
}
