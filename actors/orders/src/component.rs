//! The edge of the component: generated bindings on one side, the rest of the actor on the other.

use std::io::Write as _;

use wasip2::exports::http::incoming_handler::Guest;
use wasip2::http::types::{
    Fields, IncomingRequest, Method, OutgoingBody, OutgoingResponse, ResponseOutparam,
};

use crate::body::{self, BodyError};
use crate::reply::Reply;
use crate::service;
use crate::world::{DatabaseError, Field, Param, World};

use bindings::wasi::logging::logging::{Level, log};
use bindings::wasmcloud::postgres::query::{query, query_batch};
use bindings::wasmcloud::postgres::types::{PgValue, QueryError};

/// Types and import glue, generated from `interfaces/wit` and this actor's own world.
mod bindings {
    wit_bindgen::generate!({
        path: [
            "../../interfaces/wit/wasmcloud-postgres",
            "../../interfaces/wit/wasi-logging",
            "wit",
        ],
        world: "trellis:orders-actor/orders",
        generate_all,
    });
}

/// What the log lines of this actor have in common.
const LOG_CONTEXT: &str = "orders";

struct Orders;

impl Guest for Orders {
    fn handle(request: IncomingRequest, response_out: ResponseOutparam) {
        let method = request.method();
        let path = request.path_with_query().unwrap_or_else(|| "/".to_owned());
        let reply = service::answer(&Lattice, name_of(&method), &path, || read_body(&request));
        send(reply, response_out);
    }
}

wasip2::http::proxy::export!(Orders);

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
    fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Vec<Field>>, DatabaseError> {
        let params: Vec<_> = params
            .iter()
            .map(|param| match param {
                Param::Text(text) => PgValue::Text((*text).to_owned()),
                Param::Number(number) => PgValue::BigInt(*number),
                Param::Null => PgValue::Null,
            })
            .collect();
        let rows = query(sql, &params).map_err(database_error)?;
        let field = |value| match value {
            PgValue::Null => Field::Null,
            PgValue::Text(text) => Field::Text(text),
            PgValue::BigInt(number) | PgValue::Int8(number) => Field::Number(number),
            _ => Field::Other,
        };
        Ok(rows
            .into_iter()
            .map(|row| row.into_iter().map(|entry| field(entry.value)).collect())
            .collect())
    }

    fn batch(&self, sql: &str) -> Result<(), DatabaseError> {
        query_batch(sql).map_err(database_error)
    }

    fn log_error(&self, message: &str) {
        log(Level::Error, LOG_CONTEXT, message);
    }
}

fn database_error(error: QueryError) -> DatabaseError {
    match error {
        QueryError::InvalidParams(reason)
        | QueryError::InvalidQuery(reason)
        | QueryError::Unexpected(reason) => DatabaseError { reason },
    }
}
