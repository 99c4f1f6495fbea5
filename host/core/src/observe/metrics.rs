//! The numbers of a host as Prometheus reads them: OpenMetrics text, made of the same snapshot as `host.stats`.
//!
//! No label is unbounded. Ids of actors and providers are labels for the first [`TARGETS_MAX`] of those that run, and
//! `other` for the rest together; every other label is one of a fixed set.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::text::encode;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use trellis_protocol::control::observe::{CallStats, HostStats, LATENCY_BOUNDS_MICROS};

use super::stats::Rows;
use crate::host::HostInner;

/// The media type of the text.
pub const METRICS_CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// Ids that have a label of their own.
const TARGETS_MAX: usize = 1_024;

/// The label of all further ids together. No id is spelt so that it could be taken for it: a bracket is in none.
const OTHER: &str = "(other)";

impl HostInner {
    /// The numbers of this host as OpenMetrics text.
    pub(crate) fn metrics(&self) -> String {
        text(Snapshot {
            host: self.host_numbers(),
            lattice: self.lattice.clone(),
            targets: targets(self.rows(), TARGETS_MAX),
            unassigned: self.router.observe().unassigned(),
        })
    }
}

fn text(snapshot: Snapshot) -> String {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    encode(&mut text, &registry).expect("a string takes whatever is written to it");
    text
}

/// The numbers of one label.
#[derive(Debug, Default)]
struct Target {
    id: String,
    kind: &'static str,
    served: CallStats,
    met: BTreeMap<String, u64>,
    in_flight: u64,
    queued: u64,
    permits: u64,
    memory_bytes: u64,
    log_lines_dropped: u64,
    restarts: u64,
}

impl Target {
    fn add(&mut self, other: Self) {
        let sum = |mine: &mut BTreeMap<String, u64>, theirs: BTreeMap<String, u64>| {
            for (code, count) in theirs {
                *mine.entry(code).or_default() += count;
            }
        };
        self.served.invocations += other.served.invocations;
        sum(&mut self.served.refusals, other.served.refusals);
        let latency = &mut self.served.latency;
        latency.sum_micros += other.served.latency.sum_micros;
        let buckets = &mut latency.buckets;
        buckets.resize(buckets.len().max(other.served.latency.buckets.len()), 0);
        for (mine, theirs) in buckets.iter_mut().zip(other.served.latency.buckets) {
            *mine += theirs;
        }
        sum(&mut self.met, other.met);
        self.in_flight += other.in_flight;
        self.queued += other.queued;
        self.permits += other.permits;
        self.memory_bytes += other.memory_bytes;
        self.log_lines_dropped += other.log_lines_dropped;
        self.restarts += other.restarts;
    }
}

/// The first ids by themselves, what is beyond them together, actors apart from providers.
fn targets(rows: Rows, most: usize) -> Vec<Target> {
    let components = rows.components.into_iter().map(|(place, row)| {
        let target = Target {
            id: row.id,
            kind: ACTOR,
            served: row.served,
            met: row.met_refusals,
            in_flight: row.in_flight,
            queued: row.queued,
            permits: row.permits,
            memory_bytes: row.memory_bytes,
            log_lines_dropped: row.log_lines_dropped,
            restarts: 0,
        };
        (place, target)
    });
    let providers = rows.providers.into_iter().map(|(place, row)| {
        let target = Target {
            id: row.id,
            kind: PROVIDER,
            served: row.served,
            met: row.met_refusals,
            in_flight: row.in_flight,
            restarts: row.restarts,
            ..Target::default()
        };
        (place, target)
    });
    let mut all: Vec<_> = components.chain(providers).collect();
    all.sort_by_key(|(place, _)| *place);
    let rest = all.split_off(all.len().min(most));
    let mut targets: Vec<_> = all.into_iter().map(|(_, target)| target).collect();
    let mut others = BTreeMap::new();
    for (_, target) in rest {
        let empty = || Target {
            id: OTHER.to_owned(),
            kind: target.kind,
            ..Target::default()
        };
        others.entry(target.kind).or_insert_with(empty).add(target);
    }
    targets.extend(others.into_values());
    targets
}

const ACTOR: &str = "actor";
const PROVIDER: &str = "provider";

