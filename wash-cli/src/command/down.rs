//! `wash down`: stop what `wash up --detached` started in a state directory.
//!
//! The host is asked by its control subject, as any other host would be; where it does not answer, its process is
//! signalled. A process id is believed only while the directory's lock is held and the process is as old as recorded. Where
//! several hosts share the NATS server, it ends with the last of them.

mod purge;

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use trellis_nats_server::Stopped;

use crate::cli::{Down, PurgeJetstream};
use crate::command::stop::stop_host;
use crate::confirm::{Unattended, confirm};
use crate::connection::Lattice;
use crate::environment::Environment;
use crate::exit::{Failure, FailureKind};
use crate::local_nats;
use crate::output::{self, Report};
use crate::placement::Host;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::state_dir::{Record, StateDir, start_ticks};

/// How often a stopping host is looked at.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How long a host may take to end once it has announced its end, or was signalled: somewhat more than the 30 s that a
/// host has for what runs on it, so that a host which is still finishing requests is not killed.
const END_WITHIN: Duration = Duration::from_secs(40);

/// How long a host that is still starting may take to say who it is.
const RECORD_WITHIN: Duration = Duration::from_secs(5);

/// What became of the host and of the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    Stopped,
    Killed,
    NotRunning,
    /// The server was there before the host, and stays.
    NotOurs,
    /// Other hosts use the server, and it stays.
    InUse,
}

impl End {
    const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::NotRunning => "not-running",
            Self::NotOurs => "not-ours",
            Self::InUse => "in-use",
        }
    }

    const fn for_people(self) -> &'static str {
        match self {
            Self::NotRunning => "not running",
            Self::NotOurs => "not ours, left as it is",
            Self::InUse => "used by other hosts, left as it is",
            Self::Stopped | Self::Killed => self.word(),
        }
    }
}

/// A host that runs here.
struct Running {
    state_dir: StateDir,
    record: Record,
}

pub(super) fn run(
    args: &Down,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let root = StateDir::resolve(args.state_dir.as_deref(), environment)?;
    let (chosen, others) = choose(args, running(&root)?)?;
    let purged_at = (args.purge_jetstream != PurgeJetstream::None)
        .then(|| {
            if others > 0 {
                return Err(Failure::refused(
                    "refused to delete what JetStream keeps: other hosts run here and need it; stop them too, with --all",
                ));
            }
            let place = place(args, settings, chosen.first(), &root)?;
            let what = purge::question(args.purge_jetstream, &place);
            confirm(&what, settings.yes, Unattended::Refuse)?;
            Ok(place)
        })
        .transpose()?;
    let mut ends = Vec::with_capacity(chosen.len());
    for host in &chosen {
        ends.push(stop_the_host(&host.state_dir, &host.record, settings)?);
    }
    let purged = match &purged_at {
        Some(place) => Some(super::ask(purge::purge(args.purge_jetstream, place))?),
        None => None,
    };
    let nats = if others > 0 {
        End::InUse
    } else {
        match stop_the_server(&root)? {
            End::NotRunning if chosen.iter().any(|host| host.record.nats_joined) => End::NotOurs,
            end => end,
        }
    };
    Ok(report(&root, &chosen, &ends, nats, purged.as_deref()))
}

