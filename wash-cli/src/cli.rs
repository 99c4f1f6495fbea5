//! The command line: every command and flag, defined once, with its help.
//!
//! The grammar is the one that people know from wasmCloud 1.x's shell. Definitions only: what a command does is in
//! [`crate::command`], where a flag's value comes from if it is absent is in [`crate::settings`].

mod artifact;
mod claims;
mod ctx;
mod global;
mod lattice;
mod local;
mod observe;
mod up;

pub use artifact::*;
pub use claims::*;
pub use ctx::*;
pub use global::*;
pub use lattice::*;
pub use local::*;
pub use observe::*;
pub use up::*;

use std::time::Duration;

use clap::{Parser, Subcommand};

use crate::exit;

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

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Start a host here, with a NATS server if there is none
    Up(Box<Up>),
    /// Stop what `wash up --detached` started
    Down(Down),
    /// Where lattices are: named sets of the flags that lead to them
    #[command(subcommand, alias = "context", visible_alias = "contexts")]
    Ctx(Ctx),
    /// Empty caches of this machine
    Drain(Drain),
    /// Build the actor in a directory and sign it
    Build(Build),
    /// Sign components, look at their claims
    #[command(subcommand)]
    Claims(Claims),
    /// Make and list keys
    #[command(subcommand)]
    Keys(Keys),
    /// Show what an artifact is, what it needs, and whether its claims hold
    Inspect(Inspect),
    /// Print the WIT of an artifact, or encode a directory of WIT
    Wit(Wit),
    /// Put an artifact into a registry, or into the lattice's own store
    Push(Push),
    /// Fetch an artifact from a registry, or from the lattice's own store
    Pull(Pull),
    /// Archives of providers
    #[command(subcommand)]
    Par(Par),
    /// Start an actor or a provider on a host
    #[command(subcommand)]
    Start(Start),
    /// Change how many invocations of an actor run at once
    #[command(subcommand)]
    Scale(Scale),
    /// Replace what runs by another version
    #[command(subcommand)]
    Update(Update),
    /// Stop an actor, a provider or a host
    #[command(subcommand)]
    Stop(Stop),
    /// Say who may call whom
    #[command(subcommand)]
    Link(Link),
    /// Named configurations
    #[command(subcommand)]
    Config(Config),
    /// Put labels on a host, or take them off
    Label(Label),
    /// Ask what there is
    #[command(subcommand)]
    Get(Get),
    /// Call an actor
    Call(Call),
    /// Show how much a lattice has to do, live
    Top(Top),
    /// Show the invocations of an actor or provider as they happen
    Spy(Spy),
    /// Show what an actor writes
    Logs(Logs),
    /// Look for what would keep an actor from running, and say how to mend it
    Doctor(Doctor),
    /// Say what of a wasmCloud 1.x lattice carries over, and carry it over
    Import(Import),
    /// Print what completes command lines in a shell
    #[command(alias = "completion")]
    Completions(Completions),
    /// Print manual pages
    Man(Man),
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write it KEY=VALUE".to_owned()),
    }
}

/// A time as people write it: `500ms`, `2s`, `5m`, `1h`, or a number of milliseconds.
fn interval(text: &str) -> Result<Duration, String> {
    let digits = text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
    let (number, unit) = text.split_at(digits);
    let millis = match unit {
        "" | "ms" => 1,
        "s" => 1_000,
        "m" | "min" => 60_000,
        "h" => 3_600_000,
        _ => return Err("write it as `500ms`, `2s`, `5m` or `1h`".to_owned()),
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|number| number.checked_mul(millis))
        .filter(|millis| (INTERVAL_MS_MIN..=INTERVAL_MS_MAX).contains(millis))
        .map(Duration::from_millis)
        .ok_or_else(|| "give a time from 100 milliseconds to a day".to_owned())
}

/// Shortest and longest pause between two looks.
const INTERVAL_MS_MIN: u64 = 100;
const INTERVAL_MS_MAX: u64 = 86_400_000;

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
    fn an_interval_has_a_unit_or_is_in_milliseconds() {
        let read = |text| interval(text).map(|time| time.as_millis());
        assert_eq!(read("5000"), Ok(5_000));
        assert_eq!(read("250ms"), Ok(250));
        assert_eq!(read("2m"), Ok(120_000));
        assert_eq!(read("24h"), Ok(86_400_000));
        for wrong in ["", "ms", "99", "25h", "1d", "-1s", "18446744073709551616"] {
            assert!(interval(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_value_may_hold_equals_signs_and_a_key_may_not_be_empty() {
        assert_eq!(key_value("a=b=c"), Ok(("a".into(), "b=c".into())));
        assert_eq!(key_value("a="), Ok(("a".into(), String::new())));
        assert!(key_value("=b").is_err());
        assert!(key_value("ab").is_err());
    }
}
