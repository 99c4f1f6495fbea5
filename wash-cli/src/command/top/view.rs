//! What happened between two samples: rates, times and states, by host and by actor or provider.

use std::collections::BTreeMap;
use std::time::Duration;

use serde_json::{Value, json};
use trellis_protocol::control::observe::{CallStats, HostStats, Latency};

use super::format;
use super::sample::{Sample, Seen};
use crate::cli::SortBy;
use crate::output::{self, Report};

/// A lattice at work.
#[derive(Debug, Clone, Default)]
pub(super) struct View {
    pub(super) hosts: Vec<HostRow>,
    /// Actors and providers, over all hosts.
    pub(super) callees: Vec<CalleeRow>,
    /// All calls.
    pub(super) total: Calls,
}

/// Calls between two samples.
#[derive(Debug, Clone, Default)]
pub(super) struct Calls {
    pub(super) per_second: f64,
    pub(super) refused_per_second: f64,
    latencies: Latencies,
}

/// A host.
#[derive(Debug, Clone, Default)]
pub(super) struct HostRow {
    pub(super) id: String,
    pub(super) name: String,
    pub(super) version: String,
    pub(super) uptime_seconds: u64,
    pub(super) calls: Calls,
    pub(super) running: u64,
    pub(super) slots: u64,
    pub(super) cpu_percent: f64,
    pub(super) memory_bytes: u64,
    pub(super) guest_memory_bytes: u64,
    pub(super) nats_reconnects: u64,
    pub(super) silent: Option<String>,
}

/// An actor or a provider.
#[derive(Debug, Clone, Default)]
pub(super) struct CalleeRow {
    pub(super) id: String,
    pub(super) kind: &'static str,
    pub(super) hosts: u64,
    pub(super) calls: Calls,
    pub(super) running: u64,
    pub(super) queued: u64,
    pub(super) permits: u64,
    pub(super) memory_bytes: u64,
    pub(super) restarts: u64,
    /// Since the hosts' start.
    pub(super) invocations: u64,
    /// Since the hosts' start, by code.
    pub(super) refusals: BTreeMap<String, u64>,
}

/// Histograms of hosts, which may differ in their bounds.
#[derive(Debug, Clone, Default)]
struct Latencies(Vec<(Vec<u64>, Latency)>);

impl Latencies {
    fn add(&mut self, bounds: &[u64], latency: &Latency) {
        let Some((_, sum)) = self
            .0
            .iter_mut()
            .find(|(known, sum)| known == bounds && sum.buckets.len() == latency.buckets.len())
        else {
            self.0.push((bounds.to_vec(), latency.clone()));
            return;
        };
        sum.sum_micros = sum.sum_micros.saturating_add(latency.sum_micros);
        for (bucket, more) in sum.buckets.iter_mut().zip(&latency.buckets) {
            *bucket = bucket.saturating_add(*more);
        }
    }

    fn merge(&mut self, other: &Self) {
        for (bounds, latency) in &other.0 {
            self.add(bounds, latency);
        }
    }

    /// Of histograms that cannot be added the slowest.
    fn quantile(&self, share: f64) -> Option<Duration> {
        let each = self.0.iter();
        each.filter_map(|(bounds, latency)| latency.quantile(share, bounds))
            .max()
    }
}

impl Calls {
    /// The time within which half of them were answered.
    pub(super) fn p50(&self) -> Option<Duration> {
        self.latencies.quantile(0.5)
    }

    /// The time within which 99 of 100 were answered.
    pub(super) fn p99(&self) -> Option<Duration> {
        self.latencies.quantile(0.99)
    }

    fn between(
        earlier: Option<&CallStats>,
        later: &CallStats,
        bounds: &[u64],
        elapsed: Duration,
    ) -> Self {
        let none = CallStats::default();
        let earlier = earlier.unwrap_or(&none);
        let refused = |calls: &CallStats| {
            let counts = calls.refusals.values();
            counts.fold(0_u64, |sum, count| sum.saturating_add(*count))
        };
        let mut latencies = Latencies::default();
        latencies.add(bounds, &later.latency.since(&earlier.latency));
        Self {
            per_second: per_second(earlier.invocations, later.invocations, elapsed),
            refused_per_second: per_second(refused(earlier), refused(later), elapsed),
            latencies,
        }
    }

    fn add(&mut self, other: &Self) {
        self.per_second += other.per_second;
        self.refused_per_second += other.refused_per_second;
        self.latencies.merge(&other.latencies);
    }

    fn json(&self) -> Value {
        let micros = |time: Option<Duration>| {
            time.map(|time| u64::try_from(time.as_micros()).unwrap_or(u64::MAX))
        };
        json!({
            "per_second": rounded(self.per_second),
            "refused_per_second": rounded(self.refused_per_second),
            "p50_micros": micros(self.p50()),
            "p99_micros": micros(self.p99()),
        })
    }
}

