//! The smallest actor: it answers every HTTP request with one line of text.
//!
//! An actor opens no port. It exports `wasi:http/incoming-handler`, and whoever serves HTTP in the lattice calls that
//! export once for each request, on a fresh instance.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

const GREETING: &str = "Hello from Trellis!\n";

struct Hello;

impl Guest for Hello {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        let fields = Fields::new();
        for (name, value) in [
            ("content-type", "text/plain; charset=utf-8"),
            ("content-length", &GREETING.len().to_string()),
        ] {
            fields
                .append(name, value.as_bytes())
                .expect("well-known names with plain values are valid fields");
        }
        let response = OutgoingResponse::new(fields);
        let body = response
            .body()
            .expect("a new response hands its body out once");
        ResponseOutparam::set(response_out, Ok(response));

        // From here on a failure means that the client has gone, and nobody is left to tell.
        let Ok(stream) = body.write() else { return };
        if stream.blocking_write_and_flush(GREETING.as_bytes()).is_ok() {
            drop(stream);
            let _ = OutgoingBody::finish(body, None);
        }
    }
}

wasip2::http::proxy::export!(Hello);
