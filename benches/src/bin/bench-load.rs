//! Asks an HTTP server over some connections for some seconds and prints one line of JSON: how many answers, which, how
//! late. Without a rate each connection asks again when it has its answer; with one, requests are due at fixed moments and
//! their latencies count from then.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use rustix::thread::{CpuSet, sched_setaffinity};
use trellis_bench::load::{self, Load};

/// Sends requests and measures the answers.
#[derive(Debug, Parser)]
struct Arguments {
    /// Who is asked.
    #[arg(long)]
    address: SocketAddr,
    /// What for.
    #[arg(long, default_value = "/")]
    path: String,
    /// Connections, each with one request at a time.
    #[arg(long)]
    connections: usize,
    /// Seconds during which requests are sent.
    #[arg(long)]
    seconds: f64,
    /// Requests a second, whatever becomes of them.
    #[arg(long)]
    rate: Option<f64>,
    /// Seconds in which requests that were due are still sent, and as many for the last answers.
    #[arg(long, default_value_t = 2.0)]
    grace: f64,
    /// Processor to run on, where that is not the caller's.
    #[arg(long)]
    cpu: Option<usize>,
}

fn main() -> Result<()> {
    let arguments = Arguments::parse();
    ensure!(arguments.connections > 0, "at least one connection");
    ensure!(
        arguments.rate.is_none_or(|rate| rate > 0.0),
        "a rate above 0"
    );
    if let Some(cpu) = arguments.cpu {
        let mut set = CpuSet::new();
        set.set(cpu);
        sched_setaffinity(None, &set).with_context(|| format!("no processor {cpu}"))?;
    }
    let outcome = load::run(&Load {
        address: arguments.address,
        path: arguments.path,
        connections: arguments.connections,
        duration: Duration::try_from_secs_f64(arguments.seconds)?,
        rate: arguments.rate,
        grace: Duration::try_from_secs_f64(arguments.grace)?,
    })?;
    #[expect(clippy::print_stdout, reason = "the line is the program's output")]
    {
        println!("{}", outcome.to_json());
    }
    Ok(())
}
