use std::time::Instant;

use serde_json::Value;
use trellis_protocol::control::observe::{ComponentStats, ProcessStats, ProviderStats};

use super::*;
use crate::output::Format;

/// A sample of two hosts, taken a second after the sample of the counts before.
pub(in crate::command::top) fn two_samples() -> (Sample, Sample) {
    let begin = Instant::now();
    let one = Sample {
        hosts: [
            ("NFERN".to_owned(), seen(begin, "fern", 0, 0)),
            ("NMOSS".to_owned(), seen(begin, "moss", 0, 0)),
        ]
        .into(),
    };
    let later = begin + Duration::from_secs(2);
    let mut other = Sample {
        hosts: [
            ("NFERN".to_owned(), seen(later, "fern", 2_400, 20)),
            ("NMOSS".to_owned(), seen(later, "moss", 200, 0)),
        ]
        .into(),
    };
    let moss = &mut other.hosts.get_mut("NMOSS").expect("just inserted").stats;
    moss.providers.push(ProviderStats {
        id: "cache".to_owned(),
        in_flight: 3,
        served: calls(0, 0, &[0, 0, 0]),
        ..ProviderStats::default()
    });
    (one, other)
}

fn seen(at: Instant, name: &str, answered: u64, refused: u64) -> Seen {
    Seen {
        at,
        silent: None,
        stats: HostStats {
            host_id: format!("N{}", name.to_uppercase()),
            friendly_name: name.to_owned(),
            version: "0.1.0".to_owned(),
            uptime_seconds: 3_700,
            slots: 1_000,
            slots_taken: 4,
            guest_memory_bytes: 5 << 20,
            process: ProcessStats {
                memory_bytes: 80 << 20,
                cpu_seconds: if answered > 0 { 11.0 } else { 10.0 },
                ..ProcessStats::default()
            },
            latency_bounds_micros: vec![1_000, 10_000],
            components: vec![ComponentStats {
                id: "hello".to_owned(),
                served: calls(answered, refused, &[answered, 0, 0]),
                permits: 100,
                in_flight: 4,
                queued: 1,
                memory_bytes: 1 << 20,
                ..ComponentStats::default()
            }],
            ..HostStats::default()
        },
    }
}

fn calls(answered: u64, refused: u64, buckets: &[u64]) -> CallStats {
    CallStats {
        invocations: answered + refused,
        refusals: [("overloaded".to_owned(), refused)].into(),
        latency: Latency {
            sum_micros: 0,
            buckets: buckets.to_vec(),
        },
    }
}

#[test]
fn rates_are_counted_over_the_time_between_the_two_samples_and_added_up_over_hosts() {
    let (one, other) = two_samples();
    let view = View::between(&one, &other, SortBy::Rate);
    let hello = &view.callees[0];
    assert_eq!((hello.id.as_str(), hello.hosts), ("hello", 2));
    assert!((hello.calls.per_second - 1_310.0).abs() < 1e-6);
    assert!((hello.calls.refused_per_second - 10.0).abs() < 1e-6);
    assert_eq!(hello.calls.p50(), Some(Duration::from_micros(500)));
    assert_eq!((hello.running, hello.permits), (8, 200));
    assert_eq!(view.hosts[0].name, "fern");
    assert!((view.hosts[0].cpu_percent - 50.0).abs() < 1e-6);
    assert!((view.total.per_second - 1_310.0).abs() < 1e-6);
}

#[test]
fn a_host_that_was_started_again_counts_from_its_start() {
    let (one, other) = two_samples();
    let view = View::between(&other, &one, SortBy::Name);
    assert!(view.callees.iter().all(|row| row.calls.per_second >= 0.0));
    assert!(view.hosts.iter().all(|row| row.cpu_percent >= 0.0));
}

#[test]
fn a_host_that_says_nothing_any_more_is_shown_so_and_its_numbers_are_not() {
    let (one, mut other) = two_samples();
    let silent = Some("no answer".to_owned());
    other.hosts.get_mut("NFERN").expect("a host of it").silent = silent;
    let view = View::between(&one, &other, SortBy::Name);
    assert_eq!(view.hosts[0].cells()[..3], ["fern", "no answer", "-"]);
    assert_eq!(
        view.callees
            .iter()
            .find(|row| row.id == "hello")
            .map(|row| row.hosts),
        Some(1)
    );
}

#[test]
fn one_sample_is_two_tables_or_one_object() {
    let (one, other) = two_samples();
    let report = View::between(&one, &other, SortBy::Rate).report("default");
    let text = String::from_utf8_lossy(&report.render(Format::Table)).into_owned();
    assert_eq!(
        text,
        "\
HOST  UP     CALLS/S  P50    P99    REFUSED/S  RUNNING  CPU  MEMORY
fern  1h 1m  1,210    500µs  990µs  10         4/1000   50%  80M
moss  1h 1m  100      500µs  990µs  0.0        4/1000   50%  80M

ID     KIND      CALLS/S  P50    P99    REFUSED/S  RUNNING  QUEUED  MEMORY
hello  actor ×2  1,310    500µs  990µs  10         8/200    2       2.0M
cache  provider  0.0      -      -      0.0        3        -       -
"
    );
    let json: Value = serde_json::from_slice(&report.render(Format::Json)).unwrap_or_default();
    assert_eq!(json["total"]["per_second"], 1_310.0);
    assert_eq!(json["hosts"][0]["friendly_name"], "fern");
    assert_eq!(json["callees"][0]["refusals"]["overloaded"], 20);
    assert_eq!(json["callees"][1]["calls"]["p50_micros"], Value::Null);
    assert_eq!(json["success"], true);
}

#[test]
fn each_column_can_be_sorted_by() {
    let (one, other) = two_samples();
    for (sort, first) in [
        (SortBy::Name, "cache"),
        (SortBy::Rate, "hello"),
        (SortBy::P99, "hello"),
        (SortBy::Running, "hello"),
        (SortBy::Memory, "hello"),
    ] {
        let view = View::between(&one, &other, sort);
        assert_eq!(view.callees[0].id, first, "{sort:?}");
    }
}
