//! Bodies of any length: made while they are sent, checked while they are read, never held.
//!
//! What stands at each place of a body follows from its seed and the place alone, so a piece that is lost, doubled or
//! moved is noticed where it happens.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response};
use http_body::{Body, Frame, SizeHint};
use http_body_util::BodyExt as _;
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::TcpStream;
use tokio_util::task::AbortOnDropHandle;

use crate::http::Failure;
use crate::wait::in_time;

/// Longest wait for the next piece, or for the head: whatever happens, nobody hangs.
const PIECE_WITHIN: Duration = Duration::from_secs(60);

/// Bytes that are made at a time.
const BLOCK_BYTES: usize = 64 * 1024;

/// What a body consists of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    /// Noise that follows from a seed.
    Noise(u64),
    /// This byte alone.
    Only(u8),
}

impl Content {
    /// The block with this number: as many bytes as there are in every block, whether or not the body ends within it.
    fn block(self, number: u64) -> Bytes {
        let mut block = Vec::with_capacity(BLOCK_BYTES);
        match self {
            Self::Only(byte) => block.resize(BLOCK_BYTES, byte),
            Self::Noise(seed) => {
                // xorshift64*, whose state must not be zero.
                let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ (number << 1 | 1);
                while block.len() < BLOCK_BYTES {
                    state ^= state >> 12;
                    state ^= state << 25;
                    state ^= state >> 27;
                    let word = state.wrapping_mul(0x2545_f491_4f6c_dd1d);
                    block.extend_from_slice(&word.to_le_bytes());
                }
            }
        }
        block.into()
    }
}

/// A place in a body, with what follows.
#[derive(Debug)]
struct Cursor {
    content: Content,
    at: u64,
    block: Bytes,
}

impl Cursor {
    fn new(content: Content) -> Self {
        Self {
            content,
            at: 0,
            block: Bytes::new(),
        }
    }

    /// At most as many bytes.
    fn take(&mut self, bytes: u64) -> Bytes {
        if self.block.is_empty() {
            self.block = self.content.block(self.at / BLOCK_BYTES as u64);
        }
        let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
        let piece = self.block.split_to(bytes.min(self.block.len()));
        self.at += piece.len() as u64;
        piece
    }
}

/// A body that is made while it is sent.
#[derive(Debug)]
pub struct Upload {
    cursor: Cursor,
    length: u64,
    stops_at: Option<u64>,
    trailers: Option<HeaderMap>,
    taken: Arc<AtomicU64>,
}

impl Upload {
    /// A body of so many bytes of noise.
    pub fn of(length: u64) -> Self {
        Self {
            cursor: Cursor::new(Content::Noise(length)),
            length,
            stops_at: None,
            trailers: None,
            taken: Arc::default(),
        }
    }

    /// What it consists of.
    pub fn content(&self) -> Content {
        self.cursor.content
    }

    /// Which after so many bytes says nothing more, and does not end.
    #[must_use]
    pub fn stopping_at(mut self, bytes: u64) -> Self {
        self.stops_at = Some(bytes);
        self
    }

    /// With a trailer behind it. Its length is then not told beforehand.
    ///
    /// # Panics
    /// Where the value cannot stand in a field.
    #[must_use]
    pub fn with_trailer(mut self, name: &'static str, value: &str) -> Self {
        let value = HeaderValue::from_str(value).expect("a test's trailers are plain");
        self.trailers.get_or_insert_default().insert(name, value);
        self
    }

    /// Tells how many bytes have been taken for sending.
    pub fn taken(&self) -> Arc<AtomicU64> {
        Arc::clone(&self.taken)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        let end = self.stops_at.unwrap_or(self.length);
        if self.cursor.at < end {
            let left = end - self.cursor.at;
            let piece = self.cursor.take(left);
            self.taken.store(self.cursor.at, Ordering::Relaxed);
            return Poll::Ready(Some(Ok(Frame::data(piece))));
        }
        if self.stops_at.is_some() {
            // Nobody will wake this task on account of the body: that is what a writer that stops means.
            return Poll::Pending;
        }
        Poll::Ready(self.trailers.take().map(|all| Ok(Frame::trailers(all))))
    }

    fn is_end_stream(&self) -> bool {
        self.stops_at.is_none() && self.trailers.is_none() && self.cursor.at == self.length
    }

    fn size_hint(&self) -> SizeHint {
        match self.trailers {
            Some(_) => SizeHint::default(),
            None => SizeHint::with_exact(self.length - self.cursor.at),
        }
    }
}

/// The version of HTTP that a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2, with prior knowledge.
    Http2,
}

