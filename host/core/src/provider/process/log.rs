//! What a provider process prints: into the host's log line by line, with the provider's id, and the end of it into a short
//! memory for reports about its death.
//!
//! Both of its streams are always read, whatever the host makes of them, so that a process is not held up by what it
//! prints, short of [`BYTES_PER_SECOND`]. What it can cost the host is bounded: a line has a longest length, a second a number
//! of lines and of bytes, the memory a size.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncReadExt};
use trellis_protocol::EntityId;

use crate::actor::output::printable;

/// Longest line that is logged whole, in bytes; longer ones are cut there.
const LINE_BYTES_MAX: usize = 4 * 1024;

/// Lines that a process may log at once after it was quiet.
const BURST_LINES: u32 = 1_000;

/// Lines that it may log in a second over a longer time. What exceeds them is dropped and counted.
const LINES_PER_SECOND: u32 = 200;

/// Bytes of a stream that are read at once after it was quiet.
const BURST_BYTES: usize = 4 * 1024 * 1024;

/// Bytes of a stream that are read in a second over a longer time. Who prints more waits.
const BYTES_PER_SECOND: usize = 1024 * 1024;

/// What a line costs beside its bytes, so that empty ones are not for nothing.
const LINE_COST_BYTES: usize = 16;

/// Lines that are remembered for a report.
pub(super) const TAIL_LINES_MAX: usize = 20;

/// Bytes that they may have together.
pub(super) const TAIL_BYTES_MAX: usize = 4 * 1024;

/// Longest piece that is read at once, in bytes.
const READ_BYTES: usize = 8 * 1024;

/// Which of the two streams.
#[derive(Debug, Clone, Copy)]
pub(super) enum Stream {
    Stdout,
    Stderr,
}

impl Stream {
    fn name(self) -> &'static str {
        match self {
            Self::Stdout => "stdout",
            Self::Stderr => "stderr",
        }
    }
}

/// The output of one process.
#[derive(Debug)]
pub(super) struct Log {
    id: EntityId,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    tail: Tail,
    allowance: Allowance,
}

impl Log {
    pub(super) fn new(id: EntityId) -> Self {
        Self {
            id,
            inner: Mutex::new(Inner {
                tail: Tail::default(),
                allowance: Allowance::new(Instant::now()),
            }),
        }
    }

    /// Reads a stream to its end.
    pub(super) async fn follow(&self, mut stream: impl AsyncRead + Unpin, which: Stream) {
        let mut lines = Lines::default();
        let mut piece = [0; READ_BYTES];
        let mut pace = Pace::new(Instant::now());
        while let Ok(read @ 1..) = stream.read(&mut piece).await {
            let mut cost = read;
            lines.feed(&piece[..read], |line| {
                cost += LINE_COST_BYTES;
                self.take(which, line);
            });
            if let Some(pause) = pace.read(Instant::now(), cost) {
                tokio::time::sleep(pause).await;
            }
        }
        lines.finish(|line| self.take(which, line));
    }

    /// The last lines, oldest first.
    pub(super) fn tail(&self) -> Vec<String> {
        self.lock().tail.lines.iter().cloned().collect()
    }

    fn take(&self, which: Stream, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = printable(text.trim_end());
        let (dropped, is_let_through) = {
            let mut inner = self.lock();
            inner.tail.push(&text);
            let is_let_through = inner.allowance.take(Instant::now());
            let dropped = if is_let_through {
                std::mem::take(&mut inner.allowance.dropped)
            } else {
                inner.allowance.dropped += 1;
                0
            };
            (dropped, is_let_through)
        };
        if dropped > 0 {
            tracing::warn!(target: "provider", provider_id = %self.id, dropped, "the provider prints faster than is logged, lines were dropped");
        }
        if is_let_through {
            self.write(which, &text);
        }
    }

