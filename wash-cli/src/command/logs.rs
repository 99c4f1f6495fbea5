//! `wash logs`: what an actor writes, from every host that runs it, in the order of time.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::try_join_all;
use tokio::time::Instant;
use trellis_lattice::client::{ClientError, ControlClient, Series};
use trellis_protocol::EntityId;
use trellis_protocol::control::HostInventory;
use trellis_protocol::control::observe::{LogRecord, LogStream, ReadLogs, WITHIN_MAX, Watched};

use super::following::{
    self, Following, News, Reader, Watch, at, json_line, short, show, time_of_day,
};
use crate::cli::Logs;
use crate::connection::Lattice;
use crate::exit::Failure;
use crate::output::{self, Format, Report, printable};
use crate::placement::Host;
use crate::progress::Progress;
use crate::settings::Settings;

/// How long a line waits for older ones of other hosts.
const SETTLE: Duration = Duration::from_millis(250);

/// Lines that wait for older ones, at most.
const SETTLING_MAX: usize = 4096;

/// What is asked of each host.
#[derive(Clone)]
struct Lines {
    id: EntityId,
}

impl Watch for Lines {
    type Record = LogRecord;
    type Mark = u64;

    fn mark(record: &LogRecord) -> u64 {
        record.sequence
    }

    fn attempt(&self) -> String {
        format!("cannot read the log of {}", self.id)
    }

    fn runs(&self, inventory: &HostInventory) -> bool {
        let mut actors = inventory.components.iter();
        actors.any(|actor| actor.id == self.id.as_str())
    }

    async fn ask(
        &self,
        client: &ControlClient,
        host: &str,
        last: Option<&u64>,
    ) -> Result<Series<LogRecord>, ClientError> {
        let request = ReadLogs {
            component_id: self.id.clone(),
            within_ms: u32::try_from(WITHIN_MAX.as_millis()).ok(),
            lines: None,
            after: last.copied(),
        };
        client.logs(host, &request).await
    }
}

pub(super) async fn run(
    args: Logs,
    settings: &Settings,
    format: Format,
) -> Result<Report, Failure> {
    let lattice = Lattice::connect(settings).await?;
    let watch = Lines {
        id: args.id.clone(),
    };
    let progress = Progress::start(format!("reading the log of {}", args.id));
    let hosts = following::hosts(&lattice, &args.id, args.host_id.as_deref(), &watch).await?;
    let kept = try_join_all(hosts.iter().map(|host| kept(&lattice, &args, host))).await?;
    drop(progress);
    let mut read = Read::default();
    let names: HashMap<_, _> = hosts
        .iter()
        .map(|host| (host.id.clone(), short(host)))
        .collect();
    let mut lines: Vec<LogRecord> = kept.into_iter().flatten().collect();
    lines.sort_by(in_time);
    lines.retain(|line| read.is_new(line));
    let skipped = match args.tail {
        Some(tail) => lines.len().saturating_sub(tail as usize),
        None => 0,
    };
    let lines = lines.split_off(skipped);
    if !args.follow {
        let text: String = lines.iter().map(|line| describe(line, &names)).collect();
        let report = Report::new(text);
        let report = match lines.as_slice() {
            [] => report.aside(format!("note: {} has written nothing", args.id)),
            _ => report,
        };
        return Ok(report.with("lines", lines));
    }
    if write_all(&lines, &names, format)? == Reader::Gone {
        return Ok(Report::silent());
    }
    let begin = hosts
        .into_iter()
        .map(|host| {
            let last = read.last.get(&host.id).map(|(_, sequence)| *sequence);
            (host, last)
        })
        .collect();
    let following = Following::start(lattice, watch, begin, args.host_id.is_some());
    follow(&args, following, read, names, format).await?;
    Ok(Report::silent())
}