impl View {
    /// What happened between two samples, sorted.
    pub(super) fn between(earlier: &Sample, later: &Sample, sort: SortBy) -> Self {
        let mut view = Self::default();
        let mut callees: BTreeMap<(&'static str, String), CalleeRow> = BTreeMap::new();
        for (id, seen) in &later.hosts {
            // A host that says nothing does nothing that is known of.
            let before = earlier.hosts.get(id).filter(|_| seen.silent.is_none());
            let elapsed = before.map_or(Duration::ZERO, |before| seen.at - before.at);
            let mut row = host_row(id, seen, before, elapsed);
            for part in parts(&seen.stats) {
                let calls = match before {
                    None => Calls::default(),
                    Some(before) => Calls::between(
                        parts(&before.stats)
                            .find(|other| (other.kind, other.id) == (part.kind, part.id))
                            .map(|other| other.served),
                        part.served,
                        &seen.stats.latency_bounds_micros,
                        elapsed,
                    ),
                };
                row.calls.add(&calls);
                if seen.silent.is_none() {
                    let key = (part.kind, part.id.to_owned());
                    part.add_to(callees.entry(key).or_default(), &calls);
                }
            }
            view.total.add(&row.calls);
            view.hosts.push(row);
        }
        view.callees = callees.into_values().collect();
        view.sort(sort);
        view
    }

    /// Sorts both tables: names upwards, numbers downwards.
    pub(super) fn sort(&mut self, by: SortBy) {
        let calls = |one: &Calls, other: &Calls| match by {
            SortBy::P50 => other.p50().cmp(&one.p50()),
            SortBy::P99 => other.p99().cmp(&one.p99()),
            SortBy::Refusals => other.refused_per_second.total_cmp(&one.refused_per_second),
            _ => other.per_second.total_cmp(&one.per_second),
        };
        self.hosts.sort_by(|one, other| {
            match by {
                SortBy::Name => std::cmp::Ordering::Equal,
                SortBy::Running => other.running.cmp(&one.running),
                SortBy::Memory => other.memory_bytes.cmp(&one.memory_bytes),
                _ => calls(&one.calls, &other.calls),
            }
            .then_with(|| (&one.name, &one.id).cmp(&(&other.name, &other.id)))
        });
        self.callees.sort_by(|one, other| {
            match by {
                SortBy::Name => std::cmp::Ordering::Equal,
                SortBy::Running => other.running.cmp(&one.running),
                SortBy::Memory => other.memory_bytes.cmp(&one.memory_bytes),
                _ => calls(&one.calls, &other.calls),
            }
            .then_with(|| (&one.id, one.kind).cmp(&(&other.id, other.kind)))
        });
    }

    /// The view as it is printed where there is no screen.
    pub(super) fn report(&self, lattice: &str) -> Report {
        let hosts = output::table(
            &HOST_COLUMNS,
            self.hosts.iter().map(|host| host.cells().to_vec()),
        );
        let callees = output::table(
            &CALLEE_COLUMNS,
            self.callees.iter().map(|callee| callee.cells().to_vec()),
        );
        let callees = match self.callees.as_slice() {
            [] => "nothing runs\n".to_owned(),
            _ => callees,
        };
        Report::new(format!("{hosts}\n{callees}"))
            .with("lattice", lattice)
            .with("total", self.total.json())
            .with(
                "hosts",
                self.hosts.iter().map(HostRow::json).collect::<Vec<_>>(),
            )
            .with(
                "callees",
                self.callees.iter().map(CalleeRow::json).collect::<Vec<_>>(),
            )
    }
}

/// Titles of the table of hosts.
pub(super) const HOST_COLUMNS: [&str; 9] = [
    "host",
    "up",
    "calls/s",
    "p50",
    "p99",
    "refused/s",
    "running",
    "cpu",
    "memory",
];

/// Titles of the table of actors and providers.
pub(super) const CALLEE_COLUMNS: [&str; 9] = [
    "id",
    "kind",
    "calls/s",
    "p50",
    "p99",
    "refused/s",
    "running",
    "queued",
    "memory",
];

impl HostRow {
    /// The row below [`HOST_COLUMNS`].
    pub(super) fn cells(&self) -> [String; 9] {
        let cells = [
            self.name.clone(),
            output::uptime(self.uptime_seconds),
            format::rate(self.calls.per_second),
            format::time(self.calls.p50()),
            format::time(self.calls.p99()),
            format::rate(self.calls.refused_per_second),
            format!("{}/{}", self.running, self.slots),
            format!("{:.0}%", self.cpu_percent),
            format::bytes(self.memory_bytes),
        ];
        match &self.silent {
            None => cells,
            Some(why) => {
                let [name, ..] = cells;
                let mut silent = std::array::from_fn(|_| String::from("-"));
                silent[0] = name;
                silent[1].clone_from(why);
                silent
            }
        }
    }

