//! Actor → actor and actor → provider, measured from inside the caller: on the same host, to a provider process, on
//! another host, beside request and reply over bare NATS.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use super::super::contestant::Ended;
use super::super::process::{Accounts, Who};
use super::super::report::{Section, Table};
use super::super::spread::{Spread, digits};
use super::super::{Bench, deploy, get};
use crate::command;
use crate::stage::Stage;

/// Bytes of a call, there and back.
const PAYLOADS: [usize; 2] = [64, 16 * 1024];

/// Calls by which it is found how many fit into a round, and the fewest and the most of a round.
const TRIAL_CALLS: u32 = 50;
const CALLS_MIN: f64 = 50.0;
const CALLS_MAX: f64 = 5_000.0;

/// Longest time for the floor's round.
const ROUND_WITHIN: Duration = Duration::from_secs(60);

/// Who is called.
struct Callee {
    name: &'static str,
    /// Where its caller is reached; none for the floor.
    caller: Option<String>,
    processes: Vec<Who>,
}

/// One round.
#[derive(Debug, Clone, Copy)]
struct Round {
    p50_us: f64,
    p99_us: f64,
    cpu_us: f64,
}

pub(in super::super) async fn run(bench: &Bench<'_>) -> Result<Section> {
    bench
        .on_stage(async |stage| measure(bench, stage).await)
        .await
}

async fn measure(bench: &Bench<'_>, stage: &mut Stage) -> Result<Section> {
    let nats = Who::Named("nats-server");
    let north = Who::Tree(bench.start_host(stage, "north").await?);
    let south = Who::Tree(bench.start_host(stage, "south").await?);
    let signed = stage.sign("relay").await?;
    deploy::provider(stage, "http-server", "http", "north", &[]).await?;
    deploy::actor(stage, &signed, "echo-near", "north").await?;
    deploy::actor(stage, &signed, "echo-far", "south").await?;
    let mut targets = vec![
        ("same host", "echo-near", vec![north]),
        ("another host", "echo-far", vec![north, south, nats]),
    ];
    if !bench.options.no_processes {
        let process = bench.provider_reference("trellis-bench-echo");
        deploy::provider(stage, &process, "echo-process", "north", &[]).await?;
        targets.insert(1, ("provider process", "echo-process", vec![north]));
    }
    let floor = Ended::start(Command::new(bench.program("bench-nats")).args([
        "--url",
        &stage.wash.nats_url,
        "answer",
    ]))?;
    let mut callees = vec![Callee {
        name: "bare NATS",
        caller: None,
        processes: vec![Who::Tree(floor.pid()), nats],
    }];
    for (name, target, processes) in targets {
        let caller = format!("to-{target}");
        deploy::actor(stage, &signed, &caller, "north").await?;
        deploy::link(stage, &caller, target, "trellis:relay/echo", None, None).await?;
        let address = deploy::expose(stage, &caller).await?;
        callees.push(Callee {
            name,
            caller: Some(address),
            processes,
        });
    }
    for callee in &callees {
        up(bench, stage, callee).await?;
    }
    let mut section = Section::default();
    for bytes in PAYLOADS {
        compare(bench, stage, &callees, bytes, &mut section)?;
    }
    Ok(section)
}

