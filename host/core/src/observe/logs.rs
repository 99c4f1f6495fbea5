//! The log of one actor: its last lines, and those who follow it.
//!
//! Whatever an actor writes comes through here, beside the host's own log. A book holds so many lines and bytes and no
//! more, lets through so many bytes a second and no more, and never waits for a follower: what one has no room for is
//! dropped for that one, counted, and said in its next record.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use tokio::sync::mpsc;
use trellis_protocol::InvocationId;
use trellis_protocol::control::observe::{LogStream, RECENT_LINES_MAX};

use super::place::Place;

/// Bytes of the lines that are kept of one actor.
pub(crate) const KEPT_BYTES_MAX: usize = 64 * 1024;

/// Bytes that all instances of one actor may write in a second, in the long run.
pub(crate) const BYTES_PER_SECOND: u64 = 1024 * 1024;

/// Bytes that they may write at once after a silence.
pub(crate) const BURST_BYTES: u64 = 4 * BYTES_PER_SECOND;

/// What a line costs beside its text, in bytes: times, ids, and what a log writes around it.
const LINE_BYTES: usize = 128;

/// Lines that wait for one follower.
pub(crate) const FOLLOWER_QUEUE_MAX: usize = 256;

/// Followers on one host at a time.
pub(crate) const FOLLOWERS_MAX: usize = 16;

/// Shortest time between two remarks that lines were dropped.
const REMARK_INTERVAL: Duration = Duration::from_secs(1);

/// One line.
#[derive(Debug)]
pub(crate) struct Line {
    pub(crate) sequence: u64,
    pub(crate) at: SystemTime,
    pub(crate) level: &'static str,
    pub(crate) stream: LogStream,
    pub(crate) invocation: InvocationId,
    /// The trace's id, 32 digits.
    pub(crate) trace: Option<Box<str>>,
    pub(crate) context: Option<Box<str>>,
    pub(crate) message: Box<str>,
}

/// A line that is to be written.
pub(crate) struct NewLine<'a> {
    pub(crate) level: &'static str,
    pub(crate) stream: LogStream,
    pub(crate) invocation: InvocationId,
    pub(crate) trace: Option<&'a str>,
    pub(crate) context: &'a str,
    pub(crate) message: &'a str,
}

/// What became of a line.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Written {
    /// It is kept, and may stand in the host's log.
    Kept,
    /// It was dropped. So many were since somebody was told last; with a number, it is time to tell.
    Dropped(Option<u64>),
}

/// The log of one actor.
#[derive(Debug)]
pub(crate) struct LogBook {
    inner: Mutex<Inner>,
    dropped: AtomicU64,
}

#[derive(Debug)]
struct Inner {
    next: u64,
    lines: VecDeque<Arc<Line>>,
    bytes: usize,
    followers: Vec<mpsc::Sender<Arc<Line>>>,
    allowance: Allowance,
}

#[derive(Debug)]
struct Allowance {
    left_bytes: u64,
    at: Instant,
    /// Lines that were dropped since the last remark, and when that was.
    unsaid: u64,
    remarked: Option<Instant>,
}

/// Somebody who reads along.
#[derive(Debug)]
pub(crate) struct Follower {
    /// The lines that were kept as the follower came.
    pub(crate) kept: Vec<Arc<Line>>,
    /// What is written from then on.
    pub(crate) further: mpsc::Receiver<Arc<Line>>,
    _place: Place,
}

impl Default for LogBook {
    fn default() -> Self {
        Self {
            inner: Mutex::new(Inner {
                next: 1,
                lines: VecDeque::new(),
                bytes: 0,
                followers: Vec::new(),
                allowance: Allowance {
                    left_bytes: BURST_BYTES,
                    at: Instant::now(),
                    unsaid: 0,
                    remarked: None,
                },
            }),
            dropped: AtomicU64::new(0),
        }
    }
}

