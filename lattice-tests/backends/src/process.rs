//! A server's process: started, waited for, frozen, killed; and a port for it.
//!
//! `Drop` covers every ordinary end. For the others a small shell watches us: it reads from a pipe that nobody writes
//! to, and when we die, in whatever way, it reads end-of-file and kills the server. Server and shell lead process groups
//! of their own, so that a Ctrl-C at the terminal reaches us alone, and both go with us.

use std::fs::{self, File};
use std::io::{Read as _, Seek as _, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::BackendError;

/// Time for a server to become ready. Generous, because a machine that builds at the same time is slow.
pub const READY_WITHIN: Duration = Duration::from_secs(30);

/// How often a starting or ending server is looked at.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Ports that are tried before a start fails.
const PORT_TRIES: usize = 8;

/// Most of a log's end that an error shows, in bytes.
const LOG_TAIL_BYTES: u64 = 4 * 1024;

/// What the watching shell does. Its argument is the server's process id.
///
/// The server is our child until we die, so its id cannot have become another process's before that.
const WATCH: &str = r#"read -r line; kill -KILL "$1" 2>/dev/null"#;

/// A server's process.
#[derive(Debug)]
pub struct Process {
    program: &'static str,
    child: Child,
    watcher: Child,
    log: PathBuf,
}

impl Process {
    /// Starts a command. What it says goes to the end of the file `log`.
    ///
    /// # Errors
    /// [`BackendError::System`] where it cannot be started.
    pub fn spawn(
        program: &'static str,
        command: &mut Command,
        log: &Path,
    ) -> Result<Self, BackendError> {
        let output = File::options()
            .create(true)
            .append(true)
            .open(log)
            .map_err(BackendError::system(format!("opening {}", log.display())))?;
        let errors = output
            .try_clone()
            .map_err(BackendError::system("sharing a log file"))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(output)
            .stderr(errors)
            .process_group(0)
            .spawn()
            .map_err(BackendError::system(format!("starting {program}")))?;
        let watcher = Command::new("sh")
            .args(["-c", WATCH, "watch", &child.id().to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .spawn();
        match watcher {
            Ok(watcher) => Ok(Self {
                program,
                child,
                watcher,
                log: log.to_owned(),
            }),
            Err(error) => {
                end(&mut child);
                Err(BackendError::system(format!("watching {program}"))(error))
            }
        }
    }

    /// The server's process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Waits until `ready` says so.
    ///
    /// # Errors
    /// [`BackendError::Ended`] where the process ends first, [`BackendError::NotReady`] at the end of `within`.
    pub fn wait_until_ready(
        &mut self,
        within: Duration,
        mut ready: impl FnMut() -> bool,
    ) -> Result<(), BackendError> {
        let deadline = Instant::now() + within;
        loop {
            let ended = self.child.try_wait().map_err(BackendError::system(format!(
                "waiting for {}",
                self.program
            )))?;
            if let Some(status) = ended {
                return Err(BackendError::Ended {
                    program: self.program,
                    status,
                    log: self.log_tail(),
                });
            }
            if ready() {
                return Ok(());
            }
            if Instant::now() >= deadline {
                return Err(BackendError::NotReady {
                    program: self.program,
                    within,
                    log: self.log_tail(),
                });
            }
            thread::sleep(POLL_EVERY);
        }
    }

    /// Stops the process and its group where they are (SIGSTOP): connections stay open, and nothing answers.
    ///
    /// # Errors
    /// [`BackendError::System`] where the process has ended.
    pub fn freeze(&self) -> Result<(), BackendError> {
        self.signal_group(Signal::STOP)
    }

    /// Lets a frozen process go on (SIGCONT).
    ///
    /// # Errors
    /// [`BackendError::System`] where the process has ended.
    pub fn thaw(&self) -> Result<(), BackendError> {
        self.signal_group(Signal::CONT)
    }

    /// Sends the process itself, not its children, a signal.
    ///
    /// # Errors
    /// [`BackendError::System`] where the process has ended.
    pub fn signal(&self, signal: Signal) -> Result<(), BackendError> {
        kill_process(self.raw_pid()?, signal).map_err(self.unsignalled())
    }

    /// Kills the process (SIGKILL) and waits for its end. One that has ended already is no error.
    pub fn kill(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            // The children first, while the group certainly is ours.
            let _ = self.signal_group(Signal::KILL);
        }
        end(&mut self.child);
    }

    /// Asks the process to end by a signal, and kills it when it has not ended within the time given.
    pub fn terminate(&mut self, signal: Signal, within: Duration) {
        let deadline = Instant::now() + within;
        // Without an end by itself it is killed below.
        let _ = self.signal(signal);
        while Instant::now() < deadline && matches!(self.child.try_wait(), Ok(None)) {
            thread::sleep(POLL_EVERY);
        }
        self.kill();
    }

    /// The end of what it logged.
    pub fn log_tail(&self) -> String {
        log_tail(&self.log)
    }

    fn raw_pid(&self) -> Result<Pid, BackendError> {
        i32::try_from(self.child.id())
            .ok()
            .and_then(Pid::from_raw)
            .ok_or_else(|| {
                BackendError::system(format!("signalling {}", self.program))(
                    std::io::ErrorKind::InvalidData.into(),
                )
            })
    }

    fn signal_group(&self, signal: Signal) -> Result<(), BackendError> {
        kill_process_group(self.raw_pid()?, signal).map_err(self.unsignalled())
    }

    fn unsignalled(&self) -> impl FnOnce(rustix::io::Errno) -> BackendError + use<> {
        let attempted = format!("signalling {} (process {})", self.program, self.child.id());
        move |errno| BackendError::system(attempted)(errno.into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        end(&mut self.watcher);
    }
}

/// Kills a child and reaps it. A failure can only mean that it has ended and was reaped already.
fn end(child: &mut Child) {
    let _ = child.kill();
    let _ = child.wait();
}

fn log_tail(log: &Path) -> String {
    let read = || -> std::io::Result<String> {
        let mut file = File::open(log)?;
        let bytes = file.metadata()?.len();
        file.seek(SeekFrom::Start(bytes.saturating_sub(LOG_TAIL_BYTES)))?;
        let mut tail = Vec::new();
        file.take(LOG_TAIL_BYTES).read_to_end(&mut tail)?;
        Ok(String::from_utf8_lossy(&tail).trim().to_owned())
    };
    match read() {
        Ok(tail) if tail.is_empty() => "(none)".to_owned(),
        Ok(tail) => tail,
        Err(error) => format!("(its log cannot be read: {error})"),
    }
}

/// A port of the loopback interface on which nobody listens at this moment.
///
/// # Errors
/// [`BackendError::System`] where there is none.
pub fn free_port() -> Result<u16, BackendError> {
    let free = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr();
    free()
        .map(|address| address.port())
        .map_err(BackendError::system("looking for a free port"))
}

/// Starts something on a free port, on another one where somebody else was faster.
///
/// # Errors
/// The last attempt's.
pub fn on_free_port<T>(
    mut start: impl FnMut(u16) -> Result<T, BackendError>,
) -> Result<T, BackendError> {
    let mut tries = 1;
    loop {
        match start(free_port()?) {
            Err(error) if error.is_port_taken() && tries < PORT_TRIES => tries += 1,
            started => return started,
        }
    }
}

/// A new private directory for a server.
///
/// # Errors
/// [`BackendError::System`] where none can be made.
pub fn directory(program: &str) -> Result<tempfile::TempDir, BackendError> {
    tempfile::Builder::new()
        .prefix(&format!("trellis-{program}-"))
        .tempdir()
        .map_err(BackendError::system("making a temporary directory"))
}

/// Writes a file of a server's configuration.
///
/// # Errors
/// [`BackendError::System`] where it cannot be written.
pub fn write(path: &Path, text: &str) -> Result<(), BackendError> {
    fs::write(path, text).map_err(BackendError::system(format!("writing {}", path.display())))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn shell(script: &str) -> Command {
        let mut command = Command::new("sh");
        command.args(["-c", script]);
        command
    }

    fn spawn(script: &str) -> (Process, tempfile::TempDir) {
        let directory = directory("test").unwrap();
        let process =
            Process::spawn("sh", &mut shell(script), &directory.path().join("log")).unwrap();
        (process, directory)
    }

    fn is_alive(pid: u32) -> bool {
        let pid = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
        rustix::process::test_kill_process(pid).is_ok()
    }

    #[test]
    fn a_process_that_ends_early_is_an_error_with_its_last_words() {
        let (mut process, _directory) = spawn("echo no room >&2; exit 3");
        let error = process
            .wait_until_ready(READY_WITHIN, || false)
            .unwrap_err();
        assert!(matches!(error, BackendError::Ended { .. }), "{error}");
        assert!(error.to_string().contains("no room"), "{error}");
    }

    #[test]
    fn a_process_that_never_serves_is_an_error_at_the_deadline() {
        let (mut process, _directory) = spawn("exec sleep 60");
        let error = process
            .wait_until_ready(Duration::from_millis(50), || false)
            .unwrap_err();
        assert!(matches!(error, BackendError::NotReady { .. }), "{error}");
    }

    #[test]
    fn a_process_ends_with_its_value_even_when_frozen() {
        let (process, _directory) = spawn("exec sleep 60");
        let pid = process.pid();
        assert!(is_alive(pid));
        process.freeze().unwrap();
        drop(process);
        assert!(!is_alive(pid));
    }

    #[test]
    fn a_process_ends_when_nobody_is_left_to_end_it() {
        let (mut process, _directory) = spawn("exec sleep 60");
        // What the kernel does when we are killed: our end of the pipe is closed.
        drop(process.watcher.stdin.take());
        let deadline = Instant::now() + READY_WITHIN;
        while process.child.try_wait().unwrap().is_none() {
            assert!(Instant::now() < deadline, "still there");
            thread::sleep(POLL_EVERY);
        }
    }

    #[test]
    fn a_taken_port_is_tried_again_with_another() {
        let mut ports = Vec::new();
        let started = on_free_port(|port| {
            ports.push(port);
            match ports.len() {
                1 => {
                    let (mut process, _directory) = spawn("echo Address already in use; exit 1");
                    process.wait_until_ready(READY_WITHIN, || false)
                }
                _ => Ok(()),
            }
        });
        started.unwrap();
        assert_eq!(ports.len(), 2);
    }
}
