//! What is answered where no actor answers: a problem document (RFC 9457).

use http::header::{ALLOW, CACHE_CONTROL, CONNECTION, CONTENT_TYPE, RETRY_AFTER};
use http::{HeaderValue, Response, StatusCode};
use serde::Serialize;
use trellis_provider_sdk::http::full;
use trellis_provider_sdk::{Body, Refusal, RefusalCode};

/// Methods that `readonly_mode` lets through.
pub(crate) const READONLY_METHODS: &str = "GET, HEAD, OPTIONS";

/// Why there is no response of an actor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    code: &'static str,
    detail: String,
    remedy: Option<String>,
    allow: Option<&'static str>,
    retry: bool,
    close: bool,
}

/// The document as it travels.
#[derive(Serialize)]
struct Document<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    detail: &'a str,
    code: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    remedy: Option<&'a str>,
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            status,
            code,
            detail: detail.into(),
            remedy: None,
            allow: None,
            retry: false,
            close: false,
        }
    }

    /// The request's head breaks a rule of HTTP.
    pub(crate) fn bad_request(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad-request", detail)
    }

    /// The head has too many fields.
    pub(crate) fn too_many_fields(limit: usize) -> Self {
        Self::new(
            StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            "too-many-fields",
            format!("the request has more than {limit} fields"),
        )
    }

    /// No link wants the request.
    pub(crate) fn unmatched() -> Self {
        Self::new(
            StatusCode::NOT_FOUND,
            "no-such-route",
            "no link of this server matches the request",
        )
    }

    /// The link of this address has gone.
    pub(crate) fn unlinked() -> Self {
        Self::from(Refusal::new(
            RefusalCode::NoLink,
            "this address is not linked to an actor",
        ))
    }

    /// The server has no such function at all.
    pub(crate) fn no_tunnels() -> Self {
        Self::new(
            StatusCode::NOT_IMPLEMENTED,
            "not-implemented",
            "this server does not tunnel",
        )
    }

    /// The link lets only safe methods through.
    pub(crate) fn readonly() -> Self {
        Self {
            allow: Some(READONLY_METHODS),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "readonly",
                format!("this link serves {READONLY_METHODS} alone"),
            )
        }
    }

    /// A page of this origin may not ask.
    pub(crate) fn origin_not_allowed() -> Self {
        Self::new(
            StatusCode::FORBIDDEN,
            "origin-not-allowed",
            "this link does not serve pages of that origin",
        )
    }

    /// The body is larger than it may be. The rest of it is not read.
    pub(crate) fn body_too_large(limit_bytes: u64) -> Self {
        Self {
            close: true,
            ..Self::new(
                StatusCode::PAYLOAD_TOO_LARGE,
                RefusalCode::TooLarge.as_str(),
                format!("the request's body exceeds {limit_bytes} bytes"),
            )
        }
    }

    /// The body paused for too long.
    pub(crate) fn body_idle() -> Self {
        Self {
            close: true,
            ..Self::new(
                StatusCode::REQUEST_TIMEOUT,
                "body-timeout",
                "the rest of the request's body did not arrive in time",
            )
        }
    }

    /// The host did not end a call whose deadline had passed.
    pub(crate) fn deadline() -> Self {
        Self::from(Refusal::new(
            RefusalCode::DeadlineExceeded,
            "there was no response before the deadline",
        ))
    }

    /// The actor's response cannot be expressed in HTTP.
    pub(crate) fn bad_response(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_GATEWAY, "bad-response", detail)
    }

    /// The answer, with a body that is all there.
    pub(crate) fn into_response(self) -> Response<Body> {
        let document = Document {
            r#type: format!("urn:trellis:problem:{}", self.code),
            title: self.status.canonical_reason().unwrap_or("Problem"),
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            remedy: self.remedy.as_deref(),
        };
        // Strings and a number: there is nothing in it that cannot be written as JSON.
        let bytes = serde_json::to_vec(&document).unwrap_or_default();
        let mut response = Response::new(full(bytes));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(allow) = self.allow {
            headers.insert(ALLOW, HeaderValue::from_static(allow));
        }
        if self.retry {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if self.close {
            headers.insert(CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl From<Refusal> for Problem {
    /// The refusal's own code and text, and no more.
    fn from(refusal: Refusal) -> Self {
        let status = match refusal.code {
            // 499 is for logs of clients that have gone. This one is still here: somebody else stopped the work.
            RefusalCode::Cancelled => StatusCode::SERVICE_UNAVAILABLE,
            code => StatusCode::from_u16(code.http_status())
                .unwrap_or(StatusCode::INTERNAL_SERVER_ERROR),
        };
        Self {
            remedy: refusal.remedy,
            retry: matches!(
                refusal.code,
                RefusalCode::Overloaded | RefusalCode::Draining
            ),
            ..Self::new(status, refusal.code.as_str(), refusal.message)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_has_a_final_status_of_its_own_and_never_499() {
        for code in RefusalCode::ALL {
            let status = Problem::from(Refusal::new(*code, "m"))
                .into_response()
                .status()
                .as_u16();
            assert!(
                (400..600).contains(&status) && status != 499,
                "{code}: {status}"
            );
        }
    }

    #[test]
    fn overload_says_when_to_come_back() {
        for code in [RefusalCode::Overloaded, RefusalCode::Draining] {
            let response = Problem::from(Refusal::new(code, "m")).into_response();
            assert_eq!(response.headers()[RETRY_AFTER], "1");
        }
        let other = Problem::from(Refusal::new(RefusalCode::NoRoute, "m")).into_response();
        assert!(!other.headers().contains_key(RETRY_AFTER));
    }
}
