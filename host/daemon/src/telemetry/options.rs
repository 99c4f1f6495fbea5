//! What is told, and to whom.

use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Uri};
use percent_encoding::percent_decode_str;

/// The service's name in traces and metrics, where none is given.
const SERVICE_NAME_DEFAULT: &str = "trellis-host";

/// Time between two reports of metrics.
const METRICS_EVERY: Duration = Duration::from_secs(15);

/// Largest file of certificates that is read, in bytes.
const CA_BYTES_MAX: u64 = 1024 * 1024;

/// What the process tells of itself. By default nothing.
#[derive(Debug, Clone, Default)]
pub struct TelemetryOptions {
    /// Where the admin endpoint listens.
    pub admin: Option<SocketAddr>,
    /// The collector of traces and metrics.
    pub otlp: Option<OtlpOptions>,
}

/// A collector that is sent traces and metrics.
#[derive(Clone)]
pub struct OtlpOptions {
    endpoint: String,
    /// Fields of each request. They are not shown.
    pub(crate) headers: HeaderMap,
    /// The service's name.
    pub service_name: String,
    /// Share of the traces that are recorded, of those that begin at this host: 0 to 1.
    pub sampling: f64,
    /// Root certificates to believe beside the system's, in PEM.
    pub(crate) ca: Vec<u8>,
    /// Time between two reports of metrics.
    pub metrics_every: Duration,
}

impl fmt::Debug for OtlpOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OtlpOptions")
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers.len())
            .field("service_name", &self.service_name)
            .field("sampling", &self.sampling)
            .finish_non_exhaustive()
    }
}

impl OtlpOptions {
    /// A collector at an `http` or `https` URL, to which the path of each signal is added.
    ///
    /// # Errors
    /// What is wrong with the URL, without what it may hold of a password.
    pub fn new(endpoint: &str) -> Result<Self, String> {
        let uri: Uri = endpoint.parse().map_err(|_| "that is no URL".to_owned())?;
        let authority = uri.authority().filter(|a| !a.host().is_empty());
        let Some(authority) = authority else {
            return Err("give a URL such as http://127.0.0.1:4318".to_owned());
        };
        if !matches!(uri.scheme_str(), Some("http" | "https")) {
            return Err("the scheme must be http or https (OTLP over HTTP; not gRPC)".to_owned());
        }
        if authority.as_str().contains('@') {
            return Err(
                "give credentials by OTEL_EXPORTER_OTLP_HEADERS, not in the URL".to_owned(),
            );
        }
        if uri.query().is_some() {
            return Err("the URL has a query, to which no path can be added".to_owned());
        }
        Ok(Self {
            endpoint: endpoint.trim_end_matches('/').to_owned(),
            headers: HeaderMap::new(),
            service_name: SERVICE_NAME_DEFAULT.to_owned(),
            sampling: 1.0,
            ca: Vec::new(),
            metrics_every: METRICS_EVERY,
        })
    }

    /// The collector's URL.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    /// The URL of one signal.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("{}{path}", self.endpoint)
    }

    /// Adds fields in the form of `OTEL_EXPORTER_OTLP_HEADERS`: `name=value` with commas between, values percent-encoded.
    ///
    /// # Errors
    /// Which entry is wrong, without its text.
    pub fn add_headers(&mut self, text: &str) -> Result<(), String> {
        for (place, pair) in text.split(',').enumerate() {
            let pair = pair.trim();
            if pair.is_empty() {
                continue;
            }
            // The place is named and not the text, which is likely to be a secret.
            let wrong = || format!("entry {} is no `name=value`", place + 1);
            let (name, value) = pair.split_once('=').ok_or_else(wrong)?;
            let name: HeaderName = name.trim().parse().map_err(|_| wrong())?;
            let value = percent_decode_str(value.trim())
                .decode_utf8()
                .map_err(|_| wrong())?;
            let mut value = HeaderValue::from_str(&value).map_err(|_| wrong())?;
            value.set_sensitive(true);
            self.headers.insert(name, value);
        }
        Ok(())
    }

    /// Reads root certificates, in PEM.
    ///
    /// # Errors
    /// Why the file cannot be read.
    pub fn read_ca(&mut self, path: &Path) -> Result<(), String> {
        let failed =
            |reason: &dyn fmt::Display| format!("cannot read {}: {reason}", path.display());
        let metadata = fs::metadata(path).map_err(|error| failed(&error))?;
        if !metadata.is_file() || metadata.len() > CA_BYTES_MAX {
            return Err(failed(&format_args!(
                "it is no file of at most {CA_BYTES_MAX} bytes"
            )));
        }
        self.ca = fs::read(path).map_err(|error| failed(&error))?;
        Ok(())
    }
}
