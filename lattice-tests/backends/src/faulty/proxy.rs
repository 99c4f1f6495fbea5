//! A proxy that passes bytes on until it is told otherwise.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};

/// Most bytes that are held for one direction of one connection.
const CHUNK_BYTES: usize = 16 * 1024;

/// Pause before a port is taken again that could not be.
const BIND_AGAIN_AFTER: Duration = Duration::from_millis(10);

/// What the proxy does with bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Passes them on.
    Pass,
    /// Accepts connections and keeps them open, and passes nothing on in either direction. What it has read before it
    /// goes on when the mode changes back.
    Freeze,
    /// Passes this many bytes of the server's on, on each connection, counted from when the mode was set; then closes
    /// the connection.
    CutAfter(usize),
    /// Closes all connections and its port: nobody listens there.
    Refuse,
}

/// The proxy.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    mode: watch::Sender<Mode>,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Proxy {
    /// Listens on a free port and passes everything on to `server`.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn start(server: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let (mode, watched) = watch::channel(Mode::Pass);
        let accepted = Arc::new(AtomicUsize::new(0));
        let accepting = tokio::spawn(serve(listener, address, server, watched, accepted.clone()));
        Ok(Self {
            address,
            mode,
            accepted,
            accepting,
        })
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// How many connections it has accepted so far.
    pub fn accepted(&self) -> usize {
        self.accepted.load(Ordering::Relaxed)
    }

    /// Changes what it does, on connections that are open, too.
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

async fn serve(
    listener: TcpListener,
    address: SocketAddr,
    server: SocketAddr,
    mut mode: watch::Receiver<Mode>,
    accepted: Arc<AtomicUsize>,
) {
    let mut connections = JoinSet::new();
    let mut listener = Some(listener);
    loop {
        if *mode.borrow_and_update() == Mode::Refuse {
            drop(listener.take());
            connections.abort_all();
            if mode.changed().await.is_err() {
                return;
            }
            continue;
        }
        let Some(listening) = &listener else {
            listener = TcpListener::bind(address).await.ok();
            if listener.is_none() {
                tokio::time::sleep(BIND_AGAIN_AFTER).await;
            }
            continue;
        };
        tokio::select! {
            changed = mode.changed() => if changed.is_err() {
                return;
            },
            Some(_) = connections.join_next() => {}
            stream = listening.accept() => if let Ok((client, _)) = stream {
                accepted.fetch_add(1, Ordering::Relaxed);
                connections.spawn(connection(client, server, mode.clone()));
            },
        }
    }
}

/// Ends, and closes both connections, as soon as either end or the mode says so.
async fn connection(client: TcpStream, server: SocketAddr, mode: watch::Receiver<Mode>) {
    let Ok(server) = TcpStream::connect(server).await else {
        return;
    };
    let _ = client.set_nodelay(true);
    let _ = server.set_nodelay(true);
    let (from_client, to_client) = client.into_split();
    let (from_server, to_server) = server.into_split();
    let questions = pump(from_client, to_server, mode.clone(), Direction::Questions);
    let answers = pump(from_server, to_client, mode, Direction::Answers);
    tokio::select! {
        _ = questions => {}
        _ = answers => {}
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Direction {
    Questions,
    Answers,
}

async fn pump(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    mut watched: watch::Receiver<Mode>,
    direction: Direction,
) -> Option<()> {
    let mut chunk = vec![0; CHUNK_BYTES];
    let (mut held, mut left) = (0, usize::MAX);
    watched.mark_changed();
    loop {
        if watched.has_changed().ok()? {
            left = match *watched.borrow_and_update() {
                Mode::CutAfter(bytes) if direction == Direction::Answers => bytes,
                _ => usize::MAX,
            };
        }
        let mode = *watched.borrow();
        match mode {
            Mode::Refuse => return None,
            Mode::Freeze => watched
                .changed()
                .await
                .ok()
                .map(|()| watched.mark_changed())?,
            Mode::Pass | Mode::CutAfter(_) if held > 0 => {
                let passed = held.min(left);
                to.write_all(&chunk[..passed]).await.ok()?;
                left -= passed;
                held = 0;
                if left == 0 {
                    return to.shutdown().await.ok();
                }
            }
            Mode::Pass | Mode::CutAfter(_) => tokio::select! {
                changed = watched.changed() => changed.ok().map(|()| watched.mark_changed())?,
                read = from.read(&mut chunk) => held = read.ok().filter(|bytes| *bytes > 0)?,
            },
        }
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    /// A server that says back what it hears.
    async fn echo() -> SocketAddr {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                tokio::spawn(async move {
                    let (mut from, mut to) = stream.into_split();
                    tokio::io::copy(&mut from, &mut to).await
                });
            }
        });
        address
    }

    async fn said(stream: &mut TcpStream, text: &[u8]) -> io::Result<Vec<u8>> {
        stream.write_all(text).await?;
        let mut heard = vec![0; text.len()];
        stream.read_exact(&mut heard).await.map(|_| heard)
    }

    #[tokio::test]
    async fn it_passes_freezes_and_passes_on_what_it_held() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(said(&mut stream, b"one").await.unwrap(), b"one");
        proxy.set(Mode::Freeze);
        let frozen = said(&mut stream, b"two");
        assert!(
            tokio::time::timeout(Duration::from_millis(50), frozen)
                .await
                .is_err()
        );
        proxy.set(Mode::Pass);
        let mut heard = [0; 3];
        stream.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"two");
    }

    #[tokio::test]
    async fn it_cuts_an_answer_where_it_was_told() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(said(&mut stream, b"before").await.unwrap(), b"before");
        proxy.set(Mode::CutAfter(3));
        stream.write_all(b"after").await.unwrap();
        let mut heard = Vec::new();
        stream.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"aft");
    }

    #[tokio::test]
    async fn it_refuses_and_is_back_at_the_same_address() {
        let proxy = Proxy::start(echo().await).await.unwrap();
        let mut stream = TcpStream::connect(proxy.address()).await.unwrap();
        assert_eq!(said(&mut stream, b"one").await.unwrap(), b"one");
        proxy.set(Mode::Refuse);
        assert!(stream.read_u8().await.is_err());
        while TcpStream::connect(proxy.address()).await.is_ok() {
            tokio::task::yield_now().await;
        }
        proxy.set(Mode::Pass);
        let mut again = loop {
            if let Ok(stream) = TcpStream::connect(proxy.address()).await {
                break stream;
            }
            tokio::time::sleep(BIND_AGAIN_AFTER).await;
        };
        assert_eq!(said(&mut again, b"two").await.unwrap(), b"two");
    }
}
