//! Where an actor's output goes, be it standard output, standard error or `wasi:logging`: line by line into the log of the
//! actor and the host's own, with the ids of host, actor, invocation and trace.

use std::borrow::Cow;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};

use async_trait::async_trait;
use bytes::Bytes;
use tokio::io::{self, AsyncWrite};
use trellis_protocol::InvocationId;
use trellis_protocol::control::observe::LogStream;
use wasmtime_wasi::cli::{IsTerminal, StdoutStream};
use wasmtime_wasi::p2::{OutputStream, Pollable, StreamResult};

use crate::invocation::Invocation;
use crate::limits::{OUTPUT_BYTES_MAX, OUTPUT_LINE_BYTES_MAX};
use crate::observe::Observed;
use crate::observe::logs::{NewLine, Written};
use crate::observe::span::trace_id;

/// How grave a line is: the levels of `wasi:logging`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Severity {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    Critical,
}

impl Severity {
    fn as_str(self) -> &'static str {
        match self {
            Self::Trace => "trace",
            Self::Debug => "debug",
            Self::Info => "info",
            Self::Warn => "warn",
            Self::Error => "error",
            Self::Critical => "critical",
        }
    }
}

/// The log as one invocation writes to it. Clones share what it may still write.
#[derive(Debug, Clone)]
pub(crate) struct GuestLog(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    host: Arc<str>,
    observed: Arc<Observed>,
    invocation: InvocationId,
    traceparent: Option<Arc<str>>,
    left: Mutex<Left>,
}

/// What one invocation may still log, on whatever way.
#[derive(Debug)]
struct Left {
    bytes: usize,
    loss_said: bool,
}

/// Writes a line into the host's log, with everything by which it can be found.
macro_rules! say {
    ($level:ident, $log:expr, $($rest:tt)*) => {
        tracing::$level!(
            target: "actor",
            host_id = %$log.host,
            actor_id = %$log.observed.id,
            invocation_id = %$log.invocation,
            trace_id = $log.trace_id(),
            $($rest)*
        )
    };
}

impl GuestLog {
    pub(crate) fn new(host: &Arc<str>, observed: &Arc<Observed>, invocation: &Invocation) -> Self {
        Self(Arc::new(Inner {
            host: Arc::clone(host),
            observed: Arc::clone(observed),
            invocation: invocation.id,
            traceparent: invocation.traceparent.clone(),
            left: Mutex::new(Left {
                bytes: OUTPUT_BYTES_MAX,
                loss_said: false,
            }),
        }))
    }

    /// Writes what the guest says through `wasi:logging`.
    pub(crate) fn write(&self, severity: Severity, context: &str, message: &str) {
        let (context, message) = (&*printable(context), &*printable(message));
        let log = &*self.0;
        if !log.keep(LogStream::Log, severity, context, message) {
            return;
        }
        match severity {
            Severity::Trace => say!(trace, log, context, "{message}"),
            Severity::Debug => say!(debug, log, context, "{message}"),
            Severity::Info => say!(info, log, context, "{message}"),
            Severity::Warn => say!(warn, log, context, "{message}"),
            Severity::Error => say!(error, log, context, "{message}"),
            Severity::Critical => say!(error, log, context, critical = true, "{message}"),
        }
    }

    /// Writes a line of one of the two streams.
    fn line(&self, stream: Stream, line: &[u8]) {
        let text = String::from_utf8_lossy(line);
        let text = &*printable(&text);
        let log = &*self.0;
        match stream {
            Stream::Stdout => {
                if log.keep(LogStream::Stdout, Severity::Info, "", text) {
                    say!(info, log, stream = "stdout", "{text}");
                }
            }
            Stream::Stderr => {
                if log.keep(LogStream::Stderr, Severity::Warn, "", text) {
                    say!(warn, log, stream = "stderr", "{text}");
                }
            }
        }
    }

    /// Writes what the host has to say of this invocation: a sentence, and what it rests on. It counts as output of the
    /// guest, which can bring it about as often as it likes.
    pub(crate) fn remark(&self, what: &str, why: &str) {
        let why = &*printable(why);
        let log = &*self.0;
        if log.keep(
            LogStream::Host,
            Severity::Warn,
            "",
            &format!("{what}: {why}"),
        ) {
            say!(warn, log, reason = why, "{what}");
        }
    }

    /// Writes why the invocation ended. The guest can do that once, so it is said however much it has written.
    pub(crate) fn verdict(&self, what: &str, why: &str) {
        let why = &*printable(why);
        let log = &*self.0;
        if log.enter(
            LogStream::Host,
            Severity::Warn,
            "",
            &format!("{what}: {why}"),
        ) {
            say!(warn, log, error = why, "{what}");
        }
    }
}

