//! All numbers of a host, at one moment.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;

use trellis_protocol::control::observe::{
    ComponentStats, HostStats, LATENCY_BOUNDS_MICROS, ProviderStats,
};

use super::{Observe, Observed, process};
use crate::host::{HostInner, VERSION};

/// Numbers of whatever runs, in the order in which ids came to be known.
#[derive(Debug, Default)]
pub(super) struct Rows {
    pub(super) components: Vec<(u64, ComponentStats)>,
    pub(super) providers: Vec<(u64, ProviderStats)>,
}

impl HostInner {
    /// All numbers of this host.
    pub(crate) fn stats(&self) -> HostStats {
        let rows = self.rows();
        let mut stats = self.host_numbers();
        stats.components = without_place(rows.components);
        stats.components.sort_by(|a, b| a.id.cmp(&b.id));
        stats.providers = without_place(rows.providers);
        stats.providers.sort_by(|a, b| a.id.cmp(&b.id));
        stats
    }

    /// The numbers of the host itself.
    pub(super) fn host_numbers(&self) -> HostStats {
        let memory = &self.runtime.engine().memory;
        let age = self.state.age();
        HostStats {
            host_id: self.id.to_string(),
            friendly_name: self.name.clone(),
            version: VERSION.to_owned(),
            uptime_seconds: self.started.elapsed().as_secs(),
            process: process::read(),
            slots: self.budget.slots() as u64,
            slots_taken: self.budget.taken() as u64,
            guest_memory_bytes_max: memory.limit_bytes() as u64,
            guest_memory_bytes: memory.used_bytes() as u64,
            // The first time is no reconnect.
            nats_reconnects: self.reconnects.borrow().saturating_sub(1),
            events_dropped: self.events.dropped(),
            state_age_ms: age.map(|age| u64::try_from(age.as_millis()).unwrap_or(u64::MAX)),
            peer_messages_rejected: self.rejected(),
            artifact_fetches: self.router.observe().fetches(),
            latency_bounds_micros: LATENCY_BOUNDS_MICROS.to_vec(),
            ..HostStats::default()
        }
    }

    pub(super) fn rows(&self) -> Rows {
        let router = &self.router;
        let actors = router.actors().into_iter().map(|actor| {
            let seen = actor.observed(router);
            let stats = ComponentStats {
                id: actor.id.to_string(),
                uptime_seconds: actor.started().elapsed().as_secs(),
                served: seen.calls.read(),
                met_refusals: seen.met.read(),
                permits: u64::from(actor.count()),
                in_flight: actor.running() as u64,
                queued: actor.queued() as u64,
                memory_bytes: seen.memory_bytes.load(Ordering::Relaxed) as u64,
                memory_bytes_max: actor.memory_bytes_max() as u64,
                log_lines_dropped: seen.log.dropped(),
            };
            (seen.place, stats)
        });
        let providers = router.providers().into_iter().map(|provider| {
            let seen: &Observed = provider.observed(router);
            let stats = ProviderStats {
                id: provider.id.to_string(),
                name: provider.name.clone(),
                uptime_seconds: provider.started().elapsed().as_secs(),
                served: seen.calls.read(),
                met_refusals: seen.met.read(),
                in_flight: seen.calls.in_flight(),
                restarts: provider.restarts(),
            };
            (seen.place, stats)
        });
        Rows {
            components: actors.collect(),
            providers: providers.collect(),
        }
    }

    /// Messages of other hosts, and of those who would be some, that were dropped or refused, by reason.
    pub(crate) fn rejected(&self) -> BTreeMap<String, u64> {
        let beats = {
            let presence = self
                .presence
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            presence.as_ref().map(|presence| presence.rejected())
        };
        let mut counts = BTreeMap::new();
        for (reason, count) in beats.into_iter().flatten().chain(self.router.rejected()) {
            *counts.entry(reason.to_owned()).or_default() += count;
        }
        counts
    }
}

fn without_place<T>(rows: Vec<(u64, T)>) -> Vec<T> {
    rows.into_iter().map(|(_, row)| row).collect()
}

impl Observe {
    fn fetches(&self) -> BTreeMap<String, u64> {
        let fetches = self
            .fetches
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        let named = fetches.iter();
        named
            .map(|(outcome, count)| ((*outcome).to_owned(), *count))
            .collect()
    }

    /// Refusals of calls whose caller or callee is nobody of this host.
    pub(super) fn unassigned(&self) -> BTreeMap<String, u64> {
        self.unassigned.read()
    }
}
