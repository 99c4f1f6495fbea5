//! The command line: every command and flag, defined once, with its help.
//!
//! The grammar is the one that people know from wasmCloud 1.x's shell. Definitions only: what a command does is in
//! [`crate::command`], where a flag's value comes from if it is absent is in [`crate::settings`].

mod lattice;
mod local;

pub use lattice::*;
pub use local::*;

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};
use trellis_protocol::LatticeName;

use crate::exit;
use crate::output::Format;

/// Build, sign and run actors on a Trellis lattice.
#[derive(Debug, Parser)]
#[command(name = "wash", version, after_help = exit::HELP, arg_required_else_help = true)]
pub struct Cli {
    /// What every command understands.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// Flags of every command.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Global options")]
pub struct Global {
    /// NATS server of the lattice [env: TRELLIS_NATS_URL] [default: nats://127.0.0.1:4222]
    #[arg(long, global = true, value_name = "URL")]
    pub nats_url: Option<String>,
    /// Name of the lattice [env: TRELLIS_LATTICE] [default: default]
    #[arg(long, short = 'x', global = true, value_name = "NAME")]
    pub lattice: Option<LatticeName>,
    /// Credentials file for NATS [env: TRELLIS_CREDS]
    #[arg(long, global = true, value_name = "FILE")]
    pub creds: Option<PathBuf>,
    /// Milliseconds to wait for an outcome [env: TRELLIS_TIMEOUT_MS] [default: 60000, for plain questions 5000]
    #[arg(long, short = 't', global = true, value_name = "MS", value_parser = clap::value_parser!(u64).range(1..=3_600_000))]
    pub timeout_ms: Option<u64>,
    /// For people or for programs
    #[arg(
        long,
        short = 'o',
        global = true,
        value_enum,
        default_value = "table",
        value_name = "FORMAT"
    )]
    pub output: Format,
}

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a host here, with a NATS server if there is none
    Up(Up),
    /// Stop what `wash up --detached` started
    Down(Down),
    /// Build the actor in a directory and sign it
    Build(Build),
    /// Sign components, look at their claims
    #[command(subcommand)]
    Claims(Claims),
    /// Make and list keys
    #[command(subcommand)]
    Keys(Keys),
    /// Start an actor or a provider on a host
    #[command(subcommand)]
    Start(Start),
    /// Change how many invocations of an actor run at once
    #[command(subcommand)]
    Scale(Scale),
    /// Stop an actor, a provider or a host
    #[command(subcommand)]
    Stop(Stop),
    /// Say who may call whom
    #[command(subcommand)]
    Link(Link),
    /// Named configurations
    #[command(subcommand)]
    Config(Config),
    /// Ask what there is
    #[command(subcommand)]
    Get(Get),
    /// Call an actor
    Call(Call),
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it KEY=VALUE".to_owned()),
    }
}

fn header(text: &str) -> Result<(String, String), String> {
    match text.split_once(':') {
        Some((name, value)) if !name.trim().is_empty() => {
            Ok((name.trim().to_owned(), value.trim().to_owned()))
        }
        _ => Err("write it `name: value`".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_definitions_agree_with_each_other() {
        Cli::command().debug_assert();
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_a_key_may_not_be_empty() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("=b").is_err());
        assert!(key_value("ab").is_err());
    }
}
