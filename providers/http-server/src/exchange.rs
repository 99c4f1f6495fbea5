//! One request and its response.
//!
//! hyper drops the future of [`answer`] when the client goes away before the head, and the response's body when it goes
//! away after. Either drops the [`Exchange`], and that stops the actor.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::ORIGIN;
use http::request::Parts;
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as HttpBody;
use http_body_util::BodyExt;
use hyper::body::Incoming;
use tokio_util::sync::CancellationToken;
use trellis_provider_sdk::http::empty;
use trellis_provider_sdk::{Body, OutboundCall};

use crate::access_log::AccessLine;
use crate::connection::Connection;
use crate::problem::Problem;
use crate::request::{is_idempotent, is_readonly, make_absolute, strip_hop_by_hop, traceparent};
use crate::request_body::RequestBody;
use crate::response::{
    apply_policy, close_connection, declared_length, is_bodiless, sanitise, settle_bodiless,
};
use crate::response_body::ResponseBody;
use crate::route::Route;

/// How much longer than a call's deadline the server waits for its host to say so.
pub(crate) const DEADLINE_GRACE: Duration = Duration::from_secs(1);

/// Bytes of a body nobody will see (of a response to HEAD) that an actor may write to come to its end.
const UNSEEN_BYTES_MAX: usize = 1024 * 1024;

/// An exchange under way. Dropped before it is [complete](Self::complete), it stops the actor.
pub(crate) struct Exchange {
    connection: Arc<Connection>,
    cancel: CancellationToken,
    line: Option<Box<AccessLine>>,
    complete: bool,
    /// Bytes of the response's body so far.
    pub(crate) bytes: u64,
}

impl Exchange {
    fn begin(connection: Arc<Connection>, request: &Parts, now: Instant) -> Self {
        connection.pace.begin();
        Self {
            connection,
            cancel: CancellationToken::new(),
            line: AccessLine::begin(request, now),
            complete: false,
            bytes: 0,
        }
    }

    /// The response is complete: there is nothing to stop any more.
    pub(crate) fn complete(&mut self) {
        self.complete = true;
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        if !self.complete {
            self.cancel.cancel();
        }
        self.connection.pace.end(Instant::now());
        if let Some(line) = &self.line {
            line.write(self.bytes, self.complete);
        }
    }
}

/// Answers one request.
pub(crate) async fn answer(
    connection: Arc<Connection>,
    request: Request<Incoming>,
) -> Result<Response<ResponseBody>, Infallible> {
    let now = Instant::now();
    let (mut parts, body) = request.into_parts();
    let mut exchange = Exchange::begin(connection, &parts, now);
    let version = parts.version;
    let method = parts.method.clone();
    let origin = parts.headers.get(ORIGIN).cloned();

    let mut response = match check(&exchange.connection, &mut parts) {
        Err(decided) => decided.map_or_else(Problem::into_response, |response| *response),
        Ok(route) => {
            if let Some(line) = &mut exchange.line {
                line.set_route(&route);
                if let Some(traceparent) = traceparent(&parts.headers) {
                    line.set_trace(&traceparent);
                }
            }
            let mut response = match hand_on(&exchange, &route, parts, body, now).await {
                Ok(response) => response,
                Err(problem) => problem.into_response(),
            };
            if let Some(cors) = &route.policy.cors {
                cors.decorate(origin.as_ref(), response.headers_mut());
            }
            if route.policy.disable_keepalive {
                close_connection(&mut response);
            }
            response
        }
    };
    if version == Version::HTTP_2 {
        strip_hop_by_hop(response.headers_mut());
    }
    if let Some(line) = &mut exchange.line {
        line.status = response.status().as_u16();
    }
    Ok(if is_bodiless(&method, response.status()) {
        without_body(&method, response, exchange)
    } else {
        let declared = declared_length(response.headers());
        response.map(|body| ResponseBody::new(body, declared, exchange))
    })
}

