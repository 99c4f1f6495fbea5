//! `cargo xtask bench`: how fast, beside what others do with the same work, in one run.
//!
//! Servers and clients share one processor, since latencies of a single connection swing by a factor of 3 to 5 otherwise.
//! Contestants take turns, round after round, so that a machine whose speed drifts does not favour one; of all rounds the
//! median counts, beside the least and the most. Time on the processor for each request, read from the kernel's accounts
//! of all server processes, is the steadiest figure.
//!
//! Each of [`cases`] puts its hosts on a stage of its own, measures, and gives back a [`report::Section`]. Most compare
//! over HTTP, which [`turns`] does for them, by rounds of [`load`]. With `--write` the sections go into
//! `benches/RESULTS.md` ([`results`]), beside the budgets that they are held against ([`budget`]). [`instructions`] counts
//! instead of measuring, which is the same on every machine, so the full check does it.

mod budget;
mod cases;
mod contestant;
mod deploy;
mod get;
mod instructions;
mod load;
mod machine;
mod process;
mod profile;
mod report;
mod results;
mod spread;
mod svg;
mod turns;

use std::path::PathBuf;
use std::time::Instant;

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum as _;
use trellis_nats_server::NatsServer;

use crate::project::Project;
use crate::stage::Stage;
use crate::step::{note, step, took};
use crate::{actors, command, setup};
use report::Section;

/// The version of `wasmtime serve` that is measured against: the one that hosts embed.
const WASMTIME_VERSION: &str = "48.0.8";

/// What is built for a run, beside the actors: `wash`, the servers and clients of the suite, and the providers that run as
/// processes.
const PACKAGES: &[&str] = &[
    "wash",
    "trellis-bench",
    "trellis-keyvalue-nats",
    "trellis-keyvalue-redis",
    "trellis-sql-postgres",
];

/// Options of `cargo xtask bench`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// What to measure [default: everything]
    #[arg(value_enum)]
    cases: Vec<Case>,
    /// Rounds for each contestant and shape of load.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    rounds: u32,
    /// Seconds that each round is measured.
    #[arg(long, default_value_t = 1.0)]
    seconds: f64,
    /// Processor that everything is pinned to.
    #[arg(long, default_value_t = 0)]
    cpu: usize,
    /// Write the findings into benches/RESULTS.md.
    #[arg(long)]
    write: bool,
    /// Leave the open loops out.
    #[arg(long)]
    no_curves: bool,
    /// Leave out providers that run as processes.
    #[arg(long)]
    no_processes: bool,
    /// Use the programs of the dev profile: to try the suite itself, not to believe its figures.
    #[arg(long, conflicts_with = "write")]
    dev: bool,
    /// Build nothing.
    #[arg(long)]
    no_build: bool,
    /// With `instructions`: fail where a count differs from benches/instructions.toml by more than is allowed.
    #[arg(long)]
    check: bool,
    /// With `instructions`: write the counts into benches/instructions.toml.
    #[arg(long, conflicts_with = "check")]
    bless: bool,
    /// Run the case's host under callgrind for so many requests, and say where its instructions go.
    #[arg(long, value_name = "REQUESTS")]
    profile: Option<u32>,
}

/// What can be measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Case {
    /// HTTP hello against `wasmtime serve` and bare hyper.
    Http,
    /// A counter on JetStream and on Redis against the bare clients.
    Counter,
    /// One select on Postgres against the bare client.
    Postgres,
    /// Actor to actor, near and far, against bare NATS.
    Calls,
    /// Starts of instances and of actors.
    Start,
    /// Memory of a host with few and with many actors.
    Memory,
    /// Ten times the sustainable rate, and the first request after it.
    Overload,
    /// Instructions of codec and dispatch, counted by callgrind.
    Instructions,
}

impl Case {
    /// As it is typed.
    fn name(self) -> String {
        self.to_possible_value()
            .map_or_else(String::new, |value| value.get_name().to_owned())
    }

    fn title(self) -> &'static str {
        match self {
            Self::Http => "HTTP hello",
            Self::Counter => "HTTP → key-value",
            Self::Postgres => "HTTP → Postgres",
            Self::Calls => "Calls between actors",
            Self::Start => "Starts",
            Self::Memory => "Memory",
            Self::Overload => "Overload",
            Self::Instructions => "Instructions",
        }
    }
}

/// A run of the suite.
struct Bench<'a> {
    project: &'a Project,
    options: &'a Options,
    nats_server: NatsServer,
}

