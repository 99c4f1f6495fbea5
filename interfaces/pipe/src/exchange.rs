//! One end of a pipe at work: what its reader, its writer and its calls exchange with each other.

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use trellis_flow::Budget;
use trellis_protocol::Refusal;
use trellis_protocol::frame::{CallNumber, Frame};
use trellis_protocol::pipe::Control;

use crate::calls::Calls;
use crate::error::PipeEnd;
use crate::outbox::{Message, Outbox};
use crate::strays::Strays;
use crate::streams::Reading;
use crate::{PipeHandler, QUESTIONS_MAX, REFUSALS_MAX, RELEASES_MAX};

/// Bytes that calls which have ended may leave to be written, all together.
const REMAINS_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Messages past all lanes that may wait beside four for each call: refusals, releases, questions and answers.
const URGENT_SPARE: usize = 4096;

/// Which end this is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Host,
    Provider,
}

pub(crate) struct Exchange {
    pub(crate) side: Side,
    pub(crate) handler: Arc<dyn PipeHandler>,
    pub(crate) budget: Budget,
    pub(crate) budget_bytes: usize,
    pub(crate) incoming_max: usize,
    pub(crate) outgoing_max: usize,
    pub(crate) outbox: Outbox,
    pub(crate) strays: Strays,
    calls: Mutex<Calls>,
    pub(crate) next_call: AtomicU64,
    pub(crate) next_question: AtomicU64,
    /// Ours, where this is the host; the host's, where it is not.
    pub(crate) questions: Arc<Semaphore>,
    pub(crate) releases: Arc<Semaphore>,
    refusals: Arc<Semaphore>,
    /// Bytes that calls which have ended may leave to be written.
    remains: Arc<Semaphore>,
    urgent_max: usize,
    /// A call of ours was cancelled.
    pub(crate) cancelled: Notify,
    pub(crate) ended: CancellationToken,
}

impl Exchange {
    pub(crate) fn new(
        side: Side,
        handler: Arc<dyn PipeHandler>,
        budget_bytes: usize,
        incoming_max: usize,
        outgoing_max: usize,
    ) -> Self {
        Self {
            side,
            handler,
            budget: Budget::new(budget_bytes),
            budget_bytes,
            incoming_max,
            outgoing_max,
            outbox: Outbox::default(),
            strays: Strays::new(budget_bytes, incoming_max + outgoing_max),
            calls: Mutex::default(),
            next_call: AtomicU64::new(0),
            next_question: AtomicU64::new(0),
            questions: Arc::new(Semaphore::new(QUESTIONS_MAX)),
            releases: Arc::new(Semaphore::new(RELEASES_MAX)),
            refusals: Arc::new(Semaphore::new(REFUSALS_MAX)),
            remains: Arc::new(Semaphore::new(REMAINS_BYTES_MAX)),
            urgent_max: 4 * (incoming_max + outgoing_max) + URGENT_SPARE,
            cancelled: Notify::new(),
            ended: CancellationToken::new(),
        }
    }

    /// Says something that goes before the data of all calls.
    pub(crate) fn say(&self, frame: &Frame, permits: Vec<OwnedSemaphorePermit>) {
        match Message::call(frame) {
            Ok(message) => self.urgent(message.holding(permits)),
            Err(error) => tracing::error!(kind = frame.kind(), %error, "a frame cannot be encoded"),
        }
    }

    /// The same for a control frame.
    pub(crate) fn tell(&self, control: &Control, permits: Vec<OwnedSemaphorePermit>) {
        match Message::control(control) {
            Ok(message) => self.urgent(message.holding(permits)),
            Err(error) => {
                tracing::error!(kind = control.kind(), %error, "a frame cannot be encoded");
            }
        }
    }

    /// Queues a message that goes before the data of all calls.
    pub(crate) fn urgent(&self, message: Message) {
        self.not_flooded(self.outbox.urgent(message));
    }

    /// Queues the credit of a stream.
    pub(crate) fn credit(&self, call: CallNumber, reading: Reading) {
        self.not_flooded(self.outbox.credit(call, reading));
    }

    /// More cannot come together while the other end reads at all, since every call and question has a few at most.
    fn not_flooded(&self, waiting: usize) {
        if waiting > self.urgent_max {
            self.end(PipeEnd::broken(
                "it reads too little of what it causes to be said",
            ));
        }
    }

    /// A place for what a call that ends leaves to be written; `None` where the pipe ends first. Until it has one, the
    /// call goes on counting, so who does not read cannot make this end hold ever more.
    pub(crate) async fn remains(&self, bytes: usize) -> Option<OwnedSemaphorePermit> {
        let cost = u32::try_from(bytes.min(REMAINS_BYTES_MAX / 2)).unwrap_or(u32::MAX);
        let remains = Arc::clone(&self.remains);
        match remains.try_acquire_many_owned(cost) {
            Ok(permit) => Some(permit),
            Err(_) => {
                let waiting = Arc::clone(&self.remains).acquire_many_owned(cost);
                self.ended.run_until_cancelled(waiting).await?.ok()
            }
        }
    }

    /// Refuses a call from the reader task.
    pub(crate) fn refuse(&self, call: CallNumber, refusal: Refusal) -> Result<(), PipeEnd> {
        let permit = Arc::clone(&self.refusals).try_acquire_owned();
        let permit =
            permit.map_err(|_| PipeEnd::broken("it goes on calling and reads no refusals"))?;
        self.say(&Frame::Refuse { call, refusal }, vec![permit]);
        Ok(())
    }

    /// Ends the pipe and all that is under way. The first reason stays.
    pub(crate) fn end(&self, why: PipeEnd) {
        let lost = why.lost();
        let Some(remains) = self.calls().end(why) else {
            return;
        };
        self.ended.cancel();
        self.outbox.close_all();
        for call in remains.outgoing {
            call.end(&lost);
            self.outbox.close(&call.lane);
        }
        for call in remains.incoming {
            call.end();
            self.outbox.close(&call.lane);
        }
        drop(remains.questions);
    }

    /// Why the pipe has ended, once it has.
    pub(crate) fn why_ended(&self) -> PipeEnd {
        let end = self.calls().ended.clone();
        end.unwrap_or_else(|| PipeEnd::Closed {
            reason: "the pipe is about to end".to_owned(),
        })
    }

    /// How many calls are under way, both ways.
    pub(crate) fn calls_under_way(&self) -> usize {
        let calls = self.calls();
        calls.outgoing_count() + calls.incoming_count()
    }

    pub(crate) fn calls(&self) -> MutexGuard<'_, Calls> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
