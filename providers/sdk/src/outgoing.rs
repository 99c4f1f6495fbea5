//! What travels beside an outgoing HTTP request and its response: the caller's time limits, and why there is no response.
//!
//! `wasi:http` has error codes of its own, far finer than a [`Refusal`](crate::Refusal)'s. A refusal says that a *call* was
//! not carried out, and whether another route may be tried; an [`OutgoingError`] is the *answer* of a provider that took the
//! call and could not get a response. So it travels as a response: a head without a body whose fields of a reserved name say
//! which code it is. It passes every door (in process, to a provider process, to a peer host) as any response does, and no
//! frame has to know of it. The reserved names begin with [`RESERVED_PREFIX`]; a provider removes such fields from what
//! servers send, and a host from what guests send, so that neither can pass for the other side.

use std::fmt;
use std::time::Duration;

use ::http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};

use crate::http::{HttpResponse, empty};

/// The interface by which HTTP leaves an actor, without a version.
pub const OUTGOING_HANDLER: &str = "wasi:http/outgoing-handler";

/// Fields whose names begin so belong to hosts and providers. They never reach a server, and never come from one.
pub const RESERVED_PREFIX: &str = "trellis-http-";

const ERROR: HeaderName = HeaderName::from_static("trellis-http-error");
const ERROR_NUMBER: HeaderName = HeaderName::from_static("trellis-http-error-number");
const ERROR_TEXT: HeaderName = HeaderName::from_static("trellis-http-error-text");
const CONNECT_TIMEOUT: HeaderName = HeaderName::from_static("trellis-http-connect-timeout-ms");
const FIRST_BYTE_TIMEOUT: HeaderName =
    HeaderName::from_static("trellis-http-first-byte-timeout-ms");

/// Longest text of an error, in bytes: what a log line bears. Longer text is cut.
pub const ERROR_TEXT_BYTES_MAX: usize = 512;

macro_rules! codes {
    ($($name:ident = $text:literal,)*) => {
        /// The error codes of `wasi:http/types`, by their names there.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        #[expect(missing_docs, reason = "`wasi:http/types.error-code` is where they are described")]
        pub enum OutgoingErrorCode {
            $($name,)*
        }

        impl OutgoingErrorCode {
            /// Every code, for tables and tests.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The code's name in `wasi:http/types`.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $text),* }
            }
        }
    };
}

codes! {
    DnsTimeout = "DNS-timeout",
    DnsError = "DNS-error",
    DestinationNotFound = "destination-not-found",
    DestinationUnavailable = "destination-unavailable",
    DestinationIpProhibited = "destination-IP-prohibited",
    DestinationIpUnroutable = "destination-IP-unroutable",
    ConnectionRefused = "connection-refused",
    ConnectionTerminated = "connection-terminated",
    ConnectionTimeout = "connection-timeout",
    ConnectionReadTimeout = "connection-read-timeout",
    ConnectionWriteTimeout = "connection-write-timeout",
    ConnectionLimitReached = "connection-limit-reached",
    TlsProtocolError = "TLS-protocol-error",
    TlsCertificateError = "TLS-certificate-error",
    TlsAlertReceived = "TLS-alert-received",
    HttpRequestDenied = "HTTP-request-denied",
    HttpRequestLengthRequired = "HTTP-request-length-required",
    HttpRequestBodySize = "HTTP-request-body-size",
    HttpRequestMethodInvalid = "HTTP-request-method-invalid",
    HttpRequestUriInvalid = "HTTP-request-URI-invalid",
    HttpRequestUriTooLong = "HTTP-request-URI-too-long",
    HttpRequestHeaderSectionSize = "HTTP-request-header-section-size",
    HttpRequestHeaderSize = "HTTP-request-header-size",
    HttpRequestTrailerSectionSize = "HTTP-request-trailer-section-size",
    HttpRequestTrailerSize = "HTTP-request-trailer-size",
    HttpResponseIncomplete = "HTTP-response-incomplete",
    HttpResponseHeaderSectionSize = "HTTP-response-header-section-size",
    HttpResponseHeaderSize = "HTTP-response-header-size",
    HttpResponseBodySize = "HTTP-response-body-size",
    HttpResponseTrailerSectionSize = "HTTP-response-trailer-section-size",
    HttpResponseTrailerSize = "HTTP-response-trailer-size",
    HttpResponseTransferCoding = "HTTP-response-transfer-coding",
    HttpResponseContentCoding = "HTTP-response-content-coding",
    HttpResponseTimeout = "HTTP-response-timeout",
    HttpUpgradeFailed = "HTTP-upgrade-failed",
    HttpProtocolError = "HTTP-protocol-error",
    LoopDetected = "loop-detected",
    ConfigurationError = "configuration-error",
    InternalError = "internal-error",
}

impl fmt::Display for OutgoingErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why an outgoing request got no response.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {text}")]
pub struct OutgoingError {
    /// What the guest is told.
    pub code: OutgoingErrorCode,
    /// The number that belongs to some codes: a limit in bytes, the id of a TLS alert.
    pub number: Option<u64>,
    /// What was attempted and what stood against it, for logs: one sentence without a final period, in printable ASCII.
    pub text: String,
}

impl OutgoingError {
    /// An error without a number. Text beyond [`ERROR_TEXT_BYTES_MAX`] is cut, and what is not printable ASCII becomes `?`.
    pub fn new(code: OutgoingErrorCode, text: impl AsRef<str>) -> Self {
        let text = text.as_ref().chars().take(ERROR_TEXT_BYTES_MAX);
        Self {
            code,
            number: None,
            text: text
                .map(|c| if matches!(c, ' '..='~') { c } else { '?' })
                .collect(),
        }
    }

