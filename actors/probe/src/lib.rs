//! A test actor: it does on request what actors should not, so that tests can see what a host does about it.
//!
//! | path | what it does |
//! | --- | --- |
//! | `/echo` | sends the request's body back while it arrives |
//! | `/bytes?n=N` | sends N bytes |
//! | `/slow?n=N` | sleeps N milliseconds, then answers |
//! | `/drip?n=N` | answers at once, then sends a byte every N milliseconds for as long as anybody listens |
//! | `/spin` | computes for ever |
//! | `/grow?n=N` | allocates N MiB and touches them |
//! | `/trap` | stops with a trap |
//! | `/mute` | ends without an answer |
//! | `/log?n=N` | writes a line of N letters to its standard output |
//! | other | answers at once |

use std::hint::black_box;
use std::io::Write as _;
use std::time::Duration;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};
use wasip2::io::streams::{OutputStream, StreamError};

/// Bytes that are passed on at a time.
const PIECE_BYTES: u64 = 64 * 1024;

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
            "/bytes" => respond(response_out, |out| bytes(number, out)),
            "/drip" => respond(response_out, |out| drip(number, out)),
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
                respond(response_out, |out| write(out, b"done\n"));
            }
        }
    }
}

wasip2::http::proxy::export!(Probe);

/// Answers 200 and lets `content` write the body. Without a reader left there is nobody to tell of a failure.
fn respond(
    response_out: ResponseOutparam,
    content: impl FnOnce(&mut OutputStream) -> Result<(), StreamError>,
) {
    let response = OutgoingResponse::new(Fields::new());
    let body = response
        .body()
        .expect("a new response hands its body out once");
    ResponseOutparam::set(response_out, Ok(response));
    let Ok(mut stream) = body.write() else { return };
    if content(&mut stream).is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

fn echo(request: &IncomingRequest, out: &mut OutputStream) -> Result<(), StreamError> {
    let body = request.consume().map_err(|()| StreamError::Closed)?;
    let input = body.stream().map_err(|()| StreamError::Closed)?;
    loop {
        match out.blocking_splice(&input, PIECE_BYTES) {
            Ok(_) => {}
            Err(StreamError::Closed) => return out.blocking_flush(),
            Err(error) => return Err(error),
        }
    }
}

fn bytes(count: u64, out: &mut OutputStream) -> Result<(), StreamError> {
    let mut left = count;
    while left > 0 {
        let piece = left.min(PIECE_BYTES);
        write(out, &vec![b'x'; usize::try_from(piece).unwrap_or(0)])?;
        left -= piece;
    }
    Ok(())
}

fn drip(pause_ms: u64, out: &mut OutputStream) -> Result<(), StreamError> {
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