    fn write(&self, which: Stream, text: &str) {
        let (id, stream) = (&self.id, which.name());
        let (level, text) = level(text);
        match level {
            Level::Error => {
                tracing::error!(target: "provider", provider_id = %id, stream, "{text}");
            }
            Level::Warn => {
                tracing::warn!(target: "provider", provider_id = %id, stream, "{text}");
            }
            Level::Info => {
                tracing::info!(target: "provider", provider_id = %id, stream, "{text}");
            }
            Level::Debug => {
                tracing::debug!(target: "provider", provider_id = %id, stream, "{text}");
            }
            Level::Trace => {
                tracing::trace!(target: "provider", provider_id = %id, stream, "{text}");
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Level {
    Error,
    Warn,
    Info,
    Debug,
    Trace,
}

/// The level by which a line begins, as the SDK's other door writes them, and the rest; all else is information.
fn level(text: &str) -> (Level, &str) {
    let trimmed = text.trim_start();
    let (first, rest) = trimmed.split_once(' ').unwrap_or((trimmed, ""));
    let level = match first {
        "ERROR" => Level::Error,
        "WARN" => Level::Warn,
        "INFO" => Level::Info,
        "DEBUG" => Level::Debug,
        "TRACE" => Level::Trace,
        _ => return (Level::Info, text),
    };
    (level, rest)
}

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug, Default)]
struct Lines {
    pending: Vec<u8>,
}

impl Lines {
    fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(&[u8])) {
        while let Some(end) = bytes.iter().position(|byte| *byte == b'\n') {
            let (line, rest) = bytes.split_at(end);
            self.append(line);
            take(&self.pending);
            self.pending.clear();
            bytes = &rest[1..];
        }
        self.append(bytes);
    }

    /// The last line may lack its end.
    fn finish(&mut self, mut take: impl FnMut(&[u8])) {
        if !self.pending.is_empty() {
            take(&self.pending);
            self.pending.clear();
        }
    }

    /// What exceeds the longest line is dropped here.
    fn append(&mut self, bytes: &[u8]) {
        let room = LINE_BYTES_MAX.saturating_sub(self.pending.len());
        self.pending
            .extend_from_slice(&bytes[..bytes.len().min(room)]);
    }
}

/// The last lines.
#[derive(Debug, Default)]
struct Tail {
    lines: VecDeque<String>,
    bytes: usize,
}

impl Tail {
    fn push(&mut self, line: &str) {
        let line = &line[..line.floor_char_boundary(TAIL_BYTES_MAX)];
        self.bytes += line.len();
        self.lines.push_back(line.to_owned());
        while self.lines.len() > TAIL_LINES_MAX || self.bytes > TAIL_BYTES_MAX {
            if let Some(oldest) = self.lines.pop_front() {
                self.bytes -= oldest.len();
            }
        }
    }
}

/// How fast a stream is read: it costs time even where nothing of it is kept.
#[derive(Debug)]
struct Pace {
    /// Until when what was read would have been enough at [`BYTES_PER_SECOND`].
    paid_until: Instant,
}

impl Pace {
    fn new(now: Instant) -> Self {
        Self { paid_until: now }
    }

    /// So many bytes were read; how long to wait before more are.
    fn read(&mut self, now: Instant, bytes: usize) -> Option<Duration> {
        let seconds =
            |bytes: usize| Duration::from_secs(1).mul_f64(bytes as f64 / BYTES_PER_SECOND as f64);
        self.paid_until = self.paid_until.max(now) + seconds(bytes);
        let ahead = self.paid_until.saturating_duration_since(now);
        ahead
            .checked_sub(seconds(BURST_BYTES))
            .filter(|pause| !pause.is_zero())
    }
}

/// How many lines may still be logged.
#[derive(Debug)]
struct Allowance {
    lines: u32,
    since: Instant,
    dropped: u64,
}

impl Allowance {
    fn new(now: Instant) -> Self {
        Self {
            lines: BURST_LINES,
            since: now,
            dropped: 0,
        }
    }

