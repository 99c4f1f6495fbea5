//! Runs other programs: shown, or read within bounds.

use std::fs::File;
use std::io::{self, Read as _, Seek as _};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};

/// Longest that a command which only answers a question may take.
pub(crate) const QUESTION_WITHIN: Duration = Duration::from_secs(30);

/// Most of a command's output that is kept in memory.
const OUTPUT_BYTES_MAX: u64 = 4 * 1024 * 1024;

/// Lines of a failed command's error output that its error shows.
const ERROR_LINES_MAX: usize = 12;

/// How often a running command is looked at.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// Runs a command whose output people should see as it comes, for as long as it takes.
pub(crate) fn show(command: &mut Command) -> Result<()> {
    let status = command
        .stdin(Stdio::null())
        .status()
        .with_context(|| format!("{} can't be run", name(command)))?;
    if !status.success() {
        bail!("{} failed with {status}", name(command));
    }
    Ok(())
}

/// Runs a command silently and returns its standard output; an error shows the end of its error output.
///
/// At the deadline it is killed.
pub(crate) fn read(command: &mut Command, within: Duration) -> Result<String> {
    // Files, not pipes: nothing has to be read while it runs, and no grandchild can keep us waiting.
    let mut stdout = tempfile::tempfile().context("no temporary file can be made")?;
    let mut stderr = tempfile::tempfile().context("no temporary file can be made")?;
    let child = command
        .stdin(Stdio::null())
        .stdout(stdout.try_clone()?)
        .stderr(stderr.try_clone()?)
        .spawn()
        .with_context(|| format!("{} can't be run", name(command)))?;
    let status = wait(child, within)
        .with_context(|| format!("{} can't be waited for", name(command)))?
        .with_context(|| {
            format!(
                "{} gave no answer within {} s",
                name(command),
                within.as_secs()
            )
        })?;
    if !status.success() {
        let said = start_of(&mut stderr)?;
        bail!(
            "{} failed with {status}: {}",
            name(command),
            last_lines(&said)
        );
    }
    Ok(start_of(&mut stdout)?)
}

/// A command as one would type it, for messages.
fn name(command: &Command) -> String {
    let words = [command.get_program()]
        .into_iter()
        .chain(command.get_args());
    let words: Vec<_> = words.map(|word| word.to_string_lossy()).collect();
    format!("`{}`", words.join(" "))
}

fn wait(mut child: Child, within: Duration) -> io::Result<Option<ExitStatus>> {
    let deadline = Instant::now() + within;
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if Instant::now() >= deadline {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        thread::sleep(POLL_EVERY);
    }
}

fn start_of(file: &mut File) -> io::Result<String> {
    file.rewind()?;
    let mut bytes = Vec::new();
    file.take(OUTPUT_BYTES_MAX).read_to_end(&mut bytes)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

fn last_lines(text: &str) -> String {
    let lines: Vec<_> = text
        .lines()
        .filter(|line| !line.trim().is_empty())
        .collect();
    if lines.is_empty() {
        return "it said nothing".to_owned();
    }
    lines[lines.len().saturating_sub(ERROR_LINES_MAX)..].join("\n")
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
    fn a_read_command_gives_its_output() {
        assert_eq!(
            read(&mut shell("echo out; echo err >&2"), QUESTION_WITHIN).unwrap(),
            "out\n"
        );
    }

    #[test]
    fn a_failed_command_shows_the_end_of_what_it_said() {
        let error = read(&mut shell("seq 1 50 >&2; exit 3"), QUESTION_WITHIN)
            .unwrap_err()
            .to_string();
        assert!(error.contains("39\n") && error.ends_with("50"), "{error}");
        assert!(!error.contains("38\n"), "{error}");
    }

    #[test]
    fn a_command_that_hangs_is_given_up() {
        let error = read(&mut shell("exec sleep 60"), Duration::from_millis(100)).unwrap_err();
        assert!(error.to_string().contains("gave no answer"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = read(&mut Command::new("/no/such/program"), QUESTION_WITHIN).unwrap_err();
        assert!(error.to_string().contains("/no/such/program"), "{error}");
    }
}