/// What can be said of a request by its head: its route, or the answer.
fn check(
    connection: &Connection,
    parts: &mut Parts,
) -> Result<Arc<Route>, Result<Box<Response<Body>>, Problem>> {
    let limit = connection.server.config.limits.header_count;
    if parts.headers.len() > limit {
        return Err(Err(Problem::too_many_fields(limit)));
    }
    if parts.method == Method::CONNECT {
        return Err(Err(Problem::no_tunnels()));
    }
    if parts.method == Method::OPTIONS && parts.uri.path() == "*" {
        return Err(Ok(Box::new(server_options())));
    }
    make_absolute(parts, connection.scheme.clone(), connection.local).map_err(Err)?;
    let listening = connection.listening.snapshot();
    match listening.routes.find(parts) {
        Some(route) => Ok(route.clone()),
        None => Err(Err(listening.nobody())),
    }
}

/// The answer to `OPTIONS *`, which asks about the server and not about an actor.
fn server_options() -> Response<Body> {
    let mut response = Response::new(empty());
    *response.status_mut() = StatusCode::NO_CONTENT;
    response
}

/// Hands the request to the route's actor and waits for the head of its response.
async fn hand_on(
    exchange: &Exchange,
    route: &Route,
    mut parts: Parts,
    body: Incoming,
    now: Instant,
) -> Result<Response<Body>, Problem> {
    let connection = &exchange.connection;
    let server = &connection.server;
    let limits = &server.config.limits;
    if let Some(cors) = &route.policy.cors
        && let Some(preflight) = cors.preflight(&parts.method, &parts.headers)
    {
        return preflight;
    }
    if route.policy.readonly && !is_readonly(&parts.method) {
        return Err(Problem::readonly());
    }
    if body.size_hint().lower() > limits.body_bytes {
        connection.pace.leave_unread();
        return Err(Problem::body_too_large(limits.body_bytes));
    }

    strip_hop_by_hop(&mut parts.headers);
    parts.extensions.clear();
    let call = OutboundCall {
        target: route.target.clone(),
        link: route.link.clone(),
        operation: server.operation.clone(),
        type_hash: 0,
        payload: Bytes::new(),
        deadline: now + route.policy.timeout,
        cancel: exchange.cancel.clone(),
        idempotent: is_idempotent(&parts.method),
        traceparent: traceparent(&parts.headers),
    };
    let give_up = tokio::time::Instant::from_std(call.deadline + DEADLINE_GRACE);
    let (body, fault) = if body.is_end_stream() {
        (empty(), None)
    } else {
        let (body, fault) = RequestBody::watched(body, connection.clone());
        (body, Some(fault))
    };
    let head = server.outbound.http(call, Request::from_parts(parts, body));
    let head = tokio::time::timeout_at(give_up, head);
    let outcome = match fault {
        None => head.await,
        Some(fault) => tokio::select! {
            biased;
            problem = fault.wait(limits.body_bytes) => {
                // Dropping the call is one half of giving it up; this is the other.
                exchange.cancel.cancel();
                return Err(problem);
            }
            outcome = head => outcome,
        },
    };
    let mut response = match outcome {
        Ok(response) => response?,
        Err(_elapsed) => {
            exchange.cancel.cancel();
            return Err(Problem::deadline());
        }
    };
    sanitise(&mut response)?;
    apply_policy(&route.policy, &mut response);
    Ok(response)
}

/// Sends a head alone. The actor may come to its end as if its body were read: there is no reason to stop it.
fn without_body(
    method: &Method,
    mut response: Response<Body>,
    mut exchange: Exchange,
) -> Response<ResponseBody> {
    settle_bodiless(method, &mut response);
    let (head, body) = response.into_parts();
    if body.is_end_stream() {
        exchange.complete();
    } else {
        let server = &exchange.connection.server;
        let time = server.config.limits.body_idle_timeout;
        let aborted = server.abort.clone();
        server.tasks.clone().spawn(async move {
            tokio::select! {
                () = aborted.cancelled() => {}
                read = tokio::time::timeout(time, read_unseen(body)) => {
                    if read.is_ok_and(|complete| complete) {
                        exchange.complete();
                    }
                }
            }
        });
    }
    Response::from_parts(head, ResponseBody::none())
}

/// Reads a body to its end; false where it broke off or is too long to be read for nothing.
async fn read_unseen(mut body: Body) -> bool {
    let mut left = UNSEEN_BYTES_MAX;
    while let Some(frame) = body.frame().await {
        let Ok(frame) = frame else { return false };
        match left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) {
            Some(rest) => left = rest,
            None => return false,
        }
    }
    true
}
