//! One line for each request, on the target `access`, once its response is complete or its client has gone.

use std::time::Instant;

use http::request::Parts;
use http::{Method, Uri};
use trellis_provider_sdk::{EntityId, LinkName};

use crate::route::Route;

/// The status of a line whose client went away before there was a response.
pub(crate) const CLIENT_GONE: u16 = 499;

/// Where the trace's id stands in a `traceparent`.
const TRACE_ID: std::ops::Range<usize> = 3..35;

/// What is known of a request so far.
#[derive(Debug)]
pub(crate) struct AccessLine {
    method: Method,
    uri: Uri,
    begun: Instant,
    route: Option<(EntityId, LinkName)>,
    /// The trace that the client has begun.
    trace: Option<String>,
    pub(crate) status: u16,
}

impl AccessLine {
    /// A line, if anybody wants to read it.
    pub(crate) fn begin(request: &Parts, begun: Instant) -> Option<Box<Self>> {
        tracing::enabled!(target: "access", tracing::Level::INFO).then(|| {
            Box::new(Self {
                method: request.method.clone(),
                uri: request.uri.clone(),
                begun,
                route: None,
                trace: None,
                status: CLIENT_GONE,
            })
        })
    }

    /// Says who answers.
    pub(crate) fn set_route(&mut self, route: &Route) {
        self.route = Some((route.target.clone(), route.link.clone()));
    }

    /// Says to which trace the client's request belongs.
    pub(crate) fn set_trace(&mut self, traceparent: &str) {
        self.trace = traceparent.get(TRACE_ID).map(str::to_owned);
    }

    /// Writes the line. The query stays out: it may hold secrets.
    pub(crate) fn write(&self, bytes: u64, is_complete: bool) {
        let (actor, link) = match &self.route {
            Some((actor, link)) => (actor.as_str(), link.as_str()),
            None => ("-", "-"),
        };
        tracing::info!(
            target: "access",
            method = %self.method,
            path = self.uri.path(),
            status = self.status,
            bytes,
            duration_us = u64::try_from(self.begun.elapsed().as_micros()).unwrap_or(u64::MAX),
            actor_id = actor,
            link,
            trace_id = self.trace.as_deref(),
            complete = is_complete,
            "request"
        );
    }
}
