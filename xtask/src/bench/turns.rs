//! Contestants that answer the same request take turns, round after round, so that a machine whose speed drifts does not
//! favour one; of all rounds the median counts.

use std::collections::BTreeMap;

use anyhow::Result;

use super::Bench;
use super::contestant::Contestant;
use super::load::{Round, Shape, round};
use super::report::{Curve, Plot, Section, Table};
use super::spread::{Spread, digits};

/// Seconds before the first round that are not counted.
const WARM_UP_SECONDS: f64 = 0.5;

/// Shares of the closed loop's rate at which the open loop asks.
const SHARES: [f64; 4] = [0.25, 0.5, 0.75, 0.9];

/// Connections of an open loop: enough that a request which is due finds a free one.
const OPEN_CONNECTIONS: usize = 64;

/// Rounds of an open loop, at most: it has four rates.
const OPEN_ROUNDS_MAX: u32 = 3;

/// A comparison over HTTP.
pub(super) struct Comparison<'a> {
    /// The case, which begins the names of its figures.
    pub(super) case: &'a str,
    /// What is asked, for titles.
    pub(super) title: &'a str,
    pub(super) contestants: &'a [Contestant],
    /// Connections of the closed loops; the open loop's rates are shares of what the last one reached.
    pub(super) connections: &'a [usize],
}

impl Comparison<'_> {
    /// Measures everything, into the section. Ratios are to the first contestant.
    pub(super) fn measure(&self, bench: &Bench<'_>, section: &mut Section) -> Result<()> {
        let mut reached = vec![f64::NAN; self.contestants.len()];
        for connections in self.connections {
            let rounds = self.closed(bench, *connections)?;
            for (rate, rounds) in reached.iter_mut().zip(&rounds) {
                *rate = Spread::of(rounds.iter().map(|r| r.per_second)).median;
            }
            let table = self.table(&mut section.figures, *connections, &rounds);
            section.tables.push(table);
        }
        if !bench.options.no_curves {
            self.open(bench, &reached, section)?;
        }
        Ok(())
    }

    fn closed(&self, bench: &Bench<'_>, connections: usize) -> Result<Vec<Vec<Round>>> {
        let seconds = bench.options.seconds;
        for contestant in self.contestants {
            round(
                bench,
                contestant,
                Shape::closed(connections, WARM_UP_SECONDS),
            )?;
        }
        let mut rounds = vec![Vec::new(); self.contestants.len()];
        for number in 1..=bench.options.rounds {
            bench.say(&format!(
                "round {number} of {} at {connections} connections",
                bench.options.rounds
            ));
            for (contestant, rounds) in self.contestants.iter().zip(&mut rounds) {
                rounds.push(round(
                    bench,
                    contestant,
                    Shape::closed(connections, seconds),
                )?);
            }
        }
        Ok(rounds)
    }

    fn table(
        &self,
        figures: &mut BTreeMap<String, Spread>,
        connections: usize,
        rounds: &[Vec<Round>],
    ) -> Table {
        let plural = if connections == 1 { "" } else { "s" };
        let mut table = Table::new(
            format!("{}, {connections} connection{plural}", self.title),
            &[
                "",
                "requests/s",
                "p50 µs",
                "p99 µs",
                "CPU µs/request",
                "of it backend",
                "× rate",
                "× CPU",
            ],
        );
        let mut first = None;
        for (contestant, rounds) in self.contestants.iter().zip(rounds) {
            let spread = |get: fn(&Round) -> f64| Spread::of(rounds.iter().map(get));
            let columns = [
                ("per_second", spread(|r| r.per_second)),
                ("p50_us", spread(|r| r.p50_us)),
                ("p99_us", spread(|r| r.p99_us)),
                ("cpu_us", spread(|r| r.cpu_us)),
            ];
            for (metric, value) in columns {
                let name = format!("{}/{connections}/{}/{metric}", self.case, contestant.name);
                figures.insert(name, value);
            }
            let [(_, rate), (_, p50), (_, p99), (_, cpu)] = columns;
            let (base_rate, base_cpu) = *first.get_or_insert((rate.median, cpu.median));
            let backend = if contestant.backend.is_empty() {
                "–".to_owned()
            } else {
                digits(spread(|r| r.backend_us).median)
            };
            table.row(vec![
                contestant.name.clone(),
                rate.to_string(),
                p50.to_string(),
                p99.to_string(),
                cpu.to_string(),
                backend,
                digits(rate.median / base_rate),
                digits(cpu.median / base_cpu),
            ]);
        }
        table
    }

    /// Requests that are due at fixed moments, whatever became of those before.
    fn open(&self, bench: &Bench<'_>, reached: &[f64], section: &mut Section) -> Result<()> {
        let count = bench.options.rounds.min(OPEN_ROUNDS_MAX);
        let mut rounds = vec![vec![Vec::new(); SHARES.len()]; self.contestants.len()];
        for number in 1..=count {
            bench.say(&format!("round {number} of {count} at fixed rates"));
            for (which, share) in SHARES.iter().enumerate() {
                for (index, contestant) in self.contestants.iter().enumerate() {
                    let rate = (reached[index] * share).max(1.0);
                    let shape = Shape::open(OPEN_CONNECTIONS, bench.options.seconds, rate);
                    rounds[index][which].push(round(bench, contestant, shape)?);
                }
            }
        }
        let mut table = Table::new(
            format!(
                "{}, open loop at shares of the closed loop's rate, latency from the intended moment",
                self.title
            ),
            &["", "share", "rate/s", "p50 µs", "p99 µs", "late or lost"],
        );
        let mut plot = Plot {
            name: self.case.replace('/', "-"),
            title: self.title.to_owned(),
            curves: Vec::new(),
        };
        for (index, contestant) in self.contestants.iter().enumerate() {
            let mut curve = Curve {
                name: contestant.name.clone(),
                points: Vec::new(),
            };
            for (which, share) in SHARES.iter().enumerate() {
                let rounds: &[Round] = &rounds[index][which];
                let p50 = Spread::of(rounds.iter().map(|r| r.p50_us));
                let p99 = Spread::of(rounds.iter().map(|r| r.p99_us));
                let lost: u64 = rounds.iter().map(|r| r.unsent + r.failures).sum();
                let rate = reached[index] * share;
                curve.points.push((rate, p50.median, p99.median));
                let percent = format!("{:.0} %", share * 100.0);
                let name = format!(
                    "{}/open-{:.0}/{}",
                    self.case,
                    share * 100.0,
                    contestant.name
                );
                section.figures.insert(format!("{name}/p50_us"), p50);
                section.figures.insert(format!("{name}/p99_us"), p99);
                table.row(vec![
                    contestant.name.clone(),
                    percent,
                    digits(rate),
                    p50.to_string(),
                    p99.to_string(),
                    lost.to_string(),
                ]);
            }
            plot.curves.push(curve);
        }
        section.tables.push(table);
        section.plots.push(plot);
        Ok(())
    }
}
