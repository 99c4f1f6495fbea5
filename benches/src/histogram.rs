//! A histogram of latencies with a fixed size: 128 buckets for each doubling, so a value is known to 0.8 %.

use serde_json::{Value, json};

/// Buckets for each doubling of the value; a power of two.
const BUCKETS_PER_DOUBLING: u64 = 128;

/// Doublings above the first: the largest value has its own, up to 2⁴¹ ns, which are 36 minutes.
const DOUBLINGS: u64 = 34;

const BUCKETS: usize = (BUCKETS_PER_DOUBLING * (DOUBLINGS + 1)) as usize;

/// Counts of latencies in nanoseconds.
#[derive(Debug, Clone)]
pub struct Histogram {
    counts: Vec<u64>,
    count: u64,
    sum: u128,
    least: u64,
    most: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; BUCKETS],
            count: 0,
            sum: 0,
            least: u64::MAX,
            most: 0,
        }
    }
}

impl Histogram {
    /// Counts a value. What is beyond the last bucket counts there.
    pub fn add(&mut self, nanoseconds: u64) {
        let last = BUCKETS - 1;
        if let Some(count) = self.counts.get_mut(bucket(nanoseconds).min(last)) {
            *count += 1;
        }
        self.count += 1;
        self.sum += u128::from(nanoseconds);
        self.least = self.least.min(nanoseconds);
        self.most = self.most.max(nanoseconds);
    }

    /// How many values there are.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The value below which this share of all values lies, to the middle of its bucket; none where nothing was counted.
    pub fn at(&self, share: f64) -> Option<u64> {
        if self.count == 0 {
            return None;
        }
        // Shares are at most 1, so the rank is at most the count.
        let rank = ((self.count as f64 * share).ceil() as u64).clamp(1, self.count);
        let mut seen = 0;
        for (index, count) in self.counts.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return Some(middle(index).clamp(self.least, self.most));
            }
        }
        Some(self.most)
    }

    /// Count, mean and percentiles, in microseconds; the latter `null` where nothing was counted.
    pub fn to_json(&self) -> Value {
        let microseconds = |nanoseconds: u64| nanoseconds as f64 / 1_000.0;
        let at = |share| self.at(share).map(microseconds);
        let mean = (self.count > 0).then(|| self.sum as f64 / self.count as f64 / 1_000.0);
        json!({
            "count": self.count,
            "mean_us": mean,
            "p50_us": at(0.50),
            "p90_us": at(0.90),
            "p99_us": at(0.99),
            "p999_us": at(0.999),
            "max_us": (self.count > 0).then(|| microseconds(self.most)),
        })
    }
}

/// Values below 128 have a bucket each; above, each doubling has 128.
fn bucket(value: u64) -> usize {
    let doubling = (value / BUCKETS_PER_DOUBLING)
        .checked_ilog2()
        .map_or(0, |log| log + 1);
    let index = if doubling == 0 {
        value
    } else {
        let within = (value >> (doubling - 1)) - BUCKETS_PER_DOUBLING;
        u64::from(doubling) * BUCKETS_PER_DOUBLING + within
    };
    usize::try_from(index).unwrap_or(usize::MAX)
}

fn middle(index: usize) -> u64 {
    let index = index as u64;
    let (doubling, within) = (index / BUCKETS_PER_DOUBLING, index % BUCKETS_PER_DOUBLING);
    if doubling == 0 {
        return within;
    }
    let width = 1 << (doubling - 1);
    (BUCKETS_PER_DOUBLING + within) * width + width / 2
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_known_to_a_hundredth() {
        for value in [0, 1, 127, 128, 255, 256, 1_000, 76_543, 1_234_567_890] {
            let mut histogram = Histogram::default();
            histogram.add(value);
            let found = middle(bucket(value));
            assert!(
                found.abs_diff(value) as f64 <= value as f64 * 0.01,
                "{value} was taken for {found}"
            );
            assert_eq!(histogram.at(0.5).unwrap(), value);
        }
    }

    #[test]
    fn buckets_follow_each_other_without_a_gap() {
        let mut last = bucket(0);
        for value in 1..100_000 {
            let next = bucket(value);
            assert!(next == last || next == last + 1, "at {value}");
            last = next;
        }
    }

    #[test]
    fn percentiles_are_ranks() {
        let mut histogram = Histogram::default();
        for value in 1..=100 {
            histogram.add(value);
        }
        assert_eq!(histogram.at(0.5), Some(50));
        assert_eq!(histogram.at(0.99), Some(99));
        assert_eq!(histogram.at(1.0), Some(100));
        assert_eq!(Histogram::default().at(0.5), None);
    }

    #[test]
    fn a_value_beyond_the_last_bucket_counts_there() {
        let mut histogram = Histogram::default();
        histogram.add(u64::MAX);
        assert_eq!(histogram.count(), 1);
        assert!(histogram.at(0.5).is_some());
    }
}
