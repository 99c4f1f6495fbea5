//! `wash`: the shell of a Trellis lattice.
//!
//! A command line is read ([`cli`]), completed from the environment ([`settings`]) and carried out ([`command`]). What
//! comes of it is a [`Report`] or a [`Failure`], and one module writes either ([`output`]); the exit code tells which
//! sort it was ([`exit`]).
//!
//! | module | noun |
//! | --- | --- |
//! | [`keys`], [`proof`] | the developer's keys on disk, and how commands are signed with them |
//! | [`manifest`], [`artifact`], [`signing`] | an actor: what it says of itself, its component, its claims |
//! | [`context`], [`seed`] | where lattices are, and as whom to go there |
//! | [`connection`], [`placement`], [`outcome`], [`confirm`] | the lattice: a client, a host to choose, an event to wait for, a question before something is destroyed |
//! | [`watching`] | looking again and again |
//! | [`state_dir`], [`local_nats`] | what `wash up` runs on this machine |
//!
//! It speaks to hosts over the control subjects, as any client would, and reads none of the state's buckets. `wash up`
//! knows more: it is a host. `push`, `pull` and `inspect` reach the lattice's store of artifacts, `doctor` looks whether
//! the buckets are there, and `import` reads those of another lattice.

pub mod artifact;
pub mod cli;
pub mod command;
pub mod confirm;
pub mod connection;
pub mod context;
pub mod environment;
pub mod exit;
pub mod keys;
pub mod local_nats;
pub mod manifest;
pub mod outcome;
pub mod output;
pub mod placement;
pub mod progress;
pub mod proof;
pub mod reference;
pub mod seed;
pub mod settings;
pub mod signing;
pub mod state_dir;
pub mod watching;

use std::ffi::OsString;

use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _};
use trellis_host::args::older;

use cli::Cli;
use environment::Environment;
use exit::{Failure, FailureKind};
use output::{Format, Report};

/// Runs a command line, the program's name first, and returns the exit code.
pub fn main(args: impl IntoIterator<Item = OsString>) -> u8 {
    let mut args: Vec<OsString> = args.into_iter().collect();
    trellis_host::install_crypto();
    let order = match command::order(&args) {
        Ok(order) => order,
        Err(failure) => return fail(&failure, Format::Table),
    };
    if let Some(order) = &order {
        args.truncate(1);
        args.extend(order.arguments.iter().cloned());
    }
    let (definition, turned) = older::reading_older_variables(Cli::command());
    let matches = definition.try_get_matches_from(&args);
    let read = matches.and_then(|matches| Ok((Cli::from_arg_matches(&matches)?, matches)));
    let (cli, matches) = match read {
        Ok(read) => read,
        Err(error) => return not_understood(&error, &args),
    };
    let format = cli.global.output;
    let mut environment = Environment::of_process()
        .with_arguments(args.into_iter().skip(1))
        .with_order(order);
    for note in turned.notes(&matches) {
        environment.tell(note);
    }
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
