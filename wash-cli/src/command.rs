//! What each command does: one module for each, and the table that leads to them.
//!
//! Commands about this machine alone run as they are; those that ask the lattice run on one thread of their own runtime,
//! except `up`, which is a host and brings the host's.

mod build;
mod call;
mod claims;
mod config;
mod down;
mod get;
mod keys;
mod link;
mod scale;
mod start;
mod stop;
mod up;

use std::future::Future;

use crate::cli::{Cli, Command};
use crate::environment::Environment;
use crate::exit::Failure;
use crate::output::Report;
use crate::settings::Settings;

/// Carries out a command.
///
/// # Errors
/// [`Failure`], with its exit code.
pub fn run(cli: Cli, environment: &mut Environment) -> Result<Report, Failure> {
    // Mistakes in global settings are told for every command alike, before anything is done.
    let settings = Settings::resolve(&cli.global, environment)?;
    match cli.command {
        Command::Up(args) => up::run(&args, &cli.global, &settings, environment),
        Command::Down(args) => down::run(&args, &settings, environment),
        Command::Build(args) => build::run(&args, environment),
        Command::Claims(command) => claims::run(command, environment),
        Command::Keys(command) => keys::run(command, environment),
        Command::Start(command) => ask(start::run(command, &settings)),
        Command::Scale(command) => ask(scale::run(command, &settings)),
        Command::Stop(command) => ask(stop::run(command, &settings)),
        Command::Link(command) => ask(link::run(command, &settings)),
        Command::Config(command) => ask(config::run(command, &settings)),
        Command::Get(command) => ask(get::run(command, &settings)),
        Command::Call(args) => ask(call::run(args, &settings)),
    }
}

/// Runs a conversation with the lattice on this thread.
fn ask<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("cannot start the runtime: {error}")))?
        .block_on(conversation)
}
