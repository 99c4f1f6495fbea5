//! From the request as it came to the request as it is handed on.

use std::net::SocketAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, HeaderValue, Method, Uri, Version};
use trellis_protocol::limits::TRACEPARENT_BYTES_MAX;

use crate::problem::Problem;

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY_CONNECTION: HeaderName = HeaderName::from_static("proxy-connection");
const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");

/// Gives the request an absolute URI: our scheme, and the authority it asked for.
///
/// `local` stands in for the authority of an HTTP/1.0 request that names none.
///
/// # Errors
/// 400 where an authority is missing, malformed, given twice, or contradicts another (RFC 9112 section 3.2, RFC 9113
/// section 8.3.1).
pub(crate) fn make_absolute(
    parts: &mut Parts,
    scheme: Scheme,
    local: SocketAddr,
) -> Result<(), Problem> {
    let authority = authority(parts, local)?;
    let mut uri = std::mem::take(&mut parts.uri).into_parts();
    uri.scheme = Some(scheme);
    uri.authority = Some(authority);
    if uri.path_and_query.is_none() {
        uri.path_and_query = Some(PathAndQuery::from_static("/"));
    }
    parts.uri = Uri::from_parts(uri)
        .map_err(|_| Problem::bad_request("the request target is malformed"))?;
    Ok(())
}

fn authority(parts: &mut Parts, local: SocketAddr) -> Result<Authority, Problem> {
    let mut values = parts.headers.get_all(HOST).iter();
    let host = values.next();
    if values.next().is_some() {
        return Err(Problem::bad_request("the request has more than one Host"));
    }
    let host = host.map(parse_authority).transpose()?;
    let in_target = match parts.uri.authority() {
        Some(authority) => Some(checked(authority.clone())?),
        None => None,
    };
    match (host, in_target) {
        (None, Some(_)) if parts.version == Version::HTTP_11 => {
            Err(Problem::bad_request("the request has no Host"))
        }
        (None, Some(target)) => Ok(target),
        (Some(host), None) => Ok(host),
        (Some(host), Some(target)) if host == target => Ok(target),
        (Some(_), Some(_)) if parts.version == Version::HTTP_2 => Err(Problem::bad_request(
            "the request's Host contradicts its :authority",
        )),
        // An absolute request target overrides Host, for whoever reads the field, too.
        (Some(_), Some(target)) => {
            if let Ok(value) = HeaderValue::from_str(target.as_str()) {
                parts.headers.insert(HOST, value);
            }
            Ok(target)
        }
        (None, None) if parts.version < Version::HTTP_11 => Authority::try_from(local.to_string())
            .map_err(|_| Problem::bad_request("the request has no Host")),
        (None, None) => Err(Problem::bad_request("the request has no Host")),
    }
}

fn parse_authority(host: &HeaderValue) -> Result<Authority, Problem> {
    Authority::try_from(host.as_bytes())
        .map_err(|_| Problem::bad_request("the request's Host is malformed"))
        .and_then(checked)
}

/// The `uri-host [":" port]` of Host is narrower than an authority: no user, and a port that is one.
fn checked(authority: Authority) -> Result<Authority, Problem> {
    let text = authority.as_str();
    let host = authority.host();
    let proper = !host.is_empty()
        && match text.strip_prefix(host) {
            Some("") => true,
            Some(_) => authority.port_u16().is_some(),
            None => false,
        };
    if proper {
        Ok(authority)
    } else {
        Err(Problem::bad_request("the request's Host is malformed"))
    }
}

/// Takes out the fields that are for the next hop alone (RFC 9110 section 7.6.1).
///
/// `TE: trailers` stays: it says what the client at the far end can take.
pub(crate) fn strip_hop_by_hop(headers: &mut HeaderMap) {
    // Most messages have none of them, and looking at each name once is cheaper than looking up each of ours.
    if !headers.keys().any(is_hop_by_hop) {
        return;
    }
    let named: Vec<HeaderName> = headers
        .get_all(CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::from_bytes(name.trim().as_bytes()).ok())
        // What frames the message or addresses it is no option of the connection.
        .filter(|name| *name != TE && *name != CONTENT_LENGTH && *name != HOST)
        .collect();
    for name in named {
        headers.remove(name);
    }
    let takes_trailers = headers
        .get_all(TE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .any(|coding| coding.trim().eq_ignore_ascii_case("trailers"));
    for name in [
        CONNECTION,
        KEEP_ALIVE,
        PROXY_CONNECTION,
        TRANSFER_ENCODING,
        UPGRADE,
        TE,
    ] {
        headers.remove(name);
    }
    let proxy: Vec<HeaderName> = headers
        .keys()
        .filter(|name| name.as_str().starts_with("proxy-"))
        .cloned()
        .collect();
    for name in proxy {
        headers.remove(name);
    }
    if takes_trailers {
        headers.insert(TE, HeaderValue::from_static("trailers"));
    }
}

fn is_hop_by_hop(name: &HeaderName) -> bool {
    *name == CONNECTION
        || *name == TRANSFER_ENCODING
        || *name == TE
        || *name == UPGRADE
        || *name == KEEP_ALIVE
        || name.as_str().starts_with("proxy-")
}

/// Whether the method may be repeated without harm (RFC 9110 section 9.2.2).
pub(crate) fn is_idempotent(method: &Method) -> bool {
    is_readonly(method) || matches!(*method, Method::PUT | Method::DELETE | Method::TRACE)
}

/// Whether the method is one that `readonly_mode` lets through.
pub(crate) fn is_readonly(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD | Method::OPTIONS)
}

