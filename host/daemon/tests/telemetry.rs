//! What a process tells a collector, whatever the collector does.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::sync::Arc;
use std::time::{Duration, Instant};

use trellis_host::telemetry::{OtlpOptions, Telemetry, TelemetryOptions};
use trellis_host_core::{SpanKind, SpanOutcome, SpanStart, Tracer};
use trellis_protocol::{EntityId, InvocationId, LinkName, Operation, RefusalCode};
use trellis_test_backends::certificates::Certificates;
use trellis_test_backends::collector::{Behaviour, Collector, SeenSpan};

/// Longest wait for what is sent every two seconds.
const SENT_WITHIN: Duration = Duration::from_secs(20);

const PARENT: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
const UNSAMPLED: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00";

async fn telemetry(collector: &Collector, sampling: f64) -> (Telemetry, Arc<dyn Tracer>) {
    let mut otlp = OtlpOptions::new(&collector.url()).unwrap();
    otlp.sampling = sampling;
    started(otlp).await
}

async fn started(otlp: OtlpOptions) -> (Telemetry, Arc<dyn Tracer>) {
    trellis_host::install_crypto();
    let options = TelemetryOptions {
        admin: None,
        otlp: Some(otlp),
    };
    let telemetry = Telemetry::start(&options, "NHOST", "default")
        .await
        .unwrap();
    let tracer = telemetry.tracer().unwrap();
    (telemetry, tracer)
}

/// Makes a span, and gives back its context.
fn span(tracer: &dyn Tracer, parent: Option<&str>, outcome: SpanOutcome) -> Arc<str> {
    let (source, target) = ("http".parse().unwrap(), "hello".parse().unwrap());
    let ids: (EntityId, EntityId) = (source, target);
    let mut span = tracer.begin(&SpanStart {
        kind: SpanKind::Entry,
        host: "NHOST",
        invocation: InvocationId::random(),
        source: &ids.0,
        target: &ids.1,
        operation: &Operation::new("wasi:http/incoming-handler", "handle"),
        link: &LinkName::default(),
        depth: 0,
        parent,
        http: Some(("GET", "/a")),
    });
    let context = span.traceparent();
    span.end(outcome);
    context
}

