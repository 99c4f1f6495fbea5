//! `--profile N`: where a host's instructions go for N requests, by callgrind, which needs neither privileges nor the
//! kernel's counters.
//!
//! Callgrind counts instructions, not time: waiting, the kernel's work and cache misses do not show, so what it says is
//! which code to look at, and CPU time for each request says whether looking there helped. Machine code of guests is made
//! at run time and has no name. Under valgrind there is no room for the pool of instances, so each is allocated anew, and
//! everything takes so long that what happens by the clock (beats, their signatures) has a larger share than it really has.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

use super::contestant::Contestant;
use super::instructions::PLAIN_ROUTINES;
use super::{Bench, Case, deploy};
use crate::command;
use crate::stage::Stage;
use crate::step::note;

/// Lines that are shown of each list, and how much of a name.
const LINES: usize = 40;
const NAME_CHARS_MAX: usize = 140;

/// Requests before those that count: they compile, connect and fill caches.
const WARM_UP: u32 = 20;

/// Longest time for callgrind's own tools.
const TOOL_WITHIN: Duration = Duration::from_secs(300);

/// Longest time for the host to come up: everything is fifty times slower.
const UP_WITHIN: Duration = Duration::from_secs(240);

/// Profiles the host of a case.
pub(super) async fn run(bench: &Bench<'_>, cases: &[Case], requests: u32) -> Result<()> {
    let [case] = cases else {
        bail!("--profile takes one case: http, counter or calls");
    };
    let mut stage = Stage::open(bench.project, bench.program("wash"), &bench.nats_server)?;
    let done = profile(bench, &mut stage, *case, requests).await;
    let closed = stage.close(done.is_ok());
    done?;
    closed
}

async fn profile(bench: &Bench<'_>, stage: &mut Stage, case: Case, requests: u32) -> Result<()> {
    let out = bench.project.setup().with_file_name("profile.callgrind");
    let option = format!("--callgrind-out-file={}", out.display());
    let launcher = bench.project.root().join("benches/without-auxv.py");
    let routines = format!("GLIBC_TUNABLES={PLAIN_ROUTINES}");
    let runner = [
        "env",
        &routines,
        "python3",
        launcher.to_str().context("a path is not UTF-8")?,
        "valgrind",
        "--tool=callgrind",
        "--quiet",
        // Guests' code is written while the host runs.
        "--smc-check=all-non-file",
        // What starts and stops the host is not what is looked for.
        "--instr-atstart=no",
        // A signal handler of wasmtime's takes traps on a stack of its own.
        "--max-stackframe=16777216",
        &option,
    ];
    stage.start_host_under(&runner, "north")?;
    let begin = Instant::now();
    while stage.hosts_up(1).await.is_err() {
        stage.check_hosts()?;
        if begin.elapsed() > UP_WITHIN {
            bail!("the host did not come up under callgrind");
        }
    }
    let host = stage.host_pid("north").context("the host is gone")?;
    deploy::provider(stage, "http-server", "http", "north", &[]).await?;
    let (actor, path) = match case {
        Case::Http => ("hello", "/".to_owned()),
        Case::Counter => ("relay", "/count?key=profile".to_owned()),
        Case::Calls => ("relay", "/calls?n=1&bytes=64".to_owned()),
        _ => bail!("--profile takes http, counter or calls"),
    };
    let signed = stage.sign(actor).await?;
    deploy::actor(stage, &signed, actor, "north").await?;
    match case {
        Case::Counter => {
            let keyvalue = "wasi:keyvalue/store,atomics";
            deploy::provider(stage, "keyvalue-nats", "kv", "north", &[]).await?;
            deploy::config(stage, "counters", &["bucket=counters".to_owned()]).await?;
            deploy::link(stage, actor, "kv", keyvalue, None, Some("counters")).await?;
        }
        Case::Calls => {
            deploy::actor(stage, &signed, "echo", "north").await?;
            deploy::link(stage, actor, "echo", "trellis:relay/echo", None, None).await?;
        }
        _ => {}
    }
    let address = deploy::expose(stage, actor).await?;
    let contestant = Contestant::actor("host", address, &path, Vec::new(), Vec::new());
    contestant.answers().await?;
    ask(&contestant, WARM_UP)?;
    control(host, &["--instr=on"])?;
    ask(&contestant, requests)?;
    control(host, &["--instr=off", "--dump"])?;
    show(&out, requests)
}

