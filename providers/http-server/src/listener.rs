//! One address: its socket, where its requests go, and the loop that accepts connections.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::OwnedSemaphorePermit;
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::config::BACKLOG;
use crate::connection;
use crate::problem::Problem;
use crate::route::RouteTable;
use crate::server::Server;

/// Pause after an error of the system's accept (too many open files), before it is tried again.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a listener does with connections and requests at one moment.
pub(crate) struct Listening {
    /// Where requests go.
    pub(crate) routes: RouteTable,
    /// Whether new connections speak TLS.
    pub(crate) tls: Option<TlsAcceptor>,
}

impl Listening {
    /// The answer to a request that finds no route.
    pub(crate) fn nobody(&self) -> Problem {
        match self.routes {
            RouteTable::One(_) => Problem::unlinked(),
            RouteTable::Paths(_) | RouteTable::Hosts { .. } => Problem::unmatched(),
        }
    }
}

/// The present [`Listening`], shared by a listener and its connections.
pub(crate) struct Shared {
    now: RwLock<Arc<Listening>>,
}

impl Shared {
    /// What holds at this moment, for as long as one request needs it.
    pub(crate) fn snapshot(&self) -> Arc<Listening> {
        self.now
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    fn replace(&self, listening: Listening) {
        *self.now.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(listening);
    }
}

/// An open address.
pub(crate) struct Listener {
    address: SocketAddr,
    shared: Arc<Shared>,
    stop: CancellationToken,
    accepting: JoinHandle<()>,
}

impl Listener {
    /// Opens an address and serves it until [`close`](Self::close).
    ///
    /// # Errors
    /// What the system says against the address.
    pub(crate) fn open(
        server: &Arc<Server>,
        address: SocketAddr,
        listening: Listening,
    ) -> io::Result<Self> {
        let socket = bind(address)?;
        let address = socket.local_addr()?;
        let shared = Arc::new(Shared {
            now: RwLock::new(Arc::new(listening)),
        });
        let stop = server.stop.child_token();
        let accepting =
            server
                .tasks
                .spawn(accept(server.clone(), socket, shared.clone(), stop.clone()));
        tracing::info!(%address, "listening");
        Ok(Self {
            address,
            shared,
            stop,
            accepting,
        })
    }

    /// The address with its real port.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Changes where requests go from now on. Connections stay.
    pub(crate) fn replace(&self, listening: Listening) {
        self.shared.replace(listening);
    }

    /// Gives the address back. Requests under way finish; a request that comes on a connection still open finds no
    /// route.
    pub(crate) async fn close(self) {
        self.shared.replace(Listening {
            routes: RouteTable::One(None),
            tls: None,
        });
        self.stop.cancel();
        // The loop ends with its socket at once. It does not panic, and nobody aborts it.
        let _ = self.accepting.await;
        tracing::info!(address = %self.address, "no longer listening");
    }
}

fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()?
    } else {
        TcpSocket::new_v6()?
    };
    // Connections of a former listener that linger in the system must not keep a new one from the address.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

async fn accept(
    server: Arc<Server>,
    socket: TcpListener,
    shared: Arc<Shared>,
    stop: CancellationToken,
) {
    loop {
        let accepted = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            accepted = socket.accept() => accepted,
        };
        let (stream, peer) = match accepted {
            Ok(accepted) => accepted,
            Err(error) => {
                pause_after(&error).await;
                continue;
            }
        };
        let permit = tokio::select! {
            biased;
            () = stop.cancelled() => return,
            permit = permit(&server) => permit,
        };
        let Some(permit) = permit else { return };
        serve(&server, stream, peer, &shared, &stop, permit);
    }
}

/// A place among the open connections. Waiting for it is what keeps further ones in the system's queue.
async fn permit(server: &Server) -> Option<OwnedSemaphorePermit> {
    if let Ok(permit) = server.connections.clone().try_acquire_owned() {
        return Some(permit);
    }
    tracing::warn!(
        connections_max = server.config.limits.connections,
        "no further connection is accepted until one closes"
    );
    server.connections.clone().acquire_owned().await.ok()
}

fn serve(
    server: &Arc<Server>,
    stream: TcpStream,
    peer: SocketAddr,
    shared: &Arc<Shared>,
    stop: &CancellationToken,
    permit: OwnedSemaphorePermit,
) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%peer, %error, "a connection went away at once");
        return;
    }
    let connection = connection::serve(
        server.clone(),
        stream,
        shared.clone(),
        // A token of its own: connections would contend for a common one at every poll.
        stop.child_token(),
    );
    let span = tracing::debug_span!("connection", %peer);
    server.tasks.spawn(tracing::Instrument::instrument(
        async move {
            connection.await;
            drop(permit);
        },
        span,
    ));
}

async fn pause_after(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionRefused, ConnectionReset, Interrupted};
    if matches!(
        error.kind(),
        ConnectionAborted | ConnectionRefused | ConnectionReset | Interrupted
    ) {
        // The connection's own matter: the next one may be fine.
        return;
    }
    tracing::warn!(%error, "cannot accept connections, trying again");
    tokio::time::sleep(ACCEPT_PAUSE).await;
}
