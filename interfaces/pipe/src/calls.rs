//! The calls under way, both ways, and the questions that wait for their answers.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use tokio_util::sync::CancellationToken;
use trellis_flow::{StreamIn, StreamOut};
use trellis_protocol::frame::{CallNumber, Fields};
use trellis_protocol::pipe::{Failure, QuestionNumber};
use trellis_protocol::{Refusal, RefusalCode};

use crate::error::PipeEnd;
use crate::outbox::Lane;

#[derive(Default)]
pub(crate) struct Calls {
    /// Nothing is added once this is set.
    pub(crate) ended: Option<PipeEnd>,
    outgoing: HashMap<CallNumber, Arc<Outgoing>>,
    /// Calls of ours whose caller has gone, until the other end says that it has ended them.
    cancelled: HashMap<CallNumber, Instant>,
    incoming: HashMap<CallNumber, Arc<Incoming>>,
    questions: HashMap<QuestionNumber, Asked>,
}

/// A call of ours.
pub(crate) struct Outgoing {
    answer: Mutex<Option<oneshot::Sender<Answer>>>,
    /// Whether a function was called, and not HTTP.
    pub(crate) is_function: bool,
    /// Stream 0: a request's body, or the rest of parameters.
    pub(crate) upload: StreamOut,
    /// Stream 1: a response's body, or the rest of a result.
    pub(crate) download: StreamIn,
    pub(crate) lane: Arc<Lane>,
}

/// What a call of ours is answered with first.
pub(crate) enum Answer {
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

/// A call of the other end.
pub(crate) struct Incoming {
    pub(crate) cancel: CancellationToken,
    /// Stream 0.
    pub(crate) upload: StreamIn,
    /// Stream 1.
    pub(crate) download: StreamOut,
    pub(crate) lane: Arc<Lane>,
}

/// A question of ours.
pub(crate) struct Asked {
    pub(crate) answer: oneshot::Sender<Result<(), Failure>>,
    pub(crate) _permit: OwnedSemaphorePermit,
}

/// Why a call was not entered.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NotEntered {
    Ended(PipeEnd),
    TooMany,
    Twice,
}

impl Calls {
    pub(crate) fn enter_outgoing(
        &mut self,
        call: CallNumber,
        outgoing: Arc<Outgoing>,
        most: usize,
    ) -> Result<(), NotEntered> {
        if let Some(end) = &self.ended {
            return Err(NotEntered::Ended(end.clone()));
        }
        if self.outgoing_count() >= most {
            return Err(NotEntered::TooMany);
        }
        self.outgoing.insert(call, outgoing);
        Ok(())
    }

    pub(crate) fn enter_incoming(
        &mut self,
        call: CallNumber,
        incoming: Arc<Incoming>,
        most: usize,
    ) -> Result<(), NotEntered> {
        if let Some(end) = &self.ended {
            return Err(NotEntered::Ended(end.clone()));
        }
        if self.incoming.contains_key(&call) {
            return Err(NotEntered::Twice);
        }
        if self.incoming.len() >= most {
            return Err(NotEntered::TooMany);
        }
        self.incoming.insert(call, incoming);
        Ok(())
    }

    pub(crate) fn enter_question(
        &mut self,
        number: QuestionNumber,
        asked: Asked,
    ) -> Result<(), PipeEnd> {
        if let Some(end) = &self.ended {
            return Err(end.clone());
        }
        self.questions.insert(number, asked);
        Ok(())
    }

    pub(crate) fn outgoing(&self, call: CallNumber) -> Option<Arc<Outgoing>> {
        self.outgoing.get(&call).cloned()
    }

    pub(crate) fn incoming(&self, call: CallNumber) -> Option<Arc<Incoming>> {
        self.incoming.get(&call).cloned()
    }

    pub(crate) fn answered(&mut self, number: QuestionNumber) -> Option<Asked> {
        self.questions.remove(&number)
    }

    /// The other end has ended a call of ours: the call, where its caller has not gone. `None` where there is none.
    pub(crate) fn leave_outgoing(&mut self, call: CallNumber) -> Option<Option<Arc<Outgoing>>> {
        match self.outgoing.remove(&call) {
            Some(outgoing) => Some(Some(outgoing)),
            None => self.cancelled.remove(&call).map(|_| None),
        }
    }

    /// A call of the other end has ended; `false` where it had before.
    pub(crate) fn leave_incoming(&mut self, call: CallNumber) -> bool {
        self.incoming.remove(&call).is_some()
    }

    /// The caller of a call of ours has gone; `false` where the call had ended before.
    pub(crate) fn cancel(&mut self, call: CallNumber, begun: bool) -> bool {
        if self.outgoing.remove(&call).is_none() || !begun {
            return false;
        }
        self.cancelled.insert(call, Instant::now());
        true
    }

    /// When the oldest of the cancelled calls was cancelled.
    pub(crate) fn cancelled_since(&self) -> Option<Instant> {
        self.cancelled.values().min().copied()
    }

    /// Calls of ours that count against what the other end takes at once.
    pub(crate) fn outgoing_count(&self) -> usize {
        self.outgoing.len() + self.cancelled.len()
    }

    pub(crate) fn incoming_count(&self) -> usize {
        self.incoming.len()
    }

    /// Ends everything; `None` where it had ended before.
    pub(crate) fn end(&mut self, why: PipeEnd) -> Option<Remains> {
        if self.ended.is_some() {
            return None;
        }
        self.ended = Some(why);
        self.cancelled.clear();
        Some(Remains {
            outgoing: self.outgoing.drain().map(|(_, call)| call).collect(),
            incoming: self.incoming.drain().map(|(_, call)| call).collect(),
            questions: self.questions.drain().map(|(_, asked)| asked).collect(),
        })
    }
}

/// What was under way when a pipe ended.
pub(crate) struct Remains {
    pub(crate) outgoing: Vec<Arc<Outgoing>>,
    pub(crate) incoming: Vec<Arc<Incoming>>,
    /// Whoever asked is told by its drop.
    pub(crate) questions: Vec<Asked>,
}

impl Outgoing {
    pub(crate) fn new(
        upload: StreamOut,
        is_function: bool,
    ) -> (Arc<Self>, oneshot::Receiver<Answer>) {
        let (sender, receiver) = oneshot::channel();
        let outgoing = Self {
            answer: Mutex::new(Some(sender)),
            is_function,
            upload,
            download: StreamIn::default(),
            lane: Arc::default(),
        };
        (Arc::new(outgoing), receiver)
    }

    /// Answers the call, once; `false` where it was answered before.
    pub(crate) fn answer(&self, answer: Answer) -> bool {
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

    /// Whether it was answered.
    pub(crate) fn is_answered(&self) -> bool {
        let slot = self.answer.lock().unwrap_or_else(PoisonError::into_inner);
        slot.is_none()
    }

    /// Ends the call, in whatever state it is.
    pub(crate) fn end(&self, reason: &Refusal) {
        self.answer(Answer::Refused(reason.clone()));
        self.upload.close(reason.clone());
        self.download.fail(reason.clone());
    }
}

impl Incoming {
    pub(crate) fn new(download: StreamOut) -> Arc<Self> {
        Arc::new(Self {
            cancel: CancellationToken::new(),
            upload: StreamIn::default(),
            download,
            lane: Arc::default(),
        })
    }

    /// Ends the call because its caller has gone.
    pub(crate) fn end(&self) {
        let reason = Refusal::new(RefusalCode::Cancelled, "the caller has gone");
        self.cancel.cancel();
        self.upload.fail(reason.clone());
        self.download.close(reason);
    }
}
