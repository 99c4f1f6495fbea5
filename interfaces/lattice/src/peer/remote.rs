//! One run of a peer: its key, its message counters, and the calls with it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trellis_claims::PublicKey;
use trellis_protocol::envelope::{DelayFloor, ReplayWindow};
use trellis_protocol::frame::{CallNumber, Fields};
use trellis_protocol::{Refusal, RefusalCode};

use super::PeerHost;
use super::stream_in::StreamIn;
use super::stream_out::StreamOut;

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) host: PeerHost,
    pub(super) public: PublicKey,
    sequence: AtomicU64,
    arrivals: Mutex<Arrivals>,
    calls: Mutex<Calls>,
}

#[derive(Debug, Default)]
struct Arrivals {
    replays: ReplayWindow,
    delay: DelayFloor,
}

#[derive(Debug, Default)]
struct Calls {
    /// Set once the peer has left; nothing is added then.
    lost: Option<Refusal>,
    outgoing: HashMap<CallNumber, Arc<Outgoing>>,
    incoming: HashMap<CallNumber, Arc<Incoming>>,
}

/// A call of ours to the peer.
#[derive(Debug)]
pub(super) struct Outgoing {
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    /// Stream 0: a request's body, or the rest of parameters.
    pub(super) upload: StreamOut,
    /// Stream 1: a response's body, or the rest of a result.
    pub(super) download: StreamIn,
    pub(super) idempotent: bool,
}

/// What a call of ours is answered with first.
#[derive(Debug)]
pub(super) enum Answer {
    Reply { result: Bytes, rest: u32 },
    Http { status: u16, fields: Fields, has_body: bool },
    Refused(Refusal),
}

/// A call of the peer to us.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) cancel: CancellationToken,
    /// Stream 0.
    pub(super) upload: StreamIn,
    /// Stream 1.
    pub(super) download: StreamOut,
}

/// Why a call was not entered.
#[derive(Debug)]
pub(super) enum NotEntered {
    Lost(Refusal),
    TooMany,
    Twice,
}

impl Remote {
    pub(super) fn new(host: PeerHost, public: PublicKey) -> Self {
        Self {
            host,
            public,
            sequence: AtomicU64::new(0),
            arrivals: Mutex::default(),
            calls: Mutex::default(),
        }
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.sequence.fetch_add(1, Ordering::Relaxed)
    }

    pub(super) fn is_new(&self, sequence: u64) -> bool {
        self.arrivals().replays.is_new(sequence)
    }

    /// Takes a message whose signature holds: its delay in milliseconds, or `None` where it is a replay.
    pub(super) fn arrived(&self, sequence: u64, now_ms: u64, sent_ms: u64) -> Option<u64> {
        let mut arrivals = self.arrivals();
        if !arrivals.replays.take(sequence) {
            return None;
        }
        Some(arrivals.delay.observe(now_ms, sent_ms))
    }

    pub(super) fn enter_outgoing(
        &self,
        call: CallNumber,
        outgoing: Arc<Outgoing>,
    ) -> Result<(), Refusal> {
        let mut calls = self.calls();
        if let Some(lost) = &calls.lost {
            return Err(lost.clone());
        }
        calls.outgoing.insert(call, outgoing);
        Ok(())
    }

    pub(super) fn enter_incoming(
        &self,
        call: CallNumber,
        incoming: Arc<Incoming>,
        most: usize,
    ) -> Result<(), NotEntered> {
        let mut calls = self.calls();
        if let Some(lost) = &calls.lost {
            return Err(NotEntered::Lost(lost.clone()));
        }
        if calls.incoming.len() >= most {
            return Err(NotEntered::TooMany);
        }
        if calls.incoming.contains_key(&call) {
            return Err(NotEntered::Twice);
        }
        calls.incoming.insert(call, incoming);
        Ok(())
    }

    pub(super) fn outgoing(&self, call: CallNumber) -> Option<Arc<Outgoing>> {
        self.calls().outgoing.get(&call).cloned()
    }

    pub(super) fn incoming(&self, call: CallNumber) -> Option<Arc<Incoming>> {
        self.calls().incoming.get(&call).cloned()
    }

    pub(super) fn leave_outgoing(&self, call: CallNumber) {
        self.calls().outgoing.remove(&call);
    }

    pub(super) fn leave_incoming(&self, call: CallNumber) {
        self.calls().incoming.remove(&call);
    }

    /// Ends every call with this run of the peer.
    pub(super) fn lose(&self, reason: &Refusal) {
        let mut calls = self.calls();
        calls.lost.get_or_insert_with(|| reason.clone());
        let outgoing: Vec<_> = calls.outgoing.values().cloned().collect();
        let incoming: Vec<_> = calls.incoming.values().cloned().collect();
        drop(calls);
        for call in outgoing {
            call.end(reason);
        }
        for call in incoming {
            call.end();
        }
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.arrivals.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Outgoing {
    pub(super) fn new(
        upload: StreamOut,
        idempotent: bool,
    ) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let outgoing = Self {
            answer: Mutex::new(Some(sender)),
            upload,
            download: StreamIn::default(),
            idempotent,
        };
        (Arc::new(outgoing), receiver)
    }

    /// Answers the call, once; `false` where it was answered before.
    pub(super) fn answer(&self, answer: Answer) -> bool {
        let mut slot = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        match slot.take() {
            // A caller that has gone no longer listens.
            Some(sender) => {
                let _ = sender.send(answer);
                true
            }
            None => false,
        }
    }

    /// Ends the call, in whatever state it is.
    pub(super) fn end(&self, reason: &Refusal) {
        self.answer(Answer::Refused(reason.clone()));
        self.upload.close(reason.clone());
        self.download.fail(reason.clone());
    }
}

impl Incoming {
    pub(super) fn new(download: StreamOut) -> Arc<Self> {
        Arc::new(Self {
            cancel: CancellationToken::new(),
            upload: StreamIn::default(),
            download,
        })
    }

    /// Ends the call because its caller has gone.
    pub(super) fn end(&self) {
        let reason = Refusal::new(RefusalCode::Cancelled, "the caller has gone");
        self.cancel.cancel();
        self.upload.fail(reason.clone());
        self.download.close(reason);
    }
}