/// The lines that a host keeps.
async fn kept(lattice: &Lattice, args: &Logs, host: &Host) -> Result<Vec<LogRecord>, Failure> {
    let request = ReadLogs {
        component_id: args.id.clone(),
        within_ms: None,
        lines: args.tail,
        after: None,
    };
    let failed = |error: &ClientError| {
        let attempt = format!("cannot read the log of {} on host {host}", args.id);
        lattice.failure(&attempt, error)
    };
    let mut series = lattice
        .client()
        .logs(&host.id, &request)
        .await
        .map_err(|error| failed(&error))?;
    let mut lines = Vec::new();
    while let Some(answer) = series.next().await {
        match answer {
            Ok(Watched::Record(line)) => lines.push(line),
            Ok(Watched::End(_)) => break,
            Err(ClientError::Body(_)) => {}
            Err(error) => return Err(failed(&error)),
        }
    }
    Ok(lines)
}

/// Shows lines as they come, each after a moment in which older ones of other hosts may arrive.
async fn follow(
    args: &Logs,
    mut following: Following<LogRecord>,
    mut read: Read,
    mut names: HashMap<String, String>,
    format: Format,
) -> Result<(), Failure> {
    let until = args.within.map(|within| Instant::now() + within);
    let mut settling: Vec<(Instant, LogRecord)> = Vec::new();
    let mut outcome = Ok(());
    loop {
        let due = settling.iter().map(|(at, _)| *at).min();
        let news = tokio::select! {
            news = following.next() => news,
            () = at(due) => {
                let lines = take_due(&mut settling, Instant::now());
                if write_all(&lines, &names, format)? == Reader::Gone {
                    return Ok(());
                }
                continue;
            }
            () = at(until) => break,
            _ = tokio::signal::ctrl_c() => break,
        };
        match news {
            Ok(Some(News::Record(line))) => {
                if line.dropped > 0 {
                    output::note(&missed(line.dropped));
                }
                if read.is_new(&line) {
                    settling.push((Instant::now() + SETTLE, line));
                }
                if settling.len() >= SETTLING_MAX {
                    let lines = take_due(&mut settling, Instant::now() + SETTLE);
                    if write_all(&lines, &names, format)? == Reader::Gone {
                        return Ok(());
                    }
                }
            }
            Ok(Some(News::Dropped(count))) => output::note(&missed(count)),
            Ok(Some(News::Found(host))) => {
                if names.insert(host.id.clone(), short(&host)).is_none() {
                    output::note(&format!("note: {} runs on host {host} as well", args.id));
                }
            }
            Ok(Some(News::Lost(host, why))) => output::note(&format!(
                "note: host {host} is not read any longer: {}",
                printable(&why)
            )),
            Ok(Some(News::Refused(refusal))) => {
                output::note(&format!(
                    "note: {}",
                    output::printable_lines(refusal.message())
                ));
            }
            Ok(None) => break,
            Err(failure) => {
                outcome = Err(failure);
                break;
            }
        }
    }
    let lines = take_due(&mut settling, Instant::now() + SETTLE);
    write_all(&lines, &names, format)?;
    outcome
}

/// Takes the lines whose moment is over, and those that are older, in the order of time.
fn take_due(settling: &mut Vec<(Instant, LogRecord)>, now: Instant) -> Vec<LogRecord> {
    settling.sort_by(|(_, one), (_, other)| in_time(one, other));
    let last = settling.iter().rposition(|(at, _)| *at <= now);
    let due = settling.drain(..last.map_or(0, |last| last + 1));
    due.map(|(_, line)| line).collect()
}

/// How far each host's log was read, so that no line is shown twice: a host that comes back tells what it keeps again.
#[derive(Default)]
struct Read {
    last: HashMap<String, (String, u64)>,
}

impl Read {
    /// Whether a line was not read before. A host that was started again counts from the beginning, but later.
    fn is_new(&mut self, line: &LogRecord) -> bool {
        let mark = (line.time.clone(), line.sequence);
        match self.last.get_mut(&line.host) {
            Some(last) if mark <= *last => false,
            Some(last) => {
                *last = mark;
                true
            }
            None => {
                self.last.insert(line.host.clone(), mark);
                true
            }
        }
    }
}

