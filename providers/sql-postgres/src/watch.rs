//! Watches what a server sends, below the client library, for two things that the library does not tell.
//!
//! One is the size of messages: a single row may have a gigabyte, and the library reads a message whole before anybody
//! can refuse it. Here the connection ends when a message is announced that no answer could hold. The other is whether
//! the session is inside a transaction, which the server says at the end of every answer.
//!
//! A message is a letter, a length of four bytes that counts itself, and a body.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::task::{Context, Poll, ready};

use futures::future::{FutureExt as _, Map};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, TlsConnect, TlsStream};
use trellis_protocol::limits::VALUE_BYTES_MAX;

/// Largest message that is read, in bytes. A row beyond it could not be handed to an actor.
pub(crate) const MESSAGE_BYTES_MAX: usize = VALUE_BYTES_MAX;

/// The message that ends an answer. Its body is one letter, `I` outside of a transaction.
const READY_FOR_QUERY: u8 = b'Z';
const IDLE: u8 = b'I';

/// What was seen on a connection.
#[derive(Debug)]
pub(crate) struct Watch {
    status: AtomicU8,
    overrun: AtomicBool,
}

impl Watch {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            status: AtomicU8::new(IDLE),
            overrun: AtomicBool::new(false),
        })
    }

    /// Whether the last answer ended inside a transaction.
    pub(crate) fn in_transaction(&self) -> bool {
        self.status.load(Ordering::Acquire) != IDLE
    }

    /// Whether the connection ended because of a message that was too large.
    pub(crate) fn overrun(&self) -> bool {
        self.overrun.load(Ordering::Acquire)
    }
}

/// A stream that is watched.
#[derive(Debug)]
pub(crate) struct Watched<S> {
    inner: S,
    watch: Arc<Watch>,
    header: [u8; 5],
    /// Bytes of the header that have come.
    filled: usize,
    /// Bytes of the body that are still to come.
    body: usize,
}

impl<S> Watched<S> {
    pub(crate) fn new(inner: S, watch: Arc<Watch>) -> Self {
        Self {
            inner,
            watch,
            header: [0; 5],
            filled: 0,
            body: 0,
        }
    }

    fn see(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            if self.body > 0 {
                if self.header[0] == READY_FOR_QUERY {
                    self.watch.status.store(bytes[0], Ordering::Release);
                }
                let passed = self.body.min(bytes.len());
                self.body -= passed;
                bytes = &bytes[passed..];
                continue;
            }
            let taken = (5 - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled == 5 {
                self.filled = 0;
                let [_, length @ ..] = self.header;
                let length = u32::from_be_bytes(length) as usize;
                self.body = length
                    .checked_sub(4)
                    .ok_or_else(|| io::Error::other("a message without a length"))?;
                if self.body > MESSAGE_BYTES_MAX {
                    self.watch.overrun.store(true, Ordering::Release);
                    return Err(io::Error::other("a message is too large"));
                }
            }
        }
        Ok(())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Watched<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buf.filled().len();
        ready!(Pin::new(&mut self.inner).poll_read(cx, buf))?;
        Poll::Ready(self.see(&buf.filled()[before..]))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Watched<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}

impl<S: TlsStream + Unpin> TlsStream for Watched<S> {
    fn channel_binding(&self) -> ChannelBinding {
        self.inner.channel_binding()
    }
}

/// Makes TLS streams that are watched inside.
pub(crate) struct Watching<T> {
    pub(crate) tls: T,
    pub(crate) watch: Arc<Watch>,
}

type Wrap<S, E> = Box<dyn FnOnce(Result<S, E>) -> Result<Watched<S>, E> + Send>;

impl<T, S> TlsConnect<S> for Watching<T>
where
    T: TlsConnect<S>,
    T::Stream: 'static,
    T::Error: 'static,
{
    type Stream = Watched<T::Stream>;
    type Error = T::Error;
    type Future = Map<T::Future, Wrap<T::Stream, T::Error>>;

    fn connect(self, stream: S) -> Self::Future {
        let watch = self.watch;
        self.tls
            .connect(stream)
            .map(Box::new(|made| made.map(|tls| Watched::new(tls, watch))))
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn message(tag: u8, body: &[u8]) -> Vec<u8> {
        let length = u32::try_from(body.len() + 4).unwrap();
        [&[tag][..], &length.to_be_bytes(), body].concat()
    }

    #[test]
    fn the_end_of_an_answer_tells_of_a_transaction_however_it_is_cut() {
        let bytes = [message(b'C', b"BEGIN\0"), message(b'Z', b"T")].concat();
        for cut in 0..=bytes.len() {
            let mut watched = Watched::new((), Watch::new());
            watched.see(&bytes[..cut]).unwrap();
            watched.see(&bytes[cut..]).unwrap();
            assert!(watched.watch.in_transaction());
            watched.see(&message(b'Z', b"I")).unwrap();
            assert!(!watched.watch.in_transaction());
        }
    }

    #[test]
    fn a_message_at_the_limit_passes_and_one_beyond_it_does_not() {
        let announce = |bytes: usize| {
            let mut watched = Watched::new((), Watch::new());
            let length = u32::try_from(bytes + 4).unwrap().to_be_bytes();
            let seen = watched.see(&[&[b'D'][..], &length].concat());
            (seen.is_ok(), watched.watch.overrun())
        };
        assert_eq!(announce(MESSAGE_BYTES_MAX), (true, false));
        assert_eq!(announce(MESSAGE_BYTES_MAX + 1), (false, true));
        let mut watched = Watched::new((), Watch::new());
        assert!(watched.see(&[b'D', 0, 0, 0, 3]).is_err());
    }
}
