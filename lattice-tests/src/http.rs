//! A plain HTTP client: one connection for each request, unless a test wants to keep one.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

use crate::wait::in_time;

/// Longest that any exchange of a test may take: more than the longest deadline of a call.
const EXCHANGE_WITHIN: Duration = Duration::from_secs(40);

/// A whole response.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status.
    pub status: u16,
    /// The fields.
    pub headers: http::HeaderMap,
    /// The body.
    pub body: Bytes,
    /// How long it took, connecting included.
    pub took: Duration,
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_default()
    }

    /// A member of a problem document, or of any JSON object; empty where it is missing.
    pub fn member(&self, name: &str) -> String {
        match &self.json()[name] {
            serde_json::Value::String(text) => text.clone(),
            serde_json::Value::Null => String::new(),
            other => other.to_string(),
        }
    }

    /// A field; empty where it is missing.
    pub fn header(&self, name: &str) -> String {
        let value = self.headers.get(name).and_then(|value| value.to_str().ok());
        value.unwrap_or_default().to_owned()
    }
}

/// Why there is no response.
pub type Failure = Box<dyn std::error::Error + Send + Sync>;

/// A connection that is kept.
#[derive(Debug)]
pub struct Connection {
    sender: SendRequest<Full<Bytes>>,
    authority: String,
}

impl Connection {
    /// Connects to the server of a URL.
    ///
    /// # Errors
    /// Where nobody listens, or somebody else than an HTTP server.
    pub async fn open(url: &str) -> Result<Self, Failure> {
        let uri: http::Uri = url.parse()?;
        let authority = uri
            .authority()
            .ok_or("the url has no authority")?
            .to_string();
        let stream = TcpStream::connect(&authority).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = handshake(TokioIo::new(stream)).await?;
        // It ends with the sender.
        tokio::spawn(connection);
        Ok(Self { sender, authority })
    }

    /// Sends a request and reads the response whole.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn send(
        &mut self,
        method: &str,
        path: &str,
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        self.send_with(method, path, &[], body).await
    }

    /// As [`Self::send`], with further fields.
    ///
    /// # Errors
    /// Where the connection breaks.
    pub async fn send_with(
        &mut self,
        method: &str,
        path: &str,
        fields: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, Failure> {
        let begin = Instant::now();
        let mut request = http::Request::builder()
            .method(method)
            .uri(path)
            .header("host", &self.authority);
        for (name, value) in fields {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.into()))?;
        self.sender.ready().await?;
        let (head, body) = self.sender.send_request(request).await?.into_parts();
        let body = body.collect().await?.to_bytes();
        Ok(Answer {
            status: head.status.as_u16(),
            headers: head.headers,
            body,
            took: begin.elapsed(),
        })
    }
}

/// Sends one request on a connection of its own.
///
/// # Errors
/// Where there is no whole response.
///
/// # Panics
/// Where there is neither a response nor an error in time: whatever happens, nobody hangs.
pub async fn try_send(method: &str, url: &str, body: impl Into<Bytes>) -> Result<Answer, Failure> {
    let begin = Instant::now();
    let uri: http::Uri = url.parse()?;
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let exchange = async {
        let mut connection = Connection::open(url).await?;
        connection.send(method, path, body).await
    };
    let mut answer = in_time(EXCHANGE_WITHIN, &format!("{method} {url}"), exchange).await?;
    answer.took = begin.elapsed();
    Ok(answer)
}

/// Sends one request on a connection of its own, and expects a response.
///
/// # Panics
/// Where there is none.
pub async fn send(method: &str, url: &str, body: impl Into<Bytes>) -> Answer {
    match try_send(method, url, body).await {
        Ok(answer) => answer,
        Err(error) => panic!("{method} {url}: no response: {error:?}"),
    }
}

/// `GET`, as [`send`].
pub async fn get(url: &str) -> Answer {
    send("GET", url, Bytes::new()).await
}

/// `GET` with further fields, as [`send`].
///
/// # Panics
/// Where there is no response.
pub async fn get_with(url: &str, fields: &[(&str, &str)]) -> Answer {
    let uri: http::Uri = url.parse().expect("a test names urls rightly");
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let exchange = async {
        let mut connection = Connection::open(url).await?;
        connection
            .send_with("GET", path, fields, Bytes::new())
            .await
    };
    match in_time(EXCHANGE_WITHIN, url, exchange).await {
        Ok(answer) => answer,
        Err(error) => panic!("GET {url}: no response: {error:?}"),
    }
}

/// `POST`, as [`send`].
pub async fn post(url: &str, body: impl Into<Bytes>) -> Answer {
    send("POST", url, body).await
}

/// Sends a request, and goes away after `patience`.
pub async fn abandon(url: &str, patience: Duration) {
    let answered = tokio::time::timeout(patience, try_send("GET", url, Bytes::new())).await;
    assert!(
        answered.is_err(),
        "{url} answered before anybody could go away"
    );
}