    fn take(&mut self, now: Instant) -> bool {
        let each = Duration::from_secs(1) / LINES_PER_SECOND;
        let earned = now.saturating_duration_since(self.since).as_nanos() / each.as_nanos();
        if let Ok(earned @ 1..) = u32::try_from(earned.min(u128::from(BURST_LINES))) {
            self.lines = self.lines.saturating_add(earned).min(BURST_LINES);
            self.since = now;
        }
        match self.lines.checked_sub(1) {
            Some(left) => {
                self.lines = left;
                true
            }
            None => false,
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn lines(pieces: &[&[u8]]) -> Vec<String> {
        let mut found = Vec::new();
        let mut lines = Lines::default();
        let mut take = |line: &[u8]| found.push(String::from_utf8(line.to_vec()).unwrap());
        for piece in pieces {
            lines.feed(piece, &mut take);
        }
        lines.finish(&mut take);
        found
    }

    #[test]
    fn lines_are_cut_where_they_end_and_the_last_may_lack_its_end() {
        assert_eq!(
            lines(&[b"a", b"b\n\nc", b"\nd"]),
            ["ab", "", "c", "d"].map(str::to_owned)
        );
    }

    #[test]
    fn the_longest_line_is_whole_and_a_longer_one_is_cut() {
        let longest = "x".repeat(LINE_BYTES_MAX);
        let longer = format!("{longest}y\nz\n");
        assert_eq!(
            lines(&[longer.as_bytes()]),
            [longest.clone(), "z".to_owned()]
        );
        let whole = format!("{longest}\n");
        assert_eq!(lines(&[whole.as_bytes()]), [longest]);
    }

    #[test]
    fn the_last_twenty_lines_are_remembered_within_four_kibibytes() {
        let mut tail = Tail::default();
        for n in 0..=TAIL_LINES_MAX {
            tail.push(&n.to_string());
        }
        assert_eq!(tail.lines.len(), TAIL_LINES_MAX);
        assert_eq!(tail.lines[0], "1");
        tail.push(&"x".repeat(TAIL_BYTES_MAX + 1));
        assert_eq!(tail.lines.len(), 1);
        assert_eq!(tail.bytes, TAIL_BYTES_MAX);
        tail.push("y");
        assert_eq!(tail.lines, ["y"]);
    }

    #[test]
    fn a_line_has_the_level_that_it_says() {
        for (text, expected) in [
            (" WARN keyvalue: slow", (Level::Warn, "keyvalue: slow")),
            ("ERROR a", (Level::Error, "a")),
            ("warn a", (Level::Info, "warn a")),
            ("WARNING a", (Level::Info, "WARNING a")),
            ("  at main.rs", (Level::Info, "  at main.rs")),
        ] {
            assert_eq!(level(text), expected, "{text}");
        }
    }

    #[test]
    fn a_burst_is_logged_and_then_so_many_lines_a_second() {
        let start = Instant::now();
        let mut allowance = Allowance::new(start);
        let burst = (0..).take_while(|_| allowance.take(start)).count();
        assert_eq!(burst, BURST_LINES as usize);
        let later = start + Duration::from_secs(1);
        let more = (0..).take_while(|_| allowance.take(later)).count();
        assert_eq!(more, LINES_PER_SECOND as usize);
    }

    #[test]
    fn a_stream_is_read_at_once_after_a_quiet_time_and_at_its_pace_beyond() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        assert_eq!(pace.read(start, BURST_BYTES), None);
        let pause = pace.read(start, BYTES_PER_SECOND);
        assert_eq!(pause, Some(Duration::from_secs(1)));
        let later = start + Duration::from_secs(60);
        assert_eq!(pace.read(later, BURST_BYTES), None);
    }

    #[tokio::test]
    async fn output_without_an_end_is_read_and_bounded() {
        let log = Log::new(EntityId::new("p").unwrap());
        let endless = tokio::io::repeat(b'x').take(BURST_BYTES as u64);
        log.follow(endless, Stream::Stderr).await;
        assert_eq!(log.tail().len(), 1);
        assert_eq!(log.tail()[0].len(), LINE_BYTES_MAX);
    }
}
