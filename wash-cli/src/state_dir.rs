//! Where `wash up` keeps what it runs, and how `wash down` finds it again.
//!
//! | in the directory | what |
//! | --- | --- |
//! | `up.lock` | held, as a file lock, by the process that runs the host, for as long as it lives |
//! | `up.json` | who that is: [`Record`] |
//! | `host.log` | what a detached host says |
//! | `nats/` | the store of the NATS server that was started with it |
//! | `hosts/<name>/` | the same of further hosts, by `wash up --multi-local`; they share the server |
//! | the rest | the host's own: its key, what it restores |
//!
//! The lock says whether a host runs here, however it ended; a process id alone could be somebody else's by now. The
//! record is written by the holder of the lock, so it is believed only while the lock is held.

use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

use crate::environment::{self, Environment};

/// Bytes of the log's end that an error shows.
const LOG_TAIL_BYTES: u64 = 4 * 1024;

/// How long claiming waits for the lock: somebody who asks whether a host runs holds it for an instant.
const CLAIM_WITHIN: Duration = Duration::from_secs(1);

/// How often a lock is tried again.
const POLL_EVERY: Duration = Duration::from_millis(20);

/// Largest record that is read, in bytes.
const RECORD_BYTES_MAX: u64 = 64 * 1024;

/// Why the directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateDirError {
    /// No directory is known.
    #[error(
        "cannot tell where to keep the host's state: set {}, XDG_STATE_HOME or HOME to an absolute path, or give --state-dir",
        environment::STATE_DIR.name
    )]
    NoDirectory,
    /// The operating system refused.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// A host runs there already.
    #[error(
        "a host is running in {} already{}; stop it with `wash down`, or start another one beside it with --multi-local",
        path.display(), who
    )]
    InUse {
        /// The directory.
        path: PathBuf,
        /// Which one, where that is known.
        who: String,
    },
}

/// Who runs a host in a directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// The process.
    pub pid: u32,
    /// When the process started, in the kernel's clock ticks since boot: process ids come back, this does not. Only Linux
    /// tells.
    pub start_ticks: Option<u64>,
    /// The host's public key.
    pub host_id: String,
    /// The lattice.
    pub lattice: String,
    /// URL of the NATS server, without a password.
    pub nats_url: String,
    /// Whether `wash up` found that server running and joined it, so that it is not ours to stop.
    #[serde(default)]
    pub nats_joined: bool,
    /// The name that it was given, for people.
    #[serde(default)]
    pub friendly_name: Option<String>,
}

/// Directories of hosts beside the first one.
const BESIDE: &str = "hosts";

/// Most hosts of one machine that are looked for.
const HOSTS_MAX: usize = 256;

/// Longest name of a directory that is made of a host's name, in bytes.
const NAME_BYTES_MAX: usize = 64;

/// A directory, not made yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StateDir {
    root: PathBuf,
    /// The store of the server, which all hosts of a machine share.
    nats: PathBuf,
}

/// Proof that this process runs the host of a directory. Dropping it, or dying, gives it up.
#[derive(Debug)]
pub struct Claim {
    /// Only held: the lock goes with it.
    _lock: File,
    state_dir: StateDir,
}

impl StateDir {
    /// What a flag names, else `$TRELLIS_STATE_DIR`, else `$XDG_STATE_HOME/trellis`, else `~/.local/state/trellis`.
    ///
    /// # Errors
    /// [`StateDirError::NoDirectory`] where none of them is set.
    pub fn resolve(
        flag: Option<&Path>,
        environment: &mut Environment,
    ) -> Result<Self, StateDirError> {
        let root = flag
            .map(Path::to_path_buf)
            .or_else(|| environment.get(environment::STATE_DIR).map(PathBuf::from))
            .or_else(|| environment.xdg_dir("XDG_STATE_HOME", ".local/state"))
            .ok_or(StateDirError::NoDirectory)?;
        // A detached host may be asked for it from another working directory.
        let root = std::path::absolute(&root).map_err(|source| io_error("use", &root, source))?;
        Ok(Self {
            nats: root.join("nats"),
            root,
        })
    }