async fn sent(collector: &Collector, count: usize) -> Vec<SeenSpan> {
    let until = Instant::now() + SENT_WITHIN;
    loop {
        let spans = collector.spans();
        if spans.len() >= count {
            return spans;
        }
        assert!(Instant::now() < until, "only {} spans came", spans.len());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_span_continues_the_trace_that_it_is_given_and_hands_it_on() {
    let collector = Collector::start().await.unwrap();
    let (telemetry, tracer) = telemetry(&collector, 1.0).await;
    let first = span(&*tracer, Some(PARENT), SpanOutcome::Http(200));
    let second = span(
        &*tracer,
        Some(&first),
        SpanOutcome::Refused(RefusalCode::Overloaded),
    );
    let root = span(&*tracer, None, SpanOutcome::Answered);
    telemetry.stop().await;

    let spans = sent(&collector, 3).await;
    assert_eq!(spans[0].trace, &PARENT[3..35]);
    assert_eq!(spans[0].parent, &PARENT[36..52]);
    assert_eq!(spans[0].id, &first[36..52]);
    assert_eq!(spans[0].name, "GET hello");
    assert_eq!(spans[0].attributes["http.response.status_code"], "200");
    assert_eq!(spans[0].attributes["trellis.source"], "http");
    assert_eq!(spans[0].resource["service.instance.id"], "NHOST");
    assert!(!spans[0].is_error);
    assert_eq!(
        (&spans[1].trace, &spans[1].parent),
        (&spans[0].trace, &spans[0].id)
    );
    assert_eq!(spans[1].id, &second[36..52]);
    assert!(spans[1].is_error);
    assert_eq!(spans[1].attributes["error.type"], "overloaded");
    assert_eq!(spans[2].parent, "");
    assert_eq!(spans[2].trace, &root[3..35]);
    assert_ne!(spans[2].trace, spans[0].trace);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trace_is_recorded_as_its_first_caller_chose_and_else_by_the_share() {
    let collector = Collector::start().await.unwrap();
    let (telemetry, tracer) = telemetry(&collector, 0.0).await;
    let unrecorded = span(&*tracer, None, SpanOutcome::Answered);
    assert!(unrecorded.ends_with("-00"), "{unrecorded}");
    let chosen = span(&*tracer, Some(PARENT), SpanOutcome::Answered);
    assert!(chosen.ends_with("-01"), "{chosen}");
    let refused = span(&*tracer, Some(UNSAMPLED), SpanOutcome::Answered);
    assert!(
        refused.ends_with("-00") && refused[3..35] == PARENT[3..35],
        "{refused}"
    );
    telemetry.stop().await;
    let spans = sent(&collector, 1).await;
    assert_eq!(spans.len(), 1);
    assert_eq!(spans[0].id, &chosen[36..52]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_hangs_or_refuses_costs_the_spans_and_no_time() {
    for behaviour in [Behaviour::Hangs, Behaviour::Refuses] {
        let collector = Collector::start().await.unwrap();
        collector.set(behaviour);
        let (telemetry, tracer) = telemetry(&collector, 1.0).await;
        let begun = Instant::now();
        // More than the queue holds.
        for _ in 0..60_000 {
            span(&*tracer, None, SpanOutcome::Answered);
        }
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(10), "{behaviour:?}: {took:?}");
        let begun = Instant::now();
        telemetry.stop().await;
        let took = begun.elapsed();
        assert!(took < Duration::from_secs(8), "{behaviour:?}: {took:?}");
        assert!(collector.spans().is_empty());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_comes_back_is_sent_what_is_new() {
    let collector = Collector::start().await.unwrap();
    collector.set(Behaviour::Refuses);
    let (telemetry, tracer) = telemetry(&collector, 1.0).await;
    span(&*tracer, None, SpanOutcome::Answered);
    let until = Instant::now() + SENT_WITHIN;
    while collector.deliveries().is_empty() {
        assert!(Instant::now() < until, "nothing is sent");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    collector.set(Behaviour::Takes);
    let later = span(&*tracer, None, SpanOutcome::Answered);
    let spans = sent(&collector, 1).await;
    assert_eq!(spans[0].id, &later[36..52]);
    telemetry.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_behind_tls_is_believed_by_its_certificate_and_told_the_fields() {
    let directory = tempfile::tempdir().unwrap();
    let certificates = Certificates::make(directory.path()).unwrap();
    let collector = Collector::start_tls(&certificates).await.unwrap();
    let stranger = OtlpOptions::new(&collector.url()).unwrap();
    let (telemetry, tracer) = started(stranger.clone()).await;
    span(&*tracer, None, SpanOutcome::Answered);
    telemetry.stop().await;
    assert!(collector.deliveries().is_empty(), "nobody vouches for it");

    let mut friend = stranger;
    friend.read_ca(&certificates.ca).unwrap();
    friend
        .add_headers("authorization=Bearer%20hunter2")
        .unwrap();
    let (telemetry, tracer) = started(friend).await;
    let context = span(&*tracer, None, SpanOutcome::Answered);
    telemetry.stop().await;
    let spans = sent(&collector, 1).await;
    assert_eq!(spans[0].id, &context[36..52]);
    assert_eq!(collector.deliveries()[0]["authorization"], "Bearer hunter2");
}

#[tokio::test]
async fn root_certificates_that_are_none_are_told_at_the_start() {
    trellis_host::install_crypto();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("ca.pem");
    std::fs::write(&path, "no certificate").unwrap();
    let mut otlp = OtlpOptions::new("https://127.0.0.1:4318").unwrap();
    otlp.read_ca(&path).unwrap();
    let options = TelemetryOptions {
        admin: None,
        otlp: Some(otlp),
    };
    let error = Telemetry::start(&options, "NHOST", "default")
        .await
        .unwrap_err();
    assert!(error.to_string().contains("root certificates"), "{error}");
}

#[tokio::test]
async fn a_process_that_was_asked_for_nothing_runs_nothing() {
    let options = TelemetryOptions::default();
    let telemetry = Telemetry::start(&options, "NHOST", "default")
        .await
        .unwrap();
    assert!(telemetry.tracer().is_none() && telemetry.admin_address().is_none());
    telemetry.stop().await;
}