/// Waits until it answers.
async fn up(bench: &Bench<'_>, stage: &Stage, callee: &Callee) -> Result<()> {
    let mut last = None;
    for _ in 0..200 {
        match round(bench, stage, callee, 64, 1) {
            Ok(_) => return Ok(()),
            Err(error) => last = Some(error),
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    bail!("calls to {} fail: {last:?}", callee.name)
}

fn compare(
    bench: &Bench<'_>,
    stage: &Stage,
    callees: &[Callee],
    bytes: usize,
    section: &mut Section,
) -> Result<()> {
    let mut rounds = vec![Vec::new(); callees.len()];
    let mut calls = Vec::new();
    for callee in callees {
        // The first ones warm up.
        round(bench, stage, callee, bytes, TRIAL_CALLS)?;
        let trial = round(bench, stage, callee, bytes, TRIAL_CALLS)?;
        let fit = bench.options.seconds * 1e6 / trial.p50_us;
        calls.push(fit.clamp(CALLS_MIN, CALLS_MAX) as u32);
    }
    for number in 1..=bench.options.rounds {
        bench.say(&format!(
            "round {number} of {} with {bytes} bytes",
            bench.options.rounds
        ));
        for ((callee, calls), rounds) in callees.iter().zip(&calls).zip(&mut rounds) {
            rounds.push(round(bench, stage, callee, bytes, *calls)?);
        }
    }
    let mut table = Table::new(
        format!("One call with {bytes} bytes there and back, one at a time"),
        &["", "p50 µs", "p99 µs", "CPU µs/call", "p50 − bare NATS µs"],
    );
    let mut floor = None;
    for (callee, rounds) in callees.iter().zip(&rounds) {
        let spread = |get: fn(&Round) -> f64| Spread::of(rounds.iter().map(get));
        let (p50, p99) = (spread(|r| r.p50_us), spread(|r| r.p99_us));
        let cpu = spread(|r| r.cpu_us);
        let floor = *floor.get_or_insert(p50.median);
        let name = format!("calls/{bytes}/{}", callee.name);
        section.figure(format!("{name}/p50_us"), p50);
        section.figure(format!("{name}/cpu_us"), cpu);
        table.row(vec![
            callee.name.to_owned(),
            p50.to_string(),
            p99.to_string(),
            cpu.to_string(),
            digits(p50.median - floor),
        ]);
    }
    section.tables.push(table);
    Ok(())
}

fn round(
    bench: &Bench<'_>,
    stage: &Stage,
    callee: &Callee,
    bytes: usize,
    calls: u32,
) -> Result<Round> {
    let before = Accounts::read()?;
    let (p50_us, p99_us) = match &callee.caller {
        Some(address) => from_inside(address, bytes, calls)?,
        None => over_nats(bench, stage, bytes, calls)?,
    };
    let after = Accounts::read()?;
    let who = &callee.processes;
    let cpu = after.spent_since(&before, who);
    Ok(Round {
        p50_us,
        p99_us,
        cpu_us: cpu * 1e6 / f64::from(calls),
    })
}

/// Has an actor call, and takes its word for how long each call took.
pub(super) fn from_inside(address: &str, bytes: usize, calls: u32) -> Result<(f64, f64)> {
    let answer = get::get(address, &format!("/calls?n={calls}&bytes={bytes}"))?;
    if answer.status != 200 {
        bail!("{}: {}", answer.status, answer.body.trim());
    }
    let mut nanoseconds: Vec<u64> = answer
        .body
        .lines()
        .map(|line| line.parse().context("a line is no number"))
        .collect::<Result<_>>()?;
    nanoseconds.sort_unstable();
    let at = |share: f64| {
        let index = (nanoseconds.len() as f64 * share) as usize;
        nanoseconds
            .get(index.min(nanoseconds.len().saturating_sub(1)))
            .map_or(f64::NAN, |ns| *ns as f64 / 1_000.0)
    };
    Ok((at(0.5), at(0.99)))
}

fn over_nats(bench: &Bench<'_>, stage: &Stage, bytes: usize, calls: u32) -> Result<(f64, f64)> {
    let mut ask = Command::new(bench.program("bench-nats"));
    ask.args(["--url", &stage.wash.nats_url, "ask"])
        .args(["--bytes", &bytes.to_string()])
        .args(["--requests", &calls.to_string()]);
    let said: Value = serde_json::from_str(&command::read(&mut ask, ROUND_WITHIN)?)?;
    let number = |name: &str| said[name].as_f64().context("a round without a figure");
    Ok((number("p50_us")?, number("p99_us")?))
}
