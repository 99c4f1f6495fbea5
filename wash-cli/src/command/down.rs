//! `wash down`: stop what `wash up --detached` started in a state directory.
//!
//! The host is asked by its control subject, as any other host would be; where it does not answer, its process is
//! signalled. A process id is believed only while the directory's lock is held and the process is as old as recorded.

use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use trellis_nats_server::Stopped;

use crate::cli::Down;
use crate::command::stop::stop_host;
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
}

impl End {
    const fn word(self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Killed => "killed",
            Self::NotRunning => "not-running",
            Self::NotOurs => "not-ours",
        }
    }

    const fn for_people(self) -> &'static str {
        match self {
            Self::NotRunning => "not running",
            Self::NotOurs => "not ours, left as it is",
            Self::Stopped | Self::Killed => self.word(),
        }
    }
}

pub(super) fn run(
    args: &Down,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let state_dir = StateDir::resolve(args.state_dir.as_deref(), environment)?;
    let record = wait_for_record(&state_dir)?;
    let host = match &record {
        Some(record) => stop_the_host(&state_dir, record, settings)?,
        None => End::NotRunning,
    };
    let nats = match stop_the_server(&state_dir)? {
        End::NotRunning if record.is_some_and(|record| record.nats_joined) => End::NotOurs,
        end => end,
    };
    let text = match (host, nats) {
        (End::NotRunning, End::NotRunning) => {
            format!("nothing runs in {}\n", state_dir.path().display())
        }
        (host, nats) => format!(
            "host: {}\nnats-server: {}\n",
            host.for_people(),
            nats.for_people()
        ),
    };
    Ok(Report::new(text)
        .with("state_dir", state_dir.path())
        .with("host", host.word())
        .with("nats", nats.word()))
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