impl LogBook {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a line, unless the actor has written too much. Its length is bounded by whoever made it printable.
    pub(crate) fn write(&self, line: &NewLine<'_>) -> Written {
        self.write_at(line, Instant::now())
    }

    fn write_at(&self, line: &NewLine<'_>, now: Instant) -> Written {
        let bytes = line.message.len() + line.context.len() + LINE_BYTES;
        let mut inner = self.lock();
        let sequence = inner.next;
        inner.next += 1;
        if !inner.allowance.take(bytes, now) {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            return Written::Dropped(inner.allowance.remark(now));
        }
        let line = Arc::new(Line {
            sequence,
            at: SystemTime::now(),
            level: line.level,
            stream: line.stream,
            invocation: line.invocation,
            trace: line.trace.map(Box::from),
            context: (!line.context.is_empty()).then(|| Box::from(line.context)),
            message: Box::from(line.message),
        });
        // The follower counts what it misses by the lines' numbers.
        inner.followers.retain(|follower| {
            !matches!(
                follower.try_send(Arc::clone(&line)),
                Err(mpsc::error::TrySendError::Closed(_))
            )
        });
        inner.bytes += bytes;
        inner.lines.push_back(line);
        while inner.lines.len() > RECENT_LINES_MAX as usize || inner.bytes > KEPT_BYTES_MAX {
            let Some(oldest) = inner.lines.pop_front() else {
                break;
            };
            inner.bytes -= oldest.bytes();
        }
        Written::Kept
    }

    /// The last lines, beyond a number where one is given.
    #[cfg(test)]
    pub(crate) fn kept(&self, lines: usize, after: Option<u64>) -> Vec<Arc<Line>> {
        self.lock().kept(lines, after)
    }

    /// The last lines, and all further ones without a gap.
    pub(super) fn follow(&self, place: Place, lines: usize, after: Option<u64>) -> Follower {
        let mut inner = self.lock();
        inner.followers.retain(|follower| !follower.is_closed());
        let (sender, further) = mpsc::channel(FOLLOWER_QUEUE_MAX);
        inner.followers.push(sender);
        Follower {
            kept: inner.kept(lines, after),
            further,
            _place: place,
        }
    }

    /// Whether anything was ever written.
    pub(crate) fn is_used(&self) -> bool {
        self.lock().next > 1
    }

    /// Lines that were dropped because there were too many.
    pub(super) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }
}

impl Line {
    fn bytes(&self) -> usize {
        self.message.len() + self.context.as_deref().map_or(0, str::len) + LINE_BYTES
    }
}

impl Inner {
    fn kept(&self, lines: usize, after: Option<u64>) -> Vec<Arc<Line>> {
        let after = after.unwrap_or(0);
        let wanted = self.lines.iter().filter(|line| line.sequence > after);
        let mut latest: Vec<_> = wanted.rev().take(lines).cloned().collect();
        latest.reverse();
        latest
    }
}

impl Allowance {
    fn take(&mut self, bytes: usize, now: Instant) -> bool {
        let nanos = now.saturating_duration_since(self.at).as_nanos();
        let earned = nanos.saturating_mul(u128::from(BYTES_PER_SECOND)) / 1_000_000_000;
        if earned > 0 {
            let earned = u64::try_from(earned).unwrap_or(u64::MAX);
            self.left_bytes = self.left_bytes.saturating_add(earned).min(BURST_BYTES);
            self.at = now;
        }
        match self.left_bytes.checked_sub(bytes as u64) {
            Some(left) => {
                self.left_bytes = left;
                true
            }
            None => false,
        }
    }

