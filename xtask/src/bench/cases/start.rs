//! Starts: of an instance with each call, and of an actor from nothing and from the cache of compiled components, the
//! control round trip included.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};
use serde_json::Value;

use super::super::contestant::host_key;
use super::super::report::{Section, Table};
use super::super::spread::Spread;
use super::super::{Bench, deploy};
use super::calls::from_inside;
use crate::command;
use crate::stage::Stage;

/// Starts of a round from the cache.
const WARM_TIMES: u32 = 20;

/// Starts of a round that compile.
const COLD_TIMES: u32 = 2;

/// Calls of a round.
const CALLS: u32 = 500;

/// Longest time for a round.
const ROUND_WITHIN: Duration = Duration::from_secs(120);

pub(in super::super) async fn run(bench: &Bench<'_>) -> Result<Section> {
    bench
        .on_stage(async |stage| measure(bench, stage).await)
        .await
}

async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> Result<Section> {
    bench.start_host(stage, "north").await?;
    let hello = stage.sign("hello").await?;
    let relay = stage.sign("relay").await?;
    deploy::provider(stage, "http-server", "http", "north", &[]).await?;
    for id in ["caller", "callee"] {
        deploy::actor(stage, &relay, id, "north").await?;
    }
    deploy::link(stage, "caller", "callee", "trellis:relay/echo", None, None).await?;
    let address = deploy::expose(stage, "caller").await?;
    let control = Control {
        bench,
        url: stage.wash.nats_url.clone(),
        lattice: stage.wash.lattice.clone(),
        host: host_key(stage, "north").await?,
        reference: format!("file://{hello}"),
    };
    let cache = stage.file("north").join("aot");
    super::super::contestant::Contestant::actor("caller", address.clone(), "/", vec![], vec![])
        .answers()
        .await?;
    let (mut instances, mut warm, mut cold) = (Vec::new(), Vec::new(), Vec::new());
    from_inside(&address, 0, CALLS)?;
    control.restart(1, None)?;
    for number in 1..=bench.options.rounds {
        bench.say(&format!("round {number} of {}", bench.options.rounds));
        instances.push(from_inside(&address, 0, CALLS)?.0);
        warm.push(control.restart(WARM_TIMES, None)? / 1_000.0);
        cold.push(control.restart(COLD_TIMES, Some(&cache))? / 1_000.0);
    }
    let mut section = Section::default();
    let bytes = std::fs::metadata(&hello)?.len();
    let mut table = Table::new("Starts, medians of rounds", &["", "p50"]);
    let lines = [
        (
            "a call of an actor on the same host: instantiate, call, drop (µs)",
            "instance_us",
            instances,
        ),
        (
            "start of an actor from the cache, command to event (ms)",
            "warm_ms",
            warm,
        ),
        (
            "start of an actor that is compiled, command to event (ms)",
            "cold_ms",
            cold,
        ),
    ];
    for (what, name, values) in lines {
        let spread = Spread::of(values);
        section.figure(format!("start/{name}"), spread);
        table.row(vec![what.to_owned(), spread.to_string()]);
    }
    section.tables.push(table);
    section.remarks.push(format!(
        "The actor that is started has {bytes} bytes. A start writes its claims to the lattice's state and waits for that."
    ));
    Ok(section)
}

/// How `bench-control` reaches a host.
pub(super) struct Control<'a> {
    pub(super) bench: &'a Bench<'a>,
    pub(super) url: String,
    pub(super) lattice: String,
    pub(super) host: String,
    pub(super) reference: String,
}

impl Control<'_> {
    /// Microseconds of the median start.
    fn restart(&self, times: u32, forget: Option<&Path>) -> Result<f64> {
        let mut command = self.command();
        command.args(["restart", "--times", &times.to_string()]);
        if let Some(cache) = forget {
            command.arg("--forget").arg(cache);
        }
        self.median(&mut command, ROUND_WITHIN)
    }

    /// Starts actors by number and leaves them running.
    pub(super) fn fill(&self, from: u32, to: u32, within: Duration) -> Result<f64> {
        let mut command = self.command();
        command.args(["fill", "--from", &from.to_string(), "--to", &to.to_string()]);
        self.median(&mut command, within)
    }

    fn command(&self) -> Command {
        let mut command = Command::new(self.bench.program("bench-control"));
        command
            .args(["--url", &self.url, "--lattice", &self.lattice])
            .args(["--host", &self.host, "--reference", &self.reference]);
        command
    }

    fn median(&self, command: &mut Command, within: Duration) -> Result<f64> {
        let said: Value = serde_json::from_str(&command::read(command, within)?)?;
        said["p50_us"].as_f64().context("no start was measured")
    }
}
