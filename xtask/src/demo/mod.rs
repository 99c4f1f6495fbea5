//! `cargo xtask demo`: the link shortener on two hosts, from nothing, with every step said and timed.
//!
//! A [`Stage`] holds the processes and their temporary directory, [`client`] is the person with the browser, and [`tour`] is what is shown. With `--check` each step of the tour asserts what it
//! shows, and the command ends by itself; without, the application stays up until Ctrl-C. Either way nothing is left
//! running and nothing is left behind.

mod client;
mod progress;
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
            toured = tour::walk(&mut stage) => toured,
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
