//! From an actor's response to one that can be sent.

use http::header::{CACHE_CONTROL, CONNECTION, CONTENT_LENGTH};
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use trellis_provider_sdk::Body;

use crate::link_config::Policy;
use crate::problem::Problem;
use crate::request::strip_hop_by_hop;

/// Makes an actor's response fit for the wire: what frames it is the server's business, not the actor's.
///
/// # Errors
/// 502 where the status is not a final one.
pub(crate) fn sanitise(response: &mut Response<Body>) -> Result<(), Problem> {
    if response.status().is_informational() {
        return Err(Problem::bad_response(format!(
            "the actor answered with the interim status {}",
            response.status().as_u16()
        )));
    }
    *response.version_mut() = Version::HTTP_11;
    response.extensions_mut().clear();
    strip_hop_by_hop(response.headers_mut());
    check_length(response);
    Ok(())
}

/// Takes out a `Content-Length` that is none, or that contradicts a body whose length is known.
fn check_length(response: &mut Response<Body>) {
    if !response.headers().contains_key(CONTENT_LENGTH) {
        return;
    }
    let body_bytes = response.body().size_hint().exact();
    // A body that is empty may belong to a response to HEAD, whose length is the one GET would have.
    let fits = match (declared_length(response.headers()), body_bytes) {
        (Some(declared), Some(known)) => declared == known || known == 0,
        (Some(_), None) => true,
        (None, _) => false,
    };
    if !fits {
        response.headers_mut().remove(CONTENT_LENGTH);
    }
}

/// The length that a head declares, where it declares one and in proper form.
pub(crate) fn declared_length(headers: &HeaderMap) -> Option<u64> {
    let mut values = headers.get_all(CONTENT_LENGTH).iter();
    let text = values.next()?.to_str().ok()?;
    let is_number = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    (is_number && values.next().is_none()).then(|| text.parse().ok())?
}

/// Whether HTTP has no body for this response, whatever the actor wrote (RFC 9110 sections 6.4.1 and 9.3.2).
pub(crate) fn is_bodiless(method: &Method, status: StatusCode) -> bool {
    *method == Method::HEAD || matches!(status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
}

/// Settles the length of a response whose body is not sent: HEAD tells what GET would give, 204 and 304 tell nothing
/// wrong.
pub(crate) fn settle_bodiless(method: &Method, response: &mut Response<Body>) {
    let status = response.status();
    let exact = response
        .body()
        .size_hint()
        .exact()
        .filter(|bytes| *bytes > 0);
    let headers = response.headers_mut();
    if status == StatusCode::NO_CONTENT {
        headers.remove(CONTENT_LENGTH);
    } else if *method == Method::HEAD
        && let Some(bytes) = exact
    {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(bytes));
    }
}

/// Applies what the link says about responses.
pub(crate) fn apply_policy(policy: &Policy, response: &mut Response<Body>) {
    if let Some(cache_control) = &policy.cache_control {
        response
            .headers_mut()
            .entry(CACHE_CONTROL)
            .or_insert_with(|| cache_control.clone());
    }
}

/// Ends an HTTP/1 connection with this response.
pub(crate) fn close_connection(response: &mut Response<Body>) {
    response
        .headers_mut()
        .insert(CONNECTION, HeaderValue::from_static("close"));
}

#[cfg(test)]
mod tests {
    use trellis_provider_sdk::http::full;

    use super::*;

    fn response(length: &'static str) -> Response<Body> {
        let mut response = Response::new(full("four"));
        response
            .headers_mut()
            .insert(CONTENT_LENGTH, HeaderValue::from_static(length));
        response
    }

    #[test]
    fn a_length_that_contradicts_the_body_is_taken_out() {
        for (length, stays) in [
            ("4", true),
            ("5", false),
            ("+4", false),
            ("", false),
            ("4, 4", false),
        ] {
            let mut response = response(length);
            assert_eq!(sanitise(&mut response), Ok(()));
            assert_eq!(
                response.headers().contains_key(CONTENT_LENGTH),
                stays,
                "{length}"
            );
        }
    }

    #[test]
    fn an_interim_status_is_no_response() {
        let mut response = response("4");
        *response.status_mut() = StatusCode::SWITCHING_PROTOCOLS;
        assert!(sanitise(&mut response).is_err());
    }
}
