//! Who may ask, how many at once, and for how long.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::answer::answer;
use super::subject::Subject;

/// Connections at once. A supervisor and a few collectors need one each; one more is closed at once.
const CONNECTIONS_MAX: usize = 32;

/// Longest wait for the head of a request.
const HEAD_MAX: Duration = Duration::from_secs(5);

/// Longest life of a connection, which serves one request.
const CONNECTION_MAX: Duration = Duration::from_secs(15);

/// Largest head of a request, in bytes.
const HEAD_BYTES_MAX: usize = 16 * 1024;

/// Most fields in a request.
const FIELDS_MAX: usize = 64;

/// Pause after a connection could not be accepted, as when files run out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What bounds those who ask.
#[derive(Debug, Clone, Copy)]
struct Limits {
    connections: usize,
    head: Duration,
    connection: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            connections: CONNECTIONS_MAX,
            head: HEAD_MAX,
            connection: CONNECTION_MAX,
        }
    }
}

/// Why the admin endpoint cannot be served.
#[derive(Debug, thiserror::Error)]
#[error("the admin endpoint cannot listen at {address}")]
pub struct AdminError {
    /// Where.
    pub address: SocketAddr,
    /// Why.
    #[source]
    pub source: std::io::Error,
}

/// The endpoint. Dropped, it listens no longer.
#[derive(Debug)]
pub(crate) struct Listening {
    address: SocketAddr,
    _end: DropGuard,
}

impl Listening {
    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }
}

/// Takes the address.
///
/// # Errors
/// [`AdminError`] where somebody else has it, or it is none of this machine's.
pub(crate) async fn bind(address: SocketAddr) -> Result<std::net::TcpListener, AdminError> {
    let failed = |source| AdminError { address, source };
    TcpListener::bind(address)
        .await
        .and_then(TcpListener::into_std)
        .map_err(failed)
}

/// Serves at an address, on this runtime.
///
/// # Errors
/// [`AdminError`] where the runtime does not take the listener.
pub(crate) fn listen(
    listener: std::net::TcpListener,
    subject: Arc<Subject>,
    runtime: &Handle,
) -> Result<Listening, AdminError> {
    listen_within(listener, subject, runtime, Limits::default())
}

fn listen_within(
    listener: std::net::TcpListener,
    subject: Arc<Subject>,
    runtime: &Handle,
    limits: Limits,
) -> Result<Listening, AdminError> {
    let failed = |source| AdminError {
        address: SocketAddr::from(([0, 0, 0, 0], 0)),
        source,
    };
    let address = listener.local_addr().map_err(failed)?;
    let failed = |source| AdminError { address, source };
    let listener = {
        let _on = runtime.enter();
        TcpListener::from_std(listener).map_err(failed)?
    };
    if address.ip().is_loopback() {
        tracing::info!(%address, "the admin endpoint is served");
    } else {
        tracing::warn!(%address, "the admin endpoint is served to whoever reaches this address; it asks nobody who they are");
    }
    let end = CancellationToken::new();
    runtime.spawn(accept(listener, subject, limits, end.clone()));
    Ok(Listening {
        address,
        _end: end.drop_guard(),
    })
}

async fn accept(
    listener: TcpListener,
    subject: Arc<Subject>,
    limits: Limits,
    end: CancellationToken,
) {
    let room = Arc::new(Semaphore::new(limits.connections));
    loop {
        let accepted = tokio::select! {
            () = end.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let Ok((stream, _)) = accepted else {
            tokio::time::sleep(ACCEPT_PAUSE).await;
            continue;
        };
        let Ok(permit) = Arc::clone(&room).try_acquire_owned() else {
            continue;
        };
        let (subject, end) = (Arc::clone(&subject), end.clone());
        tokio::spawn(async move {
            tokio::select! {
                () = end.cancelled() => {}
                _ = tokio::time::timeout(limits.connection, serve(stream, subject, limits)) => {}
            }
            drop(permit);
        });
    }
}

/// Serves one request. Whoever asks again connects again, so that nobody holds a place without asking.
async fn serve(stream: TcpStream, subject: Arc<Subject>, limits: Limits) {
    let service = service_fn(move |request| {
        let subject = Arc::clone(&subject);
        async move { answer(&request, &subject).await }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(limits.head)
        .max_buf_size(HEAD_BYTES_MAX)
        .max_headers(FIELDS_MAX)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), service);
    // Whoever sends no HTTP, or leaves, is told nothing and logged nowhere: anybody could fill the log with it.
    let _ = connection.await;
}

#[cfg(test)]
mod tests;
