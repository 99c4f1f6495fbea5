//! `wash up --detached`: this program runs itself again, in a session of its own, and waits until the host answers.
//!
//! What the daemon has to know goes over its standard input: the command line as it was, the directory that was chosen for
//! it, and where NATS is. A password among them is in no process's arguments then, and the file of the log has none.

use std::env;
use std::ffi::{OsStr, OsString};
use std::io::{self, IsTerminal as _, Read as _, Write as _};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use trellis_protocol::control::HostInventory;

use super::ready;
use crate::cli::Up;
use crate::connection::Lattice;
use crate::environment::Environment;
use crate::exit::{Failure, FailureKind};
use crate::local_nats::{self, Lifetime};
use crate::output::{self, Report};
use crate::progress::Progress;
use crate::settings::Settings;
use crate::state_dir::StateDir;

/// The word by which this program knows that it is the daemon. Alone, with nothing behind it.
const DAEMON: [&str; 2] = ["up", "--daemon"];

/// Largest order that is read, in bytes: far more than a command line can hold.
const ORDER_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// How often a starting host is looked at.
const POLL_EVERY: Duration = Duration::from_millis(50);

/// How long one question to a starting host may take.
const ASK_WITHIN: Duration = Duration::from_millis(500);

/// What the daemon is told.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Order {
    /// The host's directory.
    pub state_dir: PathBuf,
    /// The directory of the NATS server.
    pub nats_dir: PathBuf,
    /// Where NATS is. It may hold a password.
    pub nats_url: String,
    /// The command line, without the program's name.
    pub arguments: Vec<OsString>,
}

impl std::fmt::Debug for Order {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Order")
            .field("state_dir", &self.state_dir)
            .finish_non_exhaustive()
    }
}

/// The order, where this process is the daemon of another one.
///
/// # Errors
/// A usage failure where somebody typed what only this program says to itself.
pub fn order(args: &[OsString]) -> Result<Option<Order>, Failure> {
    if !args.iter().skip(1).eq(DAEMON.iter()) {
        return Ok(None);
    }
    let not_for_people =
        || Failure::usage("--daemon is for `wash up --detached`, which runs itself again with it");
    if io::stdin().is_terminal() {
        return Err(not_for_people());
    }
    let mut text = Vec::new();
    io::stdin()
        .lock()
        .take(ORDER_BYTES_MAX)
        .read_to_end(&mut text)
        .map_err(|error| {
            Failure::local(format!("cannot read what the daemon is to do: {error}"))
        })?;
    Order::parse(&text).map(Some).ok_or_else(not_for_people)
}

impl Order {
    /// Parts with zeros between, which neither arguments nor paths nor URLs can hold.
    fn to_bytes(&self) -> Vec<u8> {
        let mut parts = vec![
            self.state_dir.as_os_str().as_bytes(),
            self.nats_dir.as_os_str().as_bytes(),
            self.nats_url.as_bytes(),
        ];
        parts.extend(self.arguments.iter().map(|argument| argument.as_bytes()));
        parts.join(&0)
    }

    fn parse(bytes: &[u8]) -> Option<Self> {
        let mut parts = bytes.split(|byte| *byte == 0);
        Some(Self {
            state_dir: PathBuf::from(OsStr::from_bytes(parts.next().filter(|p| !p.is_empty())?)),
            nats_dir: PathBuf::from(OsStr::from_bytes(parts.next()?)),
            nats_url: String::from_utf8(parts.next()?.to_vec()).ok()?,
            arguments: parts
                .map(|part| OsString::from_vec(part.to_vec()))
                .collect(),
        })
    }
}

/// Starts a server and a host that stay, and returns when the host answers. Nothing stays if it does not.
pub(super) fn detach(
    args: &Up,
    settings: &Settings,
    state_dir: &StateDir,
    environment: &Environment,
) -> Result<Report, Failure> {
    state_dir.make()?;
    let (nats, settings) = local_nats::ensure(settings, state_dir, &args.nats, Lifetime::Detached)?;
    let checked = super::check_server(args, &nats, &settings);
    match checked.and_then(|()| start(args, &settings, state_dir, environment)) {
        Ok(report) => Ok(report),
        Err(failure) => {
            if let Err(also) = nats.stop() {
                output::note(&format!("note: {also}"));
            }
            Err(failure)
        }
    }
}

fn start(
    args: &Up,
    settings: &Settings,
    state_dir: &StateDir,
    environment: &Environment,
) -> Result<Report, Failure> {
    let order = Order {
        state_dir: state_dir.path().to_path_buf(),
        nats_dir: state_dir.nats_dir(),
        nats_url: settings.url_text().to_owned(),
        arguments: environment.arguments().to_vec(),
    };
    let mut child = spawn(&order, state_dir)?;
    let progress = Progress::start("waiting for the host");
    let waited = wait_for_it(&mut child, args, settings, state_dir);
    drop(progress);
    waited.inspect_err(|_| {
        // It may have ended by itself, and then there is nothing left to do.
        let _ = child.kill();
        let _ = child.wait();
    })
}