/// Times are in one form (RFC 3339, UTC, as many digits), so their order is that of their text.
fn in_time(one: &LogRecord, other: &LogRecord) -> std::cmp::Ordering {
    (&one.time, &one.host, one.sequence).cmp(&(&other.time, &other.host, other.sequence))
}

fn write_all(
    lines: &[LogRecord],
    names: &HashMap<String, String>,
    format: Format,
) -> Result<Reader, Failure> {
    let text: String = lines
        .iter()
        .map(|line| match format {
            Format::Table => describe(line, names),
            Format::Json => json_line(line),
        })
        .collect();
    show(&text)
}

/// A line; where it was written only if there are several places.
fn describe(line: &LogRecord, names: &HashMap<String, String>) -> String {
    let host = match (names.len(), names.get(&line.host)) {
        (0 | 1, _) => String::new(),
        (_, Some(name)) => format!(" {name}"),
        (_, None) => format!(" {}", printable(line.host.get(..8).unwrap_or(&line.host))),
    };
    let stream = match line.stream {
        LogStream::Stdout => "stdout",
        LogStream::Stderr => "stderr",
        LogStream::Log => "log",
        LogStream::Host => "host",
    };
    let context = line
        .context
        .as_ref()
        .map_or_else(String::new, |context| format!("[{}] ", printable(context)));
    format!(
        "{}{host} {:<5} {stream:<6} {context}{}\n",
        time_of_day(&line.time),
        printable(&line.level).to_uppercase(),
        printable(&line.message)
    )
}

fn missed(count: u64) -> String {
    format!("note: {count} lines more than could be read")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(host: &str, second: u32, sequence: u64) -> LogRecord {
        LogRecord {
            time: format!("2026-11-22T14:00:{second:02}.000Z"),
            sequence,
            level: "info".to_owned(),
            actor: "hello".to_owned(),
            host: host.to_owned(),
            invocation_id: None,
            trace_id: None,
            stream: LogStream::Log,
            context: Some("orders".to_owned()),
            message: "sold\u{1b}[2J".to_owned(),
            dropped: 0,
        }
    }

    #[test]
    fn a_line_says_where_it_was_written_if_there_are_several_places() {
        let one = HashMap::from([("NA".to_owned(), "fern".to_owned())]);
        assert_eq!(
            describe(&line("NA", 1, 1), &one),
            "14:00:01.000 INFO  log    [orders] sold\\u{1b}[2J\n"
        );
        let mut two = one;
        two.insert("NB".to_owned(), "moss".to_owned());
        assert!(describe(&line("NB", 1, 1), &two).starts_with("14:00:01.000 moss INFO"));
    }

    #[test]
    fn no_line_is_read_twice_and_a_host_that_was_started_again_is_read_from_its_first_line() {
        let mut read = Read::default();
        assert!(read.is_new(&line("NA", 1, 7)));
        assert!(read.is_new(&line("NA", 1, 8)));
        assert!(!read.is_new(&line("NA", 1, 8)));
        assert!(read.is_new(&line("NB", 1, 1)));
        assert!(read.is_new(&line("NA", 2, 1)));
    }

    #[tokio::test]
    async fn lines_wait_for_older_ones_of_other_hosts() {
        let now = Instant::now();
        let mut settling = vec![
            (now + SETTLE, line("NA", 3, 2)),
            (now, line("NA", 2, 1)),
            (now + SETTLE, line("NB", 1, 1)),
        ];
        let due = take_due(&mut settling, now);
        let hosts: Vec<_> = due.iter().map(|line| line.host.as_str()).collect();
        assert_eq!(hosts, ["NB", "NA"]);
        assert_eq!(settling.len(), 1);
        assert_eq!(settling[0].1.sequence, 2);
    }
}
