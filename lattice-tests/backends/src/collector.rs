//! A collector of OpenTelemetry's traces and metrics, by OTLP over HTTP, that keeps what it is sent, and can be told to
//! misbehave. It answers every other request as well, and keeps which span its sender says it belongs to.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::{HeaderMap, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::trace::v1::{Span, status::StatusCode as SpanStatus};
use prost::Message as _;
use rustls::ServerConfig;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;

use crate::certificates::Certificates;

/// Pairs of names and values, as text.
pub type Attributes = BTreeMap<String, String>;

/// A span as it was sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenSpan {
    /// 32 digits.
    pub trace: String,
    /// 16 digits.
    pub id: String,
    /// 16 digits; empty for a span that begins its trace.
    pub parent: String,
    /// What it is called.
    pub name: String,
    /// Its kind, by OpenTelemetry's number: 2 for a server's, 3 for a client's.
    pub kind: i32,
    /// Nanoseconds.
    pub took: u64,
    /// What it says of itself.
    pub attributes: Attributes,
    /// What its sender says of itself.
    pub resource: Attributes,
    /// Whether it failed.
    pub is_error: bool,
}

/// A metric as it was sent.
#[derive(Debug, Clone)]
pub struct SeenMetric {
    /// The metric.
    pub metric: Metric,
    /// What its sender says of itself.
    pub resource: Attributes,
}

/// How a collector behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Behaviour {
    /// It takes what it is sent.
    #[default]
    Takes,
    /// It reads requests and never answers.
    Hangs,
    /// It answers with 503.
    Refuses,
}

/// A collector. It ends with this value.
#[derive(Debug)]
pub struct Collector {
    scheme: &'static str,
    address: SocketAddr,
    seen: Arc<Mutex<Seen>>,
    accepting: AbortHandle,
}

#[derive(Debug, Default)]
struct Seen {
    behaviour: Behaviour,
    spans: Vec<SeenSpan>,
    metrics: Vec<SeenMetric>,
    /// Fields of requests that brought traces or metrics.
    deliveries: Vec<HeaderMap>,
    /// Fields of all other requests.
    visits: Vec<HeaderMap>,
}

impl Collector {
    /// Starts one on a free port of the loopback interface.
    ///
    /// # Errors
    /// The operating system's.
    pub async fn start() -> std::io::Result<Self> {
        Self::start_with(None).await
    }

    /// Starts one that speaks TLS.
    ///
    /// # Errors
    /// The operating system's, and where the certificates cannot be used.
    pub async fn start_tls(certificates: &Certificates) -> std::io::Result<Self> {
        let chain = CertificateDer::pem_file_iter(&certificates.certificate)
            .and_then(Iterator::collect::<Result<Vec<_>, _>>)
            .map_err(std::io::Error::other)?;
        let key = PrivateKeyDer::from_pem_file(&certificates.key).map_err(std::io::Error::other)?;
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, key))
            .map_err(std::io::Error::other)?;
        Self::start_with(Some(TlsAcceptor::from(Arc::new(config)))).await
    }

    async fn start_with(tls: Option<TlsAcceptor>) -> std::io::Result<Self> {
        let listener = TcpListener::bind((std::net::Ipv4Addr::LOCALHOST, 0)).await?;
        let address = listener.local_addr()?;
        let seen = Arc::new(Mutex::new(Seen::default()));
        let scheme = if tls.is_some() { "https" } else { "http" };
        let accepting = tokio::spawn(accept(listener, tls, Arc::clone(&seen))).abort_handle();
        Ok(Self {
            scheme,
            address,
            seen,
            accepting,
        })
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("{}://{}", self.scheme, self.address)
    }

    /// Behaves so from now on.
    pub fn set(&self, behaviour: Behaviour) {
        lock(&self.seen).behaviour = behaviour;
    }

    /// The spans that it was sent, by any sender, in the order in which they came.
    pub fn spans(&self) -> Vec<SeenSpan> {
        lock(&self.seen).spans.clone()
    }

    /// The metrics that it was sent.
    pub fn metrics(&self) -> Vec<SeenMetric> {
        lock(&self.seen).metrics.clone()
    }

    /// The fields of the requests that brought traces or metrics, taken or not.
    pub fn deliveries(&self) -> Vec<HeaderMap> {
        lock(&self.seen).deliveries.clone()
    }

    /// The fields of all other requests.
    pub fn visits(&self) -> Vec<HeaderMap> {
        lock(&self.seen).visits.clone()
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.accepting.abort();
    }
}

