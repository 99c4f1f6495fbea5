//! HTTP messages as frames carry them, and back.

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri};
use trellis_protocol::frame::{Field, Fields};
use trellis_protocol::limits::HTTP_FIELDS_MAX;
use trellis_protocol::{Refusal, RefusalCode};

/// The fields of a head or of trailers.
///
/// # Errors
/// `too-large` where they are more than [`HTTP_FIELDS_MAX`].
pub fn to_fields(headers: &HeaderMap) -> Result<Fields, Refusal> {
    if headers.len() > HTTP_FIELDS_MAX {
        return Err(Refusal::new(
            RefusalCode::TooLarge,
            format!(
                "{} header fields exceed the limit of {HTTP_FIELDS_MAX}",
                headers.len()
            ),
        ));
    }
    let field = |(name, value): (&HeaderName, &HeaderValue)| Field {
        name: name.as_str().to_owned(),
        value: Bytes::copy_from_slice(value.as_bytes()),
    };
    Ok(headers.iter().map(field).collect())
}

/// The same back, checked for what HTTP permits.
///
/// # Errors
/// `bad-payload`.
pub fn from_fields(fields: Fields) -> Result<HeaderMap, Refusal> {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(field.name.as_bytes()).map_err(bad)?;
        // Copied out of the message, so that a header that is kept does not keep the whole frame.
        let value = HeaderValue::from_bytes(&field.value).map_err(bad)?;
        headers.append(name, value);
    }
    Ok(headers)
}

/// A request around a body.
///
/// # Errors
/// `bad-payload` where HTTP does not permit it.
pub fn request<B>(method: &str, uri: &str, fields: Fields, body: B) -> Result<Request<B>, Refusal> {
    let mut request = Request::new(body);
    *request.method_mut() = Method::from_bytes(method.as_bytes()).map_err(bad)?;
    *request.uri_mut() = uri.parse::<Uri>().map_err(bad)?;
    *request.headers_mut() = from_fields(fields)?;
    Ok(request)
}

/// A response around a body.
///
/// # Errors
/// `bad-payload` where HTTP does not permit it.
pub fn response<B>(status: u16, fields: Fields, body: B) -> Result<Response<B>, Refusal> {
    let mut response = Response::new(body);
    *response.status_mut() = StatusCode::from_u16(status).map_err(bad)?;
    *response.headers_mut() = from_fields(fields)?;
    Ok(response)
}

fn bad(error: impl std::fmt::Display) -> Refusal {
    Refusal::new(
        RefusalCode::BadPayload,
        format!("not an HTTP message: {error}"),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn fields_come_back_in_order_with_any_bytes_that_http_permits() {
        let mut headers = HeaderMap::new();
        headers.append("set-cookie", HeaderValue::from_static("a=1"));
        headers.append("set-cookie", HeaderValue::from_bytes(b"b=\xff").unwrap());
        let back = from_fields(to_fields(&headers).unwrap()).unwrap();
        assert_eq!(back, headers);
    }

    #[test]
    fn a_field_that_would_split_a_message_is_refused() {
        for (name, value) in [("a", "x\r\nb: y"), ("a b", "x"), ("", "x"), ("a:", "x")] {
            let field = Field {
                name: name.to_owned(),
                value: Bytes::from(value),
            };
            assert_eq!(
                from_fields(vec![field]).unwrap_err().code,
                RefusalCode::BadPayload
            );
        }
    }

    #[test]
    fn a_uri_keeps_scheme_and_authority() {
        let request = request("GET", "https://h:1/p?q", vec![], ()).unwrap();
        assert_eq!(request.uri().to_string(), "https://h:1/p?q");
        assert!(super::request("GE T", "/", vec![], ()).is_err());
        assert!(super::request("GET", "http://", vec![], ()).is_err());
    }
}