impl Inner {
    fn trace_id(&self) -> Option<&str> {
        self.traceparent.as_deref().and_then(trace_id)
    }

    /// Whether a line may stand in the host's log: not where the invocation, or the actor, has logged enough.
    fn keep(&self, stream: LogStream, severity: Severity, context: &str, message: &str) -> bool {
        self.take(context.len() + message.len()) && self.enter(stream, severity, context, message)
    }

    /// Takes room for a line; `false` where the invocation has logged enough. That is said once.
    fn take(&self, bytes: usize) -> bool {
        let mut left = self.left.lock().unwrap_or_else(PoisonError::into_inner);
        // An empty line costs the host a line, too.
        if let Some(rest) = left.bytes.checked_sub(bytes + 1) {
            left.bytes = rest;
            return true;
        }
        left.bytes = 0;
        if !std::mem::replace(&mut left.loss_said, true) {
            let what =
                "the actor's output exceeds what one invocation may log, the rest is dropped";
            if self.enter(LogStream::Host, Severity::Warn, "", what) {
                say!(warn, self, limit_bytes = OUTPUT_BYTES_MAX, "{what}");
            }
        }
        false
    }

    /// Puts a line into the actor's own log; `false` where all its invocations together have logged too much.
    fn enter(&self, stream: LogStream, severity: Severity, context: &str, message: &str) -> bool {
        let written = self.observed.log.write(&NewLine {
            level: severity.as_str(),
            stream,
            invocation: self.invocation,
            trace: self.trace_id(),
            context,
            message,
        });
        match written {
            Written::Kept => true,
            Written::Dropped(lost) => {
                if let Some(lines) = lost {
                    say!(
                        warn,
                        self,
                        lines,
                        "the actor writes more than its log takes, lines are dropped"
                    );
                }
                false
            }
        }
    }
}

/// A guest's text as it may stand in a log: cut, and without what would look like another line or another order.
pub(crate) fn printable(text: &str) -> Cow<'_, str> {
    let text = &text[..text.floor_char_boundary(OUTPUT_LINE_BYTES_MAX)];
    let odd = |c: char| (c.is_control() && c != '\t') || is_bidi_control(c);
    if !text.contains(odd) {
        return Cow::Borrowed(text);
    }
    let mut clean = String::with_capacity(text.len() + 16);
    for character in text.chars() {
        if odd(character) {
            clean.extend(character.escape_unicode());
        } else {
            clean.push(character);
        }
    }
    Cow::Owned(clean)
}

/// Characters that reorder what stands around them.
fn is_bidi_control(character: char) -> bool {
    matches!(
        character,
        '\u{061c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
    )
}

/// Which of the two streams.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Stream {
    Stdout,
    Stderr,
}

/// A stream of one invocation. Clones write to the same lines.
#[derive(Debug, Clone)]
pub(crate) struct Output {
    stream: Stream,
    log: GuestLog,
    pending: Arc<Mutex<Vec<u8>>>,
}

impl Output {
    pub(crate) fn new(stream: Stream, log: GuestLog) -> Self {
        Self {
            stream,
            log,
            pending: Arc::default(),
        }
    }

    fn write(&self, mut bytes: &[u8]) {
        let mut pending = self.pending.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(end) = bytes.iter().position(|b| *b == b'\n') {
            let (line, rest) = bytes.split_at(end);
            append(&mut pending, line);
            self.log.line(self.stream, &std::mem::take(&mut *pending));
            bytes = &rest[1..];
        }
        append(&mut pending, bytes);
    }
}

/// What exceeds the longest line is dropped here, so that a guest cannot grow the buffer.
fn append(pending: &mut Vec<u8>, bytes: &[u8]) {
    let room = OUTPUT_LINE_BYTES_MAX - pending.len();
    pending.extend_from_slice(&bytes[..bytes.len().min(room)]);
}

impl Drop for Output {
    /// The last line may lack its end.
    fn drop(&mut self) {
        if let Some(pending) = Arc::get_mut(&mut self.pending) {
            let line = std::mem::take(pending.get_mut().unwrap_or_else(PoisonError::into_inner));
            if !line.is_empty() {
                self.log.line(self.stream, &line);
            }
        }
    }
}

impl IsTerminal for Output {
    fn is_terminal(&self) -> bool {
        false
    }
}

impl StdoutStream for Output {
    fn async_stream(&self) -> Box<dyn AsyncWrite + Send + Sync> {
        Box::new(self.clone())
    }

    /// Written at once, on the guest's own task. The usual adapter writes in a task that is aborted with the guest, and
    /// the last words of one that traps would be lost with it.
    fn p2_stream(&self) -> Box<dyn OutputStream> {
        Box::new(self.clone())
    }
}

