//! One run of a peer: its key, its message counters, and the calls with it.
//!
//! A run that falls silent is lost, with its calls; when its beats are heard again, it gets a new [`Remote`] with the
//! same [`Counters`]. Fresh ones would let old messages be replayed, and give numbers twice that the peer has seen.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use tokio::sync::oneshot;
use tokio_util::sync::CancellationToken;
use trellis_claims::PublicKey;
use trellis_flow::{StreamIn, StreamOut};
use trellis_protocol::envelope::{DelayFloor, ReplayWindow};
use trellis_protocol::frame::{CallNumber, Fields};
use trellis_protocol::{Refusal, RefusalCode};

use super::PeerHost;

#[derive(Debug)]
pub(super) struct Remote {
    pub(super) host: PeerHost,
    pub(super) public: PublicKey,
    counters: Arc<Counters>,
    calls: Mutex<Calls>,
}

/// The numbers of messages to and from one run of a peer.
#[derive(Debug, Default)]
struct Counters {
    sent: AtomicU64,
    arrivals: Mutex<Arrivals>,
}

#[derive(Debug, Default)]
struct Arrivals {
    replays: ReplayWindow,
    delay: DelayFloor,
}

#[derive(Debug, Default)]
struct Calls {
    /// Set once the peer has left; nothing is added then.
    lost: bool,
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
    Reply {
        result: Bytes,
        rest: u32,
    },
    Http {
        status: u16,
        fields: Fields,
        has_body: bool,
    },
    Refused(Refusal),
}

/// A call of the peer to us.
#[derive(Debug)]
pub(super) struct Incoming {
    pub(super) cancel: CancellationToken,
    /// Whether the token was cancelled because this host no longer hears the caller's, which may still wait.
    lost: AtomicBool,
    /// Stream 0.
    pub(super) upload: StreamIn,
    /// Stream 1.
    pub(super) download: StreamOut,
}

/// Why a call was not entered.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum NotEntered {
    Lost,
    TooMany,
    Twice,
}

impl Remote {
    pub(super) fn new(host: PeerHost, public: PublicKey) -> Self {
        Self {
            host,
            public,
            counters: Arc::default(),
            calls: Mutex::default(),
        }
    }

    /// The same run, heard again after it was lost.
    pub(super) fn back(&self) -> Self {
        Self {
            host: self.host.clone(),
            public: self.public.clone(),
            counters: Arc::clone(&self.counters),
            calls: Mutex::default(),
        }
    }

    pub(super) fn is_lost(&self) -> bool {
        self.calls().lost
    }

    pub(super) fn next_sequence(&self) -> u64 {
        self.counters.sent.fetch_add(1, Ordering::Relaxed)
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
    ) -> Result<(), NotEntered> {
        let mut calls = self.calls();
        if calls.lost {
            return Err(NotEntered::Lost);
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
        if calls.lost {
            return Err(NotEntered::Lost);
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
        calls.lost = true;
        let outgoing: Vec<_> = calls.outgoing.values().cloned().collect();
        let incoming: Vec<_> = calls.incoming.values().cloned().collect();
        drop(calls);
        for call in outgoing {
            call.end(reason);
        }
        for call in incoming {
            call.lose();
        }
    }

    fn arrivals(&self) -> MutexGuard<'_, Arrivals> {
        self.counters
            .arrivals
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
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
            lost: AtomicBool::new(false),
            upload: StreamIn::default(),
            download,
        })
    }

    /// Ends the call because the caller's host has left the routes.
    fn lose(&self) {
        self.lost.store(true, Ordering::Relaxed);
        self.end();
    }

    pub(super) fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Relaxed)
    }

    /// Ends the call because its caller has gone.
    pub(super) fn end(&self) {
        let reason = Refusal::new(RefusalCode::Cancelled, "the caller has gone");
        self.cancel.cancel();
        self.upload.fail(reason.clone());
        self.download.close(reason);
    }
}
