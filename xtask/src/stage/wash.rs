//! The operator: every change to the lattice is a line of `wash`, the same that a person would type.

use std::path::PathBuf;
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::process::Command;

/// Longest that one command may take.
const COMMAND_WITHIN: Duration = Duration::from_secs(90);

/// `wash` with the lattice and the keys of a stage.
#[derive(Debug, Clone)]
pub(crate) struct Wash {
    pub(crate) program: PathBuf,
    pub(crate) nats_url: String,
    pub(crate) lattice: String,
    pub(crate) keys_dir: PathBuf,
}

/// What a command said.
#[derive(Debug)]
struct Said {
    success: bool,
    stdout: String,
    stderr: String,
}

impl Wash {
    /// The command without its arguments, in the stage's surroundings and nobody else's.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.program);
        for (name, _) in std::env::vars_os() {
            let name = name.to_string_lossy().into_owned();
            if name.starts_with("TRELLIS_") || name.starts_with("WASMCLOUD_") {
                command.env_remove(name);
            }
        }
        command
            .env("TRELLIS_NATS_URL", &self.nats_url)
            .env("TRELLIS_LATTICE", &self.lattice)
            .env("TRELLIS_KEYS_DIR", &self.keys_dir)
            .stdin(Stdio::null());
        command
    }

    async fn say(&self, line: &[&str]) -> Result<Said> {
        let mut command = Command::from(self.command());
        command.args(line).kill_on_drop(true);
        let output = tokio::time::timeout(COMMAND_WITHIN, command.output())
            .await
            .with_context(|| format!("`wash {}` did not end", line.join(" ")))?
            .with_context(|| format!("{} can't be run", self.program.display()))?;
        Ok(Said {
            success: output.status.success(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        })
    }

    /// Runs a line that must succeed.
    pub(crate) async fn run(&self, line: &[&str]) -> Result<String> {
        let said = self.say(line).await?;
        if !said.success {
            bail!("`wash {}` failed: {}", line.join(" "), said.stderr.trim());
        }
        Ok(said.stdout)
    }

    /// Runs a line that must fail, and gives back what it says for people.
    pub(crate) async fn refused(&self, line: &[&str]) -> Result<String> {
        let said = self.say(line).await?;
        if said.success {
            bail!("`wash {}` succeeded, and must not", line.join(" "));
        }
        Ok(said.stderr.trim().to_owned())
    }

    /// Runs a line whose answer is JSON.
    pub(crate) async fn json(&self, line: &[&str]) -> Result<Value> {
        let mut line = line.to_vec();
        line.extend(["--output", "json"]);
        let text = self.run(&line).await?;
        serde_json::from_str(&text)
            .with_context(|| format!("`wash {}` printed no JSON: {text}", line.join(" ")))
    }
}
