//! A server that accepts connections, reads what comes, and never says a word.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::task::{JoinHandle, JoinSet};

/// The silent server.
#[derive(Debug)]
pub struct Silent {
    address: SocketAddr,
    accepted: Arc<AtomicUsize>,
    accepting: JoinHandle<()>,
}

impl Silent {
    /// Listens on a free port.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn start() -> io::Result<Self> {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let accepted = Arc::new(AtomicUsize::new(0));
        let count = accepted.clone();
        let accepting = tokio::spawn(async move {
            let mut connections = JoinSet::new();
            while let Ok((mut stream, _)) = listener.accept().await {
                count.fetch_add(1, Ordering::Relaxed);
                connections.spawn(async move {
                    let mut heard = [0; 4096];
                    while matches!(stream.read(&mut heard).await, Ok(1..)) {}
                });
            }
        });
        Ok(Self {
            address,
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
}

impl Drop for Silent {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::time::Duration;

    use tokio::io::AsyncWriteExt as _;
    use tokio::net::TcpStream;

    use super::*;

    #[tokio::test]
    async fn it_accepts_and_reads_and_says_nothing() {
        let silent = Silent::start().await.unwrap();
        let mut stream = TcpStream::connect(silent.address()).await.unwrap();
        stream.write_all(&[0; 100_000]).await.unwrap();
        let answer = tokio::time::timeout(Duration::from_millis(50), stream.read_u8()).await;
        assert!(answer.is_err(), "{answer:?}");
        assert_eq!(silent.accepted(), 1);
        drop(silent);
        assert!(stream.read_u8().await.is_err());
    }
}
