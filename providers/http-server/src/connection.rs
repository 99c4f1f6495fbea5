//! One connection: which protocol it speaks, and its life.
//!
//! Its states: *telling* (TLS handshake, first bytes; within the time of a head), *serving*, *closing* (asked to end, or
//! idle: requests under way finish, no further one is taken), and for HTTP/1.1 *lingering* (the client is still sending a
//! body that was answered early, and would lose the answer if the socket closed on it).

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::uri::Scheme;
use hyper::server::conn::{http1, http2};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use hyper_util::server::graceful::GracefulConnection;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::config::{
    H2_CONNECTION_WINDOW_BYTES, H2_ERROR_RESETS_MAX, H2_STREAM_WINDOW_BYTES, HEADER_COUNT_DEFAULT,
    Limits, SEND_BUFFER_BYTES,
};
use crate::exchange::answer;
use crate::listener::Shared;
use crate::pace::{Pace, Paced, Verdict};
use crate::server::Server;
use crate::stall::{Stalled, Watch};

/// What a client sends first where it knows that the server speaks HTTP/2 (RFC 9113 section 3.4).
const H2_PREFACE: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How often a closing connection is looked at. One without a request, on which nothing is written, is dropped.
const CLOSING_LOOK: Duration = Duration::from_secs(2);

/// Longest time for which the rest of a body that was answered early is read and thrown away.
const LINGER: Duration = Duration::from_secs(1);

/// Most bytes, likewise.
const LINGER_BYTES_MAX: usize = 1024 * 1024;

/// The answer to a first head that was begun and not finished in time.
const HEAD_LATE: &[u8] =
    b"HTTP/1.1 408 Request Timeout\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// What the requests of one connection share.
pub(crate) struct Connection {
    pub(crate) server: Arc<Server>,
    pub(crate) listening: Arc<Shared>,
    /// Our end of it.
    pub(crate) local: SocketAddr,
    pub(crate) scheme: Scheme,
    pub(crate) pace: Pace,
}

enum Protocol {
    Http1,
    Http2,
}

/// Serves one connection until it ends.
///
/// `stop` asks it to end once its requests have; the server's abort token ends it at once.
pub(crate) async fn serve(
    server: Arc<Server>,
    stream: TcpStream,
    listening: Arc<Shared>,
    stop: CancellationToken,
) {
    let begun = Instant::now();
    let local = stream
        .local_addr()
        .unwrap_or_else(|_| SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0)));
    let tls = listening.snapshot().tls.clone();
    let connection = Arc::new(Connection {
        listening,
        local,
        scheme: if tls.is_some() {
            Scheme::HTTPS
        } else {
            Scheme::HTTP
        },
        pace: Pace::new(begun),
        server,
    });
    let head_due = begun + connection.server.config.limits.header_timeout;
    match tls {
        None => serve_stream(connection, stream, None, head_due, stop).await,
        Some(tls) => {
            let handshake = tokio::time::timeout_at(head_due.into(), tls.accept(stream));
            let stream = tokio::select! {
                () = stop.cancelled() => return,
                stream = handshake => match stream {
                    Ok(Ok(stream)) => stream,
                    Ok(Err(error)) => return tracing::debug!(%error, "a TLS handshake failed"),
                    Err(_elapsed) => return tracing::debug!("a TLS handshake took too long"),
                },
            };
            let agreed = match stream.get_ref().1.alpn_protocol() {
                Some(b"h2") => Some(Protocol::Http2),
                Some(_) => Some(Protocol::Http1),
                None => None,
            };
            serve_stream(connection, stream, agreed, head_due, stop).await;
        }
    }
}

async fn serve_stream<I>(
    connection: Arc<Connection>,
    mut stream: I,
    agreed: Option<Protocol>,
    head_due: Instant,
    stop: CancellationToken,
) where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let (protocol, prefix) = match agreed {
        Some(protocol) => (protocol, Bytes::new()),
        None => {
            let told = tokio::time::timeout_at(head_due.into(), tell(&mut stream));
            tokio::select! {
                () = stop.cancelled() => return,
                told = told => match told {
                    Ok(Ok(told)) => told,
                    // It closed, or never said a word: there is nothing to answer.
                    Ok(Err(_)) | Err(_) => return,
                },
            }
        }
    };
    let io = TokioIo::new(Paced::new(stream, prefix, connection.clone()));
    match protocol {
        Protocol::Http1 => serve_http1(connection, io, stop).await,
        Protocol::Http2 => serve_http2(connection, io, stop).await,
    }
}