    fn json(&self) -> Value {
        json!({
            "host_id": self.id,
            "friendly_name": self.name,
            "version": self.version,
            "uptime_seconds": self.uptime_seconds,
            "calls": self.calls.json(),
            "running": self.running,
            "slots": self.slots,
            "cpu_percent": rounded(self.cpu_percent),
            "memory_bytes": self.memory_bytes,
            "guest_memory_bytes": self.guest_memory_bytes,
            "nats_reconnects": self.nats_reconnects,
            "silent": self.silent,
        })
    }
}

impl CalleeRow {
    /// The row below [`CALLEE_COLUMNS`].
    pub(super) fn cells(&self) -> [String; 9] {
        let is_actor = self.kind == ACTOR;
        [
            self.id.clone(),
            match self.hosts {
                1 => self.kind.to_owned(),
                hosts => format!("{} ×{hosts}", self.kind),
            },
            format::rate(self.calls.per_second),
            format::time(self.calls.p50()),
            format::time(self.calls.p99()),
            format::rate(self.calls.refused_per_second),
            match is_actor {
                true => format!("{}/{}", self.running, self.permits),
                false => self.running.to_string(),
            },
            match is_actor {
                true => self.queued.to_string(),
                false => "-".to_owned(),
            },
            match is_actor {
                true => format::bytes(self.memory_bytes),
                false => "-".to_owned(),
            },
        ]
    }

    fn json(&self) -> Value {
        json!({
            "id": self.id,
            "kind": self.kind,
            "hosts": self.hosts,
            "calls": self.calls.json(),
            "running": self.running,
            "queued": self.queued,
            "permits": self.permits,
            "memory_bytes": self.memory_bytes,
            "restarts": self.restarts,
            "invocations": self.invocations,
            "refusals": self.refusals,
        })
    }
}

const ACTOR: &str = "actor";
const PROVIDER: &str = "provider";

/// An actor or a provider of one host.
struct Part<'a> {
    id: &'a str,
    kind: &'static str,
    served: &'a CallStats,
    running: u64,
    queued: u64,
    permits: u64,
    memory_bytes: u64,
    restarts: u64,
}

impl Part<'_> {
    fn add_to(&self, row: &mut CalleeRow, calls: &Calls) {
        self.id.clone_into(&mut row.id);
        row.kind = self.kind;
        row.hosts += 1;
        row.calls.add(calls);
        row.running = row.running.saturating_add(self.running);
        row.queued = row.queued.saturating_add(self.queued);
        row.permits = row.permits.saturating_add(self.permits);
        row.memory_bytes = row.memory_bytes.saturating_add(self.memory_bytes);
        row.restarts = row.restarts.saturating_add(self.restarts);
        row.invocations = row.invocations.saturating_add(self.served.invocations);
        for (code, count) in &self.served.refusals {
            let sum = row.refusals.entry(code.clone()).or_default();
            *sum = sum.saturating_add(*count);
        }
    }
}

fn parts(stats: &HostStats) -> impl Iterator<Item = Part<'_>> {
    let actors = stats.components.iter().map(|actor| Part {
        id: &actor.id,
        kind: ACTOR,
        served: &actor.served,
        running: actor.in_flight,
        queued: actor.queued,
        permits: actor.permits,
        memory_bytes: actor.memory_bytes,
        restarts: 0,
    });
    let providers = stats.providers.iter().map(|provider| Part {
        id: &provider.id,
        kind: PROVIDER,
        served: &provider.served,
        running: provider.in_flight,
        queued: 0,
        permits: 0,
        memory_bytes: 0,
        restarts: provider.restarts,
    });
    actors.chain(providers)
}

fn host_row(id: &str, seen: &Seen, before: Option<&Seen>, elapsed: Duration) -> HostRow {
    let stats = &seen.stats;
    let cpu_percent = match before {
        Some(before) if !elapsed.is_zero() => {
            let used = stats.process.cpu_seconds - before.stats.process.cpu_seconds;
            used.max(0.0) / elapsed.as_secs_f64() * 100.0
        }
        _ => 0.0,
    };
    HostRow {
        id: id.to_owned(),
        name: stats.friendly_name.clone(),
        version: stats.version.clone(),
        uptime_seconds: stats.uptime_seconds,
        calls: Calls::default(),
        running: stats.slots_taken,
        slots: stats.slots,
        cpu_percent,
        memory_bytes: stats.process.memory_bytes,
        guest_memory_bytes: stats.guest_memory_bytes,
        nats_reconnects: stats.nats_reconnects,
        silent: seen.silent.clone(),
    }
}

/// A counter's rate. One that has become smaller has begun anew.
fn per_second(earlier: u64, later: u64, elapsed: Duration) -> f64 {
    if elapsed.is_zero() {
        return 0.0;
    }
    later.checked_sub(earlier).unwrap_or(later) as f64 / elapsed.as_secs_f64()
}

/// To a tenth, which is what it is good for.
fn rounded(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

#[cfg(test)]
pub(super) mod tests;
