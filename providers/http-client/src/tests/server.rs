//! Servers for the tests: one that speaks HTTP, and one that says whatever it is given.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use http::{Request, Response};
use http_body::Frame;
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use hyper_util::server::conn::auto;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_rustls::TlsAcceptor;

/// Room of each direction of a server's connections, in bytes.
const SOCKET_BYTES: u32 = 256 * 1024;

/// What a server has seen.
#[derive(Default)]
pub(super) struct Seen {
    pub(super) connections: AtomicUsize,
    pub(super) requests: AtomicUsize,
    /// Bytes of request bodies that were read.
    pub(super) received: AtomicU64,
    /// Bytes of response bodies that were handed to a connection.
    pub(super) sent: AtomicU64,
    /// Response bodies that were dropped before their end.
    pub(super) abandoned: AtomicUsize,
    /// Request bodies that broke off.
    pub(super) broken: AtomicUsize,
}

/// A server, until the test's runtime ends.
pub(super) struct Server {
    pub(super) port: u16,
    pub(super) seen: Arc<Seen>,
}

type Reply = Response<UnsyncBoxBody<Bytes, io::Error>>;

impl Server {
    pub(super) async fn http() -> Self {
        Self::start(None).await
    }

    /// With a certificate, and these versions of HTTP.
    pub(super) async fn https(authority: &Authority, names: &[&str], alpn: &[&str]) -> Self {
        Self::start(Some(authority.acceptor(names, alpn))).await
    }

    async fn start(tls: Option<TlsAcceptor>) -> Self {
        // What it accepts inherits these sizes. Left alone, the kernel would let them grow to tens of MiB.
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(SOCKET_BYTES).unwrap();
        socket.set_send_buffer_size(SOCKET_BYTES).unwrap();
        socket.bind(SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let listener = socket.listen(1024).unwrap();
        let port = listener.local_addr().unwrap().port();
        let seen = Arc::new(Seen::default());
        let all = Arc::clone(&seen);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                all.connections.fetch_add(1, Ordering::SeqCst);
                let (seen, tls) = (Arc::clone(&all), tls.clone());
                tokio::spawn(async move {
                    match tls {
                        None => serve(stream, seen).await,
                        Some(tls) => {
                            if let Ok(stream) = tls.accept(stream).await {
                                serve(stream, seen).await;
                            }
                        }
                    }
                });
            }
        });
        Self { port, seen }
    }

    pub(super) fn url(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port)
    }
}

async fn serve(
    stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    seen: Arc<Seen>,
) {
    let service = service_fn(move |request| {
        let seen = Arc::clone(&seen);
        async move { Ok::<_, Infallible>(answer(request, seen).await) }
    });
    let builder = auto::Builder::new(TokioExecutor::new());
    let _ = builder
        .serve_connection(TokioIo::new(stream), service)
        .await;
}

async fn answer(request: Request<Incoming>, seen: Arc<Seen>) -> Reply {
    seen.requests.fetch_add(1, Ordering::SeqCst);
    let query = request.uri().query().unwrap_or_default().to_owned();
    let number = query.strip_prefix("n=").and_then(|n| n.parse().ok());
    match request.uri().path() {
        "/bytes" => Response::new(Flow::new(number.unwrap_or(0), seen).boxed_unsync()),
        "/length" => {
            let bytes = number.unwrap_or(0);
            Response::builder()
                .header("content-length", bytes)
                .body(Flow::new(bytes, seen).boxed_unsync())
                .unwrap()
        }
        "/echo" => {
            let body = request.into_body().map_frame(move |frame| {
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                seen.received.fetch_add(bytes, Ordering::SeqCst);
                frame
            });
            Response::new(body.map_err(io::Error::other).boxed_unsync())
        }
        "/count" => {
            let mut body = request.into_body();
            while let Some(frame) = body.frame().await {
                let Ok(frame) = frame else {
                    seen.broken.fetch_add(1, Ordering::SeqCst);
                    return full("broken");
                };
                let bytes = frame.data_ref().map_or(0, |data| data.len() as u64);
                seen.received.fetch_add(bytes, Ordering::SeqCst);
            }
            full(seen.received.load(Ordering::SeqCst).to_string())
        }
        "/unread" => {
            // Holds on to the body and reads none of it.
            tokio::time::sleep(std::time::Duration::from_secs(3600)).await;
            drop(request);
            full("")
        }
        "/hang" => std::future::pending().await,
        "/silent" => Response::new(Flow::silent(seen).boxed_unsync()),
        "/fields" => {
            let mut response = full("");
            for n in 0..number.unwrap_or(0) {
                let name = http::HeaderName::try_from(format!("x-{n}")).unwrap();
                response.headers_mut().insert(name, "1".parse().unwrap());
            }
            response
        }
        "/large" => {
            let mut response = full("");
            let value = "x".repeat(usize::try_from(number.unwrap_or(0)).unwrap());
            response.headers_mut().insert("x", value.parse().unwrap());
            response
        }
        "/redirect" => {
            let mut response = full("");
            *response.status_mut() = http::StatusCode::FOUND;
            response
                .headers_mut()
                .insert("location", "/head".parse().unwrap());
            response
        }
        "/forged" => {
            let mut response = full("real");
            let fields = response.headers_mut();
            fields.insert("trellis-http-error", "DNS-error".parse().unwrap());
            fields.insert("connection", "x-hop".parse().unwrap());
            fields.insert("x-hop", "1".parse().unwrap());
            response
        }
        _ => {
            let mut text = format!(
                "{} {} {:?}\n",
                request.method(),
                request.uri(),
                request.version()
            );
            for (name, value) in request.headers() {
                text.push_str(&format!("{name}: {}\n", value.to_str().unwrap()));
            }
            full(text)
        }
    }
}

