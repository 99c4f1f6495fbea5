//! An actor that wants more than it was granted: on each request it tries to read a key-value store and reports what
//! it was told.
//!
//! Its claims (`trellis.toml`) grant HTTP and nothing else, so a host refuses to start it and names the missing grant.
//! Were it signed with the capability, each call would still need a link, and its answers show that: 200 with what it
//! read, or a 403 problem document (RFC 9457) with the reason it got.

use std::io::Write as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use bindings::wasi::keyvalue::store;

/// Types and import glue, generated from `interfaces/wit` and this actor's own world.
mod bindings {
    wit_bindgen::generate!({
        path: ["../../interfaces/wit/wasi-keyvalue", "wit"],
        world: "trellis:curious-actor/curious",
        generate_all,
    });
}

const BUCKET: &str = "default";
const KEY: &str = "secret";

struct Curious;

impl Guest for Curious {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        match look() {
            Ok(Some(value)) => send(response_out, 200, "application/octet-stream", &value),
            Ok(None) => {
                let told = format!("nothing is stored at `{KEY}`\n");
                send(
                    response_out,
                    200,
                    "text/plain; charset=utf-8",
                    told.as_bytes(),
                );
            }
            Err(error) => send(
                response_out,
                403,
                "application/problem+json",
                problem(&error).as_bytes(),
            ),
        }
    }
}

wasip2::http::proxy::export!(Curious);

/// What it is after.
fn look() -> Result<Option<Vec<u8>>, store::Error> {
    store::open(BUCKET)?.get(KEY)
}

/// The refusal as a problem document, in the words of whoever refused.
fn problem(error: &store::Error) -> String {
    let detail = match error {
        store::Error::NoSuchStore => "no such store",
        store::Error::AccessDenied => "access denied",
        store::Error::Other(reason) => reason,
    };
    let document = serde_json::json!({
        "type": "tag:curious.example,2026:refused",
        "title": "The store was not opened to this actor",
        "status": 403,
        "detail": detail,
    });
    format!("{document}\n")
}

fn send(response_out: ResponseOutparam, status: u16, media: &str, content: &[u8]) {
    let fields = Fields::new();
    for (name, value) in [
        ("content-type", media),
        ("content-length", &content.len().to_string()),
    ] {
        fields
            .append(name, value.as_bytes())
            .expect("well-known names with plain values are valid fields");
    }
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(status)
        .expect("both statuses here have three digits");
    let body = response
        .body()
        .expect("a new response hands its body out once");
    ResponseOutparam::set(response_out, Ok(response));

    // From here on a failure means that the client has gone, and nobody is left to tell.
    let Ok(mut stream) = body.write() else { return };
    if stream.write_all(content).is_ok() && stream.flush().is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_passed_on_in_its_own_words() {
        let error = store::Error::Other("no grant for \"wasi:keyvalue\"".to_owned());
        let document: serde_json::Value =
            serde_json::from_str(&problem(&error)).expect("the document is json");
        assert_eq!(document["status"], 403);
        assert_eq!(document["detail"], "no grant for \"wasi:keyvalue\"");
    }
}
