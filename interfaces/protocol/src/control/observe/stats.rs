//! The numbers of a host: what `/metrics` says, for clients of the control interface.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Upper bounds of the buckets of every latency histogram, in microseconds, ascending. One more bucket holds what is slower.
pub const LATENCY_BOUNDS_MICROS: &[u64] = &[
    25, 50, 100, 250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000,
    1_000_000, 2_500_000, 5_000_000, 10_000_000, 30_000_000,
];

/// The numbers of a host. Counters count from its start.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct HostStats {
    /// Its public key.
    pub host_id: String,
    /// Its name for people.
    pub friendly_name: String,
    /// Its version.
    pub version: String,
    /// Seconds since its start.
    pub uptime_seconds: u64,
    /// Its process.
    pub process: ProcessStats,
    /// Invocations that may run at once, and how many do.
    pub slots: u64,
    /// Slots that are taken.
    pub slots_taken: u64,
    /// Bytes of linear memory that all instances may hold.
    pub guest_memory_bytes_max: u64,
    /// Bytes of linear memory that all instances hold.
    pub guest_memory_bytes: u64,
    /// How often the control connection was established again.
    pub nats_reconnects: u64,
    /// Events that were not published.
    pub events_dropped: u64,
    /// Milliseconds since the copy of the state was known to be current; absent where it never was.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state_age_ms: Option<u64>,
    /// Messages of other hosts that were dropped or refused, by reason.
    #[serde(default)]
    pub peer_messages_rejected: BTreeMap<String, u64>,
    /// Artifacts that were asked for, by outcome: `ok`, or the code of the failure.
    #[serde(default)]
    pub artifact_fetches: BTreeMap<String, u64>,
    /// Actors, in order of their ids.
    #[serde(default)]
    pub components: Vec<ComponentStats>,
    /// Providers, in order of their ids.
    #[serde(default)]
    pub providers: Vec<ProviderStats>,
    /// Rows that an answer has no room for: of the actors with the fewest calls.
    #[serde(default)]
    pub left_out: u64,
    /// The buckets that every histogram of this answer has: [`LATENCY_BOUNDS_MICROS`] of the host that answers.
    #[serde(default)]
    pub latency_bounds_micros: Vec<u64>,
}

/// What the operating system says about a host's process. Zero where it does not say.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessStats {
    /// Bytes of memory that are resident.
    pub memory_bytes: u64,
    /// Seconds of processor time, in user and system mode.
    pub cpu_seconds: f64,
    /// Open file descriptors.
    pub open_files: u64,
    /// Threads.
    pub threads: u64,
}

/// Calls: how many, how they ended, how long they took.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStats {
    /// Calls that ended, refused ones among them.
    pub invocations: u64,
    /// Those that were refused, by code.
    #[serde(default)]
    pub refusals: BTreeMap<String, u64>,
    /// How long those took that were not refused.
    #[serde(default)]
    pub latency: Latency,
}

/// The numbers of an actor.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ComponentStats {
    /// Its id.
    pub id: String,
    /// Seconds since it was started here, in this version.
    pub uptime_seconds: u64,
    /// Calls that it was to serve on this host.
    pub served: CallStats,
    /// Refusals that it met in calls of its own, by code.
    #[serde(default)]
    pub met_refusals: BTreeMap<String, u64>,
    /// Its permits.
    pub permits: u64,
    /// Invocations that run.
    pub in_flight: u64,
    /// Invocations that wait for a permit.
    pub queued: u64,
    /// Bytes of linear memory that its instances hold.
    pub memory_bytes: u64,
    /// Bytes that each instance may hold.
    pub memory_bytes_max: u64,
    /// Lines of its log that were dropped, because it wrote too many.
    pub log_lines_dropped: u64,
}

/// The numbers of a provider.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProviderStats {
    /// Its id.
    pub id: String,
    /// The name of its kind.
    pub name: String,
    /// Seconds since it was started here.
    pub uptime_seconds: u64,
    /// Calls that it was to serve on this host.
    pub served: CallStats,
    /// Refusals that it met in calls of its own, by code.
    #[serde(default)]
    pub met_refusals: BTreeMap<String, u64>,
    /// Calls that it serves now.
    pub in_flight: u64,
    /// How often its process was started again.
    pub restarts: u64,
}

