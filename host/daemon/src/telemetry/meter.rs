//! The host's numbers as OpenTelemetry has them: read from the host every few seconds and sent as they are. The host counts
//! once, whoever reads it; nothing is added to a call by this.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::common::v1::{AnyValue, InstrumentationScope, KeyValue, any_value};
use opentelemetry_proto::tonic::metrics::v1::{
    AggregationTemporality, Gauge, Histogram, HistogramDataPoint, Metric, NumberDataPoint,
    ResourceMetrics, ScopeMetrics, Sum, metric, number_data_point,
};
use opentelemetry_proto::tonic::resource::v1::Resource as ResourceMessage;
use opentelemetry_proto::transform::common::tonic::ResourceAttributesWithSchema;
use opentelemetry_sdk::Resource;
use prost::Message;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use trellis_protocol::control::{CallStats, ComponentStats, HostStats};

use super::collector::Collector;
use super::options::OtlpOptions;
use super::tracer::SCOPE;
use crate::admin::Subject;

const MICROS_IN_A_SECOND: f64 = 1e6;

/// Actors, and providers, that are reported by their ids. A collector keeps a series for each.
const IDS_MAX: usize = 1_024;

/// Sends the numbers until it is cancelled.
pub(super) async fn run(
    collector: Collector,
    options: OtlpOptions,
    resource: Resource,
    subject: Arc<Subject>,
    cancel: CancellationToken,
) {
    let url = options.url("/v1/metrics");
    let mut ticks = interval(options.metrics_every);
    // A collector that was slow gets no burst afterwards.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        tokio::select! {
            _ = ticks.tick() => {}
            () = cancel.cancelled() => return,
        }
        if let Some(stats) = subject.stats() {
            let body = message(&stats, &resource).encode_to_vec();
            let request = http::Request::post(&url)
                .header(CONTENT_TYPE, "application/x-protobuf")
                .body(Bytes::from(body));
            if let Ok(request) = request {
                // What fails is told by the collector, and the next report says as much as this one.
                let _ = collector.send(request).await;
            }
        }
    }
}

fn message(stats: &HostStats, resource: &Resource) -> ExportMetricsServiceRequest {
    let attributes = ResourceAttributesWithSchema::from(resource).attributes.0;
    ExportMetricsServiceRequest {
        resource_metrics: vec![ResourceMetrics {
            resource: Some(ResourceMessage {
                attributes,
                ..ResourceMessage::default()
            }),
            scope_metrics: vec![ScopeMetrics {
                scope: Some(InstrumentationScope {
                    name: SCOPE.to_owned(),
                    version: env!("CARGO_PKG_VERSION").to_owned(),
                    ..InstrumentationScope::default()
                }),
                metrics: Report::new(stats).metrics(),
                ..ScopeMetrics::default()
            }],
            ..ResourceMetrics::default()
        }],
    }
}

/// One report: what was counted, and when.
struct Report<'a> {
    stats: &'a HostStats,
    bounds_seconds: Vec<f64>,
    start: u64,
    now: u64,
}

