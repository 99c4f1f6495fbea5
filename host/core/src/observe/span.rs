//! Spans of calls, for whoever collects traces.
//!
//! The host knows no collector and no format of theirs: it asks a [`Tracer`], which a binary hands it with its options, to
//! begin a span where a call begins, and drops or ends that where the call ends. The context of the new span takes the place
//! of the caller's in the invocation, so it travels as the invocation does: to the guest's own calls, to peer hosts, to
//! provider processes, and from these to whatever they call. Without a tracer the caller's context travels on as it came,
//! and a span costs one comparison.

use std::fmt;
use std::sync::Arc;

use trellis_protocol::{EntityId, InvocationId, LinkName, Operation, RefusalCode};

use crate::invocation::Invocation;

/// Characters of a trace id in a `traceparent`.
const TRACE_ID: std::ops::Range<usize> = 3..35;

/// Which end of a call a span stands for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanKind {
    /// A provider brought something in from outside: the outermost call of a chain.
    Entry,
    /// Somebody of this host calls, wherever the callee runs.
    Call,
    /// This host serves what another host's span of the kind [`Call`](Self::Call) or [`Entry`](Self::Entry) stands for.
    Served,
}

/// What is known of a call as its span begins.
#[derive(Debug, Clone, Copy)]
pub struct SpanStart<'a> {
    /// Which end of the call.
    pub kind: SpanKind,
    /// The host whose span it is.
    pub host: &'a str,
    /// The call.
    pub invocation: InvocationId,
    /// Who calls.
    pub source: &'a EntityId,
    /// Who is called.
    pub target: &'a EntityId,
    /// What is called.
    pub operation: &'a Operation,
    /// By which link.
    pub link: &'a LinkName,
    /// How deeply the call is nested.
    pub depth: u8,
    /// W3C trace context that the span continues, as it came: it may be anything of at most
    /// [`TRACEPARENT_BYTES_MAX`](trellis_protocol::limits::TRACEPARENT_BYTES_MAX) bytes.
    pub parent: Option<&'a str>,
    /// Method and path, where the call is an HTTP request.
    pub http: Option<(&'a str, &'a str)>,
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SpanOutcome {
    /// There was an answer.
    Answered,
    /// There was an HTTP response with this status.
    Http(u16),
    /// It was refused.
    Refused(RefusalCode),
    /// Whoever waited for it has gone.
    Dropped,
}

/// Begins spans. Called on the hot path: it must neither wait nor block.
pub trait Tracer: fmt::Debug + Send + Sync + 'static {
    /// Begins a span.
    fn begin(&self, start: &SpanStart<'_>) -> Box<dyn ActiveSpan>;
}

/// A span under way.
pub trait ActiveSpan: Send + Sync + 'static {
    /// W3C trace context for whatever is called within the span.
    fn traceparent(&self) -> Arc<str>;

    /// Ends it. Called once at most.
    fn end(&mut self, outcome: SpanOutcome);
}

/// A call's span, or none where nobody collects. Dropped without an outcome it ends as [`SpanOutcome::Dropped`].
#[derive(Default)]
pub(crate) struct Span(Option<Box<dyn ActiveSpan>>);

impl Span {
    /// Begins the span of a call, and puts its context into the invocation.
    pub(crate) fn begin(
        tracer: Option<&Arc<dyn Tracer>>,
        kind: SpanKind,
        host: &str,
        invocation: &mut Invocation,
        http: Option<(&str, &str)>,
    ) -> Self {
        let Some(tracer) = tracer else {
            return Self(None);
        };
        let span = tracer.begin(&SpanStart {
            kind,
            host,
            invocation: invocation.id,
            source: &invocation.source,
            target: &invocation.target,
            operation: &invocation.operation,
            link: &invocation.link,
            depth: invocation.depth,
            parent: invocation.traceparent.as_deref(),
            http,
        });
        invocation.traceparent = Some(span.traceparent());
        Self(Some(span))
    }

    /// Ends it. What follows has no effect.
    pub(crate) fn end(&mut self, outcome: SpanOutcome) {
        if let Some(mut span) = self.0.take() {
            span.end(outcome);
        }
    }
}

impl fmt::Debug for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Span").field(&self.0.is_some()).finish()
    }
}

impl Drop for Span {
    fn drop(&mut self) {
        self.end(SpanOutcome::Dropped);
    }
}

/// The trace id in a `traceparent`, for log lines: 32 digits of hexadecimal.
pub(crate) fn trace_id(traceparent: &str) -> Option<&str> {
    traceparent
        .get(TRACE_ID)
        .filter(|id| id.bytes().all(|byte| byte.is_ascii_hexdigit()))
}
