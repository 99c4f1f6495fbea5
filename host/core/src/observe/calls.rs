//! Counting calls: how many there were, how they ended, how long they took.
//!
//! What a call costs here when nobody looks is five relaxed additions and two looks at the clock: no lock, no allocation.
//! Whoever reads adds up, so a reader may see a call in one number and not yet in another.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use trellis_protocol::RefusalCode;
use trellis_protocol::control::observe::{CallStats, LATENCY_BOUNDS_MICROS, Latency};

/// Buckets of a histogram: one for each bound, and one for what is slower.
const BUCKETS: usize = LATENCY_BOUNDS_MICROS.len() + 1;

/// How often each code was met. The codes are a fixed set, so this never grows.
#[derive(Debug, Default)]
pub(crate) struct CodeCounts([AtomicU64; RefusalCode::ALL.len()]);

impl CodeCounts {
    pub(super) fn add(&self, code: RefusalCode) {
        let place = RefusalCode::ALL.iter().position(|known| *known == code);
        if let Some(count) = place.and_then(|place| self.0.get(place)) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Those that were met at all.
    pub(super) fn read(&self) -> BTreeMap<String, u64> {
        let counts = self.0.iter().map(|count| count.load(Ordering::Relaxed));
        RefusalCode::ALL
            .iter()
            .zip(counts)
            .filter(|(_, count)| *count > 0)
            .map(|(code, count)| (code.as_str().to_owned(), count))
            .collect()
    }
}

/// How long calls took.
#[derive(Debug, Default)]
struct Histogram {
    buckets: [AtomicU64; BUCKETS],
    sum_nanos: AtomicU64,
}

impl Histogram {
    fn add(&self, took: Duration) {
        let nanos = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        // A bound is the last value of its bucket.
        let micros = nanos.div_ceil(1_000);
        let place = LATENCY_BOUNDS_MICROS.partition_point(|bound| *bound < micros);
        self.buckets[place].fetch_add(1, Ordering::Relaxed);
        self.sum_nanos.fetch_add(nanos, Ordering::Relaxed);
    }

    fn read(&self) -> Latency {
        Latency {
            sum_micros: self.sum_nanos.load(Ordering::Relaxed) / 1_000,
            buckets: self
                .buckets
                .iter()
                .map(|count| count.load(Ordering::Relaxed))
                .collect(),
        }
    }
}

/// The calls that one actor or provider was to serve.
#[derive(Debug, Default)]
pub(super) struct Calls {
    latency: Histogram,
    refused: CodeCounts,
    in_flight: AtomicU64,
}

impl Calls {
    pub(super) fn begin(&self) {
        self.in_flight.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answered(&self, took: Duration) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.latency.add(took);
    }

    pub(super) fn refused(&self, code: RefusalCode) {
        self.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.refused.add(code);
    }

    pub(super) fn in_flight(&self) -> u64 {
        self.in_flight.load(Ordering::Relaxed)
    }

    pub(super) fn read(&self) -> CallStats {
        let (latency, refusals) = (self.latency.read(), self.refused.read());
        CallStats {
            invocations: refusals
                .values()
                .fold(latency.count(), |sum, count| sum.saturating_add(*count)),
            refusals,
            latency,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_is_the_last_value_of_its_bucket() {
        let calls = Calls::default();
        for nanos in [0, 25_000, 25_001, 50_000, 30_000_000_000, 30_000_000_001] {
            calls.begin();
            calls.answered(Duration::from_nanos(nanos));
        }
        let read = calls.read().latency;
        assert_eq!(read.buckets[..2], [2, 2]);
        assert_eq!(read.buckets[BUCKETS - 2..], [1, 1]);
        assert_eq!(read.sum_micros, 60_000_100);
    }

    #[test]
    fn refused_calls_are_counted_by_code_and_take_no_part_in_latencies() {
        let calls = Calls::default();
        for code in RefusalCode::ALL {
            calls.begin();
            calls.refused(*code);
        }
        calls.begin();
        assert_eq!(calls.in_flight(), 1);
        calls.answered(Duration::from_micros(3));
        let read = calls.read();
        assert_eq!(read.invocations, RefusalCode::ALL.len() as u64 + 1);
        assert_eq!(read.refusals.len(), RefusalCode::ALL.len());
        assert!(read.refusals.values().all(|count| *count == 1));
        assert_eq!((read.latency.count(), calls.in_flight()), (1, 0));
    }
}
