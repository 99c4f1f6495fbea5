//! What is noted of a call by the host on which it begins, or which it reaches from another: its span, and for spies.

use trellis_protocol::{EntityId, Refusal};
use trellis_provider_sdk::{HttpRequest, HttpResponse};

use super::Router;
use crate::invocation::Invocation;
use crate::observe::span::{Span, SpanKind, SpanOutcome};
use crate::observe::tap::{Answered, Watching};

/// A call under way. Dropped without an end, its caller has gone.
#[derive(Debug)]
pub(super) struct Journey {
    span: Span,
    watching: Option<Box<Watching>>,
    source: EntityId,
}

/// What a span is told of an answer.
pub(super) trait Outcome {
    fn outcome(&self) -> SpanOutcome;
}

impl Outcome for bytes::Bytes {
    fn outcome(&self) -> SpanOutcome {
        SpanOutcome::Answered
    }
}

impl<T> Outcome for (bytes::Bytes, T) {
    fn outcome(&self) -> SpanOutcome {
        SpanOutcome::Answered
    }
}

impl Outcome for HttpResponse {
    fn outcome(&self) -> SpanOutcome {
        SpanOutcome::Http(self.status().as_u16())
    }
}

impl Router {
    /// A call begins on this host.
    pub(super) fn begin(
        &self,
        invocation: &mut Invocation,
        request: Option<&HttpRequest>,
    ) -> Journey {
        // Only what comes from outside has nobody before it. An actor's call is nested in the one that the actor serves.
        let kind = match invocation.depth {
            0 => SpanKind::Entry,
            _ => SpanKind::Call,
        };
        let span = self.span(kind, invocation, request);
        Journey {
            span,
            watching: self.observe.leaves(invocation, request),
            source: invocation.source.clone(),
        }
    }

    /// Begins the span of a call, whose context replaces the caller's. Without a tracer nothing is done.
    pub(super) fn span(
        &self,
        kind: SpanKind,
        invocation: &mut Invocation,
        request: Option<&HttpRequest>,
    ) -> Span {
        let http = request.map(|request| (request.method().as_str(), request.uri().path()));
        Span::begin(self.tracer.as_ref(), kind, &self.host, invocation, http)
    }
}

impl Journey {
    /// Notes how it ended.
    pub(super) fn ended<T: Answered + Outcome>(
        mut self,
        router: &Router,
        result: Result<T, Refusal>,
    ) -> Result<T, Refusal> {
        end(&mut self.span, &result);
        router
            .observe
            .returned(&self.source, self.watching.take(), &result);
        result
    }
}

/// Ends a span with what a call came to.
pub(super) fn end<T: Outcome>(span: &mut Span, result: &Result<T, Refusal>) {
    span.end(match result {
        Ok(answer) => answer.outcome(),
        Err(refusal) => SpanOutcome::Refused(refusal.code),
    });
}
