//! Frames of hosts that are not in the routes yet, kept for a moment while their rosters are asked for.
//!
//! A host that has just started is known to others at once, and knows them only after their next beats: their first
//! calls would be dropped unanswered and end at their deadlines. So a frame that is signed by the key it names, and meant
//! for this very run, waits here and *knocks* at the routes; when its sender is admitted the frame goes the way of all
//! others, and everything is checked as ever. Nothing here executes anything or answers anybody.
//!
//! Keys cost nothing, so whoever reaches NATS can fill the doorstep: frames, bytes and checks of signatures are bounded in
//! all and for each sender, and what finds no place is dropped as if there were no doorstep.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use tokio::time::Instant;
use trellis_protocol::envelope::{Sealed, open};

use super::PeerRejection;
use crate::routes::Knock;

/// How long a frame waits for its sender to be known. A roster comes within milliseconds or not at all.
pub(super) const WAIT: Duration = Duration::from_secs(1);

/// Most frames that wait.
pub(super) const FRAMES_MAX: usize = 512;

/// Most frames of one sender that wait.
pub(super) const FRAMES_PER_SENDER_MAX: usize = 128;

/// Most bytes of frames that wait.
pub(super) const BYTES_MAX: usize = 4 * 1024 * 1024;

/// Most bytes of one sender's frames that wait: two dozen of the largest.
pub(super) const BYTES_PER_SENDER_MAX: usize = 1024 * 1024;

/// Most signatures of unknown senders that are checked in a second. Each costs up to a quarter of a millisecond.
pub(super) const CHECKS_PER_SECOND_MAX: u32 = 512;

const _: () = assert!(FRAMES_PER_SENDER_MAX < FRAMES_MAX && BYTES_PER_SENDER_MAX < BYTES_MAX);

/// The frames that wait, in the order of their arrival.
#[derive(Debug)]
pub(super) struct Doorstep {
    waiting: VecDeque<Waiting>,
    /// When the present second of checks began, and how many it has seen.
    checks: (Instant, u32),
}

/// A frame whose sender may become known.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) sealed: Sealed,
    /// When it arrived, by this host's own count.
    pub(super) arrived_ms: u64,
    /// What it is dropped for if its sender does not become known.
    pub(super) reason: PeerRejection,
    bytes: usize,
    until: Instant,
}

impl Doorstep {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            waiting: VecDeque::new(),
            checks: (now, 0),
        }
    }

    /// Whether frames of a sender wait, behind which its next ones have to stay.
    pub(super) fn holds(&self, sender: &str) -> bool {
        self.waiting
            .iter()
            .any(|waiting| waiting.sealed.sender == sender)
    }

    /// Keeps a frame for a while. The first one of a run of its sender has to knock.
    ///
    /// # Errors
    /// `reason`, where there is no place for it or the frame is not signed by the sender it names.
    pub(super) fn keep(
        &mut self,
        bytes: &Bytes,
        arrived_ms: u64,
        reason: PeerRejection,
        now: Instant,
    ) -> Result<Option<Knock>, PeerRejection> {
        // Copied, so that a small frame does not keep a whole read buffer.
        let bytes = Bytes::copy_from_slice(bytes);
        let sealed = Sealed::read(&bytes).map_err(|_| reason)?;
        if !self.has_room(&sealed.sender, bytes.len()) || !self.may_check(now) {
            return Err(reason);
        }
        let opened = open(&bytes).map_err(|_| reason)?;
        let is_first = !self.waiting.iter().any(|waiting| {
            let of = &waiting.sealed;
            of.sender == sealed.sender && of.sender_incarnation == sealed.sender_incarnation
        });
        self.waiting.push_back(Waiting {
            sealed,
            arrived_ms,
            reason,
            bytes: bytes.len(),
            until: now + WAIT,
        });
        Ok(is_first.then_some(Knock {
            host: opened.sender,
            incarnation: opened.sender_incarnation,
        }))
    }

    /// Takes the frames whose senders are known now, in the order of their arrival.
    pub(super) fn take(&mut self, mut is_known: impl FnMut(&Sealed) -> bool) -> Vec<Waiting> {
        let waiting = std::mem::take(&mut self.waiting);
        let (known, unknown): (Vec<_>, Vec<_>) = waiting
            .into_iter()
            .partition(|waiting| is_known(&waiting.sealed));
        self.waiting = unknown.into();
        known
    }

    /// When the next frame has waited long enough.
    pub(super) fn next_end(&self) -> Option<Instant> {
        self.waiting.front().map(|waiting| waiting.until)
    }

    /// Drops a frame that has waited long enough, and says for what.
    pub(super) fn expire(&mut self, now: Instant) -> Option<PeerRejection> {
        let due = self.waiting.front()?.until <= now;
        due.then(|| self.waiting.pop_front())
            .flatten()
            .map(|waiting| waiting.reason)
    }

    fn has_room(&self, sender: &str, bytes: usize) -> bool {
        let all: usize = self.waiting.iter().map(|waiting| waiting.bytes).sum();
        let own = self
            .waiting
            .iter()
            .filter(|waiting| waiting.sealed.sender == sender);
        let (own_frames, own_bytes) = own.fold((0, 0), |(frames, bytes), waiting| {
            (frames + 1, bytes + waiting.bytes)
        });
        self.waiting.len() < FRAMES_MAX
            && all + bytes <= BYTES_MAX
            && own_frames < FRAMES_PER_SENDER_MAX
            && own_bytes + bytes <= BYTES_PER_SENDER_MAX
    }

    fn may_check(&mut self, now: Instant) -> bool {
        if now.duration_since(self.checks.0) >= Duration::from_secs(1) {
            self.checks = (now, 0);
        }
        self.checks.1 += 1;
        self.checks.1 <= CHECKS_PER_SECOND_MAX
    }
}

#[cfg(test)]
mod tests;
