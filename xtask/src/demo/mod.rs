//! `cargo xtask demo`: the link shortener on two hosts, from nothing, with every step said and timed.
//!
//! A [`Stage`] holds the processes and their temporary directory, [`client`] is the person with the browser, and [`tour`] is what is shown. With `--check` each step of the tour asserts what it
//! shows, and the command ends by itself; without, the application stays up until Ctrl-C. Either way nothing is left
//! running and nothing is left behind.

mod client;
mod messages;
mod postgres;
mod progress;
mod redis;
mod tour;

use std::time::Instant;

use anyhow::{Context as _, Result};
use tokio::signal::unix::{SignalKind, signal};

use crate::project::Project;
use crate::stage::Stage;
use crate::step::{step, took};
use crate::{actors, command, setup};

/// Options of `cargo xtask demo`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Walk the tour, check every step, take everything down and exit.
    #[arg(long)]
    check: bool,
    /// Show these as well: each gets a private server, if it is installed, unless a URL names one
    #[arg(long, value_delimiter = ',', value_name = "SERVER")]
    with: Vec<With>,
    /// A Redis to use, `redis://user:password@host:port/`; its keys of the demonstration stay there
    #[arg(long, value_name = "URL")]
    redis_url: Option<String>,
    /// A Postgres to use, `postgres://user:password@host:port/database`; the tables of the demonstration stay there
    #[arg(long, value_name = "URL")]
    postgres_url: Option<String>,
}

/// What else can be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum With {
    /// Key-value on Redis, by a provider process
    Redis,
    /// Orders on Postgres
    Postgres,
}

impl Options {
    fn shows(&self, server: With) -> bool {
        let named = match server {
            With::Redis => &self.redis_url,
            With::Postgres => &self.postgres_url,
        };
        named.is_some() || self.with.contains(&server)
    }
}

/// Sets up, builds, and runs the tour.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let begin = Instant::now();
    let ready = setup::run(project, &setup::Options::default())?;
    actors::build(project, &ready.wasm)?;
    step("hosts and wash", || {
        // The whole workspace, as the tests build it: a part of it would be another set of features, and wasmtime
        // would be compiled twice.
        command::show(project.cargo().args(["build", "--quiet", "--workspace"]))?;
        Ok(((), "built".to_owned()))
    })?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("the runtime can't be made")?;
    runtime.block_on(async {
        let mut interrupted = Interrupt::listen()?;
        let mut stage = Stage::open(project, project.programs().join("wash"), &ready.nats_server)?;
        let toured = tokio::select! {
            toured = walk(project, options, &mut stage) => toured,
            () = interrupted.received() => Err(anyhow::anyhow!("interrupted")),
        };
        let toured = match toured {
            Ok(sights) if !options.check => {
                sights.print(&stage);
                interrupted.received().await;
                Ok(())
            }
            other => other.map(drop),
        };
        let left = stage.close(toured.is_ok());
        toured.and(left)
    })?;
    eprintln!("\nDone in {}: nothing is left running.", took(begin));
    Ok(())
}

/// The tour, with what was asked for beside it.
async fn walk(project: &Project, options: &Options, stage: &mut Stage) -> Result<tour::Sights> {
    let sights = tour::walk(stage).await?;
    let client = client::Client::new(&stage.address);
    messages::show(stage, &client, sights.code()).await?;
    if options.shows(With::Redis) {
        redis::show(project, stage, &client, options.redis_url.as_deref()).await?;
    }
    if options.shows(With::Postgres) {
        postgres::show(stage, options.postgres_url.as_deref()).await?;
    }
    Ok(sights)
}

/// Ctrl-C, or what ends a terminal or a service.
struct Interrupt {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
    hang_up: tokio::signal::unix::Signal,
}

impl Interrupt {
    fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            hang_up: signal(SignalKind::hangup())?,
        })
    }

    async fn received(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
            _ = self.hang_up.recv() => {}
        }
    }
}