/// A request on a connection of its own, whose response is being read. Dropping it closes the connection.
#[derive(Debug)]
pub struct Exchange {
    head: http::response::Parts,
    body: Incoming,
    expected: Cursor,
    trailers: Option<HeaderMap>,
    _connection: AbortOnDropHandle<()>,
}

impl Exchange {
    /// Sends a request, and waits for the head of its response, whose body will have to consist of `expected`. The
    /// request's body goes on being sent.
    ///
    /// # Errors
    /// Where the connection breaks first.
    ///
    /// # Panics
    /// Where nothing happens in time.
    pub async fn begin(
        version: Version,
        url: &str,
        body: Upload,
        expected: Content,
    ) -> Result<Self, Failure> {
        let uri: http::Uri = url.parse()?;
        let authority = uri.authority().ok_or("the url has no authority")?.clone();
        let request = http::Request::post(match version {
            Version::Http1 => uri.path_and_query().ok_or("the url has no path")?.as_str(),
            Version::Http2 => url,
        });
        let request = match version {
            Version::Http1 => request.header("host", authority.as_str()),
            Version::Http2 => request,
        };
        let request = request.header("te", "trailers").body(body)?;
        let begun = async {
            let stream = TcpStream::connect(authority.as_str()).await?;
            stream.set_nodelay(true)?;
            let stream = TokioIo::new(stream);
            Ok::<_, Failure>(match version {
                Version::Http1 => {
                    let (mut sender, connection) = http1::handshake(stream).await?;
                    let connection = spawn(connection);
                    (sender.send_request(request).await?, connection)
                }
                Version::Http2 => {
                    let (mut sender, connection) =
                        http2::handshake(TokioExecutor::new(), stream).await?;
                    let connection = spawn(connection);
                    (sender.send_request(request).await?, connection)
                }
            })
        };
        let (response, connection): (Response<Incoming>, _) =
            in_time(PIECE_WITHIN, "the head of a response", begun).await?;
        let (head, body) = response.into_parts();
        Ok(Self {
            head,
            body,
            expected: Cursor::new(expected),
            trailers: None,
            _connection: connection,
        })
    }

    /// The status of the response.
    pub fn status(&self) -> u16 {
        self.head.status.as_u16()
    }

    /// How much of the response has been read.
    pub fn read(&self) -> u64 {
        self.expected.at
    }

    /// The trailers that have come.
    pub fn trailers(&self) -> Option<&HeaderMap> {
        self.trailers.as_ref()
    }

    /// Reads on until so many bytes have come in all, or the body has ended, and says whether it has.
    ///
    /// # Errors
    /// Where the body breaks off.
    ///
    /// # Panics
    /// Where it consists of something else than expected, or nothing comes in time.
    pub async fn read_to(&mut self, bytes: u64) -> Result<bool, Failure> {
        while self.expected.at < bytes {
            let next = in_time(PIECE_WITHIN, "a piece of a body", self.body.frame()).await;
            let Some(frame) = next.transpose()? else {
                return Ok(true);
            };
            match frame.into_data() {
                Ok(data) => self.compare(&data),
                Err(frame) => self.trailers = frame.into_trailers().ok(),
            }
        }
        Ok(false)
    }

    /// Reads on to the end of the body, and gives back its length.
    ///
    /// # Errors
    /// Where the body breaks off.
    ///
    /// # Panics
    /// As [`Self::read_to`].
    pub async fn read_to_end(&mut self) -> Result<u64, Failure> {
        self.read_to(u64::MAX).await?;
        Ok(self.read())
    }

    /// Reads the whole rest as text, whatever it was expected to be.
    ///
    /// # Errors
    /// Where the body breaks off.
    ///
    /// # Panics
    /// Where nothing comes in time.
    pub async fn text(self) -> Result<String, Failure> {
        let all = in_time(PIECE_WITHIN, "the rest of a body", self.body.collect()).await?;
        Ok(String::from_utf8_lossy(&all.to_bytes()).into_owned())
    }

    fn compare(&mut self, data: &[u8]) {
        let mut rest = data;
        while !rest.is_empty() {
            let at = self.expected.at;
            let expected = self.expected.take(rest.len() as u64);
            let (piece, behind) = rest.split_at(expected.len());
            assert!(piece == expected, "the body is another one at about {at}");
            rest = behind;
        }
    }
}

/// Drives a connection until it ends, or is dropped.
fn spawn(
    connection: impl Future<Output = hyper::Result<()>> + Send + 'static,
) -> AbortOnDropHandle<()> {
    AbortOnDropHandle::new(tokio::spawn(async move {
        // How it ends is told to whoever waits for the response.
        let _ = connection.await;
    }))
}