fn report(
    root: &StateDir,
    chosen: &[Running],
    ends: &[End],
    nats: End,
    purged: Option<&[String]>,
) -> Report {
    let mut text = match (ends, nats) {
        ([], End::NotRunning) => format!("nothing runs in {}\n", root.path().display()),
        ([], nats) => format!(
            "host: {}\nnats-server: {}\n",
            End::NotRunning.for_people(),
            nats.for_people()
        ),
        ([one], nats) => format!(
            "host: {}\nnats-server: {}\n",
            one.for_people(),
            nats.for_people()
        ),
        (several, nats) => {
            let mut text = String::new();
            for (host, end) in chosen.iter().zip(several) {
                text.push_str(&format!(
                    "host {}: {}\n",
                    host.record.host_id,
                    end.for_people()
                ));
            }
            text.push_str(&format!("nats-server: {}\n", nats.for_people()));
            text
        }
    };
    match purged {
        Some([]) => text.push_str("jetstream: there was nothing to delete\n"),
        Some(purged) => text.push_str(&format!("jetstream: deleted {}\n", purged.join(", "))),
        None => {}
    }
    let hosts: Vec<_> = chosen
        .iter()
        .zip(ends)
        .map(|(host, end)| {
            serde_json::json!({
                "host_id": host.record.host_id,
                "state_dir": host.state_dir.path(),
                "end": end.word(),
            })
        })
        .collect();
    let first = ends.first().copied().unwrap_or(End::NotRunning);
    Report::new(text)
        .with("state_dir", root.path())
        .with("host", first.word())
        .with("hosts", hosts)
        .with("nats", nats.word())
        .with_some("purged", purged)
}

/// The hosts that run in a directory and beside it.
fn running(root: &StateDir) -> Result<Vec<Running>, Failure> {
    let mut found = Vec::new();
    for state_dir in root.all()? {
        if let Some(record) = wait_for_record(&state_dir)? {
            found.push(Running { state_dir, record });
        }
    }
    Ok(found)
}

/// Those that are to be stopped, and how many stay.
fn choose(args: &Down, running: Vec<Running>) -> Result<(Vec<Running>, usize), Failure> {
    let all = running.len();
    let listed = |running: &[Running]| {
        let ids: Vec<_> = running
            .iter()
            .map(|host| host.record.host_id.as_str())
            .collect();
        ids.join(", ")
    };
    let chosen = match &args.host_id {
        Some(meant) => {
            let ids = listed(&running);
            let chosen: Vec<_> = running
                .into_iter()
                .filter(|host| is_meant(host, meant))
                .collect();
            match chosen.len() {
                1 => chosen,
                0 if all == 0 => {
                    return Err(Failure::refused(format!(
                        "{meant} does not run here, nor does any other host"
                    )));
                }
                0 => {
                    return Err(Failure::refused(format!(
                        "{meant} does not run here; those that do are {ids}"
                    )));
                }
                _ => {
                    return Err(Failure::refused(format!(
                        "{meant} means several hosts here: {}",
                        listed(&chosen)
                    )));
                }
            }
        }
        None if all > 1 && !args.all => {
            return Err(Failure::refused(format!(
                "several hosts run here: {}; name one with --host-id, or stop all of them with --all",
                listed(&running)
            )));
        }
        None => running,
    };
    let others = all - chosen.len();
    Ok((chosen, others))
}

/// By its id, the beginning of it, or its name, which its directory has.
fn is_meant(host: &Running, meant: &str) -> bool {
    host.record.host_id.starts_with(meant)
        || host.record.friendly_name.as_deref() == Some(meant)
        || (host.state_dir.path().file_name()).is_some_and(|name| name.to_str() == Some(meant))
}

/// Where the host's NATS is, and which lattice is meant.
fn place(
    args: &Down,
    settings: &Settings,
    host: Option<&Running>,
    root: &StateDir,
) -> Result<Settings, Failure> {
    let left = local_nats::find_left(root)?;
    // Whoever names a directory means what runs there, not what the settings happen to lead to.
    let is_guess = host.is_none() && left.is_none() && !settings.urls_named;
    if is_guess && args.state_dir.is_some() {
        return Err(Failure::refused(format!(
            "refused to delete what JetStream keeps: nothing runs in {}, so it does not say which server is meant; name it with --nats-url and --lattice",
            root.path().display()
        )));
    }
    let url = match (host, &left) {
        _ if settings.urls_named => None,
        (Some(host), _) => Some(host.record.nats_url.as_str()),
        (None, Some(left)) => Some(left.url()),
        (None, None) => None,
    };
    let settings = match url {
        Some(url) => settings.at(url)?,
        None => settings.clone(),
    };
    match host {
        Some(host) => {
            let lattice = host
                .record
                .lattice
                .parse()
                .map_err(|error| Failure::local_error(&error))?;
            Ok(settings.in_lattice(lattice))
        }
        None => Ok(settings),
    }
}

