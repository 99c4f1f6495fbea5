//! What waits to be written: control frames first, then one frame of each call in turn.
//!
//! Every call has a **lane** for what must stay in order: its head and the data of its stream. A body waits while its lane
//! has enough to keep the writer busy. What cannot wait (credit, cancel, stop, refusals, questions and answers) goes past
//! the lanes; each such message is bounded by a call, a question or a permit that it holds until it is written.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use trellis_protocol::frame::{CallNumber, Frame, FrameError};
use trellis_protocol::pipe::{Control, LENGTH_BYTES, write_length};
use trellis_protocol::{Refusal, RefusalCode};

use crate::streams::Reading;

/// Most frames of a call that wait, where all lanes together hold little.
const LANE_FRAMES_MAX: usize = 4;

/// Bytes in all lanes beyond which each holds one frame of a body at most.
const LANES_BYTES_MAX: usize = 1024 * 1024;

/// Bytes that are gathered for one write. A control frame waits for no more than this.
const BATCH_BYTES: usize = 128 * 1024;

/// Frames that are gathered for one write, each of two slices. Systems take 1,024 slices.
const BATCH_FRAMES_MAX: usize = 128;

/// A frame with its length.
pub(crate) struct Message {
    pub(crate) length: [u8; LENGTH_BYTES],
    pub(crate) frame: Vec<u8>,
    /// Given back when it has been written.
    held: Vec<OwnedSemaphorePermit>,
}

impl Message {
    pub(crate) fn call(frame: &Frame) -> Result<Self, FrameError> {
        Self::new(frame.encode()?)
    }

    pub(crate) fn control(control: &Control) -> Result<Self, FrameError> {
        Self::new(control.encode()?)
    }

    pub(crate) fn holding(mut self, permits: Vec<OwnedSemaphorePermit>) -> Self {
        self.held = permits;
        self
    }

    fn new(frame: Vec<u8>) -> Result<Self, FrameError> {
        Ok(Self {
            length: write_length(frame.len())?,
            frame,
            held: Vec::new(),
        })
    }

    pub(crate) fn bytes(&self) -> usize {
        LENGTH_BYTES + self.frame.len()
    }
}

enum Urgent {
    Message(Message),
    /// Counted when it is written, so that one frame gives all that is due by then.
    Credit(CallNumber, Reading),
}

/// What a call has to say in order.
#[derive(Default)]
pub(crate) struct Lane {
    state: Mutex<LaneState>,
    room: Notify,
}

#[derive(Default)]
struct LaneState {
    queue: VecDeque<Message>,
    /// Whether it waits for its turn.
    queued: bool,
    /// Whether anything of it was taken to be written.
    begun: bool,
    closed: bool,
}

impl Lane {
    /// Bytes that wait in it.
    pub(crate) fn bytes(&self) -> usize {
        self.state().queue.iter().map(Message::bytes).sum()
    }

    fn state(&self) -> MutexGuard<'_, LaneState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Default)]
pub(crate) struct Outbox {
    state: Mutex<State>,
    filled: Notify,
}

#[derive(Default)]
struct State {
    urgent: VecDeque<Urgent>,
    turns: VecDeque<Arc<Lane>>,
    lanes_bytes: usize,
    closed: bool,
}

impl Outbox {
    /// Queues what goes before all lanes; says how much of that kind waits.
    pub(crate) fn urgent(&self, message: Message) -> usize {
        self.push_urgent(Urgent::Message(message))
    }

    /// Queues the credit of a stream, which has one such entry at most; says how much of that kind waits.
    pub(crate) fn credit(&self, call: CallNumber, reading: Reading) -> usize {
        self.push_urgent(Urgent::Credit(call, reading))
    }

    fn push_urgent(&self, urgent: Urgent) -> usize {
        let mut state = self.state();
        if state.closed {
            return 0;
        }
        state.urgent.push_back(urgent);
        let waiting = state.urgent.len();
        drop(state);
        self.filled.notify_one();
        waiting
    }

    /// Queues a frame behind those of its lane; `false` where the lane is closed.
    pub(crate) fn push(&self, lane: &Arc<Lane>, message: Message) -> bool {
        let mut state = self.state();
        let mut in_lane = lane.state();
        if state.closed || in_lane.closed {
            return false;
        }
        state.lanes_bytes += message.bytes();
        in_lane.queue.push_back(message);
        if !in_lane.queued {
            in_lane.queued = true;
            state.turns.push_back(Arc::clone(lane));
        }
        drop(in_lane);
        drop(state);
        self.filled.notify_one();
        true
    }

    /// Waits until a lane has room for a frame of a stream. One task only for each lane.
    pub(crate) async fn room(&self, lane: &Lane) -> Result<(), Refusal> {
        loop {
            {
                let state = self.state();
                let in_lane = lane.state();
                if state.closed || in_lane.closed {
                    return Err(Refusal::new(RefusalCode::Cancelled, "the call has ended"));
                }
                let has_room = in_lane.queue.len() < LANE_FRAMES_MAX;
                if in_lane.queue.is_empty() || (has_room && state.lanes_bytes < LANES_BYTES_MAX) {
                    return Ok(());
                }
            }
            lane.room.notified().await;
        }
    }

    /// Drops what waits in a lane, for good. Says whether anything of it was written before.
    pub(crate) fn close(&self, lane: &Lane) -> bool {
        let mut state = self.state();
        let mut in_lane = lane.state();
        in_lane.closed = true;
        let dropped: usize = in_lane.queue.drain(..).map(|message| message.bytes()).sum();
        state.lanes_bytes -= dropped;
        let begun = in_lane.begun;
        drop(in_lane);
        drop(state);
        lane.room.notify_one();
        begun
    }

