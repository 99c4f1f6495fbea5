//! Fields that end at a connection, and what a head may weigh.

use http::header::{
    CONNECTION, HOST, HeaderName, PROXY_AUTHENTICATE, PROXY_AUTHORIZATION, TE, TRANSFER_ENCODING,
    UPGRADE,
};
use http::{HeaderMap, HeaderValue};
use trellis_provider_sdk::outgoing::remove_reserved;

use crate::config::{FIELDS, HEAD_BYTES};

/// Where a request's place in a trace is said (W3C Trace Context).
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Where the trace's id stands in it.
const TRACE_ID: std::ops::Range<usize> = 3..35;

/// Fields that concern one connection alone (RFC 9110, section 7.6.1). The connections on both sides have their own.
static HOP_BY_HOP: [HeaderName; 8] = [
    CONNECTION,
    PROXY_AUTHENTICATE,
    PROXY_AUTHORIZATION,
    TRANSFER_ENCODING,
    UPGRADE,
    HeaderName::from_static("keep-alive"),
    HeaderName::from_static("proxy-connection"),
    HeaderName::from_static("http2-settings"),
];

/// Leaves what is for the server.
pub(crate) fn prepare_request(fields: &mut HeaderMap) {
    // Of the transfer codings that a caller can ask for, trailers alone pass through.
    let takes_trailers = fields.get_all(TE).iter().any(|value| {
        let mut codings = value.as_bytes().split(|byte| *byte == b',');
        codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
    });
    remove_hop_by_hop(fields);
    fields.remove(TE);
    if takes_trailers {
        fields.insert(TE, HeaderValue::from_static("trailers"));
    }
    // Set anew from the URI.
    fields.remove(HOST);
}

/// Has a request say which span of which trace it belongs to. A guest that has sent it on as it came in, or not at all, is
/// taken to mean its own call; one that names another trace does its own tracing, and is left alone.
pub(crate) fn continue_trace(fields: &mut HeaderMap, traceparent: Option<&str>) {
    let Some(traceparent) = traceparent else {
        return;
    };
    let mut named = fields.get_all(TRACEPARENT).iter();
    let is_other = named.any(|value| {
        let own = traceparent.as_bytes().get(TRACE_ID);
        own.is_none() || value.as_bytes().get(TRACE_ID) != own
    });
    if is_other {
        return;
    }
    // Whatever is no value of a field is no context either.
    if let Ok(value) = HeaderValue::from_str(traceparent) {
        fields.insert(TRACEPARENT, value);
    }
}

/// Leaves what is for the guest. A server cannot pass for the provider: see [`trellis_provider_sdk::outgoing`].
pub(crate) fn prepare_response(fields: &mut HeaderMap) {
    remove_hop_by_hop(fields);
    remove_reserved(fields);
}

fn remove_hop_by_hop(fields: &mut HeaderMap) {
    let named: Vec<HeaderName> = fields
        .get_all(CONNECTION)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .filter_map(|name| HeaderName::from_bytes(name.trim_ascii()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        fields.remove(name);
    }
}

/// Whether a frame can carry these fields, so that it makes no difference where the actor runs.
pub(crate) fn fit(fields: &HeaderMap) -> bool {
    /// What a frame takes for each field beside its text, at most, and for the rest of a head.
    const FIELD_FRAMING_BYTES: usize = 8;
    const HEAD_FRAMING_BYTES: usize = 64;
    let bytes = fields
        .iter()
        .fold(HEAD_FRAMING_BYTES, |bytes, (name, value)| {
            bytes + name.as_str().len() + value.len() + FIELD_FRAMING_BYTES
        });
    fields.len() <= FIELDS && bytes <= HEAD_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(list: &[(&'static str, &'static str)]) -> HeaderMap {
        list.iter()
            .map(|(name, value)| {
                (
                    HeaderName::from_static(name),
                    HeaderValue::from_static(value),
                )
            })
            .collect()
    }

    #[test]
    fn what_concerns_a_connection_ends_there_and_so_does_what_it_names() {
        let mut request = fields(&[
            ("connection", "close, X-Private"),
            ("x-private", "1"),
            ("keep-alive", "5"),
            ("upgrade", "websocket"),
            ("transfer-encoding", "chunked"),
            ("proxy-authorization", "secret"),
            ("te", "gzip, Trailers"),
            ("host", "elsewhere"),
            ("accept", "*/*"),
        ]);
        prepare_request(&mut request);
        assert_eq!(request, fields(&[("accept", "*/*"), ("te", "trailers")]));
    }

    #[test]
    fn a_request_continues_the_trace_of_its_call_unless_the_guest_names_another() {
        const CALL: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        const IN: &str = "00-0af7651916cd43dd8448eb211c80319c-00f067aa0ba902b7-01";
        const OTHER: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (guest, sent) in [
            (None, CALL),
            (Some(IN), CALL),
            (Some(OTHER), OTHER),
            (Some("x"), "x"),
        ] {
            let mut request = HeaderMap::new();
            if let Some(guest) = guest {
                request.insert(TRACEPARENT, HeaderValue::from_static(guest));
            }
            continue_trace(&mut request, Some(CALL));
            assert_eq!(
                request.get(TRACEPARENT).map(HeaderValue::as_bytes),
                Some(sent.as_bytes())
            );
        }
        let mut request = HeaderMap::new();
        for nothing in [None, Some("a\nb")] {
            continue_trace(&mut request, nothing);
            assert!(request.is_empty());
        }
    }

    #[test]
    fn a_server_cannot_send_what_is_reserved_for_the_provider() {
        let mut response = fields(&[("trellis-http-error", "DNS-error"), ("etag", "1")]);
        prepare_response(&mut response);
        assert_eq!(response, fields(&[("etag", "1")]));
    }

    #[test]
    fn the_largest_head_fits_and_one_byte_more_does_not() {
        let head = |bytes: usize| {
            let mut fields = HeaderMap::new();
            let value = HeaderValue::from_str(&"x".repeat(bytes - 64 - 8 - 1)).expect("letters");
            fields.insert("a", value);
            fields
        };
        assert!(fit(&head(HEAD_BYTES)));
        assert!(!fit(&head(HEAD_BYTES + 1)));
    }
}