fn stop_the_host(
    state_dir: &StateDir,
    record: &Record,
    settings: &Settings,
) -> Result<End, Failure> {
    let progress = Progress::start(format!("stopping host {}", record.host_id));
    match super::ask(ask_to_stop(record, settings)) {
        Ok(()) => {}
        Err(failure) => {
            output::note(&format!(
                "note: {failure}; its process {} is told to end",
                record.pid
            ));
            signal(state_dir, record, Signal::TERM)?;
        }
    }
    let ended = wait_for_end(state_dir, END_WITHIN)?;
    drop(progress);
    if ended {
        return Ok(End::Stopped);
    }
    signal(state_dir, record, Signal::KILL)?;
    if wait_for_end(state_dir, END_WITHIN)? {
        return Ok(End::Killed);
    }
    Err(Failure::new(
        FailureKind::TimedOut,
        format!(
            "the host's process {} does not end, though it was killed; see {}",
            record.pid,
            state_dir.log_path().display()
        ),
    ))
}

async fn ask_to_stop(record: &Record, settings: &Settings) -> Result<(), Failure> {
    // Credentials and a password come with this command; where the host is comes from its record.
    let settings = if settings.urls_named {
        settings.clone()
    } else {
        settings.at(&record.nats_url)?
    };
    let lattice = record
        .lattice
        .parse()
        .map_err(|error| Failure::local_error(&error))?;
    let lattice = Lattice::connect(&settings.in_lattice(lattice)).await?;
    let host = Host {
        id: record.host_id.clone(),
        name: None,
    };
    stop_host(&lattice, &host, None, false).await
}

/// The record of the host that runs here; one that is starting has not written it yet.
fn wait_for_record(state_dir: &StateDir) -> Result<Option<Record>, Failure> {
    let deadline = Instant::now() + RECORD_WITHIN;
    loop {
        if let Some(record) = state_dir.running()? {
            return Ok(Some(record));
        }
        if !state_dir.in_use()? {
            return Ok(None);
        }
        if Instant::now() >= deadline {
            return Err(Failure::local(format!(
                "a host is starting in {} and has not said who it is; try again, or see {}",
                state_dir.path().display(),
                state_dir.log_path().display()
            )));
        }
        thread::sleep(POLL_EVERY);
    }
}

fn wait_for_end(state_dir: &StateDir, within: Duration) -> Result<bool, Failure> {
    let deadline = Instant::now() + within;
    while state_dir.in_use()? {
        if Instant::now() >= deadline {
            return Ok(false);
        }
        thread::sleep(POLL_EVERY);
    }
    Ok(true)
}

/// Signals the host's process, if it still is the one of the record.
fn signal(state_dir: &StateDir, record: &Record, signal: Signal) -> Result<(), Failure> {
    let is_ours = state_dir.in_use()? && start_ticks(record.pid) == record.start_ticks;
    let pid = i32::try_from(record.pid).ok().and_then(Pid::from_raw);
    let (true, Some(pid)) = (is_ours, pid) else {
        return Ok(());
    };
    match kill_process(pid, signal) {
        Ok(()) | Err(rustix::io::Errno::SRCH) => Ok(()),
        Err(error) => Err(Failure::local(format!(
            "cannot signal the host's process {}: {error}",
            record.pid
        ))),
    }
}

fn stop_the_server(state_dir: &StateDir) -> Result<End, Failure> {
    let Some(server) = local_nats::find_left(state_dir)? else {
        return Ok(End::NotRunning);
    };
    match server.stop(local_nats::STOP_WITHIN) {
        Ok(Stopped::InTime) => Ok(End::Stopped),
        Ok(Stopped::Killed) => Ok(End::Killed),
        Err(error) => Err(Failure::local_error(&error)),
    }
}
