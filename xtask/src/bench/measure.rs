//! One round of one server, and what several rounds come to.

use std::fmt;
use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rustix::thread::{CpuSet, sched_setaffinity};

use super::contestant::Contestant;
use crate::command;
use crate::project::Project;

/// Seconds before the first round that are not counted.
const WARM_UP_SECONDS: f64 = 1.0;

/// Longest that a round may take beyond its own time.
const ROUND_GRACE: Duration = Duration::from_secs(30);

/// What one round measured.
#[derive(Debug)]
pub(super) struct Round {
    pub(super) name: &'static str,
    pub(super) connections: usize,
    per_second: f64,
    p50_us: f64,
    p99_us: f64,
    /// Microseconds on the processor for each request, of the server's process.
    cpu_us: f64,
}

/// Binds this process, and all that it starts from now on, to one processor.
pub(super) fn pin(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu);
    sched_setaffinity(None, &set).with_context(|| format!("processor {cpu} can't be had"))
}

pub(super) fn warm_up(project: &Project, who: &Contestant, connections: usize) -> Result<()> {
    round(project, who, connections, WARM_UP_SECONDS).map(drop)
}

pub(super) fn round(
    project: &Project,
    who: &Contestant,
    connections: usize,
    seconds: f64,
) -> Result<Round> {
    let before = cpu_seconds(who.pid)?;
    let mut load = Command::new(project.release_programs().join("bench-load"));
    load.args(["--address", &who.address])
        .args(["--connections", &connections.to_string()])
        .args(["--seconds", &seconds.to_string()]);
    let said = command::read(&mut load, Duration::from_secs_f64(seconds) + ROUND_GRACE)
        .with_context(|| format!("the load on {} failed", who.name))?;
    let cpu = cpu_seconds(who.pid)? - before;
    let said: serde_json::Value = serde_json::from_str(&said)?;
    let number = |name: &str| said[name].as_f64().with_context(|| format!("no {name}"));
    let requests = number("requests")?;
    if requests < 1.0 {
        bail!("{} answered nothing", who.name);
    }
    Ok(Round {
        name: who.name,
        connections,
        per_second: number("per_second")?,
        p50_us: number("p50_us")?,
        p99_us: number("p99_us")?,
        cpu_us: cpu * 1e6 / requests,
    })
}

/// Time that a process has spent on the processor, user and system, of all its threads.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // The program's name is in parentheses and may hold anything; fields are counted behind it.
    let fields: Vec<_> = stat
        .rsplit_once(')')
        .context("an account without a name")?
        .1
        .split_whitespace()
        .collect();
    let ticks = |index: usize| {
        fields
            .get(index)
            .and_then(|field| field.parse::<f64>().ok())
    };
    let (user, system) = ticks(11)
        .zip(ticks(12))
        .context("an account without times")?;
    Ok((user + system) / rustix::param::clock_ticks_per_second() as f64)
}

/// The median of some rounds, with the least and the most.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spread {
    pub(super) median: f64,
    least: f64,
    most: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |index: usize| values.get(index).copied().unwrap_or(f64::NAN);
        Self {
            median: at(values.len() / 2),
            least: at(0),
            most: at(values.len().saturating_sub(1)),
        }
    }
}

/// What one server came to at one number of connections.
#[derive(Debug)]
pub(super) struct Figures {
    pub(super) per_second: Spread,
    p50_us: Spread,
    pub(super) p99_us: Spread,
    pub(super) cpu_us: Spread,
}

impl Figures {
    pub(super) fn median_of<'a>(rounds: impl Iterator<Item = &'a Round>) -> Self {
        let rounds: Vec<_> = rounds.collect();
        let spread = |get: fn(&Round) -> f64| Spread::of(rounds.iter().map(|r| get(r)).collect());
        Self {
            per_second: spread(|r| r.per_second),
            p50_us: spread(|r| r.p50_us),
            p99_us: spread(|r| r.p99_us),
            cpu_us: spread(|r| r.cpu_us),
        }
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (rate, p50, cpu) = (self.per_second, self.p50_us, self.cpu_us);
        write!(
            f,
            "{:>24} {:>22} {:>12.0} {:>22}",
            format!("{:.0} ({:.0}–{:.0})", rate.median, rate.least, rate.most),
            format!("{:.0} ({:.0}–{:.0})", p50.median, p50.least, p50.most),
            self.p99_us.median,
            format!("{:.1} ({:.1}–{:.1})", cpu.median, cpu.least, cpu.most),
        )
    }
}
