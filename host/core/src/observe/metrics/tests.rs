use super::*;
use trellis_protocol::control::observe::{ComponentStats, Latency, ProviderStats};

fn component(place: u64) -> (u64, ComponentStats) {
    let mut buckets = vec![0; LATENCY_BOUNDS_MICROS.len() + 1];
    buckets[3] = 2;
    buckets[LATENCY_BOUNDS_MICROS.len()] = 1;
    let stats = ComponentStats {
        id: format!("actor-{place}"),
        served: CallStats {
            invocations: 5,
            refusals: BTreeMap::from([("overloaded".to_owned(), 2)]),
            latency: Latency {
                sum_micros: 1_500_000,
                buckets,
            },
        },
        memory_bytes: 65_536,
        ..ComponentStats::default()
    };
    (place, stats)
}

fn snapshot(rows: Rows, most: usize) -> String {
    text(Snapshot {
        host: HostStats::default(),
        lattice: "default".to_owned(),
        targets: targets(rows, most),
        unassigned: BTreeMap::from([("no-link".to_owned(), 4)]),
    })
}

#[test]
fn the_text_is_what_prometheus_reads() {
    let rows = Rows {
        components: vec![component(0)],
        providers: vec![(
            1,
            ProviderStats {
                id: "kv".to_owned(),
                restarts: 3,
                ..ProviderStats::default()
            },
        )],
    };
    let text = snapshot(rows, 10);
    for line in [
        "# TYPE trellis_invocation_duration_seconds histogram",
        r#"trellis_invocation_duration_seconds_sum{target="actor-0",kind="actor"} 1.5"#,
        r#"trellis_invocation_duration_seconds_count{target="actor-0",kind="actor"} 3"#,
        r#"trellis_invocation_duration_seconds_bucket{le="0.0001",target="actor-0",kind="actor"} 0"#,
        r#"trellis_invocation_duration_seconds_bucket{le="0.00025",target="actor-0",kind="actor"} 2"#,
        r#"trellis_invocation_duration_seconds_bucket{le="30.0",target="actor-0",kind="actor"} 2"#,
        r#"trellis_invocation_duration_seconds_bucket{le="+Inf",target="actor-0",kind="actor"} 3"#,
        r#"trellis_invocations_total{target="actor-0",kind="actor"} 5"#,
        r#"trellis_refusals_total{target="actor-0",kind="actor",code="overloaded"} 2"#,
        r#"trellis_actor_memory_bytes{target="actor-0",kind="actor"} 65536"#,
        r#"trellis_provider_restarts_total{target="kv",kind="provider"} 3"#,
        r#"trellis_unassigned_refusals_total{code="no-link"} 4"#,
        "trellis_nats_reconnects_total 0",
        "# EOF",
    ] {
        assert!(text.lines().any(|l| l == line), "{line}\n{text}");
    }
    assert!(!text.contains(r#"trellis_permits{target="kv""#));
}

#[test]
fn a_flood_of_ids_shares_one_label_and_loses_no_count() {
    let rows = Rows {
        components: (0..5_000).map(component).collect(),
        providers: Vec::new(),
    };
    let text = snapshot(rows, TARGETS_MAX);
    let labels: std::collections::BTreeSet<_> = text
        .lines()
        .filter_map(|line| line.split_once(r#"target=""#)?.1.split('"').next())
        .collect();
    assert_eq!(labels.len(), TARGETS_MAX + 1);
    assert!(labels.contains("actor-0") && labels.contains(OTHER));
    let other = (5_000 - TARGETS_MAX) * 5;
    let line = format!(r#"trellis_invocations_total{{target="(other)",kind="actor"}} {other}"#);
    assert!(text.contains(&line), "{line}");
}
