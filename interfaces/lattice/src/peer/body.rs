//! How streams travel between hosts: their data as signed frames, their credit by the courier.

use std::sync::Arc;

use tokio::sync::OwnedSemaphorePermit;
use trellis_flow::{Budget, Carrier, Settle, Source, StreamIn};
use trellis_protocol::Refusal;
use trellis_protocol::frame::{CallNumber, Frame, Stream};

use super::courier::Say;
use super::exchange::Exchange;
use super::outgoing::OutgoingCall;
use super::remote::{Incoming, Outgoing, Remote};

/// A stream that this host reads: the request's of a peer's call, or the response's of its own.
#[derive(Clone)]
pub(super) enum Reading {
    Request(Arc<Incoming>),
    Response(Arc<Outgoing>),
}

impl Reading {
    pub(super) fn stream_in(&self) -> &StreamIn {
        match self {
            Self::Request(call) => &call.upload,
            Self::Response(call) => &call.download,
        }
    }

    pub(super) fn stream(&self) -> Stream {
        match self {
            Self::Request(_) => Stream::ToCallee,
            Self::Response(_) => Stream::ToCaller,
        }
    }
}

/// A stream from a peer.
pub(super) struct PeerSource {
    exchange: Arc<Exchange>,
    from: Arc<Remote>,
    call: CallNumber,
    reading: Reading,
}

/// The reader of a stream from a peer.
pub(super) type Reader = trellis_flow::Reader<PeerSource>;

pub(super) fn reader(
    exchange: &Arc<Exchange>,
    from: &Arc<Remote>,
    call: CallNumber,
    reading: Reading,
) -> Reader {
    Reader::new(PeerSource {
        exchange: Arc::clone(exchange),
        from: Arc::clone(from),
        call,
        reading,
    })
}

impl Source for PeerSource {
    fn stream(&self) -> &StreamIn {
        self.reading.stream_in()
    }

    fn budget(&self) -> &Budget {
        &self.exchange.budget
    }

    fn credit_due(&self) {
        let say = Say::Credit(self.reading.clone());
        self.exchange.signal(&self.from, self.call, say, Vec::new());
    }

    fn abandoned(&self, permits: Vec<OwnedSemaphorePermit>) {
        // A response that nobody reads ends with its call, which says so itself.
        if matches!(self.reading, Reading::Request(_)) {
            let say = Say::Stop(self.reading.stream());
            self.exchange.signal(&self.from, self.call, say, permits);
        }
    }
}

impl Settle for OutgoingCall {
    fn settle(self) {
        self.settled();
    }
}

/// Takes the frames of streams to a peer.
pub(super) struct ToPeer<'a> {
    pub(super) exchange: &'a Exchange,
    pub(super) to: &'a Remote,
}

impl Carrier for ToPeer<'_> {
    async fn send(&self, frame: Frame) -> Result<(), Refusal> {
        self.exchange.send(self.to, &frame).await
    }
}