fn lock(seen: &Mutex<Seen>) -> MutexGuard<'_, Seen> {
    seen.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn accept(listener: TcpListener, tls: Option<TlsAcceptor>, seen: Arc<Mutex<Seen>>) {
    // Connections end with this task.
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        let (seen, tls) = (Arc::clone(&seen), tls.clone());
        connections.spawn(async move {
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
}

async fn serve(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    seen: Arc<Mutex<Seen>>,
) {
    let service = service_fn(|request| answer(request, Arc::clone(&seen)));
    let serving = http1::Builder::new().serve_connection(TokioIo::new(stream), service);
    // Whoever breaks off has its reasons.
    let _ = serving.await;
}

async fn answer(
    request: Request<Incoming>,
    seen: Arc<Mutex<Seen>>,
) -> Result<Response<Full<Bytes>>, Infallible> {
    let (parts, body) = request.into_parts();
    let respond = |status: StatusCode| {
        let mut response = Response::new(Full::default());
        *response.status_mut() = status;
        Ok(response)
    };
    let Ok(body) = body.collect().await else {
        return respond(StatusCode::BAD_REQUEST);
    };
    let body = body.to_bytes();
    if !matches!(parts.uri.path(), "/v1/traces" | "/v1/metrics") {
        lock(&seen).visits.push(parts.headers);
        return respond(StatusCode::OK);
    }
    let behaviour = {
        let mut seen = lock(&seen);
        seen.deliveries.push(parts.headers);
        seen.behaviour
    };
    match behaviour {
        Behaviour::Takes => {}
        Behaviour::Refuses => return respond(StatusCode::SERVICE_UNAVAILABLE),
        Behaviour::Hangs => std::future::pending().await,
    }
    let is_read = match parts.uri.path() {
        "/v1/traces" => ExportTraceServiceRequest::decode(body)
            .map(|request| lock(&seen).take_traces(request))
            .is_ok(),
        _ => ExportMetricsServiceRequest::decode(body)
            .map(|request| lock(&seen).take_metrics(request))
            .is_ok(),
    };
    respond(match is_read {
        true => StatusCode::OK,
        false => StatusCode::BAD_REQUEST,
    })
}

impl Seen {
    fn take_traces(&mut self, request: ExportTraceServiceRequest) {
        for sender in request.resource_spans {
            let resource = attributes(&sender.resource.unwrap_or_default().attributes);
            for span in sender.scope_spans.into_iter().flat_map(|scope| scope.spans) {
                self.spans.push(seen_span(&span, resource.clone()));
            }
        }
    }

    fn take_metrics(&mut self, request: ExportMetricsServiceRequest) {
        for sender in request.resource_metrics {
            let resource = attributes(&sender.resource.unwrap_or_default().attributes);
            let metrics = sender
                .scope_metrics
                .into_iter()
                .flat_map(|scope| scope.metrics);
            self.metrics.extend(metrics.map(|metric| SeenMetric {
                metric,
                resource: resource.clone(),
            }));
        }
    }
}

fn seen_span(span: &Span, resource: Attributes) -> SeenSpan {
    SeenSpan {
        trace: hex(&span.trace_id),
        id: hex(&span.span_id),
        parent: hex(&span.parent_span_id),
        name: span.name.clone(),
        kind: span.kind,
        took: span
            .end_time_unix_nano
            .saturating_sub(span.start_time_unix_nano),
        attributes: attributes(&span.attributes),
        resource,
        is_error: span
            .status
            .as_ref()
            .is_some_and(|status| status.code == i32::from(SpanStatus::Error)),
    }
}

/// Pairs as text; numbers in decimal, anything else empty.
pub fn attributes(pairs: &[KeyValue]) -> Attributes {
    let text = |pair: &KeyValue| match pair.value.as_ref().and_then(|value| value.value.as_ref()) {
        Some(any_value::Value::StringValue(text)) => text.clone(),
        Some(any_value::Value::IntValue(number)) => number.to_string(),
        Some(any_value::Value::DoubleValue(number)) => number.to_string(),
        Some(any_value::Value::BoolValue(truth)) => truth.to_string(),
        _ => String::new(),
    };
    pairs
        .iter()
        .map(|pair| (pair.key.clone(), text(pair)))
        .collect()
}

fn hex(bytes: &[u8]) -> String {
    let mut text = String::with_capacity(bytes.len() * 2);
    for byte in bytes {
        // Writing into a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
