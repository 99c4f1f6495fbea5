//! A request passed on to another server: what came in goes out there, and what comes back goes back.

use wasip2::http::outgoing_handler::handle;
use wasip2::http::types::{
    ErrorCode, Fields, IncomingRequest, IncomingResponse, OutgoingBody, OutgoingRequest,
    ResponseOutparam, Scheme,
};
use wasip2::io::streams::StreamError;

use crate::{BAD_GATEWAY, answer, pass_on, say};

/// Sends the request on to `url`, and answers as it is answered there. An error is told as a 502 with the name that the
/// interface has for it.
pub(crate) fn fetch(request: &IncomingRequest, url: &str, response_out: ResponseOutparam) {
    match send(request, url) {
        Ok(response) => answer(response_out, response.status(), |out| {
            let body = response.consume().map_err(|()| StreamError::Closed)?;
            pass_on(body, out)
        }),
        Err(error) => say(response_out, BAD_GATEWAY, &format!("{error:?}\n")),
    }
}

fn send(request: &IncomingRequest, url: &str) -> Result<IncomingResponse, ErrorCode> {
    let wrong = |()| ErrorCode::HttpRequestUriInvalid;
    let (scheme, rest) = url
        .split_once("://")
        .ok_or(ErrorCode::HttpRequestUriInvalid)?;
    let (authority, path) = match rest.find('/') {
        Some(at) => rest.split_at(at),
        None => (rest, "/"),
    };
    let scheme = match scheme {
        "http" => Scheme::Http,
        "https" => Scheme::Https,
        other => Scheme::Other(other.to_owned()),
    };
    let sent = OutgoingRequest::new(Fields::new());
    sent.set_method(&request.method()).map_err(wrong)?;
    sent.set_scheme(Some(&scheme)).map_err(wrong)?;
    sent.set_authority(Some(authority)).map_err(wrong)?;
    sent.set_path_with_query(Some(path)).map_err(wrong)?;
    let out = sent.body().map_err(wrong)?;
    let answered = handle(sent, None)?;
    // Where the body breaks off, the answer is an error, or came before the body's end.
    let _ = upload(request, out);
    answered.subscribe().block();
    match answered.get() {
        Some(Ok(answered)) => answered,
        _ => Err(ErrorCode::InternalError(None)),
    }
}

/// Passes the request's body on to its end. Nothing where it broke off on either side.
fn upload(request: &IncomingRequest, out: OutgoingBody) -> Option<()> {
    let body = request.consume().ok()?;
    let mut stream = out.write().ok()?;
    let trailers = pass_on(body, &mut stream).ok()?;
    drop(stream);
    OutgoingBody::finish(out, trailers).ok()
}
