//! What a connection has been doing, for its time limits.
//!
//! One timer for each connection looks at these numbers now and then; nothing is armed or disarmed for each request.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use crate::config::Limits;
use crate::connection::Connection;

/// The state of a connection. Times are in milliseconds since its start, plus one; zero is never.
#[derive(Debug)]
pub(crate) struct Pace {
    started: Instant,
    /// Responses that are not complete, and request bodies that are not read to their end.
    open: AtomicU32,
    /// When the last exchange ended.
    ended: AtomicU64,
    /// When the last byte was written.
    written: AtomicU64,
    /// When the first byte of the next head arrived.
    head_since: AtomicU64,
    /// Whether a response was given before its request was read to the end.
    unread: AtomicBool,
    /// Whether a request has come to its end or is under way.
    used: AtomicBool,
}

/// What is to be done about a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Nothing; look again at this time.
    Fine(Instant),
    /// A head has taken too long.
    HeadLate,
    /// There was no request for too long.
    Idle,
}

impl Pace {
    pub(crate) fn new(started: Instant) -> Self {
        Self {
            started,
            open: AtomicU32::new(0),
            ended: AtomicU64::new(1),
            written: AtomicU64::new(1),
            head_since: AtomicU64::new(0),
            unread: AtomicBool::new(false),
            used: AtomicBool::new(false),
        }
    }

    /// A request's head is complete, or its body is on the way.
    pub(crate) fn begin(&self) {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.head_since.store(0, Ordering::Relaxed);
        self.used.store(true, Ordering::Relaxed);
    }

    /// What began is over.
    pub(crate) fn end(&self, now: Instant) {
        self.ended.store(self.stamp(now), Ordering::Relaxed);
        self.open.fetch_sub(1, Ordering::Relaxed);
    }

    /// A request's body will not be read to its end.
    pub(crate) fn leave_unread(&self) {
        self.unread.store(true, Ordering::Relaxed);
    }

    /// Whether a client may still be sending a body that nobody wants.
    pub(crate) fn has_unread(&self) -> bool {
        self.unread.load(Ordering::Relaxed)
    }

    /// Whether there has been a request at all.
    pub(crate) fn is_used(&self) -> bool {
        self.used.load(Ordering::Relaxed)
    }

    /// Whether a request is under way.
    pub(crate) fn is_busy(&self) -> bool {
        self.open.load(Ordering::Relaxed) > 0
    }

    fn has_read(&self) {
        if !self.is_busy() && self.head_since.load(Ordering::Relaxed) == 0 {
            self.head_since
                .store(self.stamp(Instant::now()), Ordering::Relaxed);
        }
    }

    fn has_written(&self) {
        self.written
            .store(self.stamp(Instant::now()), Ordering::Relaxed);
    }

    /// Whether there has been no request and nothing to write for this long.
    pub(crate) fn is_quiet(&self, now: Instant, time: Duration) -> bool {
        !self.is_busy() && self.quiet_since() + time <= now
    }

    fn quiet_since(&self) -> Instant {
        let ended = self.ended.load(Ordering::Relaxed);
        self.time(ended.max(self.written.load(Ordering::Relaxed)))
    }

    /// Judges an HTTP/1.1 connection, whose idle bytes belong to a head.
    pub(crate) fn judge_http1(&self, now: Instant, limits: &Limits) -> Verdict {
        let next = now + limits.header_timeout;
        match self.head_since.load(Ordering::Relaxed) {
            _ if self.is_busy() => Verdict::Fine(next),
            // A response may still be on its way to a slow client.
            0 => judge_idle(self.quiet_since(), now, next, limits),
            since => match self.time(since) + limits.header_timeout {
                due if due <= now => Verdict::HeadLate,
                due => Verdict::Fine(due),
            },
        }
    }

