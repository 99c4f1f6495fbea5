//! A test actor: it does on request what actors should not, so that tests can see what a host does about it.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/echo` | sends the request's body back while it arrives, and its trailers after it |
//! | `/count?n=N` | reads the request's body, waits N milliseconds after each piece of it, answers with its length |
//! | `/bytes?n=N` | sends N bytes |
//! | `/slow?n=N` | sleeps N milliseconds, then answers |
//! | `/drip?n=N` | answers at once, then sends a byte every N milliseconds for as long as anybody listens |
//! | `/spin` | computes for ever |
//! | `/grow?n=N` | allocates N MiB and touches them |
//! | `/trap` | stops with a trap |
//! | `/mute` | ends without an answer |
//! | `/log?n=N` | writes a line of N letters to its standard output |
//! | `/fetch?to=URL` | sends the request on to another server, and answers what that does |
//! | `/kept?n=N` | keeps N bytes in its key-value store and reads them back |
//! | `/lists/bytes?n=N`, `/lists/numbers?n=N`, `/lists/text?n=N` | sends N elements to another probe and back |
//! | other | answers at once |

mod fetch;
mod lists;

use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingBody, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
    Trailers,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// Types and glue of what the probe calls and serves beside WASI, generated from its world.
mod bindings {
    #![expect(
        unsafe_code,
        reason = "generated code crosses the component boundary by pointer"
    )]
    wit_bindgen::generate!({
        path: ["../../interfaces/wit/wasi-keyvalue", "wit"],
        world: "trellis:probe/probe",
        generate_all,
    });
    use super::Probe;
    export!(Probe);
}

/// Bytes that are passed on at a time.
const PIECE_BYTES: u64 = 64 * 1024;

const OK: u16 = 200;

const BAD_GATEWAY: u16 = 502;

/// Bytes of a page of WebAssembly memory, each of which is touched once.
const PAGE_BYTES: usize = 64 * 1024;

struct Probe;

impl Guest for Probe {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let target = request.path_with_query().unwrap_or_default();
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let number = query
            .strip_prefix("n=")
            .and_then(|number| number.parse().ok())
            .unwrap_or(0);
        match path {
            "/echo" => respond(response_out, |out| echo(&request, out)),
            "/count" => {
                // Without its sender a body has nobody left who would read an answer.
                if let Ok(length) = count(&request, number) {
                    say(response_out, OK, &format!("{length}\n"));
                }
            }
            "/bytes" => respond(response_out, |out| bytes(number, out)),
            "/drip" => respond(response_out, |out| drip(number, out)),
            "/fetch" => {
                let url = query.strip_prefix("to=").unwrap_or(query);
                fetch::fetch(&request, url, response_out);
            }
            "/mute" => {}
            _ => {
                match path {
                    "/slow" => std::thread::sleep(Duration::from_millis(number)),
                    "/spin" => spin(),
                    "/grow" => grow(number),
                    "/trap" => std::process::abort(),
                    "/log" => log(number),
                    _ => {}
                }
                let elements = usize::try_from(number).unwrap_or(usize::MAX);
                match lists::there_and_back(path, elements) {
                    Some(Err(reason)) => say(response_out, BAD_GATEWAY, &reason),
                    Some(Ok(())) | None => say(response_out, OK, "done\n"),
                }
            }
        }
    }
}

wasip2::http::proxy::export!(Probe);

/// Answers 200 and lets `content` write the body. Without a reader left there is nobody to tell of a failure.
fn respond(
    response_out: ResponseOutparam,
    content: impl FnOnce(&mut OutputStream) -> Result<Option<Trailers>, StreamError>,
) {
    answer(response_out, OK, content);
}

fn say(response_out: ResponseOutparam, status: u16, text: &str) {
    answer(response_out, status, |out| {
        write(out, text.as_bytes())?;
        Ok(None)
    });
}

fn answer(
    response_out: ResponseOutparam,
    status: u16,
    content: impl FnOnce(&mut OutputStream) -> Result<Option<Trailers>, StreamError>,
) {
    let response = OutgoingResponse::new(Fields::new());
    response
        .set_status_code(status)
        .expect("a status has three digits");
    let body = response
        .body()
        .expect("a new response hands its body out once");
    ResponseOutparam::set(response_out, Ok(response));
    let Ok(mut stream) = body.write() else { return };
    if let Ok(trailers) = content(&mut stream) {
        drop(stream);
        let _ = OutgoingBody::finish(body, trailers);
    }
}

fn echo(
    request: &IncomingRequest,
    out: &mut OutputStream,
) -> Result<Option<Trailers>, StreamError> {
    let body = request.consume().map_err(|()| StreamError::Closed)?;
    pass_on(body, out)
}

/// Writes a body on while it arrives, and gives back its trailers.
fn pass_on(body: IncomingBody, out: &mut OutputStream) -> Result<Option<Trailers>, StreamError> {
    let input = body.stream().map_err(|()| StreamError::Closed)?;
    loop {
        match out.blocking_splice(&input, PIECE_BYTES) {
            Ok(_) => {}
            Err(StreamError::Closed) => break,
            Err(error) => return Err(error),
        }
    }
    out.blocking_flush()?;
    drop(input);
    let trailers = IncomingBody::finish(body);
    trailers.subscribe().block();
    match trailers.get() {
        Some(Ok(Ok(trailers))) => Ok(trailers),
        _ => Err(StreamError::Closed),
    }
}

fn count(request: &IncomingRequest, pause_ms: u64) -> Result<u64, StreamError> {
    let body = request.consume().map_err(|()| StreamError::Closed)?;
    let input = body.stream().map_err(|()| StreamError::Closed)?;
    let mut length = 0;
    loop {
        match input.blocking_read(PIECE_BYTES) {
            Ok(piece) => length += piece.len() as u64,
            Err(StreamError::Closed) => return Ok(length),
            Err(error) => return Err(error),
        }
        if pause_ms > 0 {
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
    }
}

fn bytes(count: u64, out: &mut OutputStream) -> Result<Option<Trailers>, StreamError> {
    let mut left = count;
    while left > 0 {
        let piece = left.min(PIECE_BYTES);
        write(out, &vec![b'x'; usize::try_from(piece).unwrap_or(0)])?;
        left -= piece;
    }
    Ok(None)
}

fn drip(pause_ms: u64, out: &mut OutputStream) -> Result<Option<Trailers>, StreamError> {
    loop {
        out.blocking_write_and_flush(b".")?;
        std::thread::sleep(Duration::from_millis(pause_ms));
    }
}

fn write(out: &mut OutputStream, content: &[u8]) -> Result<(), StreamError> {
    out.write_all(content).map_err(|_| StreamError::Closed)?;
    out.blocking_flush()
}

fn spin() {
    let mut turns = 0_u64;
    loop {
        turns = black_box(turns.wrapping_add(1));
    }
}

fn grow(mib: u64) {
    let mut held = Vec::new();
    for _ in 0..mib {
        let mut block = vec![0_u8; 1024 * 1024];
        for byte in block.iter_mut().step_by(PAGE_BYTES) {
            *byte = 1;
        }
        held.push(black_box(block));
    }
}

#[expect(
    clippy::print_stdout,
    reason = "what becomes of standard output is what the test is about"
)]
fn log(letters: u64) {
    println!("{}", "x".repeat(usize::try_from(letters).unwrap_or(0)));
}
