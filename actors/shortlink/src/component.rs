//! The edge of the component: generated bindings on one side, the rest of the actor on the other.

use std::io::Write as _;
use std::time::Duration;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use crate::body::{self, BodyError};
use crate::reply::Reply;
use crate::service;
use crate::world::{Bucket, CodeRefusal, LogLevel, MadeCode, StoreError, World};

use bindings::trellis::shortlink::codes::{self, Alphabet, Avoid, Refusal, Wish};
use bindings::wasi::config::store as config;
use bindings::wasi::keyvalue::{atomics, store};
use bindings::wasi::logging::logging::{Level, log};
use bindings::wasmcloud::messaging::consumer::{self, BrokerMessage};

/// Types and import glue, generated from `interfaces/wit` and this actor's own world.
mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../interfaces/wit/wasi-keyvalue",
            "../../interfaces/wit/wasi-logging",
            "../../interfaces/wit/wasi-config",
            "../../interfaces/wit/trellis-shortlink",
            "../../interfaces/wit/wasmcloud-messaging",
            "wit",
        ],
        world: "trellis:shortlink-actor/shortlink",
        generate_all,
    });
}

/// The bucket all links are in. Which one that is in truth, the link to the provider says.
const BUCKET: &str = "default";

/// What the log lines of this actor have in common.
const LOG_CONTEXT: &str = "shortlink";

struct Shortlink;

impl Guest for Shortlink {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let method = request.method();
        let path = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let reply = service::answer(&Lattice, name_of(&method), &path, || read_body(&request));
        send(reply, response_out);
    }
}

wasip2::http::proxy::export!(Shortlink);

fn name_of(method: &Method) -> &str {
    match method {
        Method::Get => "GET",
        Method::Head => "HEAD",
        Method::Post => "POST",
        Method::Put => "PUT",
        Method::Delete => "DELETE",
        Method::Connect => "CONNECT",
        Method::Options => "OPTIONS",
        Method::Trace => "TRACE",
        Method::Patch => "PATCH",
        Method::Other(name) => name,
    }
}

fn read_body(request: &IncomingRequest) -> Result<Vec<u8>, BodyError> {
    let announced = request
        .headers()
        .get("content-length")
        .first()
        .and_then(|value| std::str::from_utf8(value).ok()?.parse().ok());
    let taken = || std::io::Error::other("the body has been taken before");
    let body = request.consume().map_err(|()| taken())?;
    let stream = body.stream().map_err(|()| taken())?;
    body::read(announced, stream)
}

fn send(reply: Reply, response_out: ResponseOutparam) {
    let fields = Fields::new();
    let length = ("content-length", reply.body.len().to_string());
    for (name, value) in reply.fields.iter().chain([&length]) {
        fields
            .append(name, value.as_bytes())
            .expect("every field here has a valid name and a value of printable ascii");
    }
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(reply.status)
        .expect("every status here has three digits");
    let body = response
        .body()
        .expect("a new response hands its body out once");
    ResponseOutparam::set(response_out, Ok(response));

    // From here on a failure means that the client has gone, and nobody is left to tell.
    let Ok(mut stream) = body.write() else { return };
    if stream.write_all(&reply.body).is_ok() && stream.flush().is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(body, None);
    }
}

/// The world as it is when the actor runs.
struct Lattice;

impl World for Lattice {
    type Bucket = store::Bucket;

    fn open(&self) -> Result<store::Bucket, StoreError> {
        store::open(BUCKET).map_err(store_error("open the bucket of links"))
    }

    fn make_code(
        &self,
        url: &str,
        length: Option<u8>,
        attempt: u32,
    ) -> Result<MadeCode, CodeRefusal> {
        let wish = Wish {
            url: url.to_owned(),
            length,
            attempt,
            alphabet: Alphabet::Base62,
            avoid: Avoid::LOOK_ALIKES,
        };
        match codes::make(&wish) {
            Ok(code) => Ok(MadeCode {
                text: code.text,
                fingerprint: code.fingerprint,
            }),
            Err(Refusal::TooShort(least)) => Err(CodeRefusal::TooShort(least)),
            Err(Refusal::TooLong(most)) => Err(CodeRefusal::TooLong(most)),
            Err(Refusal::Exhausted) => Err(CodeRefusal::Exhausted),
            Err(Refusal::Other(reason)) => Err(CodeRefusal::Other(reason)),
        }
    }

    fn config(&self, key: &str) -> Result<Option<String>, String> {
        config::get(key).map_err(|error| match error {
            config::Error::Upstream(reason) | config::Error::Io(reason) => reason,
        })
    }

    fn publish(&self, subject: &str, body: Vec<u8>) -> Result<(), String> {
        consumer::publish(&BrokerMessage {
            subject: subject.to_owned(),
            body,
            reply_to: None,
        })
    }

    fn log(&self, level: LogLevel, message: &str) {
        let level = match level {
            LogLevel::Info => Level::Info,
            LogLevel::Error => Level::Error,
        };
        log(level, LOG_CONTEXT, message);
    }

    fn pause(&self, time: Duration) {
        std::thread::sleep(time);
    }
}

impl Bucket for store::Bucket {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
        store::Bucket::get(self, key).map_err(store_error("read from the bucket of links"))
    }

    fn set(&self, key: &str, value: &[u8]) -> Result<(), StoreError> {
        store::Bucket::set(self, key, value).map_err(store_error("write to the bucket of links"))
    }

    fn increment(&self, key: &str, delta: u64) -> Result<u64, StoreError> {
        atomics::increment(self, key, delta).map_err(store_error("count in the bucket of links"))
    }
}

/// Puts the interface's error into one sentence, with what was attempted.
fn store_error(operation: &'static str) -> impl Fn(store::Error) -> StoreError {
    move |error| StoreError {
        operation,
        reason: match error {
            store::Error::NoSuchStore => format!("there is no bucket `{BUCKET}`"),
            store::Error::AccessDenied => "access denied".to_owned(),
            store::Error::Other(reason) => reason,
        },
    }
}
