//! A server that stays when the process that started it ends.
//!
//! It is found again by its store directory alone: the lock there says whether it runs (see [`crate::store`]), the
//! ports file says where.

use std::fs;
use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::launch::Started;
use crate::ports::Ports;
use crate::store::{Store, StoreLock};
use crate::supervisor::{StopError, Stopped};

/// How often a stopping server is looked at.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Longest wait for a killed server's end; only the kernel has anything left to do then.
const KILLED_WITHIN: Duration = Duration::from_secs(5);

/// A detached server, running when this value was made. Dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Detached {
    url: String,
    pid: u32,
    store: Store,
}

impl Detached {
    pub(crate) fn new(started: Started) -> Self {
        Self {
            url: started.url,
            pid: started.server_pid,
            store: started.store,
        }
    }

    /// The server that runs on a store directory, if one does.
    ///
    /// # Errors
    ///
    /// The operating system's, where the directory can't be read.
    pub fn find(store_dir: &Path) -> io::Result<Option<Self>> {
        let store = Store::new(store_dir)?;
        if !store.in_use()? {
            return Ok(None);
        }
        let ports = match Ports::read(&store.ports_dir()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            ports => ports?,
        };
        Ok(ports.map(|ports| Self {
            url: ports.url(
                ports
                    .address
                    .filter(|address| !address.is_unspecified())
                    .unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST)),
            ),
            pid: ports.pid,
            store,
        }))
    }

    /// The URL for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The server's process id; also in the file at [`Detached::pid_path`].
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Where it logs.
    pub fn log_path(&self) -> PathBuf {
        self.store.log()
    }

    /// The file that holds its process id.
    pub fn pid_path(&self) -> PathBuf {
        self.store.pid_file()
    }

    /// Asks the server to end, waits, and kills it when it has not ended `within` the time given. A server that has
    /// ended already is no error.
    ///
    /// # Errors
    ///
    /// [`StopError`] where the operating system refuses the signal, as it does for another user's server.
    pub fn stop(self, within: Duration) -> Result<Stopped, StopError> {
        let failed = |source| StopError {
            pid: self.pid,
            source,
        };
        self.signal(Signal::TERM).map_err(failed)?;
        if self.ended_within(within).map_err(failed)? {
            return Ok(Stopped::InTime);
        }
        self.signal(Signal::KILL).map_err(failed)?;
        if self.ended_within(KILLED_WITHIN).map_err(failed)? {
            return Ok(Stopped::Killed);
        }
        Err(failed(io::Error::from(io::ErrorKind::TimedOut)))
    }

    /// Signals the server while it holds its store's lock. Only then is the process id known to be its own.
    fn signal(&self, signal: Signal) -> io::Result<()> {
        if !self.store.in_use()? {
            return Ok(());
        }
        let Some(pid) = i32::try_from(self.pid).ok().and_then(Pid::from_raw) else {
            return Err(io::Error::from(io::ErrorKind::InvalidData));
        };
        match kill_process(pid, signal) {
            // It ended between the two looks.
            Err(rustix::io::Errno::SRCH) => Ok(()),
            ended => Ok(ended?),
        }
    }

    fn ended_within(&self, within: Duration) -> io::Result<bool> {
        let deadline = Instant::now() + within;
        while self.store.in_use()? {
            if Instant::now() >= deadline {
                return Ok(false);
            }
            thread::sleep(POLL_EVERY);
        }
        Ok(true)
    }
}

/// Starts the server by itself. The standard library has no safe way into a new session; a process group of its own
/// keeps the terminal's signals away, and a hang-up makes this server reload its configuration, not end.
pub(crate) fn spawn(
    executable: &Path,
    config: &Path,
    lock: StoreLock,
    log: fs::File,
) -> io::Result<Child> {
    Command::new(executable)
        .arg("--config")
        .arg(config)
        .stdin(Stdio::null())
        .stdout(lock.into_file())
        .stderr(log)
        .process_group(0)
        .spawn()
}

/// Kills a server that did not start as it should, and waits for it.
pub(crate) fn kill(child: &mut Child) {
    // What else can be done about a failure here: nothing, and it can only mean that the server has ended already.
    let _ = child.kill();
    let _ = child.wait();
}
