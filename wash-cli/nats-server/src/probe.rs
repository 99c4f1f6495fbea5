//! Asks an executable which version it is, and runs other short commands, within bounds.
//!
//! Whatever stands on `PATH` under a familiar name is not ours: it may hang, print without end, or be no server at
//! all. So every command here has a deadline and a ceiling on what is kept of its output.

use std::io::{self, Read};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process_group};

use crate::version::Version;

/// Longest a `--version` may take; a healthy server needs some 20 ms.
const VERSION_WITHIN: Duration = Duration::from_secs(10);

/// How long "text file busy" is put up with. A file that we have just written and closed can still be open in a child
/// that another of our threads is starting at that moment, for the microseconds until that child's `exec`.
const BUSY_WITHIN: Duration = Duration::from_secs(1);

/// Most of an output stream that is kept; the rest is read and dropped so that the writer never blocks.
const OUTPUT_BYTES_MAX: usize = 64 * 1024;

/// How often a running command is looked at.
const POLL_EVERY: Duration = Duration::from_millis(5);

/// An executable could not be asked for its version.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// It could not be run, or did not end in time.
    #[error("{} can't be run", path.display())]
    Run {
        /// The executable asked.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It ran and failed.
    #[error("{} --version failed with {status}", path.display())]
    Failed {
        /// The executable asked.
        path: PathBuf,
        /// How it ended.
        status: ExitStatus,
    },
    /// It ran and said something else.
    #[error("{} is no nats-server: its --version names no version", path.display())]
    NotAServer {
        /// The executable asked.
        path: PathBuf,
    },
}

/// What a finished command left behind.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) status: ExitStatus,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// Runs `path --version` and reads the answer.
pub(crate) fn version_of(path: &Path) -> Result<Version, ProbeError> {
    let run = |source| ProbeError::Run {
        path: path.to_path_buf(),
        source,
    };
    let mut command = Command::new(path);
    command.arg("--version");
    let deadline = Instant::now() + BUSY_WITHIN;
    let finished = loop {
        match run_within(&mut command, VERSION_WITHIN) {
            Err(error)
                if error.kind() == io::ErrorKind::ExecutableFileBusy
                    && Instant::now() < deadline =>
            {
                thread::sleep(POLL_EVERY);
            }
            ended => break ended.map_err(run)?,
        }
    };
    if !finished.status.success() {
        return Err(ProbeError::Failed {
            path: path.to_path_buf(),
            status: finished.status,
        });
    }
    Version::from_banner(&finished.stdout)
        .or_else(|| Version::from_banner(&finished.stderr))
        .ok_or_else(|| ProbeError::NotAServer {
            path: path.to_path_buf(),
        })
}

/// Runs a command to its end, without standard input, and kills its whole process group at the deadline.
///
/// The group matters: a shell script's children hold the output pipes open after the script itself was killed.
pub(crate) fn run_within(command: &mut Command, within: Duration) -> io::Result<Finished> {
    let deadline = Instant::now() + within;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let stdout = child.stdout.take().map(keep_start);
    let stderr = child.stderr.take().map(keep_start);
    let status = wait_until(&mut child, deadline);
    // Also after a normal end: a background child that kept a pipe would keep the readers waiting.
    kill_group(&child);
    let status = match status {
        Ok(Some(status)) => status,
        ended => {
            child.wait()?;
            ended?;
            return Err(io::Error::new(
                io::ErrorKind::TimedOut,
                format!("no answer within {} s", within.as_secs()),
            ));
        }
    };
    let text = |reader: Option<thread::JoinHandle<Vec<u8>>>| {
        let bytes = reader
            .and_then(|reader| reader.join().ok())
            .unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    };
    Ok(Finished {
        status,
        stdout: text(stdout),
        stderr: text(stderr),
    })
}

/// Waits for a child to end; `None` when the deadline came first.
pub(crate) fn wait_until(child: &mut Child, deadline: Instant) -> io::Result<Option<ExitStatus>> {
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        thread::sleep(POLL_EVERY);
    }
}

/// Kills every process of the group that `child` leads.
///
/// A group's number stays taken for as long as a member or the unreaped leader exists. After the leader was reaped and
/// all members are gone it is free, and the signal finds nobody; the kernel hands numbers out in a cycle, so within
/// the microseconds since then it has not come round to this one.
pub(crate) fn kill_group(child: &Child) {
    if let Some(group) = i32::try_from(child.id()).ok().and_then(Pid::from_raw) {
        // No such process is the ordinary answer: all have ended already.
        let _ = kill_process_group(group, Signal::KILL);
    }
}

fn keep_start(mut stream: impl Read + Send + 'static) -> thread::JoinHandle<Vec<u8>> {
    thread::spawn(move || {
        let mut kept = Vec::new();
        let mut chunk = [0; 4096];
        while let Ok(read @ 1..) = stream.read(&mut chunk) {
            let room = OUTPUT_BYTES_MAX.saturating_sub(kept.len());
            kept.extend_from_slice(&chunk[..read.min(room)]);
        }
        kept
    })
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

    #[test]
    fn a_command_that_hangs_is_killed_with_its_children() {
        let begin = Instant::now();
        let error = run_within(
            &mut shell("sleep 60 & sleep 60"),
            Duration::from_millis(100),
        )
        .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn a_child_left_in_the_background_does_not_delay_the_answer() {
        let begin = Instant::now();
        let finished =
            run_within(&mut shell("sleep 60 & echo done"), Duration::from_secs(50)).unwrap();
        assert_eq!(finished.stdout, "done\n");
        assert!(begin.elapsed() < Duration::from_secs(30));
    }

    #[test]
    fn output_without_end_is_cut_and_does_not_block_the_writer() {
        let finished = run_within(
            &mut shell("head -c 1000000 /dev/zero"),
            Duration::from_secs(30),
        )
        .unwrap();
        assert!(finished.status.success());
        assert_eq!(finished.stdout.len(), OUTPUT_BYTES_MAX);
    }
}
