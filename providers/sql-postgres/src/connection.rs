//! The way to a server: its addresses, TLS by its name, and the task that moves a connection's bytes.

use std::future::poll_fn;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_postgres::Connection;
use tokio_postgres::tls::{MakeTlsConnect, TlsStream};
use tokio_postgres_rustls::MakeRustlsConnect;

/// Silence after which the kernel asks whether the server is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// Why there is no session.
#[derive(Debug)]
pub(crate) enum ConnectError {
    /// The server cannot be reached.
    Network(std::io::Error),
    /// It was reached and refused, or ended the connection.
    Server(tokio_postgres::Error),
}

/// The task that moves a connection's bytes. It ends with its session.
pub(crate) struct Driver(JoinHandle<()>);

impl Driver {
    /// Whether the connection has ended.
    pub(crate) fn is_finished(&self) -> bool {
        self.0.is_finished()
    }

    /// Waits for the connection's end.
    pub(crate) async fn ended(&mut self) {
        // However it ended: it is over.
        let _ = (&mut self.0).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Opens a connection to the first address that answers.
pub(crate) async fn dial(host: &str, port: u16) -> std::io::Result<(TcpStream, SocketAddr)> {
    let mut last = std::io::Error::new(std::io::ErrorKind::NotFound, "the name has no address");
    for address in tokio::net::lookup_host((host, port)).await? {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                rustix::net::sockopt::set_socket_keepalive(&stream, true)?;
                rustix::net::sockopt::set_tcp_keepidle(&stream, KEEPALIVE_IDLE)?;
                return Ok((stream, address));
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

pub(crate) type RustlsConnect = <MakeRustlsConnect as MakeTlsConnect<TcpStream>>::TlsConnect;

pub(crate) fn connect_tls(tls: &MakeRustlsConnect, host: &str) -> RustlsConnect {
    match MakeTlsConnect::<TcpStream>::make_tls_connect(&mut tls.clone(), host) {
        Ok(connect) => connect,
        Err(never) => match never {},
    }
}

/// Moves a connection's bytes until it ends. Notices and notifications are let go: they are a guest's to cause, and
/// nobody's to read.
pub(crate) fn drive<S, T>(mut connection: Connection<S, T>) -> Driver
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    T: TlsStream + Unpin + Send + 'static,
{
    Driver(tokio::spawn(async move {
        while let Some(Ok(_)) = poll_fn(|cx| connection.poll_message(cx)).await {}
    }))
}