    /// Judges an HTTP/2 connection, where pings and settings come at any time.
    pub(crate) fn judge_http2(&self, now: Instant, limits: &Limits) -> Verdict {
        let next = now + limits.keepalive_timeout;
        if self.is_busy() {
            Verdict::Fine(next)
        } else {
            let ended = self.time(self.ended.load(Ordering::Relaxed));
            judge_idle(ended, now, next, limits)
        }
    }

    fn stamp(&self, now: Instant) -> u64 {
        let elapsed = now.saturating_duration_since(self.started);
        u64::try_from(elapsed.as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn time(&self, stamp: u64) -> Instant {
        self.started + Duration::from_millis(stamp - 1)
    }
}

fn judge_idle(since: Instant, now: Instant, next: Instant, limits: &Limits) -> Verdict {
    let due = since + limits.keepalive_timeout;
    if due <= now {
        Verdict::Idle
    } else {
        Verdict::Fine(due.min(next))
    }
}

/// A stream that tells its connection's pace, and gives back first what was read to tell the protocol.
pub(crate) struct Paced<I> {
    inner: I,
    prefix: Bytes,
    connection: Arc<Connection>,
}

impl<I> Paced<I> {
    pub(crate) fn new(inner: I, prefix: Bytes, connection: Arc<Connection>) -> Self {
        Self {
            inner,
            prefix,
            connection,
        }
    }

    /// The stream itself.
    pub(crate) fn into_inner(self) -> I {
        self.inner
    }
}

impl<I: AsyncRead + Unpin> AsyncRead for Paced<I> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.prefix.has_remaining() {
            let length = this.prefix.len().min(buf.remaining());
            buf.put_slice(&this.prefix.split_to(length));
        } else {
            std::task::ready!(Pin::new(&mut this.inner).poll_read(cx, buf))?;
        }
        if buf.filled().len() > before {
            this.connection.pace.has_read();
        }
        Poll::Ready(Ok(()))
    }
}

impl<I: AsyncWrite + Unpin> AsyncWrite for Paced<I> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write(cx, buf);
        if result.is_ready() {
            self.connection.pace.has_written();
        }
        result
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let result = Pin::new(&mut self.inner).poll_write_vectored(cx, bufs);
        if result.is_ready() {
            self.connection.pace.has_written();
        }
        result
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::config::Config;

    const MS: Duration = Duration::from_millis(1);

    fn limits() -> Limits {
        let values = [
            ("header_timeout_ms".to_owned(), "100".to_owned()),
            ("keepalive_timeout_ms".to_owned(), "1000".to_owned()),
        ];
        Config::parse(&values.into()).unwrap().limits
    }

    #[test]
    fn a_quiet_connection_is_idle_after_its_time_and_not_before() {
        let (start, limits) = (Instant::now(), limits());
        let pace = Pace::new(start);
        assert_eq!(
            pace.judge_http1(start + 999 * MS, &limits),
            Verdict::Fine(start + 1000 * MS)
        );
        assert_eq!(pace.judge_http1(start + 1000 * MS, &limits), Verdict::Idle);
        assert_eq!(pace.judge_http2(start + 1000 * MS, &limits), Verdict::Idle);
    }

    #[test]
    fn a_head_has_its_own_time_and_a_request_under_way_none() {
        let (start, limits) = (Instant::now(), limits());
        let pace = Pace::new(start);
        pace.head_since
            .store(pace.stamp(start + 500 * MS), Ordering::Relaxed);
        assert_eq!(
            pace.judge_http1(start + 599 * MS, &limits),
            Verdict::Fine(start + 600 * MS)
        );
        assert_eq!(
            pace.judge_http1(start + 600 * MS, &limits),
            Verdict::HeadLate
        );
        pace.begin();
        assert!(matches!(
            pace.judge_http1(start + 5000 * MS, &limits),
            Verdict::Fine(_)
        ));
        pace.end(start + 5000 * MS);
        assert!(matches!(
            pace.judge_http1(start + 5999 * MS, &limits),
            Verdict::Fine(_)
        ));
        assert_eq!(pace.judge_http1(start + 6000 * MS, &limits), Verdict::Idle);
    }
}
