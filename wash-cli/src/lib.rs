//! `wash`: the shell of a Trellis lattice.
//!
//! A command line is read ([`cli`]), completed from the environment ([`settings`]) and carried out ([`command`]). What
//! comes of it is a [`Report`] or a [`Failure`], and one module writes either ([`output`]); the exit code tells which
//! sort it was ([`exit`]).
//!
//! | module | noun |
//! | --- | --- |
//! | [`keys`] | the developer's keys on disk |
//! | [`manifest`], [`artifact`], [`signing`] | an actor: what it says of itself, its component, its claims |
//! | [`connection`], [`placement`], [`outcome`] | the lattice: a client, a host to choose, an event to wait for |
//! | [`state_dir`], [`local_nats`] | what `wash up` runs on this machine |
//!
//! It speaks to hosts over the control subjects, as any client would, and reads no bucket. Only `wash up` knows more: it
//! is a host.

pub mod artifact;
pub mod cli;
pub mod command;
pub mod connection;
pub mod environment;
pub mod exit;
pub mod keys;
pub mod local_nats;
pub mod manifest;
pub mod outcome;
pub mod output;
pub mod placement;
pub mod progress;
pub mod reference;
pub mod settings;
pub mod signing;
pub mod state_dir;

use std::ffi::OsString;

use clap::Parser as _;
use clap::error::ErrorKind;

use cli::Cli;
use environment::Environment;
use exit::{Failure, FailureKind};
use output::{Format, Report};

/// Runs a command line, the program's name first, and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let args: Vec<OsString> = args.into_iter().collect();
    trellis_host::install_crypto();
    let cli = match Cli::try_parse_from(&args) {
        Ok(cli) => cli,
        Err(error) => return not_understood(&error, &args),
    };
    let format = cli.global.output;
    let mut environment = Environment::of_process();
    let outcome = command::run(cli, &mut environment);
    for note in environment.take_notes() {
        output::note(&note);
    }
    match outcome {
        Ok(report) => finish(&report, format),
        Err(failure) => fail(&failure, format),
    }
}

fn finish(report: &Report, format: Format) -> u8 {
    if let Some(aside) = report.render_aside(format) {
        output::note(aside);
    }
    match (
        output::write_stdout(&report.render(format)),
        report.failure(),
    ) {
        (Ok(()), None) => exit::OK,
        (Ok(()), Some(failure)) => {
            // In JSON the report says so itself.
            if format == Format::Table {
                say_error(failure);
            }
            failure.kind().exit_code()
        }
        (Err(error), _) => fail(
            &Failure::local(format!("done, but cannot write to stdout: {error}")),
            Format::Table,
        ),
    }
}

fn fail(failure: &Failure, format: Format) -> u8 {
    match format {
        Format::Table => say_error(failure),
        // Whoever reads JSON learns of it there; a stdout that is gone can be told nothing more.
        Format::Json => drop(output::write_stdout(&output::render_failure(
            failure, format,
        ))),
    }
    failure.kind().exit_code()
}

fn say_error(failure: &Failure) {
    output::note(&format!(
        "error: {}",
        output::printable_lines(failure.message())
    ));
}

/// Help and versions are answers; everything else is a mistake, for which clap has the words.
fn not_understood(error: &clap::Error, args: &[OsString]) -> u8 {
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            // As for other output: nobody is left to tell.
            drop(output::write_stdout(error.to_string().as_bytes()));
            exit::OK
        }
        _ if wants_json(args) => {
            let text = error.to_string();
            let message = text.strip_prefix("error: ").unwrap_or(&text).trim_end();
            fail(&Failure::new(FailureKind::Usage, message), Format::Json)
        }
        _ => {
            output::note(error.to_string().trim_end());
            exit::USAGE
        }
    }
}

/// Whether a command line that was not understood asks for JSON all the same.
fn wants_json(args: &[OsString]) -> bool {
    let words: Vec<_> = args.iter().map(|word| word.to_string_lossy()).collect();
    words
        .iter()
        .any(|word| matches!(word.as_ref(), "--output=json" | "-ojson" | "-o=json"))
        || words
            .windows(2)
            .any(|pair| matches!(pair[0].as_ref(), "--output" | "-o") && pair[1] == "json")
}