/// The attributes of a point.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl<'a> Report<'a> {
    fn new(stats: &'a HostStats) -> Self {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        let start = now.saturating_sub(Duration::from_secs(stats.uptime_seconds));
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        Self {
            stats,
            bounds_seconds: stats
                .latency_bounds_micros
                .iter()
                .map(|micros| *micros as f64 / MICROS_IN_A_SECOND)
                .collect(),
            start: nanos(start),
            now: nanos(now),
        }
    }

    fn metrics(&self) -> Vec<Metric> {
        let stats = self.stats;
        let host = Vec::new;
        let actors = |value: fn(&ComponentStats) -> u64| {
            let points = self
                .actors()
                .map(move |actor| (vec![("target", &*actor.id)], value(actor)));
            points.collect::<Vec<_>>()
        };
        vec![
            self.counter(
                "trellis.invocations",
                "{invocation}",
                "Calls that ended, by callee.",
                {
                    self.served()
                        .map(|(labels, calls)| (labels, calls.invocations))
                        .collect()
                },
            ),
            self.counter(
                "trellis.refusals",
                "{invocation}",
                "Calls that were refused, by callee and code.",
                {
                    self.served()
                        .flat_map(|(labels, calls)| {
                            calls.refusals.iter().map(move |(code, count)| {
                                let mut labels = labels.clone();
                                labels.push(("code", code.as_str()));
                                (labels, *count)
                            })
                        })
                        .collect()
                },
            ),
            self.latencies(),
            self.gauge(
                "trellis.actor.in_flight",
                "{invocation}",
                "Invocations that run.",
                actors(|a| a.in_flight),
            ),
            self.gauge(
                "trellis.actor.queued",
                "{invocation}",
                "Invocations that wait for a permit.",
                actors(|a| a.queued),
            ),
            self.gauge(
                "trellis.actor.permits",
                "{invocation}",
                "Invocations that may run at once.",
                actors(|a| a.permits),
            ),
            self.gauge(
                "trellis.actor.memory",
                "By",
                "Linear memory that an actor's instances hold.",
                actors(|a| a.memory_bytes),
            ),
            self.gauge(
                "trellis.host.slots_taken",
                "{invocation}",
                "Invocations that run on the host.",
                vec![(host(), stats.slots_taken)],
            ),
            self.gauge(
                "trellis.host.slots",
                "{invocation}",
                "Invocations that may run on the host at once.",
                vec![(host(), stats.slots)],
            ),
            self.gauge(
                "trellis.host.guest_memory",
                "By",
                "Linear memory that all instances hold.",
                vec![(host(), stats.guest_memory_bytes)],
            ),
            self.counter(
                "trellis.nats.reconnects",
                "{connection}",
                "How often the connection to NATS was made again.",
                vec![(host(), stats.nats_reconnects)],
            ),
            self.counter(
                "trellis.events.dropped",
                "{event}",
                "Events that were not published.",
                vec![(host(), stats.events_dropped)],
            ),
            self.counter(
                "trellis.peer.messages_rejected",
                "{message}",
                "Messages of other hosts that were dropped or refused.",
                labelled("reason", &stats.peer_messages_rejected),
            ),
            self.counter(
                "trellis.artifact.fetches",
                "{fetch}",
                "Artifacts that were asked for, by outcome.",
                labelled("outcome", &stats.artifact_fetches),
            ),
            self.gauge(
                "process.memory.usage",
                "By",
                "Resident memory of the process.",
                vec![(host(), stats.process.memory_bytes)],
            ),
            self.seconds(
                "process.cpu.time",
                "Processor time of the process.",
                stats.process.cpu_seconds,
            ),
            self.gauge(
                "process.unix.file_descriptor.count",
                "{file_descriptor}",
                "Open file descriptors.",
                vec![(host(), stats.process.open_files)],
            ),
            self.gauge(
                "process.thread.count",
                "{thread}",
                "Threads of the process.",
                vec![(host(), stats.process.threads)],
            ),
        ]
    }

    fn actors(&self) -> impl Iterator<Item = &'a ComponentStats> {
        self.stats.components.iter().take(IDS_MAX)
    }

    /// What each actor and provider of the host served.
    fn served(&self) -> impl Iterator<Item = (Labels<'a>, &'a CallStats)> {
        let actors = self.actors();
        let providers = self.stats.providers.iter().take(IDS_MAX);
        actors
            .map(|actor| (&*actor.id, "actor", &actor.served))
            .chain(providers.map(|provider| (&*provider.id, "provider", &provider.served)))
            .map(|(id, kind, calls)| (vec![("target", id), ("kind", kind)], calls))
    }

    fn latencies(&self) -> Metric {
        let point = |(labels, calls): (Labels<'_>, &CallStats)| {
            let latency = &calls.latency;
            HistogramDataPoint {
                attributes: attributes(&labels),
                start_time_unix_nano: self.start,
                time_unix_nano: self.now,
                count: latency.count(),
                sum: Some(latency.sum_micros as f64 / MICROS_IN_A_SECOND),
                bucket_counts: latency.buckets.clone(),
                explicit_bounds: self.bounds_seconds.clone(),
                ..HistogramDataPoint::default()
            }
        };
        // A histogram whose buckets do not fit its bounds would make the collector refuse the whole report.
        let fits = |calls: &CallStats| calls.latency.buckets.len() == self.bounds_seconds.len() + 1;
        let data = metric::Data::Histogram(Histogram {
            data_points: self
                .served()
                .filter(|(_, calls)| fits(calls))
                .map(point)
                .collect(),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
        });
        metric(
            "trellis.invocation.duration",
            "s",
            "Time from a call to its answer, or to the head of its HTTP response, of calls that were not refused.",
            data,
        )
    }

    fn counter(
        &self,
        name: &str,
        unit: &str,
        description: &str,
        values: Vec<(Labels<'_>, u64)>,
    ) -> Metric {
        let data = metric::Data::Sum(Sum {
            data_points: self.points(values),
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        });
        metric(name, unit, description, data)
    }

    fn gauge(
        &self,
        name: &str,
        unit: &str,
        description: &str,
        values: Vec<(Labels<'_>, u64)>,
    ) -> Metric {
        let data = metric::Data::Gauge(Gauge {
            data_points: self.points(values),
        });
        metric(name, unit, description, data)
    }

    fn seconds(&self, name: &str, description: &str, value: f64) -> Metric {
        let value = number_data_point::Value::AsDouble(value);
        let data = metric::Data::Sum(Sum {
            data_points: vec![self.point(&[], value)],
            aggregation_temporality: AggregationTemporality::Cumulative.into(),
            is_monotonic: true,
        });
        metric(name, "s", description, data)
    }

    fn points(&self, values: Vec<(Labels<'_>, u64)>) -> Vec<NumberDataPoint> {
        let whole =
            |count| number_data_point::Value::AsInt(i64::try_from(count).unwrap_or(i64::MAX));
        values
            .into_iter()
            .map(|(labels, count)| self.point(&labels, whole(count)))
            .collect()
    }

    fn point(
        &self,
        labels: &[(&'static str, &str)],
        value: number_data_point::Value,
    ) -> NumberDataPoint {
        NumberDataPoint {
            attributes: attributes(labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            value: Some(value),
            ..NumberDataPoint::default()
        }
    }
}

fn metric(name: &str, unit: &str, description: &str, data: metric::Data) -> Metric {
    Metric {
        name: name.to_owned(),
        description: description.to_owned(),
        unit: unit.to_owned(),
        data: Some(data),
        ..Metric::default()
    }
}

fn labelled<'a>(
    name: &'static str,
    counts: &'a std::collections::BTreeMap<String, u64>,
) -> Vec<(Labels<'a>, u64)> {
    counts
        .iter()
        .map(|(label, count)| (vec![(name, label.as_str())], *count))
        .collect()
}

fn attributes(labels: &[(&'static str, &str)]) -> Vec<KeyValue> {
    labels
        .iter()
        .map(|(name, value)| KeyValue {
            key: (*name).to_owned(),
            value: Some(AnyValue {
                value: Some(any_value::Value::StringValue((*value).to_owned())),
            }),
            ..KeyValue::default()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use trellis_protocol::control::Latency;

    #[test]
    fn a_report_says_what_was_counted_with_units_and_times() {
        let stats = HostStats {
            uptime_seconds: 60,
            latency_bounds_micros: vec![1_000, 10_000],
            components: vec![ComponentStats {
                id: "hello".to_owned(),
                served: CallStats {
                    invocations: 7,
                    refusals: [("overloaded".to_owned(), 2)].into(),
                    latency: Latency {
                        sum_micros: 1_500_000,
                        buckets: vec![3, 1, 1],
                    },
                },
                ..ComponentStats::default()
            }],
            ..HostStats::default()
        };
        let metrics = Report::new(&stats).metrics();
        let data = |name: &str| {
            let found = metrics.iter().find(|metric| metric.name == name);
            found.and_then(|metric| metric.data.clone())
        };
        let Some(metric::Data::Sum(refusals)) = data("trellis.refusals") else {
            panic!("no refusals");
        };
        let point = &refusals.data_points[0];
        assert!(refusals.is_monotonic);
        assert_eq!(point.value, Some(number_data_point::Value::AsInt(2)));
        assert_eq!(point.attributes.len(), 3);
        assert_eq!(
            point.time_unix_nano - point.start_time_unix_nano,
            60_000_000_000
        );
        let Some(metric::Data::Histogram(latency)) = data("trellis.invocation.duration") else {
            panic!("no latency");
        };
        let point = &latency.data_points[0];
        assert_eq!((point.count, point.sum), (5, Some(1.5)));
        assert_eq!(point.explicit_bounds, [0.001, 0.01]);
        assert_eq!(point.bucket_counts, [3, 1, 1]);
    }

    #[test]
    fn a_histogram_that_does_not_fit_its_bounds_is_left_out() {
        let mut stats = HostStats {
            components: vec![ComponentStats::default()],
            ..HostStats::default()
        };
        stats.components[0].served.latency.buckets = vec![1, 2, 3];
        let Some(metric::Data::Histogram(latency)) = Report::new(&stats).latencies().data else {
            panic!("no histogram");
        };
        assert!(latency.data_points.is_empty());
    }
}
