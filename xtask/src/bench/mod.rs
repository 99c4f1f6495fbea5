//! `cargo xtask bench`: how fast, beside what others do with the same component, in one run.
//!
//! Server and client share one processor, since latencies of a single connection swing by a factor of 3 to 5 otherwise.
//! The servers take turns, round after round, so that a machine whose speed drifts does not favour one; of all rounds the
//! median counts. Time on the processor for each request, read from the kernel's accounts of the server's process, is the
//! steadiest figure.

mod contestant;
mod measure;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result};

use crate::project::Project;
use crate::step::{step, took};
use crate::{actors, command, setup};
use contestant::Contestant;
use measure::{Figures, Round};

/// The version of `wasmtime serve` that is measured against: the one that hosts embed.
const WASMTIME_VERSION: &str = "48.0.8";

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Rounds for each server and number of connections.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that each round is measured.
    #[arg(long, default_value_t = 2.0)]
    seconds: f64,
    /// Processor that everything is pinned to.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
}

/// Connections of the two cases.
const CONNECTIONS: [usize; 2] = [1, 32];

/// Builds, measures, and prints the table.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let ready = setup::run(project, &setup::Options::default())?;
    actors::build(project, &ready.wasm)?;
    step("wash, hosts and the bare server, optimised", || {
        command::show(project.cargo().args([
            "build",
            "--quiet",
            "--release",
            "-p",
            "wash",
            "-p",
            "trellis-bench",
        ]))?;
        Ok(((), "built".to_owned()))
    })?;
    let wasmtime = wasmtime(project)?;
    measure::pin(options.cpu)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be made")?;
    let rounds = runtime.block_on(async {
        let contestants = vec![
            Contestant::bare_hyper(project)?,
            Contestant::wasmtime_serve(project, &wasmtime)?,
            Contestant::trellis(project, &ready.nats_server).await?,
        ];
        for contestant in &contestants {
            contestant.answers().await?;
        }
        let rounds = take_turns(project, options, &contestants)?;
        for contestant in contestants {
            contestant.stop()?;
        }
        anyhow::Ok(rounds)
    })?;
    print(&rounds);
    eprintln!("\nMeasured in {}.", took(begin));
    Ok(())
}

/// `wasmtime serve`, from the registry, in our own tools.
fn wasmtime(project: &Project) -> Result<PathBuf> {
    let program = project.tools().join("bin/wasmtime");
    step("wasmtime serve", || {
        let present = std::process::Command::new(&program)
            .arg("--version")
            .output()
            .is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(WASMTIME_VERSION));
        if !present {
            command::show(
                project
                    .cargo()
                    .args(["install", "--quiet", "--locked", "wasmtime-cli", "--version"])
                    .arg(WASMTIME_VERSION)
                    .args(["--no-default-features", "--features"])
                    .arg("run,serve,cranelift,pooling-allocator,parallel-compilation,component-model-async")
                    .arg("--root")
                    .arg(project.tools()),
            )?;
        }
        Ok(((), WASMTIME_VERSION.to_owned()))
    })?;
    Ok(program)
}

fn take_turns(
    project: &Project,
    options: &Options,
    contestants: &[Contestant],
) -> Result<Vec<Round>> {
    let mut rounds = Vec::new();
    for connections in CONNECTIONS {
        for contestant in contestants {
            measure::warm_up(project, contestant, connections)?;
        }
        for number in 1..=options.rounds {
            eprintln!(
                "round {number} of {} at {connections} connections",
                options.rounds
            );
            for contestant in contestants {
                rounds.push(measure::round(
                    project,
                    contestant,
                    connections,
                    options.seconds,
                )?);
            }
        }
    }
    Ok(rounds)
}

fn print(rounds: &[Round]) {
    for connections in CONNECTIONS {
        let of = |name: &str| {
            Figures::median_of(
                rounds
                    .iter()
                    .filter(|r| r.name == name && r.connections == connections),
            )
        };
        let names = ["bare hyper", "wasmtime serve", "trellis"];
        eprintln!(
            "\nHTTP hello, {connections} connection(s), medians (least to most of all rounds)"
        );
        eprintln!(
            "{:<16} {:>24} {:>22} {:>12} {:>22}",
            "", "requests/s", "p50 µs", "p99 µs", "CPU µs/request"
        );
        for name in names {
            eprintln!("{name:<16} {}", of(name));
        }
        let (hyper, serve, ours) = (of(names[0]), of(names[1]), of(names[2]));
        eprintln!(
            "trellis / wasmtime serve: {:.2} × the requests, {:.2} × the p99, {:.2} × the CPU time",
            ours.per_second.median / serve.per_second.median,
            ours.p99_us.median / serve.p99_us.median,
            ours.cpu_us.median / serve.cpu_us.median,
        );
        eprintln!(
            "trellis / bare hyper:     {:.2} × the requests, {:.2} × the p99, {:.2} × the CPU time",
            ours.per_second.median / hyper.per_second.median,
            ours.p99_us.median / hyper.p99_us.median,
            ours.cpu_us.median / hyper.cpu_us.median,
        );
    }
}
