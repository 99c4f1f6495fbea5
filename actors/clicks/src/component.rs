//! The edge of the component: generated bindings on one side, the rest of the actor on the other.

use std::io::Write as _;

use wasip2::exports::http::incoming_handler::Guest as HttpGuest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use bindings::exports::wasmcloud::messaging::handler::{BrokerMessage, Guest as MessageGuest};
use bindings::wasi::keyvalue::{atomics, store};
use bindings::wasi::logging::logging::{Level, log};

use crate::click::Code;
use crate::page;
use crate::tally::{self, Counters};

/// Types and glue, generated from `interfaces/wit` and this actor's own world.
mod bindings {
    #![expect(
        unsafe_code,
        reason = "generated code crosses the component boundary by pointer"
    )]
    wit_bindgen::generate!({
        path: [
            "../../interfaces/wit/wasi-keyvalue",
            "../../interfaces/wit/wasi-logging",
            "../../interfaces/wit/wasmcloud-messaging",
            "wit",
        ],
        world: "trellis:clicks-actor/clicks",
        generate_all,
    });
    use super::Clicks;
    export!(Clicks);
}

/// The bucket of the counters. Which one that is in truth, the link to the provider says.
const BUCKET: &str = "default";

/// What the log lines of this actor have in common.
const LOG_CONTEXT: &str = "clicks";

struct Clicks;

impl MessageGuest for Clicks {
    fn handle_message(message: BrokerMessage) -> Result<(), String> {
        let Some(code) = Code::of_message(&message.body) else {
            // It would be no better the next time, so it is taken as it is.
            let line = format!("a message on {} names no code", message.subject);
            log(Level::Warn, LOG_CONTEXT, &line);
            return Ok(());
        };
        let clicks = open().and_then(|bucket| tally::count(&bucket, &code))?;
        log(
            Level::Debug,
            LOG_CONTEXT,
            &format!("{} has {clicks} clicks", code.as_str()),
        );
        Ok(())
    }
}

impl HttpGuest for Clicks {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let path = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let method = match request.method() {
            Method::Get => "GET",
            Method::Head => "HEAD",
            _ => "other",
        };
        send(&page::answer(method, &path, open), response_out);
    }
}

wasip2::http::proxy::export!(Clicks);

fn send(reply: &page::Reply, response_out: ResponseOutparam) {
    let body = format!("{}\n", reply.document);
    let fields = Fields::new();
    for (name, value) in [
        ("content-type", "application/json"),
        ("content-length", &body.len().to_string()),
        ("cache-control", "no-store"),
    ] {
        fields
            .append(name, value.as_bytes())
            .expect("every field here has a valid name and a value of printable ascii");
    }
    let response = OutgoingResponse::new(fields);
    response
        .set_status_code(reply.status)
        .expect("every status here has three digits");
    let out = response
        .body()
        .expect("a new response hands its body out once");
    ResponseOutparam::set(response_out, Ok(response));

    // From here on a failure means that the client has gone, and nobody is left to tell.
    let Ok(mut stream) = out.write() else { return };
    if stream.write_all(body.as_bytes()).is_ok() && stream.flush().is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(out, None);
    }
}

fn open() -> Result<store::Bucket, String> {
    store::open(BUCKET).map_err(|error| words("open the bucket", error))
}

impl Counters for store::Bucket {
    fn increment(&self, key: &str, delta: u64) -> Result<u64, String> {
        atomics::increment(self, key, delta).map_err(|error| words("count", error))
    }

    fn keys(&self, cursor: Option<u64>) -> Result<(Vec<String>, Option<u64>), String> {
        self.list_keys(cursor)
            .map(|page| (page.keys, page.cursor))
            .map_err(|error| words("list the counters", error))
    }
}

/// Puts the interface's error into one sentence, with what was attempted.
fn words(attempted: &str, error: store::Error) -> String {
    match error {
        store::Error::NoSuchStore => format!("could not {attempted}: there is no `{BUCKET}`"),
        store::Error::AccessDenied => format!("could not {attempted}: access denied"),
        store::Error::Other(reason) => format!("could not {attempted}: {reason}"),
    }
}