/// How long calls took: a histogram.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Latency {
    /// Microseconds of all calls together.
    pub sum_micros: u64,
    /// Calls by bucket: those that took at most the bound of that place in the answer's `latency_bounds_micros` and more
    /// than the one before. The last one has no bound.
    pub buckets: Vec<u64>,
}

impl Latency {
    /// Calls in all.
    pub fn count(&self) -> u64 {
        self.buckets
            .iter()
            .fold(0, |sum, bucket| sum.saturating_add(*bucket))
    }

    /// What was added since an earlier answer of the same host. Where that is none of it (the host was started again),
    /// everything is new.
    #[must_use]
    pub fn since(&self, earlier: &Self) -> Self {
        let buckets: Option<Vec<u64>> = (self.buckets.len() == earlier.buckets.len())
            .then(|| {
                let pairs = self.buckets.iter().zip(&earlier.buckets);
                pairs.map(|(now, then)| now.checked_sub(*then)).collect()
            })
            .flatten();
        match buckets {
            Some(buckets) => Self {
                sum_micros: self.sum_micros.saturating_sub(earlier.sum_micros),
                buckets,
            },
            None => self.clone(),
        }
    }

    /// The time within which this share of the calls (0 to 1) was answered, by linear interpolation within its bucket; of the
    /// bucket without a bound, the last bound. None without calls.
    pub fn quantile(&self, share: f64, bounds_micros: &[u64]) -> Option<Duration> {
        let count = self.count();
        if count == 0 {
            return None;
        }
        let rank = share.clamp(0.0, 1.0) * count as f64;
        let mut below = 0_u64;
        for (place, bucket) in self.buckets.iter().enumerate() {
            let upto = below.saturating_add(*bucket);
            if *bucket > 0 && upto as f64 >= rank {
                let floor = match place {
                    0 => 0,
                    place => bounds_micros.get(place - 1).copied().unwrap_or(0),
                };
                let ceiling = bounds_micros.get(place).copied().unwrap_or(floor);
                let within = (rank - below as f64) / *bucket as f64;
                let micros = floor as f64 + within * ceiling.saturating_sub(floor) as f64;
                return Some(Duration::from_secs_f64(micros.max(0.0) / 1e6));
            }
            below = upto;
        }
        None
    }
}

const _: () = {
    let mut place = 1;
    while place < LATENCY_BOUNDS_MICROS.len() {
        assert!(LATENCY_BOUNDS_MICROS[place - 1] < LATENCY_BOUNDS_MICROS[place]);
        place += 1;
    }
};

#[cfg(test)]
mod tests {
    use super::*;

    fn latency(buckets: &[u64]) -> Latency {
        Latency {
            sum_micros: 0,
            buckets: buckets.to_vec(),
        }
    }

    #[test]
    fn a_quantile_lies_within_its_bucket() {
        let bounds = [100, 200, 400];
        let calls = latency(&[10, 80, 10, 0]);
        let micros = |share| calls.quantile(share, &bounds).map(|time| time.as_micros());
        assert_eq!(micros(0.0), Some(0));
        assert_eq!(micros(0.1), Some(100));
        assert_eq!(micros(0.5), Some(150));
        assert_eq!(micros(0.95), Some(300));
        assert_eq!(micros(1.0), Some(400));
    }

    #[test]
    fn what_is_slower_than_every_bound_is_told_as_the_last_one() {
        let bounds = [100, 200];
        assert_eq!(
            latency(&[0, 0, 5]).quantile(0.5, &bounds),
            Some(Duration::from_micros(200))
        );
        assert_eq!(latency(&[0, 0, 0]).quantile(0.5, &bounds), None);
        assert_eq!(latency(&[]).quantile(0.5, &bounds), None);
        // An answer that does not fit its bounds is a stranger's; it must not be a panic here.
        assert_eq!(latency(&[0, 0, 0, 0, 9]).quantile(f64::NAN, &bounds), None);
    }

    #[test]
    fn the_difference_of_two_answers_is_what_came_between_unless_the_host_was_started_again() {
        let earlier = latency(&[1, 2]);
        assert_eq!(latency(&[4, 2]).since(&earlier), latency(&[3, 0]));
        assert_eq!(latency(&[0, 5]).since(&earlier), latency(&[0, 5]));
        assert_eq!(latency(&[9, 9, 9]).since(&earlier), latency(&[9, 9, 9]));
    }
}
