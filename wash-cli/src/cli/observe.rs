//! Commands that look at a lattice at work: how much, how fast, and what exactly.

use std::time::Duration;

use clap::{Args, ValueEnum};
use trellis_protocol::EntityId;
use trellis_protocol::control::observe::{Direction, RECENT_LINES_MAX};

use super::interval;

/// How `wash spy` and `wash logs` are allowed what they show.
const SPY_GRANT: &str = "What is shown are the calls of others, so it needs a link:\n  wash link put wash <ID> trellis observe --interface spy";
const LOGS_GRANT: &str = "What is shown are the words of an actor, so it needs a link:\n  wash link put wash <COMPONENT-ID> trellis observe --interface logs";

/// `wash top`.
#[derive(Debug, Args)]
#[command(
    after_help = "Keys: q ends, arrows move the row and the column that is sorted by, r turns the order around, Tab changes the table, space halts."
)]
pub struct Top {
    /// Time between two samples, and over which rates are counted
    #[arg(long, short = 'i', value_name = "INTERVAL", default_value = "1s", value_parser = interval)]
    pub interval: Duration,
    /// Print one sample and end, as without a terminal or with `--output json`
    #[arg(long)]
    pub once: bool,
    /// What to sort by
    #[arg(long, value_enum, default_value = "rate", value_name = "COLUMN")]
    pub sort: SortBy,
}

/// A column of `wash top` to sort by.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, ValueEnum)]
pub enum SortBy {
    /// The name
    Name,
    /// Calls per second
    #[default]
    Rate,
    /// The median time to an answer
    P50,
    /// The time within which 99 of 100 calls are answered
    P99,
    /// Refused calls per second
    Refusals,
    /// Calls that run
    Running,
    /// Memory
    Memory,
}

/// `wash spy`.
#[derive(Debug, Args)]
#[command(after_help = SPY_GRANT)]
pub struct Spy {
    /// The actor or provider
    #[arg(value_name = "ID")]
    pub id: EntityId,
    /// Host, by its id or friendly name [default: every one that runs it]
    #[arg(long, value_name = "HOST")]
    pub host_id: Option<String>,
    /// Only calls that it gets, or only those that it makes
    #[arg(long, value_enum, value_name = "WAY")]
    pub direction: Option<Way>,
    /// Leave out arguments and results
    #[arg(long)]
    pub heads_only: bool,
    /// End after so many calls
    #[arg(long, short = 'n', value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// End after so long [default: when it is interrupted]
    #[arg(long = "for", value_name = "TIME", value_parser = interval)]
    pub within: Option<Duration>,
}

/// Which way a call went, seen from the one who is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Way {
    /// Somebody calls it
    In,
    /// It calls somebody
    Out,
}

impl From<Way> for Direction {
    fn from(way: Way) -> Self {
        match way {
            Way::In => Self::In,
            Way::Out => Self::Out,
        }
    }
}

/// `wash logs`.
#[derive(Debug, Args)]
#[command(after_help = LOGS_GRANT)]
pub struct Logs {
    /// The actor
    #[arg(value_name = "COMPONENT-ID")]
    pub id: EntityId,
    /// Go on with what it writes from now on
    #[arg(long, short = 'f')]
    pub follow: bool,
    /// How many of the last lines to begin with [default: all that hosts keep]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(0..=i64::from(RECENT_LINES_MAX)))]
    pub tail: Option<u32>,
    /// Host, by its id or friendly name [default: every one that runs it]
    #[arg(long, value_name = "HOST")]
    pub host_id: Option<String>,
    /// With --follow: end after so long [default: when it is interrupted]
    #[arg(long = "for", value_name = "TIME", requires = "follow", value_parser = interval)]
    pub within: Option<Duration>,
}
