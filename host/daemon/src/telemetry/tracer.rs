//! The host's spans as OpenTelemetry has them.

use std::borrow::Cow;
use std::sync::Arc;

use opentelemetry::trace::{
    Span as _, SpanBuilder, SpanContext, SpanId, SpanKind as OtelKind, Status, TraceContextExt,
    TraceFlags, TraceId, TraceState, Tracer as _, TracerProvider as _,
};
use opentelemetry::{Context, KeyValue};
use opentelemetry_sdk::trace::{SdkTracer, SdkTracerProvider, Span};
use trellis_host_core::{ActiveSpan, SpanKind, SpanOutcome, SpanStart, Tracer};

/// Name of what makes the spans.
pub(super) const SCOPE: &str = "trellis";

/// Longest path of an HTTP request that a span shows, in bytes.
const PATH_BYTES_MAX: usize = 256;

/// Makes the host's spans.
#[derive(Debug)]
pub(super) struct OtlpTracer(SdkTracer);

impl OtlpTracer {
    pub(super) fn new(provider: &SdkTracerProvider) -> Self {
        Self(provider.tracer(SCOPE))
    }
}

impl Tracer for OtlpTracer {
    fn begin(&self, start: &SpanStart<'_>) -> Box<dyn ActiveSpan> {
        let context = match start.parent.and_then(parse) {
            Some(parent) => Context::new().with_remote_span_context(parent),
            None => Context::new(),
        };
        let name: Cow<'static, str> = match start.http {
            // Few names, as the conventions ask: no path.
            Some((method, _)) => format!("{} {}", known(method), start.target).into(),
            None => start.operation.to_string().into(),
        };
        let builder = SpanBuilder::from_name(name).with_kind(match start.kind {
            SpanKind::Entry | SpanKind::Served => OtelKind::Server,
            SpanKind::Call => OtelKind::Client,
        });
        let mut span = self.0.build_with_context(builder, &context);
        if span.is_recording() {
            span.set_attributes(attributes(start));
        }
        Box::new(Recorded {
            traceparent: written(span.span_context()),
            span,
        })
    }
}

fn attributes(start: &SpanStart<'_>) -> Vec<KeyValue> {
    let mut attributes = vec![
        KeyValue::new("trellis.host", start.host.to_owned()),
        KeyValue::new("trellis.invocation", start.invocation.to_string()),
        KeyValue::new("trellis.source", start.source.to_string()),
        KeyValue::new("trellis.target", start.target.to_string()),
        KeyValue::new("trellis.operation", start.operation.to_string()),
        KeyValue::new("trellis.link", start.link.to_string()),
        KeyValue::new("trellis.depth", i64::from(start.depth)),
    ];
    if let Some((method, path)) = start.http {
        let path = &path[..path.floor_char_boundary(PATH_BYTES_MAX)];
        attributes.push(KeyValue::new("http.request.method", known(method)));
        attributes.push(KeyValue::new("url.path", path.to_owned()));
    }
    attributes
}

/// The method, if it is one that everybody knows: the name of a span is no place for free text.
fn known(method: &str) -> &'static str {
    const KNOWN: [&str; 9] = [
        "GET", "HEAD", "POST", "PUT", "DELETE", "PATCH", "OPTIONS", "TRACE", "CONNECT",
    ];
    KNOWN
        .into_iter()
        .find(|known| *known == method)
        .unwrap_or("_OTHER")
}

/// A span under way, whether or not it is recorded.
struct Recorded {
    span: Span,
    traceparent: Arc<str>,
}

impl ActiveSpan for Recorded {
    fn traceparent(&self) -> Arc<str> {
        Arc::clone(&self.traceparent)
    }

    fn end(&mut self, outcome: SpanOutcome) {
        if self.span.is_recording() {
            match outcome {
                SpanOutcome::Http(status) => {
                    self.span.set_attribute(KeyValue::new(
                        "http.response.status_code",
                        i64::from(status),
                    ));
                    if status >= 500 {
                        self.span.set_status(Status::error(""));
                    }
                }
                SpanOutcome::Refused(code) => {
                    self.span
                        .set_attribute(KeyValue::new("error.type", code.as_str()));
                    self.span.set_status(Status::error(code.as_str()));
                }
                SpanOutcome::Dropped => {
                    self.span
                        .set_attribute(KeyValue::new("error.type", "dropped"));
                }
                _ => {}
            }
        }
        self.span.end();
    }
}

/// Reads a W3C trace context. Of a later version the parts are taken that this one knows, as it asks for.
fn parse(text: &str) -> Option<SpanContext> {
    let mut parts = text.split('-');
    let (version, trace, span, flags) =
        (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
    let proper = |text: &str, length: usize| {
        text.len() == length
            && text
                .bytes()
                .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'))
    };
    if !proper(version, 2) || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    if !proper(trace, 32) || !proper(span, 16) || !proper(flags, 2) {
        return None;
    }
    let flags = TraceFlags::new(u8::from_str_radix(flags, 16).ok()?) & TraceFlags::SAMPLED;
    let context = SpanContext::new(
        TraceId::from_hex(trace).ok()?,
        SpanId::from_hex(span).ok()?,
        flags,
        true,
        TraceState::NONE,
    );
    context.is_valid().then_some(context)
}

/// Writes a W3C trace context.
fn written(context: &SpanContext) -> Arc<str> {
    format!(
        "00-{}-{}-{:02x}",
        context.trace_id(),
        context.span_id(),
        context.trace_flags().to_u8()
    )
    .into()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const CONTEXT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    #[test]
    fn a_context_is_written_as_it_was_read() {
        assert_eq!(&*written(&parse(CONTEXT).unwrap()), CONTEXT);
        let later = format!("cc{}-and-more", &CONTEXT[2..]);
        assert_eq!(&*written(&parse(&later).unwrap()), CONTEXT);
    }

    #[test]
    fn whatever_is_no_context_begins_a_trace_of_its_own() {
        for text in [
            "",
            "00",
            "x",
            &CONTEXT[..54],
            &CONTEXT.to_uppercase(),
            &format!("{CONTEXT}-x"),
            &format!("ff{}", &CONTEXT[2..]),
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0af7651916cd43dd8448eb211c80319ü-b7ad6b7169203331-01",
        ] {
            assert!(parse(text).is_none(), "{text}");
        }
    }
}