fn ask(contestant: &Contestant, requests: u32) -> Result<()> {
    for _ in 0..requests {
        let answer = super::get::get(&contestant.address, &contestant.path)?;
        if answer.status != 200 {
            bail!("{}: {}", answer.status, answer.body.trim());
        }
    }
    Ok(())
}

fn control(host: u32, options: &[&str]) -> Result<()> {
    for option in options {
        let mut tool = Command::new("callgrind_control");
        tool.arg(option).arg(host.to_string());
        command::read(&mut tool, TOOL_WITHIN)?;
    }
    Ok(())
}

/// Sums what callgrind attributes to each function itself, and to each crate.
fn show(out: &Path, requests: u32) -> Result<()> {
    // The first dump of a process has this ending.
    let dump = out.with_file_name("profile.callgrind.1");
    let text = command::read(
        Command::new("callgrind_annotate")
            .args([
                "--auto=no",
                "--tree=none",
                "--threshold=100",
                "--show-percs=no",
            ])
            .arg(&dump),
        TOOL_WITHIN,
    )?;
    let mut functions: BTreeMap<String, u64> = BTreeMap::new();
    let mut crates: BTreeMap<String, u64> = BTreeMap::new();
    for line in text.lines() {
        let Some((count, place)) = line.trim().split_once(char::is_whitespace) else {
            continue;
        };
        let Ok(count) = count.replace(',', "").parse::<u64>() else {
            continue;
        };
        let name = place.trim();
        let name = name
            .split_once(".rs:")
            .map_or(name, |(_, function)| function);
        let name = name
            .split(" [")
            .next()
            .unwrap_or(name)
            .trim_start_matches("???:");
        if name.starts_with("PROGRAM TOTALS") || name == "events annotated" {
            continue;
        }
        *crates.entry(crate_of(name)).or_default() += count;
        // What was compiled into several places stands in several lines.
        *functions.entry(name.to_owned()).or_default() += count;
    }
    let each = |count: u64| count / u64::from(requests.max(1));
    let all: u64 = functions.values().sum();
    note(&format!("{} instructions for each request", each(all)));
    list("by crate", crates, all, &each);
    list("by function, without what it calls", functions, all, &each);
    note(&format!(
        "all of it: callgrind_annotate --inclusive=yes {}",
        dump.display()
    ));
    Ok(())
}

fn list(title: &str, counts: BTreeMap<String, u64>, all: u64, each: &dyn Fn(u64) -> u64) {
    eprintln!("\n  {title}");
    let mut counts: Vec<_> = counts.into_iter().collect();
    counts.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    for (name, count) in counts.iter().take(LINES) {
        let name: String = name.chars().take(NAME_CHARS_MAX).collect();
        let share = *count as f64 * 100.0 / all.max(1) as f64;
        eprintln!("  {:>10}  {share:>5.1} %  {name}", each(*count));
    }
}

/// The crate that a function's path begins with: `tokio` of `<tokio::net::TcpStream as …>::poll_read`.
fn crate_of(name: &str) -> String {
    let path = name.trim_start_matches(['<', '&', '(', '*', ' ']);
    match path.split_once("::") {
        Some((first, _))
            if first
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_') =>
        {
            first.to_owned()
        }
        _ => "the C library, guests and others".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::crate_of;

    #[test]
    fn a_function_belongs_to_the_crate_of_its_path() {
        assert_eq!(crate_of("tokio::runtime::park"), "tokio");
        assert_eq!(
            crate_of("<hyper::body::Incoming as http_body::Body>::poll_frame"),
            "hyper"
        );
        assert_eq!(crate_of("malloc"), "the C library, guests and others");
    }
}
