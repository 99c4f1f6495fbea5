//! A test actor for the benchmarks: one select by primary key for each request, and its one text as the answer.

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use bindings::wasmcloud::postgres::query::query;
use bindings::wasmcloud::postgres::types::PgValue;

/// Types and glue, generated from `interfaces/wit` and this actor's own world.
mod bindings {
    wit_bindgen::generate!({
        path: ["../../interfaces/wit/wasmcloud-postgres", "wit"],
        world: "trellis:lookup-actor/lookup",
        generate_all,
    });
}

/// The statement that the bare server of the comparison prepares too.
const SELECT: &str = "SELECT title FROM bench_rows WHERE id = $1";

struct Lookup;

impl Guest for Lookup {
    fn handle(_request: IncomingRequest, response_out: ResponseOutparam) {
        let (status, body) = match query(SELECT, &[PgValue::Integer(1)]) {
            Ok(rows) => match rows.first().and_then(|row| row.first()) {
                Some(entry) => match &entry.value {
                    PgValue::Text(title) => (200, format!("{title}\n")),
                    other => (500, format!("{other:?} is no text\n")),
                },
                None => (404, "there is no such row\n".to_owned()),
            },
            Err(error) => (503, format!("{error:?}\n")),
        };
        respond(response_out, status, &body);
    }
}

wasip2::http::proxy::export!(Lookup);

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
    let Ok(stream) = out.write() else { return };
    if stream.blocking_write_and_flush(body.as_bytes()).is_ok() {
        drop(stream);
        let _ = OutgoingBody::finish(out, None);
    }
}