/// Builds, measures, and prints the tables.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let cases = if options.cases.is_empty() {
        Case::value_variants().to_vec()
    } else {
        options.cases.clone()
    };
    if (options.check || options.bless) && cases != [Case::Instructions] {
        bail!("--check and --bless belong to `cargo xtask bench instructions`");
    }
    if cases == [Case::Instructions] {
        let section = instructions::run(project, options)?;
        return conclude(project, options, &[(Case::Instructions, section)]);
    }
    let ready = setup::run(project, &setup::Options::default())?;
    if !options.no_build {
        actors::build(project, &ready.wasm)?;
        build(project, options)?;
    }
    let bench = Bench {
        project,
        options,
        nats_server: ready.nats_server,
    };
    if cases.contains(&Case::Http) {
        bench.wasmtime()?;
    }
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .context("the runtime can't be made")?;
    if let Some(requests) = options.profile {
        return runtime.block_on(profile::run(&bench, &cases, requests));
    }
    machine::pin(options.cpu)?;
    let mut sections = Vec::new();
    let mut failed = Vec::new();
    for case in cases {
        let name = case.name();
        let section = step(&name, || {
            let section = runtime.block_on(measure(&bench, case))?;
            Ok((section, "measured".to_owned()))
        });
        match section {
            Ok(section) => {
                section.print();
                sections.push((case, section));
            }
            // What the others measure is worth having all the same.
            Err(error) => {
                note(&format!("{error:#}"));
                failed.push(name);
            }
        }
    }
    conclude(project, options, &sections)?;
    note(&format!("measured in {}", took(begin)));
    if failed.is_empty() {
        return Ok(());
    }
    bail!("not measured: {}", failed.join(", "))
}

async fn measure(bench: &Bench<'_>, case: Case) -> Result<Section> {
    match case {
        Case::Http => cases::http::run(bench).await,
        Case::Counter => cases::counter::run(bench).await,
        Case::Postgres => cases::postgres::run(bench).await,
        Case::Calls => cases::calls::run(bench).await,
        Case::Start => cases::start::run(bench).await,
        Case::Memory => cases::memory::run(bench).await,
        Case::Overload => cases::overload::run(bench).await,
        Case::Instructions => instructions::run(bench.project, bench.options),
    }
}

/// Shows the budgets that the findings bear on, and writes everything down if that is wanted.
fn conclude(project: &Project, options: &Options, sections: &[(Case, Section)]) -> Result<()> {
    let figures = sections
        .iter()
        .flat_map(|(_, section)| section.figures.clone())
        .collect();
    let budgets = budget::table(&figures);
    eprint!("{}", budgets.plain());
    if options.write {
        let written = results::write(project, options, sections)?;
        note(&format!("written to {}", written.display()));
    }
    Ok(())
}

fn build(project: &Project, options: &Options) -> Result<()> {
    step("hosts, providers and contestants", || {
        let mut cargo = project.cargo();
        cargo.args(["build", "--quiet"]);
        if options.dev {
            // As tests and the demo build it; a part of it would be another set of features, and wasmtime would be
            // compiled twice.
            cargo.arg("--workspace");
        } else {
            cargo.arg("--release");
            for package in PACKAGES {
                cargo.args(["-p", package]);
            }
        }
        command::show(&mut cargo)?;
        Ok(((), "built".to_owned()))
    })
}

impl Bench<'_> {
    /// Says what is going on.
    fn say(&self, text: &str) {
        note(text);
    }

    /// A program that was built for this run.
    fn program(&self, name: &str) -> PathBuf {
        let programs = if self.options.dev {
            self.project.programs()
        } else {
            self.project.release_programs()
        };
        programs.join(name)
    }

    /// The reference of a provider that is a process.
    fn provider_reference(&self, program: &str) -> String {
        format!("file://{}", self.program(program).display())
    }

    /// Opens a stage, does the work, and closes the stage whatever came of it.
    async fn on_stage(
        &self,
        work: impl AsyncFnOnce(&mut Stage) -> Result<Section>,
    ) -> Result<Section> {
        let mut stage = Stage::open(self.project, self.program("wash"), &self.nats_server)?;
        let done = work(&mut stage).await;
        let closed = stage.close(done.is_ok());
        let section = done?;
        closed?;
        Ok(section)
    }

    /// Starts a host; gives back its process.
    async fn start_host(&self, stage: &mut Stage, name: &'static str) -> Result<u32> {
        stage.start_host(name)?;
        let started = stage.host_count();
        stage.hosts_up(started).await?;
        stage.host_pid(name).context("the host is gone")
    }

    /// `wasmtime serve`, from the registry, in our own tools.
    fn wasmtime(&self) -> Result<PathBuf> {
        let program = self.project.tools().join("bin/wasmtime");
        let present = std::process::Command::new(&program)
            .arg("--version")
            .output()
            .is_ok_and(|said| String::from_utf8_lossy(&said.stdout).contains(WASMTIME_VERSION));
        if !present {
            step("wasmtime serve", || {
                command::show(
                    self.project
                        .cargo()
                        .args(["install", "--quiet", "--locked", "wasmtime-cli", "--version"])
                        .arg(WASMTIME_VERSION)
                        .args(["--no-default-features", "--features"])
                        .arg("run,serve,cranelift,pooling-allocator,parallel-compilation,component-model-async")
                        .arg("--root")
                        .arg(self.project.tools()),
                )?;
                Ok(((), WASMTIME_VERSION.to_owned()))
            })?;
        }
        Ok(program)
    }
}
