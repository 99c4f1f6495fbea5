//! The person with the browser: HTTP requests, one by one or a few thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use serde_json::Value;
use tokio::net::TcpStream;

/// Longest that one answer may take. The application's own deadline is half of it.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// Longest body that is read, in bytes.
const BODY_BYTES_MAX: usize = 1024 * 1024;

/// An answer, read whole.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) location: Option<String>,
    pub(crate) body: Bytes,
}

impl Answer {
    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Value> {
        serde_json::from_slice(&self.body)
            .with_context(|| format!("an answer of {} is no JSON: {}", self.status, self.text()))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// Fails where the status is another one.
    pub(crate) fn expect(self, status: u16) -> Result<Self> {
        if self.status.as_u16() != status {
            bail!("expected {status}, got {}: {}", self.status, self.text());
        }
        Ok(self)
    }
}

/// A client of the application.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    address: String,
}

impl Client {
    pub(crate) fn new(address: &str) -> Self {
        Self {
            address: address.to_owned(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Result<Answer> {
        self.send(Method::GET, path, Bytes::new()).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> Result<Answer> {
        self.send(Method::POST, path, Bytes::copy_from_slice(body.as_bytes()))
            .await
    }

    async fn send(&self, method: Method, path: &str, body: Bytes) -> Result<Answer> {
        let mut connection = self.connect().await?;
        self.send_on(&mut connection, method, path, body).await
    }

    async fn connect(&self) -> Result<SendRequest<Full<Bytes>>> {
        let socket = TcpStream::connect(&self.address)
            .await
            .with_context(|| format!("nobody listens at {}", self.address))?;
        let (sender, connection) = http1::handshake(TokioIo::new(socket)).await?;
        // Ends with the sender, or with the server; what went wrong is seen by the request.
        tokio::spawn(connection);
        Ok(sender)
    }

    async fn send_on(
        &self,
        connection: &mut SendRequest<Full<Bytes>>,
        method: Method,
        path: &str,
        body: Bytes,
    ) -> Result<Answer> {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.address)
            .header("content-type", "application/json")
            .body(Full::new(body))?;
        let answered = async {
            connection.ready().await?;
            let (head, body) = connection.send_request(request).await?.into_parts();
            let body = Limited::new(body, BODY_BYTES_MAX)
                .collect()
                .await
                .map_err(|error| anyhow::anyhow!("the answer broke off: {error}"))?;
            let location = head
                .headers
                .get("location")
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned);
            anyhow::Ok(Answer {
                status: head.status,
                location,
                body: body.to_bytes(),
            })
        };
        tokio::time::timeout(ANSWER_WITHIN, answered)
            .await
            .with_context(|| format!("no answer within {} s", ANSWER_WITHIN.as_secs()))?
            .with_context(|| format!("a request to {path} failed"))
    }

    /// Sends the same request many times over several connections. Gives back the time it took; fails at the first
    /// answer that is not of the status.
    pub(crate) async fn load(
        &self,
        path: &str,
        status: u16,
        requests: usize,
        connections: usize,
    ) -> Result<Duration> {
        let begin = Instant::now();
        let next = Arc::new(AtomicUsize::new(0));
        let mut workers = tokio::task::JoinSet::new();
        for _ in 0..connections {
            let (client, next, path) = (self.clone(), Arc::clone(&next), path.to_owned());
            workers.spawn(async move {
                let mut connection = client.connect().await?;
                while next.fetch_add(1, Ordering::Relaxed) < requests {
                    client
                        .send_on(&mut connection, Method::GET, &path, Bytes::new())
                        .await?
                        .expect(status)?;
                }
                anyhow::Ok(())
            });
        }
        while let Some(worker) = workers.join_next().await {
            worker.context("a connection's task failed")??;
        }
        Ok(begin.elapsed())
    }
}
