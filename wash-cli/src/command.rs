//! What each command does: one module for each, and the table that leads to them.
//!
//! Commands about this machine alone run as they are; those that ask the lattice run on one thread of their own runtime,
//! except `up`, which is a host and brings the host's.

mod build;
mod call;
mod claims;
mod completions;
mod config;
mod ctx;
mod doctor;
mod down;
mod drain;
mod following;
mod get;
mod import;
mod inspect;
mod keys;
mod label;
mod link;
mod logs;
mod man;
mod papers;
mod par;
mod pull;
mod push;
mod scale;
mod spy;
mod start;
mod stop;
mod top;
mod transfer;
mod up;
mod update;
mod wit;

pub use up::daemon::{Order, order};

use std::future::Future;

use crate::cli::{Cli, Command};
use crate::connection::while_connected;
use crate::environment::Environment;
use crate::exit::Failure;
use crate::output::Report;
use crate::progress::Progress;
use crate::settings::Settings;

/// Carries out a command.
///
/// # Errors
/// [`Failure`], with its exit code.
pub fn run(cli: Cli, environment: &mut Environment) -> Result<Report, Failure> {
    if let Command::Ctx(command) = &cli.command {
        // It mends what the settings below may stumble over.
        return ctx::run(command, &cli.global, environment);
    }
    // Mistakes in global settings are told for every command alike, before anything is done.
    let settings = Settings::resolve(&cli.global, environment)?;
    let format = cli.global.output;
    match cli.command {
        Command::Up(args) => up::run(&args, &cli.global, &settings, environment),
        Command::Down(args) => down::run(&args, &settings, environment),
        Command::Ctx(command) => ctx::run(&command, &cli.global, environment),
        Command::Drain(args) => drain::run(&args, &settings, environment),
        Command::Build(args) => build::run(&args, environment),
        Command::Claims(command) => claims::run(command, &settings, environment),
        Command::Keys(command) => keys::run(command, environment),
        Command::Completions(args) => completions::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Doctor(args) => doctor::run(&args, &settings, environment),
        Command::Inspect(args) => ask(inspect::run(args, &settings, environment)),
        Command::Wit(args) => ask(wit::run(args, &settings, environment)),
        Command::Push(args) => ask(push::run(args, &settings, environment)),
        Command::Pull(args) => ask(pull::run(args, &settings, environment)),
        Command::Par(command) => ask(par::run(command, &settings, environment)),
        Command::Import(args) => ask(import::run(args, &settings)),
        Command::Start(command) => ask_shown(start::run(command, &settings)),
        Command::Scale(command) => ask_shown(scale::run(command, &settings)),
        Command::Update(command) => ask_shown(update::run(command, &settings)),
        Command::Stop(command) => ask_shown(stop::run(command, &settings)),
        Command::Link(command) => link::run(command, &settings, cli.global.output),
        Command::Config(command) => ask_shown(config::run(command, &settings)),
        Command::Label(args) => ask_shown(label::run(&args, &settings)),
        Command::Get(command) => get::run(command, &settings, cli.global.output),
        Command::Call(args) => ask_shown(call::run(args, &settings)),
        Command::Top(args) => ask(top::run(args, &settings, format)),
        Command::Spy(args) => ask(spy::run(args, &settings, format)),
        Command::Logs(args) => ask(logs::run(args, &settings, format)),
    }
}

/// Runs a conversation with the lattice on this thread, for as long as the connection that it makes stands.
fn ask<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run_here(while_connected(conversation))
}

/// The same, with a spinner until there is something else to show.
fn ask_shown<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let _progress = Progress::start("asking the lattice");
    ask(conversation)
}

/// Runs a conversation that has its own way with a connection that is lost.
fn ask_on<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    run_here(conversation)
}

fn run_here<T>(conversation: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure::local(format!("cannot start the runtime: {error}")))?
        .block_on(conversation)
}