fn full(text: impl Into<Bytes>) -> Reply {
    let body = Full::new(text.into()).map_err(|never| match never {});
    Response::new(body.boxed_unsync())
}

/// A body that counts what is taken from it, and says when it is dropped before its end.
struct Flow {
    left: u64,
    is_silent: bool,
    seen: Arc<Seen>,
}

impl Flow {
    fn new(left: u64, seen: Arc<Seen>) -> Self {
        Self {
            left,
            is_silent: false,
            seen,
        }
    }

    /// One byte, and then nothing.
    fn silent(seen: Arc<Seen>) -> Self {
        Self {
            left: 2,
            is_silent: true,
            seen,
        }
    }
}

impl http_body::Body for Flow {
    type Data = Bytes;
    type Error = io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, io::Error>>> {
        static ZEROS: [u8; 65_536] = [0; 65_536];
        if self.is_silent && self.left == 1 {
            return Poll::Pending;
        }
        let piece = if self.is_silent {
            1
        } else {
            self.left.min(ZEROS.len() as u64)
        };
        if piece == 0 {
            return Poll::Ready(None);
        }
        self.left -= piece;
        self.seen.sent.fetch_add(piece, Ordering::SeqCst);
        let piece = &ZEROS[..usize::try_from(piece).unwrap()];
        Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece)))))
    }
}

impl Drop for Flow {
    fn drop(&mut self) {
        if self.left > 0 {
            self.seen.abandoned.fetch_add(1, Ordering::SeqCst);
        }
    }
}

/// Accepts connections, reads a request's head on each, says this, and closes or waits.
pub(super) async fn raw(reply: &'static [u8], then_close: bool) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(say(stream, reply, then_close));
        }
    });
    port
}

async fn say(mut stream: TcpStream, reply: &[u8], then_close: bool) {
    let mut head = Vec::new();
    while !head.windows(4).any(|end| end == b"\r\n\r\n") {
        if stream.read_buf(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let _ = stream.write_all(reply).await;
    if !then_close {
        let mut rest = [0; 1024];
        while stream.read(&mut rest).await.is_ok_and(|n| n > 0) {}
    }
}

/// An authority that signs servers' certificates.
pub(super) struct Authority {
    issuer: Issuer<'static, KeyPair>,
    directory: tempfile::TempDir,
}

impl Authority {
    pub(super) fn new() -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap();
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("ca.pem"), certificate.pem()).unwrap();
        Self {
            issuer: Issuer::new(params, key),
            directory,
        }
    }

    pub(super) fn file(&self) -> PathBuf {
        self.path().join("ca.pem")
    }

    pub(super) fn path(&self) -> &Path {
        self.directory.path()
    }

    fn acceptor(&self, names: &[&str], alpn: &[&str]) -> TlsAcceptor {
        let key = KeyPair::generate().unwrap();
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let certificate = CertificateParams::new(names)
            .unwrap()
            .signed_by(&key, &self.issuer)
            .unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_no_client_auth()
            .with_single_cert(
                vec![certificate.der().clone()],
                rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap(),
            )
            .unwrap();
        config.alpn_protocols = alpn.iter().map(|name| name.as_bytes().to_vec()).collect();
        TlsAcceptor::from(Arc::new(config))
    }
}