    /// Takes nothing more, and lets go of what waits.
    pub(crate) fn close_all(&self) {
        let mut state = self.state();
        state.closed = true;
        state.urgent.clear();
        let lanes: Vec<_> = state.turns.drain(..).collect();
        drop(state);
        for lane in lanes {
            self.close(&lane);
        }
    }

    /// Gathers what is to be written next.
    pub(crate) fn take(&self, batch: &mut Vec<Message>) {
        let mut bytes = 0;
        let mut state = self.state();
        while bytes < BATCH_BYTES && batch.len() < BATCH_FRAMES_MAX {
            let message = match state.urgent.pop_front() {
                Some(Urgent::Message(message)) => message,
                Some(Urgent::Credit(call, reading)) => match credit(call, &reading) {
                    Some(message) => message,
                    None => continue,
                },
                None => {
                    let Some(lane) = state.turns.pop_front() else {
                        break;
                    };
                    match state.take_turn(lane) {
                        Some(message) => message,
                        None => continue,
                    }
                }
            };
            bytes += message.bytes();
            batch.push(message);
        }
    }

    /// Waits until there may be something to take.
    pub(crate) async fn filled(&self) {
        self.filled.notified().await;
    }

    /// Bytes that wait in lanes.
    pub(crate) fn lanes_bytes(&self) -> usize {
        self.state().lanes_bytes
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    /// One frame of a lane, which then goes behind the others.
    fn take_turn(&mut self, lane: Arc<Lane>) -> Option<Message> {
        let mut in_lane = lane.state();
        let message = in_lane.queue.pop_front();
        in_lane.begun |= message.is_some();
        in_lane.queued = !in_lane.queue.is_empty();
        let again = in_lane.queued;
        drop(in_lane);
        lane.room.notify_one();
        if again {
            self.turns.push_back(lane);
        }
        let message = message?;
        self.lanes_bytes -= message.bytes();
        Some(message)
    }
}

fn credit(call: CallNumber, reading: &Reading) -> Option<Message> {
    let bytes = reading.stream_in().take_credit();
    if bytes == 0 {
        return None;
    }
    let frame = Frame::Credit {
        call,
        stream: reading.stream(),
        bytes,
    };
    Message::call(&frame).ok()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use futures::FutureExt as _;

    use super::*;

    fn message(call: CallNumber) -> Message {
        Message::call(&Frame::Cancel { call }).unwrap()
    }

    fn taken(outbox: &Outbox) -> Vec<CallNumber> {
        let mut batch = Vec::new();
        outbox.take(&mut batch);
        let call = |message: Message| match Frame::decode(&message.frame.into()).unwrap() {
            Frame::Cancel { call } => call,
            other => panic!("{other:?}"),
        };
        batch.into_iter().map(call).collect()
    }

    #[test]
    fn urgent_frames_go_first_and_lanes_take_turns() {
        let outbox = Outbox::default();
        let lanes: [Arc<Lane>; 3] = Default::default();
        for (lane, calls) in lanes.iter().zip([[10, 11, 12], [20, 21, 22], [30, 31, 32]]) {
            for call in calls {
                assert!(outbox.push(lane, message(call)));
            }
        }
        outbox.urgent(message(1));
        outbox.urgent(message(2));
        assert_eq!(taken(&outbox), [1, 2, 10, 20, 30, 11, 21, 31, 12, 22, 32],);
        assert_eq!(outbox.lanes_bytes(), 0);
        assert!(taken(&outbox).is_empty());
    }

    #[test]
    fn a_batch_is_bounded() {
        let outbox = Outbox::default();
        for call in 0..1000 {
            outbox.urgent(message(call));
        }
        assert_eq!(taken(&outbox).len(), BATCH_FRAMES_MAX);
    }

    #[test]
    fn a_lane_that_is_closed_before_its_turn_leaves_nothing() {
        let outbox = Outbox::default();
        let lane = Arc::default();
        outbox.push(&lane, message(1));
        assert!(!outbox.close(&lane));
        assert!(!outbox.push(&lane, message(2)));
        assert!(taken(&outbox).is_empty());
        let lane = Arc::default();
        outbox.push(&lane, message(3));
        assert_eq!(taken(&outbox), [3]);
        assert!(outbox.close(&lane));
        assert_eq!(outbox.lanes_bytes(), 0);
    }

    #[tokio::test]
    async fn a_full_lane_has_room_again_once_a_frame_was_taken() {
        let outbox = Outbox::default();
        let lane = Arc::default();
        for call in 0..4 {
            outbox.room(&lane).await.unwrap();
            outbox.push(&lane, message(call));
        }
        let waiting = outbox.room(&lane);
        tokio::pin!(waiting);
        assert!(futures::poll!(waiting.as_mut()).is_pending());
        taken(&outbox);
        assert!(waiting.now_or_never().unwrap().is_ok());
    }

    #[tokio::test]
    async fn lanes_hold_one_frame_each_where_all_together_hold_much() {
        let outbox = Outbox::default();
        let data = || {
            let frame = Frame::Reply {
                call: 1,
                result: vec![0; 40 * 1024].into(),
                rest: 0,
            };
            Message::call(&frame).unwrap()
        };
        let lanes: Vec<Arc<Lane>> = (0..30).map(|_| Arc::default()).collect();
        for lane in &lanes {
            assert!(outbox.room(lane).now_or_never().is_some());
            outbox.push(lane, data());
        }
        assert!(outbox.room(&lanes[0]).now_or_never().is_none());
    }
}
