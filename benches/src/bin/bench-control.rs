//! An operator who starts and stops actors over one connection, so that what is measured is the host's time and one round
//! trip, not the start of a process for each command.
//!
//! A start is measured from the command to the event that says it is done. Prints one line of JSON.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use async_nats::{Client, Subscriber};
use clap::{Parser, Subcommand};
use futures::StreamExt as _;
use trellis_bench::histogram::Histogram;
use trellis_protocol::control::{self, Ack, ScaleComponent};
use trellis_protocol::event::{Event, EventData};
use trellis_protocol::subject::Subjects;
use trellis_protocol::{EntityId, LatticeName};

/// Longest wait for the outcome of one command.
const OUTCOME_WITHIN: Duration = Duration::from_secs(60);

/// How cached machine code is told from the cache's key.
const KEY_FILE: &str = "key";

/// Starts actors and measures how long that takes.
#[derive(Debug, Parser)]
struct Arguments {
    /// The lattice's server.
    #[arg(long)]
    url: String,
    /// The lattice.
    #[arg(long)]
    lattice: String,
    /// Public key of the host.
    #[arg(long)]
    host: String,
    /// The component, as a reference.
    #[arg(long)]
    reference: String,
    #[command(subcommand)]
    work: Work,
}

#[derive(Debug, Subcommand)]
enum Work {
    /// Starts one actor and stops it, again and again.
    Restart {
        /// How often.
        #[arg(long)]
        times: u32,
        /// The host's cache of compiled components, emptied before each start.
        #[arg(long)]
        forget: Option<PathBuf>,
    },
    /// Starts many actors and leaves them running.
    Fill {
        /// Number of the first.
        #[arg(long)]
        from: u32,
        /// Number of the last.
        #[arg(long)]
        to: u32,
    },
}

/// A connection, and what has been heard on it.
struct Operator {
    nats: Client,
    subjects: Subjects,
    events: Subscriber,
    host: String,
    reference: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let arguments = Arguments::parse();
    let nats = async_nats::connect(&arguments.url).await?;
    let subjects = Subjects::new(LatticeName::new(&arguments.lattice)?);
    let events = nats.subscribe(subjects.events()).await?;
    nats.flush().await?;
    let mut operator = Operator {
        nats,
        subjects,
        events,
        host: arguments.host,
        reference: arguments.reference,
    };
    let mut latencies = Histogram::default();
    match arguments.work {
        Work::Restart { times, forget } => {
            for _ in 0..times {
                if let Some(cache) = &forget {
                    empty(cache)?;
                }
                latencies.add(operator.scale("restarted", 1).await?);
                operator.scale("restarted", 0).await?;
            }
        }
        Work::Fill { from, to } => {
            for number in from..=to {
                latencies.add(operator.scale(&format!("filler-{number}"), 1).await?);
            }
        }
    }
    #[expect(clippy::print_stdout, reason = "the line is the program's output")]
    {
        println!("{}", latencies.to_json());
    }
    Ok(())
}

impl Operator {
    /// Gives an actor so many permits, and gives back the nanoseconds until the host says that it has them.
    async fn scale(&mut self, id: &str, count: u32) -> Result<u64> {
        let command = ScaleComponent {
            component_ref: self.reference.clone(),
            component_id: EntityId::new(id)?,
            count,
            annotations: None,
            host_id: self.host.clone(),
            config: Vec::new(),
            allow_update: false,
            component_limits: None,
        };
        let subject = self.subjects.control_with("component", "scale", &self.host);
        let body = control::to_bytes(&command)?;
        let begin = Instant::now();
        let done = async {
            let answer = self.nats.request(subject, body.into()).await?;
            let ack: Ack = control::parse_reply(&answer.payload)?;
            if !ack.success {
                bail!("the host refused: {}", ack.message);
            }
            self.outcome(id, count).await?;
            Ok(u64::try_from(begin.elapsed().as_nanos())?)
        };
        tokio::time::timeout(OUTCOME_WITHIN, done)
            .await
            .with_context(|| format!("`{id}` did not come to {count} permits in time"))?
    }

    async fn outcome(&mut self, id: &str, count: u32) -> Result<()> {
        while let Some(message) = self.events.next().await {
            let Ok(event) = Event::parse(&message.payload) else {
                continue;
            };
            match event.typed() {
                Ok(Some(EventData::ComponentScaled(scaled)))
                    if scaled.component_id == id && scaled.max_instances == count =>
                {
                    return Ok(());
                }
                Ok(Some(EventData::ComponentScaleFailed(failed))) if failed.component_id == id => {
                    bail!("`{id}` was not scaled: {}", failed.error);
                }
                _ => {}
            }
        }
        bail!("the connection has ended")
    }
}

/// Removes what was compiled, and leaves the key.
fn empty(cache: &Path) -> Result<()> {
    let entries = fs::read_dir(cache).with_context(|| format!("{}", cache.display()))?;
    for entry in entries {
        let entry = entry?;
        if entry.file_name() != KEY_FILE && entry.file_type()?.is_file() {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
