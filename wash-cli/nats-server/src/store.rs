//! The directory that belongs to one server: its data, configuration, log and pid file.
//!
//! A lock makes sure that it belongs to one only. The server itself carries the lock: its standard output, which it
//! never writes to, *is* the locked file. So the lock lives exactly as long as the server, whoever started it and
//! however either of them ends, and "is it running?" needs no guess from a process id that may be somebody else's by
//! now.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes of the log's end that an error shows.
const LOG_TAIL_BYTES: u64 = 2048;

/// How long a claim waits for the lock: a server that was killed a moment ago may still be ending, and somebody who
/// asks whether one runs holds it for an instant.
const CLAIM_WITHIN: Duration = Duration::from_secs(1);

/// How often a held lock is tried again.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// The files of one server, not opened.
#[derive(Clone, Debug)]
pub(crate) struct Store {
    root: PathBuf,
}

/// Proof that no server runs on this store; handed to the server as it starts.
#[derive(Debug)]
pub(crate) struct StoreLock(File);

impl StoreLock {
    pub(crate) fn into_file(self) -> File {
        self.0
    }
}

impl Store {
    pub(crate) fn new(root: &Path) -> io::Result<Self> {
        Ok(Self {
            // The server may be asked for these paths from another working directory.
            root: std::path::absolute(root)?,
        })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.root.join("nats-server.conf")
    }

    pub(crate) fn log(&self) -> PathBuf {
        self.root.join("nats-server.log")
    }

    pub(crate) fn pid_file(&self) -> PathBuf {
        self.root.join("nats-server.pid")
    }

    pub(crate) fn ports_dir(&self) -> PathBuf {
        self.root.join("ports")
    }

    pub(crate) fn jetstream_dir(&self) -> PathBuf {
        self.root.join("jetstream")
    }

    fn lock_file(&self) -> PathBuf {
        self.root.join("nats-server.lock")
    }

    /// Makes the directory and takes the lock; `None` where a server holds it.
    pub(crate) fn claim(&self) -> io::Result<Option<StoreLock>> {
        fs::create_dir_all(&self.root)?;
        let file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.lock_file())?;
        let deadline = Instant::now() + CLAIM_WITHIN;
        loop {
            match file.try_lock() {
                Ok(()) => return Ok(Some(StoreLock(file))),
                Err(TryLockError::WouldBlock) if Instant::now() < deadline => {
                    thread::sleep(POLL_EVERY);
                }
                Err(TryLockError::WouldBlock) => return Ok(None),
                Err(TryLockError::Error(error)) => return Err(error),
            }
        }
    }

    /// Removes what an earlier server left behind that would mislead a reader, and starts an empty log.
    pub(crate) fn clear(&self) -> io::Result<File> {
        let ports = self.ports_dir();
        match fs::remove_dir_all(&ports) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => fs::create_dir(&ports)?,
        }
        match fs::remove_file(self.pid_file()) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let log = self.log();
        File::create(&log)?;
        OpenOptions::new().append(true).open(&log)
    }

    /// Writes the configuration, readable by its owner alone: a URL in it may hold a password.
    pub(crate) fn write_config(&self, text: &str) -> io::Result<()> {
        use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
        let mut file = OpenOptions::new()
            .create(true)
            .truncate(true)
            .write(true)
            .mode(0o600)
            .open(self.config())?;
        // One of an earlier start may have been wider.
        file.set_permissions(fs::Permissions::from_mode(0o600))?;
        io::Write::write_all(&mut file, text.as_bytes())
    }

    /// Whether a server runs on this store.
    pub(crate) fn in_use(&self) -> io::Result<bool> {
        match File::open(self.lock_file()) {
            // Shared, so that two who ask at once don't take each other for a server.
            Ok(file) => match file.try_lock_shared() {
                Ok(()) => Ok(false),
                Err(TryLockError::WouldBlock) => Ok(true),
                Err(TryLockError::Error(error)) => Err(error),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// The end of the log, for an error message.
    pub(crate) fn log_tail(&self) -> String {
        let read = || -> io::Result<Vec<u8>> {
            let mut log = File::open(self.log())?;
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
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_store_is_claimed_once_at_a_time() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::new(root.path()).unwrap();
        assert!(!store.in_use().unwrap());

        let lock = store.claim().unwrap().unwrap();
        assert!(store.in_use().unwrap());
        assert!(store.claim().unwrap().is_none());

        drop(lock);
        assert!(!store.in_use().unwrap());
        assert!(store.claim().unwrap().is_some());
    }
}