    /// One more was dropped. Says how many were, where it is time to tell somebody.
    fn remark(&mut self, now: Instant) -> Option<u64> {
        self.unsaid += 1;
        let is_time = self
            .remarked
            .is_none_or(|at| now.saturating_duration_since(at) >= REMARK_INTERVAL);
        is_time.then(|| {
            self.remarked = Some(now);
            std::mem::take(&mut self.unsaid)
        })
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::super::place::Places;
    use super::*;

    fn line(message: &str) -> NewLine<'_> {
        NewLine {
            level: "info",
            stream: LogStream::Stdout,
            invocation: InvocationId(7),
            trace: None,
            context: "",
            message,
        }
    }

    fn messages(lines: &[Arc<Line>]) -> Vec<&str> {
        lines.iter().map(|line| &*line.message).collect()
    }

    #[test]
    fn the_last_lines_are_kept_and_the_bytes_are_bounded() {
        let book = LogBook::default();
        for number in 0..RECENT_LINES_MAX + 10 {
            book.write(&line(&number.to_string()));
        }
        let kept = book.kept(usize::MAX, None);
        assert_eq!(kept.len(), RECENT_LINES_MAX as usize);
        assert_eq!(&*kept[0].message, "10");
        for _ in 0..100 {
            book.write(&line(&"x".repeat(8 * 1024)));
        }
        let kept = book.kept(usize::MAX, None);
        let bytes: usize = kept.iter().map(|line| line.bytes()).sum();
        assert!(bytes <= KEPT_BYTES_MAX && kept.len() == 7, "{bytes}");
        assert_eq!(book.lock().bytes, bytes);
    }

    #[test]
    fn a_reader_goes_on_after_the_line_it_knows() {
        let book = LogBook::default();
        for message in ["a", "b", "c", "d"] {
            book.write(&line(message));
        }
        assert_eq!(messages(&book.kept(2, None)), ["c", "d"]);
        assert_eq!(messages(&book.kept(9, Some(3))), ["d"]);
        assert!(book.kept(9, Some(u64::MAX)).is_empty());
    }

    #[test]
    fn a_guest_that_writes_without_end_is_let_through_at_the_rate_and_its_loss_is_told_once_a_second()
     {
        let book = LogBook::default();
        let text = "x".repeat(8 * 1024 - LINE_BYTES);
        let start = book.lock().allowance.at;
        let mut at = start;
        let (mut kept, mut remarks, mut told) = (0_u64, 0, 0);
        // Ten seconds at 80 MiB a second.
        for _ in 0..100_000 {
            at += Duration::from_micros(100);
            match book.write_at(&line(&text), at) {
                Written::Kept => kept += 1,
                Written::Dropped(Some(lost)) => {
                    remarks += 1;
                    told += lost;
                }
                Written::Dropped(None) => {}
            }
        }
        let bytes = kept * 8 * 1024;
        assert!((13 << 20..=14 << 20).contains(&bytes), "{bytes}");
        assert!((8..=11).contains(&remarks), "{remarks}");
        assert_eq!(book.dropped(), 100_000 - kept);
        assert!(told <= book.dropped());
    }

    #[tokio::test]
    async fn a_follower_sees_what_was_kept_and_what_comes_without_a_gap() {
        let book = LogBook::default();
        book.write(&line("before"));
        let places = Places::new(1);
        let mut follower = book.follow(places.take().unwrap(), 10, None);
        book.write(&line("after"));
        assert_eq!(messages(&follower.kept), ["before"]);
        assert_eq!(&*follower.further.recv().await.unwrap().message, "after");
    }

    #[test]
    fn a_follower_that_does_not_read_costs_a_queue_and_no_more() {
        let book = LogBook::default();
        let places = Places::new(1);
        let mut slow = book.follow(places.take().unwrap(), 0, None);
        for _ in 0..FOLLOWER_QUEUE_MAX + 50 {
            assert_eq!(book.write(&line("x")), Written::Kept);
        }
        let mut last = 0;
        while let Ok(line) = slow.further.try_recv() {
            last = line.sequence;
        }
        assert_eq!(last, FOLLOWER_QUEUE_MAX as u64);
    }
}