#[derive(Debug)]
struct Snapshot {
    host: HostStats,
    lattice: String,
    targets: Vec<Target>,
    unassigned: BTreeMap<String, u64>,
}

impl Collector for Snapshot {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut out = Out(&mut encoder);
        self.of_process(&mut out)?;
        self.of_host(&mut out)?;
        self.of_targets(&mut out)
    }
}

impl Snapshot {
    fn of_process(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let process = &self.host.process;
        out.counter_f64(
            "process_cpu_seconds",
            "Processor time, in seconds",
            process.cpu_seconds,
        )?;
        out.gauge(
            "process_resident_memory_bytes",
            "Resident memory",
            process.memory_bytes,
        )?;
        out.gauge("process_open_fds", "Open files", process.open_files)?;
        out.gauge("process_threads", "Threads", process.threads)
    }

    fn of_host(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let host = &self.host;
        out.info(
            "trellis_host",
            "The host",
            &[
                ("host_id", host.host_id.as_str()),
                ("lattice", self.lattice.as_str()),
                ("version", host.version.as_str()),
            ],
        )?;
        out.gauge(
            "trellis_uptime_seconds",
            "Seconds since the host's start",
            host.uptime_seconds,
        )?;
        out.gauge(
            "trellis_slots",
            "Invocations of actors that may run at once",
            host.slots,
        )?;
        out.gauge(
            "trellis_slots_taken",
            "Invocations of actors that run",
            host.slots_taken,
        )?;
        out.gauge(
            "trellis_guest_memory_limit_bytes",
            "Linear memory that all instances may hold",
            host.guest_memory_bytes_max,
        )?;
        out.gauge(
            "trellis_guest_memory_bytes",
            "Linear memory that all instances hold",
            host.guest_memory_bytes,
        )?;
        out.counter(
            "trellis_nats_reconnects",
            "How often the control connection was established again",
            host.nats_reconnects,
        )?;
        out.counter(
            "trellis_events_dropped",
            "Events that were not published",
            host.events_dropped,
        )?;
        if let Some(age_ms) = host.state_age_ms {
            out.gauge_f64(
                "trellis_state_age_seconds",
                "Time since the copy of the lattice's state was known to be current",
                age_ms as f64 / 1_000.0,
            )?;
        }
        out.counters(
            "trellis_peer_messages_rejected",
            "Messages of other hosts that were dropped or refused",
            "reason",
            &host.peer_messages_rejected,
        )?;
        out.counters(
            "trellis_artifact_fetches",
            "Artifacts that were asked for",
            "outcome",
            &host.artifact_fetches,
        )?;
        out.counters(
            "trellis_unassigned_refusals",
            "Refused calls whose caller or callee is nobody of this host",
            "code",
            &self.unassigned,
        )
    }

    fn of_targets(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        self.latencies(out)?;
        self.family(
            out,
            MetricType::Counter,
            ("trellis_invocations", "Calls that ended, refused ones too"),
            |target| Some(target.served.invocations),
        )?;
        self.codes(
            out,
            (
                "trellis_refusals",
                "Calls that were refused to their callers",
            ),
            |target| &target.served.refusals,
        )?;
        self.codes(
            out,
            ("trellis_met_refusals", "Refusals met in calls to others"),
            |target| &target.met,
        )?;
        self.family(
            out,
            MetricType::Gauge,
            ("trellis_in_flight", "Calls that are being served"),
            |target| Some(target.in_flight),
        )?;
        let of_actors = |read: fn(&Target) -> u64| {
            move |target: &Target| (target.kind == ACTOR).then(|| read(target))
        };
        self.family(
            out,
            MetricType::Gauge,
            ("trellis_queued", "Calls that wait for a permit"),
            of_actors(|target| target.queued),
        )?;
        self.family(
            out,
            MetricType::Gauge,
            ("trellis_permits", "Calls that may be served at once"),
            of_actors(|target| target.permits),
        )?;
        self.family(
            out,
            MetricType::Gauge,
            (
                "trellis_actor_memory_bytes",
                "Linear memory that the actor's instances hold",
            ),
            of_actors(|target| target.memory_bytes),
        )?;
        self.family(
            out,
            MetricType::Counter,
            (
                "trellis_log_lines_dropped",
                "Lines of the actor's log that were dropped because there were too many",
            ),
            of_actors(|target| target.log_lines_dropped),
        )?;
        self.family(
            out,
            MetricType::Counter,
            (
                "trellis_provider_restarts",
                "How often the provider's process was started again",
            ),
            |target| (target.kind == PROVIDER).then_some(target.restarts),
        )
    }

