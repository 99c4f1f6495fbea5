//! Listens in on what a client says to a server.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What signing in consists of.
const PASSWORD: u8 = b'p';

/// A proxy that notes the kind of each message from clients: the letter that it begins with, in order. What a client
/// says before it is signed in is not noted.
pub(crate) struct Tap {
    address: SocketAddr,
    heard: Arc<Mutex<String>>,
    serving: JoinHandle<()>,
}

impl Tap {
    pub(crate) async fn start(server: SocketAddr) -> Self {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        let heard = Arc::<Mutex<String>>::default();
        let noted = heard.clone();
        let serving = tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                tokio::spawn(pass(client, server, noted.clone()));
            }
        });
        Self {
            address,
            heard,
            serving,
        }
    }

    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// What was heard since this was last asked.
    pub(crate) fn heard(&self) -> String {
        std::mem::take(&mut self.heard.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

async fn pass(client: TcpStream, server: SocketAddr, heard: Arc<Mutex<String>>) {
    let server = TcpStream::connect(server).await.unwrap();
    client.set_nodelay(true).unwrap();
    server.set_nodelay(true).unwrap();
    let (from_client, mut to_client) = client.into_split();
    let (mut from_server, to_server) = server.into_split();
    tokio::select! {
        _ = listen(from_client, to_server, &heard) => {}
        _ = tokio::io::copy(&mut from_server, &mut to_client) => {}
    }
}

async fn listen(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    heard: &Mutex<String>,
) -> io::Result<()> {
    // The first message has a length and no letter.
    let length = from.read_u32().await?;
    let mut body = vec![0; length as usize - 4];
    from.read_exact(&mut body).await?;
    to.write_all(&[&length.to_be_bytes()[..], &body].concat())
        .await?;
    loop {
        let kind = from.read_u8().await?;
        let length = from.read_u32().await?;
        body.resize(length as usize - 4, 0);
        from.read_exact(&mut body).await?;
        if kind != PASSWORD {
            let mut heard = heard.lock().unwrap_or_else(PoisonError::into_inner);
            heard.push(char::from(kind));
        }
        to.write_all(&[&[kind][..], &length.to_be_bytes(), &body].concat())
            .await?;
    }
}