    /// Adds the number.
    #[must_use]
    pub fn with_number(mut self, number: u64) -> Self {
        self.number = Some(number);
        self
    }

    /// The error as it travels: 502 with the reserved fields and no body.
    pub fn into_response(self) -> HttpResponse {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        let fields = response.headers_mut();
        fields.insert(ERROR, HeaderValue::from_static(self.code.as_str()));
        if let Some(number) = self.number {
            fields.insert(ERROR_NUMBER, HeaderValue::from(number));
        }
        // `text` is public, so it may hold what no field can.
        if let Ok(text) = HeaderValue::from_str(&self.text) {
            fields.insert(ERROR_TEXT, text);
        }
        response
    }

    /// Tells a response from an error that travels as one.
    ///
    /// # Errors
    /// The error. An unknown code, of a newer provider, is an internal error with the code in its text.
    pub fn check(response: HttpResponse) -> Result<HttpResponse, Self> {
        let fields = response.headers();
        let Some(name) = fields.get(ERROR) else {
            return Ok(response);
        };
        let text = |name| {
            let value: Option<&HeaderValue> = fields.get(name);
            String::from_utf8_lossy(value.map(HeaderValue::as_bytes).unwrap_or_default())
        };
        let known = OutgoingErrorCode::ALL
            .iter()
            .find(|code| code.as_str().as_bytes() == name.as_bytes());
        let mut error = match known {
            Some(code) => Self::new(*code, text(ERROR_TEXT)),
            None => Self::new(
                OutgoingErrorCode::InternalError,
                format!("{}: {}", text(ERROR), text(ERROR_TEXT)),
            ),
        };
        error.number = text(ERROR_NUMBER).parse().ok();
        Err(error)
    }
}

/// The time limits that a guest sets for one request, beside the deadline of the call.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct OutgoingTimeouts {
    /// Until there is a connection.
    pub connect: Option<Duration>,
    /// From then until the head of the response.
    pub first_byte: Option<Duration>,
}

impl OutgoingTimeouts {
    /// Puts them into a request's fields, in place of whatever reserved fields it has.
    pub fn write<B>(self, request: &mut Request<B>) {
        remove_reserved(request.headers_mut());
        for (name, time) in [
            (CONNECT_TIMEOUT, self.connect),
            (FIRST_BYTE_TIMEOUT, self.first_byte),
        ] {
            if let Some(time) = time {
                let millis = u64::try_from(time.as_millis()).unwrap_or(u64::MAX).max(1);
                request
                    .headers_mut()
                    .insert(name, HeaderValue::from(millis));
            }
        }
    }

    /// Takes them out of a request's fields, and every other reserved field with them.
    pub fn take<B>(request: &mut Request<B>) -> Self {
        let time = |name: HeaderName| {
            let millis = request.headers().get(name)?.to_str().ok()?.parse().ok()?;
            Some(Duration::from_millis(millis))
        };
        let timeouts = Self {
            connect: time(CONNECT_TIMEOUT),
            first_byte: time(FIRST_BYTE_TIMEOUT),
        };
        remove_reserved(request.headers_mut());
        timeouts
    }
}

/// Removes every field of a reserved name.
pub fn remove_reserved(fields: &mut HeaderMap) {
    let reserved: Vec<HeaderName> = fields
        .keys()
        .filter(|name| name.as_str().starts_with(RESERVED_PREFIX))
        .cloned()
        .collect();
    for name in reserved {
        fields.remove(name);
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn every_code_comes_back_as_it_was_sent() {
        for code in OutgoingErrorCode::ALL {
            let error = OutgoingError::new(*code, "what stood against it").with_number(7);
            assert_eq!(
                OutgoingError::check(error.clone().into_response()).unwrap_err(),
                error
            );
        }
    }

    #[test]
    fn a_response_of_a_server_is_no_error_whatever_its_status() {
        let mut response = Response::new(empty());
        *response.status_mut() = StatusCode::BAD_GATEWAY;
        assert!(OutgoingError::check(response).is_ok());
    }

    #[test]
    fn a_code_of_a_newer_provider_is_an_internal_error_that_names_it() {
        let mut response = OutgoingError::new(OutgoingErrorCode::DnsError, "why").into_response();
        response
            .headers_mut()
            .insert(ERROR, HeaderValue::from_static("QUIC-error"));
        let error = OutgoingError::check(response).unwrap_err();
        assert_eq!(error.code, OutgoingErrorCode::InternalError);
        assert_eq!(error.text, "QUIC-error: why");
    }

    #[test]
    fn text_that_no_field_can_hold_is_made_printable_and_cut() {
        let error = OutgoingError::new(OutgoingErrorCode::DnsError, "a\r\nx: \u{e4}");
        assert_eq!(error.text, "a??x: ?");
        let long = OutgoingError::new(OutgoingErrorCode::DnsError, "a".repeat(10_000));
        assert_eq!(long.text.len(), ERROR_TEXT_BYTES_MAX);
    }

    #[test]
    fn time_limits_replace_what_a_guest_wrote_itself_and_are_taken_out_again() {
        let mut request = Request::new(());
        for name in ["trellis-http-error", "trellis-http-connect-timeout-ms"] {
            request
                .headers_mut()
                .insert(name, HeaderValue::from_static("1"));
        }
        let timeouts = OutgoingTimeouts {
            connect: None,
            first_byte: Some(Duration::from_secs(2)),
        };
        timeouts.write(&mut request);
        assert_eq!(request.headers().len(), 1);
        assert_eq!(OutgoingTimeouts::take(&mut request), timeouts);
        assert!(request.headers().is_empty());
    }
}
