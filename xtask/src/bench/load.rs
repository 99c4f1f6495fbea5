//! Rounds of `bench-load` against one server.

use std::collections::BTreeMap;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::Bench;
use super::contestant::Contestant;
use super::process::Accounts;
use crate::command;

/// Longest that a round may take beyond its own time.
const ROUND_GRACE: Duration = Duration::from_secs(60);

/// The shape of a load.
#[derive(Debug, Clone, Copy)]
pub(super) struct Shape {
    pub(super) connections: usize,
    pub(super) seconds: f64,
    /// Requests a second of an open loop; none: closed.
    pub(super) rate: Option<f64>,
    /// Processor of the load itself, where that is another one.
    pub(super) cpu: Option<usize>,
}

impl Shape {
    pub(super) fn closed(connections: usize, seconds: f64) -> Self {
        Self {
            connections,
            seconds,
            rate: None,
            cpu: None,
        }
    }

    pub(super) fn open(connections: usize, seconds: f64, rate: f64) -> Self {
        Self {
            rate: Some(rate),
            ..Self::closed(connections, seconds)
        }
    }
}

/// What one round measured.
#[derive(Debug, Clone)]
pub(super) struct Round {
    /// Answers of 2xx and 3xx a second.
    pub(super) per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    /// The same of all other answers.
    pub(super) refused_p50_us: f64,
    pub(super) refused_p99_us: f64,
    /// Microseconds on the processor for each answer, of all server processes.
    pub(super) cpu_us: f64,
    /// The part of it that is the backend's.
    pub(super) backend_us: f64,
    pub(super) statuses: BTreeMap<String, u64>,
    pub(super) failures: u64,
    pub(super) unsent: u64,
}

/// One round in which everything has to be answered well.
pub(super) fn round(bench: &Bench<'_>, who: &Contestant, shape: Shape) -> Result<Round> {
    let round = any_round(bench, who, shape)?;
    let others: Vec<_> = round
        .statuses
        .iter()
        .filter(|(status, _)| !status.starts_with('2'))
        .collect();
    if !others.is_empty() || round.per_second <= 0.0 {
        bail!("{} answered {others:?}", who.name);
    }
    Ok(round)
}

/// One round, whatever is answered.
pub(super) fn any_round(bench: &Bench<'_>, who: &Contestant, shape: Shape) -> Result<Round> {
    let mut load = Command::new(bench.program("bench-load"));
    load.args(["--address", &who.address])
        .args(["--path", &who.path])
        .args(["--connections", &shape.connections.to_string()])
        .args(["--seconds", &shape.seconds.to_string()]);
    if let Some(rate) = shape.rate {
        load.args(["--rate", &rate.to_string()]);
    }
    if let Some(cpu) = shape.cpu {
        load.args(["--cpu", &cpu.to_string()]);
    }
    let before = Accounts::read()?;
    let said = command::read(
        &mut load,
        Duration::from_secs_f64(shape.seconds) + ROUND_GRACE,
    )
    .with_context(|| format!("the load on {} failed", who.name))?;
    let after = Accounts::read()?;
    let said: Value = serde_json::from_str(&said)?;
    let number = |value: &Value| value.as_f64().unwrap_or(f64::NAN);
    let answered = number(&said["answered"]);
    if answered < 1.0 {
        bail!("{} answered nothing", who.name);
    }
    let spent = |who: &[_]| after.spent_since(&before, who) * 1e6 / answered;
    let backend_us = spent(&who.backend);
    Ok(Round {
        per_second: number(&said["per_second"]),
        p50_us: number(&said["well"]["p50_us"]),
        p99_us: number(&said["well"]["p99_us"]),
        refused_p50_us: number(&said["refused"]["p50_us"]),
        refused_p99_us: number(&said["refused"]["p99_us"]),
        cpu_us: spent(&who.servers) + backend_us,
        backend_us,
        statuses: said["statuses"]
            .as_object()
            .into_iter()
            .flatten()
            .filter_map(|(status, count)| Some((status.clone(), count.as_u64()?)))
            .collect(),
        failures: said["failures"].as_u64().unwrap_or(0),
        unsent: said["unsent"].as_u64().unwrap_or(0),
    })
}