    /// The directory of one more host beside this one: the one that belongs to its name, else the first in which none runs.
    ///
    /// # Errors
    /// [`StateDirError::Io`]; [`StateDirError::InUse`] where one of that name runs, or too many.
    pub fn beside(&self, name: Option<&str>) -> Result<Self, StateDirError> {
        if let Some(name) = name.and_then(directory_name) {
            let named = self.below(&name);
            return if named.in_use()? {
                Err(named.in_use_error())
            } else {
                Ok(named)
            };
        }
        if !self.in_use()? {
            return Ok(self.clone());
        }
        for number in 2..=HOSTS_MAX {
            let next = self.below(&number.to_string());
            if !next.in_use()? {
                return Ok(next);
            }
        }
        Err(self.in_use_error())
    }

    /// This directory and those of the hosts beside it, whether a host runs there or not.
    ///
    /// # Errors
    /// [`StateDirError::Io`].
    pub fn all(&self) -> Result<Vec<Self>, StateDirError> {
        let beside = self.root.join(BESIDE);
        let failed = |source| io_error("read", &beside, source);
        let mut names = Vec::new();
        match fs::read_dir(&beside) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            entries => {
                for entry in entries.map_err(failed)?.take(HOSTS_MAX) {
                    names.extend(entry.map_err(failed)?.file_name().into_string().ok());
                }
            }
        }
        names.sort();
        let beside = names.iter().map(|name| self.below(name));
        Ok(std::iter::once(self.clone()).chain(beside).collect())
    }

    fn below(&self, name: &str) -> Self {
        Self {
            root: self.root.join(BESIDE).join(name),
            nats: self.nats.clone(),
        }
    }

    /// A directory whose server is kept elsewhere: for the daemon of a host that is one of several.
    #[must_use]
    pub fn with_nats_dir(root: PathBuf, nats: PathBuf) -> Self {
        Self { root, nats }
    }

    /// The directory itself.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.root
    }

    /// The log of a detached host.
    #[must_use]
    pub fn log_path(&self) -> PathBuf {
        self.root.join("host.log")
    }

    /// The store of a NATS server.
    #[must_use]
    pub fn nats_dir(&self) -> PathBuf {
        self.nats.clone()
    }

    /// Makes the directory, readable by nobody else: the host's key is in it.
    ///
    /// # Errors
    /// [`StateDirError::Io`].
    pub fn make(&self) -> Result<(), StateDirError> {
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&self.root)
            .map_err(|source| io_error("make", &self.root, source))
    }

    /// Makes the directory ours, for as long as the claim lives.
    ///
    /// # Errors
    /// [`StateDirError::InUse`] where a host runs in it.
    pub fn claim(&self) -> Result<Claim, StateDirError> {
        self.make()?;
        let path = self.lock_path();
        let failed = |source| io_error("lock", &path, source);
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .mode(0o600)
            .open(&path)
            .map_err(failed)?;
        let deadline = Instant::now() + CLAIM_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => break,
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(POLL_EVERY);
                }
                Err(TryLockError::WouldBlock) => return Err(self.in_use_error()),
                Err(TryLockError::Error(error)) => return Err(failed(error)),
            }
        }
        match fs::remove_file(self.record_path()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(io_error("remove", &self.record_path(), error))
            }
            _ => Ok(Claim {
                _lock: file,
                state_dir: self.clone(),
            }),
        }
    }

    /// Refuses, if a host runs here.
    ///
    /// # Errors
    /// [`StateDirError::InUse`].
    pub fn check_free(&self) -> Result<(), StateDirError> {
        if self.in_use()? {
            return Err(self.in_use_error());
        }
        Ok(())
    }

    /// Whether a host runs here.
    ///
    /// # Errors
    /// [`StateDirError::Io`].
    pub fn in_use(&self) -> Result<bool, StateDirError> {
        let path = self.lock_path();
        match File::open(&path) {
            // Shared, so that two who ask at once don't take each other for a host.
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(io_error("lock", &path, error)),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(io_error("read", &path, error)),
        }
    }

    /// Who runs a host here: `None` if nobody does, or it has not said so yet.
    ///
    /// # Errors
    /// [`StateDirError::Io`].
    pub fn running(&self) -> Result<Option<Record>, StateDirError> {
        if !self.in_use()? {
            return Ok(None);
        }
        let path = self.record_path();
        let mut text = Vec::new();
        match File::open(&path) {
            Ok(file) => file
                .take(RECORD_BYTES_MAX)
                .read_to_end(&mut text)
                .map_err(|error| io_error("read", &path, error))?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(io_error("read", &path, error)),
        };
        // It is renamed into place whole; one that cannot be read is not ours.
        Ok(serde_json::from_slice(&text).ok())
    }

    /// A new, empty log.
    ///
    /// # Errors
    /// [`StateDirError::Io`].
    pub fn create_log(&self) -> Result<File, StateDirError> {
        let path = self.log_path();
        OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(&path)
            .map_err(|source| io_error("write", &path, source))
    }

    /// The end of the log, for an error message.
    #[must_use]
    pub fn log_tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(self.log_path())?;
            let length = log.metadata()?.len();
            log.seek(SeekFrom::Start(length.saturating_sub(LOG_TAIL_BYTES)))?;
            let mut tail = Vec::new();
            log.take(LOG_TAIL_BYTES).read_to_end(&mut tail)?;
            Ok(tail)
        };
        match read() {
            Ok(tail) if tail.is_empty() => "its log is empty".to_owned(),
            Ok(tail) => format!(
                "its log ends with:\n{}",
                String::from_utf8_lossy(&tail).trim_end()
            ),
            Err(error) => format!("its log can't be read: {error}"),
        }
    }

    fn in_use_error(&self) -> StateDirError {
        let who = match self.running() {
            Ok(Some(record)) => format!(
                " ({}, process {}, lattice {} at {})",
                record.host_id, record.pid, record.lattice, record.nats_url
            ),
            _ => String::new(),
        };
        StateDirError::InUse {
            path: self.root.clone(),
            who,
        }
    }

    fn lock_path(&self) -> PathBuf {
        self.root.join("up.lock")
    }

    fn record_path(&self) -> PathBuf {
        self.root.join("up.json")
    }
}

