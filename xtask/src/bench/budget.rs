//! The budgets, and what was measured.

use std::collections::BTreeMap;

use super::report::Table;
use super::spread::{Spread, digits};

/// What wasmCloud 1.9.2 needs for the counter on this kind of machine, HTTP inside the host and a Redis provider, in
/// microseconds. Measured before this project began; it is not part of the run.
const WASMCLOUD_COUNTER_US: f64 = 940.0;

/// What a call to another host may cost beyond a bare request and reply, in microseconds.
const REMOTE_BEYOND_US: f64 = 40.0;

type Figures = BTreeMap<String, Spread>;

/// One budget against the figures: what was measured, and whether it is within.
struct Line {
    what: &'static str,
    target: String,
    measured: Option<(String, bool)>,
    /// Where it is measured instead, or why it is not.
    otherwise: &'static str,
}

/// All budgets, with what the figures say of them.
pub(super) fn table(figures: &Figures) -> Table {
    let mut table = Table::new("Budgets", &["budget", "target", "measured", "met"]);
    for line in lines(figures) {
        let (measured, met) = match line.measured {
            Some((measured, true)) => (measured, "yes"),
            Some((measured, false)) => (measured, "**no**"),
            None => (line.otherwise.to_owned(), "–"),
        };
        table.row(vec![
            line.what.to_owned(),
            line.target,
            measured,
            met.to_owned(),
        ]);
    }
    table
}

fn lines(figures: &Figures) -> Vec<Line> {
    let get = |name: &str| figures.get(name).map(|spread| spread.median);
    let ratio = |name: &str, to: &str| Some(get(name)? / get(to)?);
    let at_most = |value: Option<f64>, limit: f64, unit: &str| {
        value.map(|value| (format!("{} {unit}", digits(value)), value <= limit))
    };
    let at_least = |value: Option<f64>, limit: f64, unit: &str| {
        value.map(|value| (format!("{} {unit}", digits(value)), value >= limit))
    };
    let counter =
        |way: &str| Some(WASMCLOUD_COUNTER_US / get(&format!("counter-redis/1/{way}/p50_us"))?);
    let beyond = |bytes: usize| {
        let of = |who: &str| get(&format!("calls/{bytes}/{who}/p50_us"));
        Some(of("another host")? - of("bare NATS")?)
    };
    let run = "not in this run";
    vec![
        line(
            "HTTP hello, 32 connections, rate beside `wasmtime serve`",
            "≥ 1.25 ×",
            at_least(
                ratio(
                    "http/32/trellis/per_second",
                    "http/32/wasmtime serve/per_second",
                ),
                1.25,
                "×",
            ),
            run,
        ),
        line(
            "the same, p99 beside `wasmtime serve`",
            "≤ 1 ×",
            at_most(
                ratio("http/32/trellis/p99_us", "http/32/wasmtime serve/p99_us"),
                1.0,
                "×",
            ),
            run,
        ),
        line(
            "the same, CPU for each request",
            "≤ 45 µs",
            at_most(get("http/32/trellis/cpu_us"), 45.0, "µs"),
            run,
        ),
        line(
            "the same where the actor opts into reuse",
            "≤ 15 µs",
            None,
            "reuse is not built yet",
        ),
        line(
            "counter on Redis, built in, p50 of one connection beside wasmCloud 1.9.2's 940 µs",
            "≥ 5 ×",
            at_least(counter("built in"), 5.0, "×"),
            run,
        ),
        line(
            "the same, provider as a process",
            "≥ 3 ×",
            at_least(counter("process"), 3.0, "×"),
            run,
        ),
        line(
            "actor → actor on another host, 64 B, p50 beyond bare NATS",
            "≤ 40 µs",
            at_most(beyond(64), REMOTE_BEYOND_US, "µs"),
            run,
        ),
        line(
            "the same, 16 KiB",
            "≤ 40 µs",
            at_most(beyond(16 * 1024), REMOTE_BEYOND_US, "µs"),
            run,
        ),
        line(
            "actor → actor on the same host, 64 B, p50",
            "≤ 45 µs",
            at_most(get("calls/64/same host/p50_us"), 45.0, "µs"),
            run,
        ),
        line(
            "start of a signed actor from the cache",
            "≤ 2 ms",
            at_most(get("start/warm_ms"), 2.0, "ms"),
            run,
        ),
        line(
            "host, idle, no actor",
            "≤ 20 MiB",
            at_most(get("memory/0/resident_mib"), 20.0, "MiB"),
            run,
        ),
        line(
            "each further started actor, up to 1,000",
            "≤ 0.3 MiB",
            at_most(get("memory/1000/each_mib"), 0.3, "MiB"),
            run,
        ),
        line(
            "loss of a host: noticed, its actors serve again elsewhere",
            "≤ 3 s, ≤ 2 s later",
            None,
            "by the end-to-end tests",
        ),
        line(
            "binary for a small device",
            "≤ 15 MiB",
            None,
            "not built yet",
        ),
    ]
}

fn line(
    what: &'static str,
    target: &str,
    measured: Option<(String, bool)>,
    otherwise: &'static str,
) -> Line {
    Line {
        what,
        target: target.to_owned(),
        measured,
        otherwise,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_budget_is_met_or_missed_by_the_median() {
        let figures = [
            ("http/32/trellis/per_second", 130.0),
            ("http/32/wasmtime serve/per_second", 100.0),
            ("http/32/trellis/cpu_us", 46.0),
        ]
        .into_iter()
        .map(|(name, value)| (name.to_owned(), Spread::one(value)))
        .collect();
        let table = table(&figures);
        assert_eq!(table.rows[0][2..], ["1.30 ×", "yes"]);
        assert_eq!(table.rows[2][2..], ["46.0 µs", "**no**"]);
        assert_eq!(table.rows[4][2..], ["not in this run", "–"]);
    }
}
