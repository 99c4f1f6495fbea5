//! What a client sends to have a link made: `{"url": "…"}`. Other members are ignored.

use serde_json::Value;

use crate::url::{HttpUrl, UrlError};

/// Why a body is no submission.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SubmissionError {
    /// It is not JSON at all.
    #[error("the body is not valid json: {0}")]
    Json(#[source] serde_json::Error),
    /// It is JSON, but no object with a `url` that is a string.
    #[error("the body must be an object with a string member `url`")]
    NoUrl,
    /// There is a `url`, but not one that can be shortened.
    #[error("{0}")]
    Url(#[from] UrlError),
}

/// Reads the URL out of `body`.
///
/// # Errors
///
/// [`SubmissionError`], the first that applies in the order of its variants.
pub(crate) fn parse(body: &[u8]) -> Result<HttpUrl, SubmissionError> {
    let value: Value = serde_json::from_slice(body).map_err(SubmissionError::Json)?;
    let url = value
        .get("url")
        .and_then(Value::as_str)
        .ok_or(SubmissionError::NoUrl)?;
    Ok(HttpUrl::parse(url)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_url_member_is_what_counts() {
        let url = parse(br#"{"url": "https://example.org/", "note": 7}"#);
        assert_eq!(
            url.expect("the body is valid").as_str(),
            "https://example.org/"
        );
    }

    #[test]
    fn what_is_not_json_is_told_apart_from_json_of_another_shape() {
        for body in [
            &b""[..],
            b"{",
            b"url=https://example.org/",
            b"\xff",
            b"{} {}",
        ] {
            assert!(matches!(parse(body), Err(SubmissionError::Json(_))));
        }
        for body in [&b"{}"[..], b"[]", b"null", br#""url""#, br#"{"url": 1}"#] {
            assert!(matches!(parse(body), Err(SubmissionError::NoUrl)));
        }
        assert!(matches!(
            parse(br#"{"url": "example.org"}"#),
            Err(SubmissionError::Url(UrlError::Scheme))
        ));
    }

    #[test]
    fn json_nested_too_deep_is_refused() {
        let body = "[".repeat(10_000);
        assert!(matches!(
            parse(body.as_bytes()),
            Err(SubmissionError::Json(_))
        ));
    }
}
