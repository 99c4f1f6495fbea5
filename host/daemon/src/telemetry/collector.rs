//! The way to the collector: OTLP over HTTP, with bounded time and memory, and a log that does not repeat itself.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Response};
use opentelemetry_http::{HttpClient, HttpError};
use reqwest::{Certificate, Client, redirect};
use tokio::runtime::Handle;

use super::options::OtlpOptions;

/// Longest wait for a connection.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// Longest time for a request and its response.
const REQUEST_MAX: Duration = Duration::from_secs(10);

/// Largest response that is read, in bytes. A collector answers with a few.
const RESPONSE_BYTES_MAX: usize = 64 * 1024;

/// A collector. Clones share its connections.
#[derive(Clone)]
pub(super) struct Collector {
    client: Client,
    headers: HeaderMap,
    endpoint: Arc<str>,
    /// Where requests run, whoever waits for them: the thread that sends spans has no runtime.
    runtime: Handle,
    is_failing: Arc<AtomicBool>,
}

impl fmt::Debug for Collector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Collector")
            .field("endpoint", &self.endpoint)
            .finish_non_exhaustive()
    }
}

impl Collector {
    /// # Errors
    /// Why TLS cannot be set up.
    pub(super) fn new(options: &OtlpOptions, runtime: Handle) -> Result<Self, String> {
        let mut builder = Client::builder()
            .connect_timeout(CONNECT_MAX)
            .timeout(REQUEST_MAX)
            .pool_max_idle_per_host(1)
            // The fields hold credentials, which are for nobody but the collector.
            .redirect(redirect::Policy::none());
        if !options.ca.is_empty() {
            let certificates = Certificate::from_pem_bundle(&options.ca)
                .map_err(|error| format!("the root certificates cannot be read: {error}"))?;
            if certificates.is_empty() {
                return Err("the file of root certificates holds none".to_owned());
            }
            builder = builder.tls_certs_merge(certificates);
        }
        Ok(Self {
            client: builder.build().map_err(|error| with_causes(&error))?,
            headers: options.headers.clone(),
            endpoint: options.endpoint().into(),
            runtime,
            is_failing: Arc::default(),
        })
    }

    /// Sends one message and says whether the collector took it.
    ///
    /// # Errors
    /// Why it did not. It has been logged, unless the one before failed as well.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let this = self.clone();
        let sending = self
            .runtime
            .spawn(async move { this.exchange(request).await });
        let sent = sending
            .await
            .unwrap_or_else(|_| Err("the process is stopping".to_owned()));
        let failure = match &sent {
            Ok(response) if response.status().is_success() => None,
            Ok(response) => Some(format!("it answered with {}", response.status())),
            Err(reason) => Some(reason.clone()),
        };
        let is_failing = failure.is_some();
        let was_failing = self.is_failing.swap(is_failing, Ordering::Relaxed);
        match failure {
            Some(reason) if !was_failing => {
                tracing::warn!(
                    endpoint = &*self.endpoint,
                    reason,
                    "the collector does not take traces or metrics; they are dropped until it does"
                );
            }
            None if was_failing => {
                tracing::info!(
                    endpoint = &*self.endpoint,
                    "the collector takes traces and metrics again"
                );
            }
            _ => {}
        }
        sent
    }

    async fn exchange(&self, request: Request<Bytes>) -> Result<Response<Bytes>, String> {
        let (mut parts, body) = request.into_parts();
        parts.headers.extend(self.headers.clone());
        let request = self
            .client
            .request(parts.method, parts.uri.to_string())
            .headers(parts.headers)
            .body(body);
        let mut answer = request
            .send()
            .await
            .map_err(|error| with_causes(&error.without_url()))?;
        let mut response = Response::new(Bytes::new());
        *response.status_mut() = answer.status();
        *response.headers_mut() = answer.headers().clone();
        let mut content = BytesMut::new();
        while let Some(piece) = answer
            .chunk()
            .await
            .map_err(|error| with_causes(&error.without_url()))?
        {
            if content.len() + piece.len() > RESPONSE_BYTES_MAX {
                return Err(format!("its answer exceeds {RESPONSE_BYTES_MAX} bytes"));
            }
            content.extend_from_slice(&piece);
        }
        *response.body_mut() = content.freeze();
        Ok(response)
    }
}

#[async_trait]
impl HttpClient for Collector {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        Ok(self.send(request).await?)
    }
}

/// An error with what caused it, in one line.
fn with_causes(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
