//! `cargo xtask`: sets a machine up and runs what has more than one step.
//!
//! Everything here says what it does on standard error, one line a step, each with the time it took, and ends with one
//! clear sentence where something can't be had. Once started it works whatever the working directory is, twice in a row, and beside another copy
//! of itself: whatever is shared is built aside, locked and renamed.

mod actors;
mod apt;
mod backends;
mod bench;
mod c_compiler;
mod cargo_deny;
mod command;
mod compiler;
mod demo;
#[cfg(test)]
mod map;
mod nats_server;
mod project;
mod setup;
mod stage;
mod step;
mod tests;
mod wasm_target;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use crate::project::Project;

/// Development tasks of the Trellis workspace.
#[derive(Debug, Parser)]
#[command(name = "cargo xtask", bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Install what is missing to build and test: the WebAssembly target, a nats-server, Redis and PostgreSQL.
    Setup(setup::Options),
    /// Build the example actors for wasm32-wasip2.
    Actors(actors::Options),
    /// Set up, build the actors and run all tests.
    Test(tests::Options),
    /// Run the demo application on two hosts and show what it does.
    Demo(demo::Options),
    /// Measure HTTP against a bare hyper server and `wasmtime serve`, in one run.
    Bench(bench::Options),
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let done = Project::find().and_then(|project| match arguments.task {
        Task::Setup(options) => setup::everything(&project, &options),
        Task::Actors(options) => actors::run(&project, &options),
        Task::Test(options) => tests::run(&project, &options),
        Task::Demo(options) => demo::run(&project, &options),
        Task::Bench(options) => bench::run(&project, &options),
    });
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
