//! A test actor for the benchmarks: it calls others on request, so that what a call costs can be measured from inside.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/calls?n=N&bytes=B` | calls `echo` N times with B bytes; answers with the nanoseconds of each call, one a line |
//! | `/count?key=K` | adds 1 to a counter in the key-value store; answers with the sum |
//! | other | answers at once |
//!
//! It exports `echo` too: started under two ids and linked, it calls itself.

use std::fmt::Write as _;
use std::time::Instant;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use bindings::trellis::relay::echo;
use bindings::wasi::keyvalue::{atomics, store};

/// Types and glue, generated from `interfaces/wit` and this actor's own world.
mod bindings {
    #![expect(
        unsafe_code,
        reason = "generated code crosses the component boundary by pointer"
    )]
    wit_bindgen::generate!({
        path: ["../../interfaces/wit/wasi-keyvalue", "wit/echo", "wit/world"],
        world: "trellis:relay-actor/relay",
        generate_all,
    });
    use super::Relay;
    export!(Relay);
}

/// Most calls of one request; each of them leaves a line in the answer.
const CALLS_MAX: u32 = 100_000;

/// Most bytes of one call.
const BYTES_MAX: usize = 1024 * 1024;

struct Relay;

impl bindings::exports::trellis::relay::echo::Guest for Relay {
    fn echo(data: Vec<u8>) -> Vec<u8> {
        data
    }
}

impl Guest for Relay {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let (status, body) = match path {
            "/calls" => calls(query),
            "/count" => count(query),
            _ => (200, "relay\n".to_owned()),
        };
        respond(response_out, status, &body);
    }
}

wasip2::http::proxy::export!(Relay);

/// The value of a query's parameter.
fn parameter<'a>(query: &'a str, name: &str) -> Option<&'a str> {
    query
        .split('&')
        .find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='))
}

fn number(query: &str, name: &str) -> u32 {
    parameter(query, name)
        .and_then(|text| text.parse().ok())
        .unwrap_or(0)
}

fn calls(query: &str) -> (u16, String) {
    let count = number(query, "n").min(CALLS_MAX);
    let bytes = usize::try_from(number(query, "bytes")).map_or(BYTES_MAX, |b| b.min(BYTES_MAX));
    let data = vec![0x5a; bytes];
    let mut lines = String::new();
    for _ in 0..count {
        let begin = Instant::now();
        let answer = echo::echo(&data);
        let nanoseconds = begin.elapsed().as_nanos();
        if answer.len() != data.len() {
            return (500, "the echo is not what was said\n".to_owned());
        }
        // Writing to a string cannot fail.
        let _ = writeln!(lines, "{nanoseconds}");
    }
    (200, lines)
}

fn count(query: &str) -> (u16, String) {
    let key = parameter(query, "key").unwrap_or("hits");
    let counted = store::open("default").and_then(|bucket| atomics::increment(&bucket, key, 1));
    match counted {
        Ok(sum) => (200, format!("{sum}\n")),
        Err(error) => (503, format!("{error:?}\n")),
    }
}

fn respond(response_out: ResponseOutparam, status: u16, body: &str) {
    let fields = Fields::new();
    fields
        .append("content-length", body.len().to_string().as_bytes())
        .expect("a well-known name with a plain value is a valid field");
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(status)
        .expect("every status here has three digits");
    let out = response
        .body()
        .expect("a new response hands its body out once");
    ResponseOutparam::set(response_out, Ok(response));

    // From here on a failure means that the client has gone, and nobody is left to tell.
    let Ok(mut stream) = out.write() else { return };
    let written = std::io::Write::write_all(&mut stream, body.as_bytes());
    if written.is_ok() && stream.blocking_flush().is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(out, None);
    }
}