fn spawn(order: &Order, state_dir: &StateDir) -> Result<Child, Failure> {
    let cannot =
        |error: io::Error| Failure::local(format!("cannot run wash again as a daemon: {error}"));
    let log = state_dir.create_log()?;
    let mut child = Command::new(env::current_exe().map_err(cannot)?)
        .args(DAEMON)
        .stdin(Stdio::piped())
        .stdout(log.try_clone().map_err(cannot)?)
        .stderr(log)
        .spawn()
        .map_err(cannot)?;
    // It reads all of it first thing. Dropped, the pipe is at its end.
    let mut stdin = child.stdin.take().ok_or_else(|| {
        Failure::local("cannot run wash again as a daemon: it has no standard input")
    })?;
    stdin.write_all(&order.to_bytes()).map_err(cannot)?;
    Ok(child)
}

fn wait_for_it(
    child: &mut Child,
    args: &Up,
    settings: &Settings,
    state_dir: &StateDir,
) -> Result<Report, Failure> {
    let deadline = Instant::now() + settings.outcome_timeout();
    let record = loop {
        if let Some(status) = child
            .try_wait()
            .map_err(|error| Failure::local(format!("cannot wait for the host: {error}")))?
        {
            return Err(ended(status, state_dir));
        }
        match state_dir.running()? {
            Some(record) if record.pid == child.id() => break record,
            _ if Instant::now() >= deadline => return Err(not_ready(settings, state_dir)),
            _ => thread::sleep(POLL_EVERY),
        }
    };
    let inventory = crate::command::ask(async {
        let answering = wait_until_it_answers(settings, &record.host_id);
        tokio::pin!(answering);
        loop {
            tokio::select! {
                inventory = &mut answering => return Ok(inventory),
                () = tokio::time::sleep(POLL_EVERY) => {}
            }
            if let Ok(Some(status)) = child.try_wait() {
                return Err(ended(status, state_dir));
            }
            if Instant::now() >= deadline {
                return Err(not_ready(settings, state_dir));
            }
        }
    })?;
    let log = state_dir.log_path();
    let mut down = args
        .state_dir
        .as_ref()
        .map_or_else(String::new, |dir| format!(" --state-dir {}", dir.display()));
    if args.multi_local {
        down.push_str(&format!(" --host-id {}", inventory.host_id));
    }
    Ok(
        ready(&inventory.friendly_name, &record, settings, state_dir)
            .aside(format!(
                "note: it logs to {}; `wash down{down}` stops it",
                log.display()
            ))
            .with("log", &log),
    )
}

/// Asks the host for its inventory until it gives it. Whoever calls this has a deadline.
async fn wait_until_it_answers(settings: &Settings, host_id: &str) -> HostInventory {
    loop {
        if let Ok(lattice) = Lattice::connect(settings).await {
            let client = lattice.client().clone().with_timeout(ASK_WITHIN);
            loop {
                if let Ok(inventory) = client.inventory(host_id).await {
                    return inventory;
                }
                tokio::time::sleep(POLL_EVERY).await;
            }
        }
        tokio::time::sleep(POLL_EVERY).await;
    }
}

fn ended(status: std::process::ExitStatus, state_dir: &StateDir) -> Failure {
    Failure::local(format!(
        "the host ended with {status} before it answered; {}",
        state_dir.log_tail()
    ))
}

fn not_ready(settings: &Settings, state_dir: &StateDir) -> Failure {
    Failure::new(
        FailureKind::TimedOut,
        format!(
            "the host did not answer within {} ms and was stopped; {}",
            settings.outcome_timeout().as_millis(),
            state_dir.log_tail()
        ),
    )
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn an_order_arrives_as_it_was_given() {
        let order = Order {
            state_dir: "/state".into(),
            nats_dir: "/state/nats".into(),
            nats_url: "nats://a:b@c:1".into(),
            arguments: vec![
                "up".into(),
                "-d".into(),
                OsString::from_vec(vec![0xff]),
                "".into(),
            ],
        };
        assert_eq!(Order::parse(&order.to_bytes()).unwrap(), order);
        assert!(!format!("{order:?}").contains("a:b"));
        assert_eq!(Order::parse(b""), None);
    }

    #[test]
    fn only_the_word_alone_is_meant_for_the_daemon() {
        let args = |words: &[&str]| words.iter().map(OsString::from).collect::<Vec<_>>();
        assert_eq!(order(&args(&["wash", "up"])).unwrap(), None);
        let more = args(&["wash", "up", "--daemon", "-d"]);
        assert_eq!(order(&more).unwrap(), None);
    }
}
