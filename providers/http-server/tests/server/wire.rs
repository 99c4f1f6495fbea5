//! A client that writes what it is told and reads what comes.

use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

/// Longest time that anything in these tests may take.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Fails the test where something takes too long.
pub(crate) async fn soon<T>(future: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, future)
        .await
        .expect("it took too long")
}

/// A plain connection.
pub(crate) struct Wire {
    pub(crate) stream: TcpStream,
    buffer: Vec<u8>,
}

/// A response, as it came.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    /// With names in lower case.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// The value of a field, if it is there.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        self.head
            .lines()
            .filter_map(|line| line.split_once(": "))
            .find(|(key, _)| key.eq_ignore_ascii_case(name))
            .map(|(_, value)| value)
    }

    /// The code of a problem document.
    pub(crate) fn code(&self) -> String {
        assert_eq!(self.field("content-type"), Some("application/problem+json"));
        let document: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        assert_eq!(document["status"], self.status);
        document["code"].as_str().unwrap().to_owned()
    }
}

impl Wire {
    pub(crate) async fn open(address: SocketAddr) -> Self {
        Self {
            stream: soon(TcpStream::connect(address)).await.unwrap(),
            buffer: Vec::new(),
        }
    }

    pub(crate) async fn send(&mut self, text: impl AsRef<[u8]>) {
        soon(self.stream.write_all(text.as_ref())).await.unwrap();
    }

    /// Whether the server has closed; reads and forgets what came before that.
    pub(crate) async fn is_closed(&mut self) -> bool {
        let mut rest = Vec::new();
        let read = tokio::time::timeout(PATIENCE, self.stream.read_to_end(&mut rest)).await;
        self.buffer.extend(rest);
        read.is_ok()
    }

    /// What came and was in no reply.
    pub(crate) fn rest(&self) -> String {
        String::from_utf8_lossy(&self.buffer).into_owned()
    }

    async fn fill(&mut self) -> bool {
        let mut chunk = [0; 4096];
        let read = soon(self.stream.read(&mut chunk)).await.unwrap_or(0);
        self.buffer.extend_from_slice(&chunk[..read]);
        read > 0
    }

    /// The next bytes, however many were asked for.
    pub(crate) async fn bytes(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert!(self.fill().await, "closed too early: {}", self.rest());
        }
        self.buffer.drain(..length).collect()
    }

    /// The head of the next response.
    pub(crate) async fn head(&mut self) -> Reply {
        let end = loop {
            if let Some(at) = find(&self.buffer, b"\r\n\r\n") {
                break at;
            }
            assert!(self.fill().await, "closed before a head: {}", self.rest());
        };
        let head = String::from_utf8(self.buffer.drain(..end + 4).collect()).unwrap();
        Reply {
            status: head[9..12].parse().unwrap(),
            head,
            body: String::new(),
        }
    }

    /// The next response.
    pub(crate) async fn reply(&mut self) -> Reply {
        let mut reply = self.head().await;
        if reply.field("transfer-encoding") == Some("chunked") {
            let end = loop {
                if let Some(at) = find(&self.buffer, b"0\r\n\r\n") {
                    break at + 5;
                }
                assert!(self.fill().await, "closed within a body");
            };
            reply.body = String::from_utf8(self.buffer.drain(..end).collect()).unwrap();
        } else {
            let length: usize = reply
                .field("content-length")
                .map_or(0, |length| length.parse().unwrap());
            while self.buffer.len() < length {
                assert!(self.fill().await, "closed within a body");
            }
            reply.body = String::from_utf8(self.buffer.drain(..length).collect()).unwrap();
        }
        reply
    }

    /// Sends a request and reads its response.
    pub(crate) async fn ask(&mut self, text: impl AsRef<[u8]>) -> Reply {
        self.send(text).await;
        self.reply().await
    }
}

/// One request on a connection of its own.
pub(crate) async fn ask(address: SocketAddr, text: impl AsRef<[u8]>) -> Reply {
    Wire::open(address).await.ask(text).await
}

/// A request without a body.
pub(crate) fn get(path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n")
}

fn find(haystack: &[u8], needle: &[u8]) -> Option<usize> {
    haystack
        .windows(needle.len())
        .position(|window| window == needle)
}