/// Reads just enough to tell the protocol.
async fn tell(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<(Protocol, Bytes)> {
    let mut buffer = [0; H2_PREFACE.len()];
    let mut filled = 0;
    loop {
        let read = stream.read(&mut buffer[filled..]).await?;
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        filled += read;
        let prefix = &buffer[..filled];
        if !H2_PREFACE.starts_with(prefix) {
            return Ok((Protocol::Http1, Bytes::copy_from_slice(prefix)));
        }
        if filled == H2_PREFACE.len() {
            return Ok((Protocol::Http2, Bytes::copy_from_slice(prefix)));
        }
    }
}

async fn serve_http1<I>(connection: Arc<Connection>, io: TokioIo<Paced<I>>, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = &connection.server.config.limits;
    let mut builder = http1::Builder::new();
    builder
        // Ours is the timer: hyper's would be armed for each request, and would not tell idle from slow.
        .header_read_timeout(None)
        .max_header_size(limits.header_bytes)
        .max_buf_size(SEND_BUFFER_BYTES.max(limits.header_bytes));
    if limits.header_count as u64 > HEADER_COUNT_DEFAULT {
        builder.max_headers(limits.header_count);
    }
    let service = {
        let connection = connection.clone();
        service_fn(move |request| answer(connection.clone(), request))
    };
    let mut served = builder.serve_connection(io, service);
    let end = drive(Pin::new(&mut served), &connection, &stop, Pace::judge_http1).await;
    let mut stream = served.into_parts().io.into_inner().into_inner();
    match end {
        End::HeadLate if !connection.pace.is_used() => {
            // The first head: nothing else can be on its way to the client.
            let answer = async {
                stream.write_all(HEAD_LATE).await?;
                stream.shutdown().await
            };
            let _ = tokio::time::timeout(LINGER, answer).await;
        }
        End::Broken => linger(&mut stream).await,
        End::Finished if connection.pace.has_unread() => linger(&mut stream).await,
        _ => {}
    }
}

async fn serve_http2<I>(connection: Arc<Connection>, io: TokioIo<Paced<I>>, stop: CancellationToken)
where
    I: AsyncRead + AsyncWrite + Send + Unpin + 'static,
{
    let limits = &connection.server.config.limits;
    let mut builder = http2::Builder::new(Streams {
        tasks: connection.server.tasks.clone(),
        client_timeout: limits.body_idle_timeout,
    });
    builder
        .max_header_list_size(u32::try_from(limits.header_bytes).unwrap_or(u32::MAX))
        .max_concurrent_streams(limits.h2_streams)
        .max_pending_accept_reset_streams(limits.h2_pending_resets)
        .max_local_error_reset_streams(H2_ERROR_RESETS_MAX)
        .initial_stream_window_size(H2_STREAM_WINDOW_BYTES)
        .initial_connection_window_size(H2_CONNECTION_WINDOW_BYTES)
        .max_send_buf_size(SEND_BUFFER_BYTES);
    let service = {
        let connection = connection.clone();
        service_fn(move |request| answer(connection.clone(), request))
    };
    let served = pin!(builder.serve_connection(io, service));
    drive(served, &connection, &stop, Pace::judge_http2).await;
}

/// Runs the streams of an HTTP/2 connection, each as a task that ends with its client's patience or ours.
#[derive(Clone)]
struct Streams {
    tasks: TaskTracker,
    client_timeout: Duration,
}

impl<F> hyper::rt::Executor<F> for Streams
where
    F: Future<Output: Send> + Send + 'static,
{
    fn execute(&self, stream: F) {
        let mut watch = Watch::new(self.client_timeout);
        self.tasks.spawn(async move {
            let mut stream = pin!(stream);
            // Dropping a stalled stream resets it.
            let _ = std::future::poll_fn(|cx| watch.poll(stream.as_mut(), cx)).await;
        });
    }
}

/// How a connection ended.
#[derive(Debug, PartialEq, Eq)]
enum End {
    /// By itself, or by the client.
    Finished,
    /// One of its rules was broken, or it was cut.
    Broken,
    /// A head took too long.
    HeadLate,
    /// It was dropped: aborted, or without progress.
    Dropped,
}

/// Drives a connection through its states.
async fn drive<C: GracefulConnection<Error = hyper::Error>>(
    mut served: Pin<&mut C>,
    connection: &Connection,
    stop: &CancellationToken,
    judge: fn(&Pace, Instant, &Limits) -> Verdict,
) -> End {
    let limits = &connection.server.config.limits;
    let mut watch = Watch::new(limits.body_idle_timeout);
    let look = limits.header_timeout.min(limits.keepalive_timeout);
    let mut timer = pin!(tokio::time::sleep(look));
    loop {
        tokio::select! {
            biased;
            end = std::future::poll_fn(|cx| watch.poll(served.as_mut(), cx)) => return ended(end),
            () = &mut timer => match judge(&connection.pace, Instant::now(), limits) {
                Verdict::Fine(next) => timer.as_mut().reset(next.into()),
                Verdict::HeadLate => return End::HeadLate,
                Verdict::Idle => break,
            },
            () = stop.cancelled() => break,
        }
    }
    served.as_mut().graceful_shutdown();
    let give_up = Instant::now() + limits.body_idle_timeout;
    timer
        .as_mut()
        .reset(tokio::time::Instant::now() + CLOSING_LOOK);
    loop {
        tokio::select! {
            biased;
            end = std::future::poll_fn(|cx| watch.poll(served.as_mut(), cx)) => return ended(end),
            () = &mut timer => {
                let now = Instant::now();
                if connection.pace.is_quiet(now, CLOSING_LOOK) || (now >= give_up && !connection.pace.is_busy()) {
                    return End::Dropped;
                }
                timer.as_mut().reset(tokio::time::Instant::now() + CLOSING_LOOK);
            }
            () = connection.server.abort.cancelled() => return End::Dropped,
        }
    }
}

fn ended(end: Result<hyper::Result<()>, Stalled>) -> End {
    match end {
        Ok(Ok(())) => End::Finished,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a connection broke");
            End::Broken
        }
        Err(Stalled) => {
            tracing::debug!("a client stopped reading its response");
            End::Dropped
        }
    }
}

/// Reads what a client still sends, so that closing does not take the answer from it (RFC 9112 section 9.6).
async fn linger(stream: &mut (impl AsyncRead + AsyncWrite + Unpin)) {
    let throw_away = async {
        if stream.shutdown().await.is_err() {
            return;
        }
        let mut buffer = vec![0; 16 * 1024];
        let mut left = LINGER_BYTES_MAX;
        while let Ok(read @ 1..) = stream.read(&mut buffer).await {
            left = left.saturating_sub(read);
            if left == 0 {
                return;
            }
        }
    };
    let _ = tokio::time::timeout(LINGER, throw_away).await;
}
