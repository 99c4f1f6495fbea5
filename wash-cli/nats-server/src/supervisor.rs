//! A server that never outlives the process that started it.
//!
//! `Drop` covers every ordinary end, but not a SIGKILL of ourselves. The kernel's own answer (a parent-death signal)
//! can't be set without `unsafe`, exists on Linux alone, and follows the starting *thread*. So a small shell stands
//! between us and the server, with a pipe to us as its standard input that nobody ever writes to. When we die, in
//! whatever way, the kernel closes our end, the shell reads end-of-file and ends the server.
//!
//! The shell leads a process group of its own: a Ctrl-C at the terminal does not reach the server before we had the
//! chance to finish what needs it.

use std::fmt;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::launch::Started;
use crate::probe::{kill_group, wait_until};
use crate::store::{Store, StoreLock};

/// What the shell runs; its arguments are the server's command line.
///
/// - The server and the watcher are its two children. The watcher holds the pipe and nothing else of ours: not the
///   store's lock, which must end with the server.
/// - SIGTERM is passed on, and SIGUSR1 as SIGKILL, so that the shell outlives the server and reaps it: the first process
///   of a container often does not do that for orphans. `wait` returns early when a trapped signal comes, hence the
///   loop, which ends when there is no such process to signal any more.
/// - After end-of-file the server has five seconds to end by itself: nobody is left who could be kept waiting, and
///   JetStream closes its files in that time.
const SUPERVISE: &str = r#"
exec 3<&0 </dev/null
"$@" 3<&- &
server=$!
{
    trap '' TERM
    read -r line <&3
    kill -TERM "$server"
    tries=0
    while [ "$tries" -lt 50 ] && kill -0 "$server"; do
        tries=$((tries + 1))
        sleep 0.1 || sleep 1
    done
    kill -KILL "$server"
} >/dev/null 2>&1 &
watcher=$!
exec 3<&-
trap 'kill -TERM "$server"' TERM
trap 'kill -KILL "$server"' USR1
while :; do
    wait "$server"
    status=$?
    kill -0 "$server" 2>/dev/null || break
done
kill -KILL "$watcher" 2>/dev/null
wait "$watcher" 2>/dev/null
exit "$status"
"#;

/// Longest that the shell may take to end after it was told to kill the server.
const KILLED_WITHIN: Duration = Duration::from_secs(2);

/// How a server that was asked to stop came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stopped {
    /// By itself, within the time given.
    InTime,
    /// Killed at the deadline.
    Killed,
}

/// A server could not be stopped.
#[derive(Debug, thiserror::Error)]
#[error("nats-server (process {pid}) can't be stopped")]
pub struct StopError {
    /// The server's process id.
    pub pid: u32,
    /// What went wrong.
    #[source]
    pub source: io::Error,
}

/// A running server that ends with this value, or with this process, whichever is first.
pub struct Running {
    shell: Child,
    url: String,
    server_pid: u32,
    store: Store,
}

impl Running {
    pub(crate) fn new(started: Started) -> Self {
        Self {
            shell: started.child,
            url: started.url,
            server_pid: started.server_pid,
            store: started.store,
        }
    }

    /// The URL for clients, such as `nats://127.0.0.1:40123`.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's own process id (not the supervising shell's), for tests that freeze or kill it.
    pub fn pid(&self) -> u32 {
        self.server_pid
    }

    /// Where it logs.
    pub fn log_path(&self) -> PathBuf {
        self.store.log()
    }

    /// The directory it keeps everything in.
    pub fn store_dir(&self) -> &Path {
        self.store.root()
    }

    /// How the server ended, if it has; a status of 128 and more stands for a signal. Does not block.
    ///
    /// # Errors
    ///
    /// The operating system's, where the process can't be waited for.
    pub fn exited(&mut self) -> io::Result<Option<ExitStatus>> {
        self.shell.try_wait()
    }

    /// Asks the server to end, waits, and kills it when it has not ended `within` the time given. Blocks that long.
    ///
    /// # Errors
    ///
    /// [`StopError`] where the operating system refuses a signal or a wait; the server is killed all the same.
    pub fn stop(mut self, within: Duration) -> Result<Stopped, StopError> {
        let deadline = Instant::now() + within;
        let failed = |pid| move |source| StopError { pid, source };
        let pid = self.server_pid;
        if self.exited().map_err(failed(pid))?.is_some() {
            return Ok(Stopped::InTime);
        }
        // To the shell, which passes it on: it is our child and not yet waited for, so its number can't be another
        // process's by now, which of the server's number only the shell knows.
        signal(&self.shell, Signal::TERM).map_err(failed(pid))?;
        let ended = wait_until(&mut self.shell, deadline).map_err(failed(pid))?;
        // Dropping `self` kills whatever is left.
        Ok(match ended {
            Some(_) => Stopped::InTime,
            None => Stopped::Killed,
        })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        kill(&mut self.shell);
    }
}

impl fmt::Debug for Running {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Running")
            .field("url", &self.url)
            .field("pid", &self.server_pid)
            .field("store", &self.store)
            .finish_non_exhaustive()
    }
}

/// Starts the shell, and the server under it.
pub(crate) fn spawn(
    executable: &Path,
    config: &Path,
    lock: StoreLock,
    log: fs::File,
) -> io::Result<Child> {
    // The shell would only say so in the log; the caller should learn it as an error of starting.
    fs::metadata(executable)?;
    Command::new("sh")
        .args(["-c", SUPERVISE, "nats-supervisor"])
        .arg(executable)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::piped())
        .stdout(lock.into_file())
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// Ends the server at once, and then the shell.
pub(crate) fn kill(shell: &mut Child) {
    if let Ok(None) = shell.try_wait() {
        let asked = signal(shell, Signal::USR1).is_ok();
        let deadline = Instant::now() + KILLED_WITHIN;
        match wait_until(shell, deadline) {
            Ok(Some(status)) if asked && status.code().is_some() => {}
            // It hangs, or the signal came before it knew what to do with it and ended the shell alone.
            _ => kill_group(shell),
        }
    }
    // After a SIGKILL the wait is for the kernel alone.
    let _ = shell.wait();
}

fn signal(child: &Child, signal: Signal) -> io::Result<()> {
    let pid = i32::try_from(child.id())
        .ok()
        .and_then(Pid::from_raw)
        .ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?;
    Ok(kill_process(pid, signal)?)
}
