//! What is noted of one actor or provider, whoever looks and whether anybody does.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::Instant;

use trellis_protocol::control::observe::Direction;
use trellis_protocol::{EntityId, Refusal, RefusalCode};
use trellis_provider_sdk::HttpRequest;

use super::calls::{Calls, CodeCounts};
use super::logs::LogBook;
use super::tap::{Answered, Taps, Watching};
use crate::invocation::Invocation;

/// Numbers, log and spies of one id on this host.
#[derive(Debug)]
pub(crate) struct Observed {
    pub(crate) id: EntityId,
    /// In which order ids came to be known: the first ones have a label of their own in metrics.
    pub(super) place: u64,
    pub(super) calls: Calls,
    /// Refusals that it met as a caller.
    pub(super) met: CodeCounts,
    /// Bytes of linear memory that its instances hold.
    pub(crate) memory_bytes: Arc<AtomicUsize>,
    pub(crate) log: LogBook,
    pub(super) taps: Taps,
}

impl Observed {
    pub(super) fn new(id: EntityId, place: u64) -> Arc<Self> {
        Arc::new(Self {
            id,
            place,
            calls: Calls::default(),
            met: CodeCounts::default(),
            memory_bytes: Arc::default(),
            log: LogBook::default(),
            taps: Taps::default(),
        })
    }

    /// A call arrives that is to be served.
    pub(crate) fn enters(
        self: &Arc<Self>,
        invocation: &Invocation,
        request: Option<&HttpRequest>,
    ) -> Visit<'_> {
        self.calls.begin();
        let watching = if self.taps.is_open() {
            Watching::begin(self, Direction::In, invocation, request)
        } else {
            None
        };
        Visit {
            observed: self,
            began: Instant::now(),
            watching,
            ended: false,
        }
    }
}

/// A call that is being served. Dropped without an end, its caller has gone.
#[derive(Debug)]
pub(crate) struct Visit<'a> {
    observed: &'a Observed,
    began: Instant,
    watching: Option<Box<Watching>>,
    ended: bool,
}

impl Visit<'_> {
    /// Notes how it ended.
    pub(crate) fn ended<T: Answered>(mut self, result: Result<T, Refusal>) -> Result<T, Refusal> {
        self.ended = true;
        match &result {
            Ok(_) => self.observed.calls.answered(self.began.elapsed()),
            Err(refusal) => self.observed.calls.refused(refusal.code),
        }
        if let Some(watching) = self.watching.take() {
            watching.ended(&result);
        }
        result
    }
}

impl Drop for Visit<'_> {
    fn drop(&mut self) {
        if !self.ended {
            self.observed.calls.refused(RefusalCode::Cancelled);
        }
    }
}