#[async_trait]
impl Pollable for Output {
    async fn ready(&mut self) {}
}

impl OutputStream for Output {
    fn write(&mut self, bytes: Bytes) -> StreamResult<()> {
        Output::write(self, &bytes);
        Ok(())
    }

    fn flush(&mut self) -> StreamResult<()> {
        Ok(())
    }

    fn check_write(&mut self) -> StreamResult<usize> {
        Ok(OUTPUT_BYTES_MAX)
    }
}

impl AsyncWrite for Output {
    fn poll_write(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.write(bytes);
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tokio_util::sync::CancellationToken;
    use trellis_protocol::{EntityId, Lease, LinkName, Operation};

    use crate::observe::Observe;

    fn log(observe: &Observe) -> GuestLog {
        let actor = EntityId::new("a").expect("an id");
        let invocation = Invocation {
            id: InvocationId(0xabc),
            source: actor.clone(),
            target: actor.clone(),
            operation: Operation::new("a:b/c", "d"),
            link: LinkName::default(),
            deadline: std::time::Instant::now(),
            depth: 0,
            type_hash: 0,
            idempotent: false,
            lease: Lease {
                host: Arc::from("N"),
                instance: 1,
            },
            chain: Arc::default(),
            traceparent: Some(Arc::from(
                "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            )),
            cancel: CancellationToken::new(),
            payload: Bytes::new(),
        };
        GuestLog::new(&Arc::from("N"), &observe.of(&actor), &invocation)
    }

    fn left(log: &GuestLog) -> usize {
        log.0.left.lock().expect("no panic").bytes
    }

    #[test]
    fn a_line_without_end_does_not_grow_the_buffer() {
        let output = Output::new(Stream::Stdout, log(&Observe::default()));
        for _ in 0..100 {
            output.write(&[b'x'; 1000]);
        }
        let pending = output.pending.lock().expect("no panic");
        assert_eq!(pending.len(), OUTPUT_LINE_BYTES_MAX);
    }

    #[test]
    fn one_invocation_logs_no_more_than_its_limit_on_all_ways_together() {
        let log = log(&Observe::default());
        let first = Output::new(Stream::Stdout, log.clone());
        let second = Output::new(Stream::Stderr, log.clone());
        for _ in 0..10_000 {
            first.write(b"0123456789012345678901234567890123456789\n");
            second.write(b"\n");
            log.write(Severity::Info, "", "x");
        }
        assert_eq!(left(&log), 0);
        let kept = log.0.observed.log.kept(usize::MAX, None);
        let remarks = kept.iter().filter(|line| line.stream == LogStream::Host);
        assert_eq!(remarks.count(), 1);
        // Why it ended is said all the same.
        log.verdict("the actor trapped", "unreachable");
        let kept = log.0.observed.log.kept(1, None);
        assert_eq!(&*kept[0].message, "the actor trapped: unreachable");
    }

    #[test]
    fn the_last_byte_of_the_allowance_is_granted_and_one_more_is_not() {
        let observe = Observe::default();
        assert!(log(&observe).0.take(OUTPUT_BYTES_MAX - 1));
        assert!(!log(&observe).0.take(OUTPUT_BYTES_MAX));
    }

    #[test]
    fn every_line_has_the_ids_of_its_invocation_and_trace() {
        let observe = Observe::default();
        let log = log(&observe);
        Output::new(Stream::Stderr, log.clone()).write(b"to\x1b[2J the log\nrest");
        log.write(Severity::Critical, "ctx", "on fire");
        let kept = log.0.observed.log.kept(usize::MAX, None);
        let seen: Vec<_> = kept
            .iter()
            .map(|line| (line.stream, line.level, &*line.message))
            .collect();
        assert_eq!(
            seen,
            [
                (LogStream::Stderr, "warn", "to\\u{1b}[2J the log"),
                (LogStream::Stderr, "warn", "rest"),
                (LogStream::Log, "critical", "on fire"),
            ]
        );
        for line in kept {
            assert_eq!(line.invocation, InvocationId(0xabc));
            assert_eq!(
                line.trace.as_deref(),
                Some("0af7651916cd43dd8448eb211c80319c")
            );
        }
    }

    #[test]
    fn a_guest_cannot_forge_a_line_of_the_log() {
        assert_eq!(
            printable("x\n2026 ERROR forged\r\u{1b}[2K\u{202e}"),
            "x\\u{a}2026 ERROR forged\\u{d}\\u{1b}[2K\\u{202e}"
        );
        assert_eq!(printable("tab\tand ümläut"), "tab\tand ümläut");
        assert_eq!(
            printable(&"ä".repeat(OUTPUT_LINE_BYTES_MAX)).len(),
            OUTPUT_LINE_BYTES_MAX
        );
    }
}