/// The caller's trace context, if it is a valid one (W3C Trace Context, section 3.2).
pub(crate) fn traceparent(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(TRACEPARENT).iter();
    let text = values.next()?.to_str().ok()?;
    (values.next().is_none() && is_traceparent(text)).then(|| text.to_owned())
}

fn is_traceparent(text: &str) -> bool {
    const LENGTH: usize = 55;
    let bytes = text.as_bytes();
    if bytes.len() < LENGTH || bytes.len() > TRACEPARENT_BYTES_MAX {
        return false;
    }
    let hex = |range: std::ops::Range<usize>| {
        bytes[range]
            .iter()
            .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let some = |range: std::ops::Range<usize>| bytes[range].iter().any(|b| *b != b'0');
    let dashes = bytes[2] == b'-' && bytes[35] == b'-' && bytes[52] == b'-';
    let version = &bytes[..2];
    // A later version may append fields; version 00 may not, and ff is none.
    let ends = bytes.len() == LENGTH || (version != b"00" && bytes[LENGTH] == b'-');
    dashes
        && ends
        && version != b"ff"
        && hex(0..2)
        && hex(3..35)
        && hex(36..52)
        && hex(53..55)
        && some(3..35)
        && some(36..52)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use http::Request;

    use super::*;

    fn absolute(request: http::request::Builder) -> Result<Parts, Problem> {
        let mut parts = request.body(()).unwrap().into_parts().0;
        make_absolute(&mut parts, Scheme::HTTP, "127.0.0.1:8000".parse().unwrap())?;
        Ok(parts)
    }

    #[test]
    fn the_uri_becomes_absolute_with_the_host_of_the_request() {
        let parts = absolute(Request::get("/a?b=c").header("host", "x.example:81")).unwrap();
        assert_eq!(parts.uri, "http://x.example:81/a?b=c");
    }

    #[test]
    fn an_absolute_target_wins_over_host() {
        let parts =
            absolute(Request::get("ftp://t.example/a").header("host", "h.example")).unwrap();
        assert_eq!(parts.uri, "http://t.example/a");
        assert_eq!(parts.headers[HOST], "t.example");
    }

    #[test]
    fn an_authority_that_is_missing_odd_or_doubled_is_refused() {
        assert!(absolute(Request::get("/")).is_err());
        assert!(absolute(Request::get("/").header("host", "a").header("host", "a")).is_err());
        for host in ["", "u@a", "a:b", "a:99999", "a/b", "a b", ":80"] {
            assert!(
                absolute(Request::get("/").header("host", host)).is_err(),
                "{host:?}"
            );
        }
        let h2 = Request::get("http://a/").version(Version::HTTP_2);
        assert!(absolute(h2.header("host", "b")).is_err());
    }

    #[test]
    fn http_1_0_may_leave_out_the_host() {
        let parts = absolute(Request::get("/").version(Version::HTTP_10)).unwrap();
        assert_eq!(parts.uri, "http://127.0.0.1:8000/");
    }

    #[test]
    fn fields_for_one_hop_are_taken_out() {
        let mut headers = Request::get("/")
            .header("connection", "close, X-Mine, te, content-length")
            .header("x-mine", "1")
            .header("keep-alive", "timeout=5")
            .header("proxy-authorization", "secret")
            .header("proxy-connection", "close")
            .header("te", "gzip, trailers")
            .header("transfer-encoding", "chunked")
            .header("upgrade", "websocket")
            .header("content-length", "3")
            .header("x-other", "2")
            .body(())
            .unwrap()
            .into_parts()
            .0
            .headers;
        strip_hop_by_hop(&mut headers);
        let mut names: Vec<&str> = headers.keys().map(HeaderName::as_str).collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "te", "x-other"]);
        assert_eq!(headers[TE], "trailers");
    }

    #[test]
    fn a_trace_context_is_continued_only_if_valid() {
        let good = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        assert!(is_traceparent(good));
        assert!(is_traceparent(&format!("01{}-x", &good[2..])));
        for bad in [
            &good[..54],
            &format!("{good}-x"),
            &good.to_uppercase(),
            &good.replace("b7ad6b7169203331", "0000000000000000"),
            &good.replace(
                "0af7651916cd43dd8448eb211c80319c",
                "00000000000000000000000000000000",
            ),
            &format!("ff{}", &good[2..]),
            &good.replace('-', "_"),
            &format!("01{}-{}", &good[2..], "x".repeat(TRACEPARENT_BYTES_MAX)),
        ] {
            assert!(!is_traceparent(bad), "{bad}");
        }
    }
}