    fn family(
        &self,
        out: &mut Out<'_, '_>,
        kind: MetricType,
        (name, help): (&str, &str),
        read: impl Fn(&Target) -> Option<u64>,
    ) -> fmt::Result {
        let mut family = out.0.encode_descriptor(name, help, None, kind)?;
        for target in &self.targets {
            let Some(value) = read(target) else {
                continue;
            };
            let labels = [("target", target.id.as_str()), ("kind", target.kind)];
            let mut metric = family.encode_family(&labels)?;
            match kind {
                MetricType::Counter => metric.encode_counter::<NoLabelSet, _, u64>(&value, None)?,
                _ => metric.encode_gauge(&value)?,
            }
        }
        Ok(())
    }

    fn codes(
        &self,
        out: &mut Out<'_, '_>,
        (name, help): (&str, &str),
        read: impl Fn(&Target) -> &BTreeMap<String, u64>,
    ) -> fmt::Result {
        let mut family = out
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for target in &self.targets {
            for (code, count) in read(target) {
                let labels = [
                    ("target", target.id.as_str()),
                    ("kind", target.kind),
                    ("code", code.as_str()),
                ];
                family
                    .encode_family(&labels)?
                    .encode_counter::<NoLabelSet, _, u64>(count, None)?;
            }
        }
        Ok(())
    }

    fn latencies(&self, out: &mut Out<'_, '_>) -> fmt::Result {
        let mut family = out.0.encode_descriptor(
            "trellis_invocation_duration_seconds",
            "Time that answered calls took; with HTTP, to the head of the response",
            None,
            MetricType::Histogram,
        )?;
        let bounds = LATENCY_BOUNDS_MICROS
            .iter()
            .map(|bound| *bound as f64 / 1e6)
            // The way in which the library is told that there is no bound.
            .chain([f64::MAX]);
        for target in &self.targets {
            let latency = &target.served.latency;
            let count = latency.count();
            // Twenty lines for each of those that were never called would be most of the text.
            if count == 0 {
                continue;
            }
            let buckets: Vec<_> = bounds
                .clone()
                .zip(latency.buckets.iter().copied())
                .collect();
            let labels = [("target", target.id.as_str()), ("kind", target.kind)];
            family
                .encode_family(&labels)?
                .encode_histogram::<NoLabelSet>(
                    latency.sum_micros as f64 / 1e6,
                    count,
                    &buckets,
                    None,
                )?;
        }
        Ok(())
    }
}

/// Writes single metrics.
struct Out<'a, 'e>(&'a mut DescriptorEncoder<'e>);

impl Out<'_, '_> {
    fn metric(&mut self, name: &str, help: &str, metric: &impl EncodeMetric) -> fmt::Result {
        let encoder = self
            .0
            .encode_descriptor(name, help, None, metric.metric_type())?;
        metric.encode(encoder)
    }

    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn counter_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, &ConstCounter::new(value))
    }

    fn gauge(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    fn gauge_f64(&mut self, name: &str, help: &str, value: f64) -> fmt::Result {
        self.metric(name, help, &ConstGauge::new(value))
    }

    fn info(&mut self, name: &str, help: &str, labels: &[(&str, &str)]) -> fmt::Result {
        let labels = labels.to_vec();
        self.0
            .encode_descriptor(name, help, None, MetricType::Info)?
            .encode_info(&labels)
    }

    fn counters(
        &mut self,
        name: &str,
        help: &str,
        label: &str,
        counts: &BTreeMap<String, u64>,
    ) -> fmt::Result {
        let mut family = self
            .0
            .encode_descriptor(name, help, None, MetricType::Counter)?;
        for (value, count) in counts {
            family
                .encode_family(&[(label, value.as_str())])?
                .encode_counter::<NoLabelSet, _, u64>(count, None)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
