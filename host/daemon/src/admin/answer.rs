//! What is answered.

use std::convert::Infallible;

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE};
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::Full;

use trellis_host_core::{METRICS_CONTENT_TYPE, Readiness};

use super::subject::Subject;

const PLAIN: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");

/// The format of the host's numbers.
const METRICS: HeaderValue = HeaderValue::from_static(METRICS_CONTENT_TYPE);

type Answer = Response<Full<Bytes>>;

/// Answers one request. Its body is not read.
pub(super) async fn answer<B>(
    request: &Request<B>,
    subject: &Subject,
) -> Result<Answer, Infallible> {
    if !matches!(*request.method(), Method::GET | Method::HEAD) {
        let mut refused = text(
            StatusCode::METHOD_NOT_ALLOWED,
            "only GET and HEAD are answered\n",
        );
        refused
            .headers_mut()
            .insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return Ok(refused);
    }
    // hyper leaves out the body of what answers HEAD.
    Ok(match request.uri().path() {
        "/livez" if subject.is_live().await => text(StatusCode::OK, "live\n"),
        "/livez" => text(
            StatusCode::SERVICE_UNAVAILABLE,
            "stuck: the threads of the host take up no new work\n",
        ),
        "/readyz" => ready(&subject.readiness().await),
        "/metrics" => match subject.metrics() {
            Some(metrics) => {
                let mut answer = text(StatusCode::OK, metrics);
                answer.headers_mut().insert(CONTENT_TYPE, METRICS);
                answer
            }
            None => text(
                StatusCode::SERVICE_UNAVAILABLE,
                "the host has not started yet\n",
            ),
        },
        _ => text(
            StatusCode::NOT_FOUND,
            "there are /livez, /readyz and /metrics\n",
        ),
    })
}

fn ready(readiness: &Readiness) -> Answer {
    let (status, word) = match readiness.is_ready() {
        true => (StatusCode::OK, "ready"),
        false => (StatusCode::SERVICE_UNAVAILABLE, "not ready"),
    };
    text(status, format!("{word}\n{readiness}"))
}

fn text(status: StatusCode, body: impl Into<Bytes>) -> Answer {
    let mut answer = Response::new(Full::new(body.into()));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, PLAIN);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    answer
}