impl Claim {
    /// Says who runs the host.
    ///
    /// # Errors
    /// [`StateDirError::Io`].
    pub fn record(&self, record: &Record) -> Result<(), StateDirError> {
        let path = self.state_dir.record_path();
        let failed = |source| io_error("write", &path, source);
        let text = serde_json::to_vec(record).map_err(|error| failed(error.into()))?;
        let mut file = tempfile::NamedTempFile::new_in(&self.state_dir.root).map_err(failed)?;
        file.write_all(&text).map_err(failed)?;
        file.persist(&path).map_err(|error| failed(error.error))?;
        Ok(())
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        // One that stays is not believed without the lock.
        let _ = fs::remove_file(self.state_dir.record_path());
    }
}

/// A host's name as that of a directory: what is no letter or digit becomes `-`. None of a name without any.
fn directory_name(name: &str) -> Option<String> {
    let plain: String = name
        .chars()
        .take(NAME_BYTES_MAX)
        .map(|c| if c.is_ascii_alphanumeric() { c } else { '-' })
        .collect();
    plain
        .chars()
        .any(|c| c.is_ascii_alphanumeric())
        .then_some(plain)
}

/// When a process started, in clock ticks since boot (`proc(5)`, `/proc/<pid>/stat`, field 22). `None` if it is gone.
#[must_use]
pub fn start_ticks(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold blanks and parentheses itself.
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn io_error(action: &'static str, path: &Path, source: io::Error) -> StateDirError {
    StateDirError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

#[cfg(test)]
mod tests;
