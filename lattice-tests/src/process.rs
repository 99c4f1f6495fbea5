//! A host as a process of its own: the program `trellis-host`, which a test can kill and start again.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::binary::program;
use crate::host::{HostBuilder, HostId};
use crate::lattice::Lattice;
use crate::memory::{children, name};
use crate::wait::eventually;

/// What the programs of providers are called, and the host's.
const PROVIDERS: &str = "trellis-";
const HOST: &str = "trellis-host";

/// Lines of a host's log that are shown where its test fails.
const LOG_LINES_SHOWN: usize = 30;

/// A host process. Dropping it kills it.
#[derive(Debug)]
pub struct HostProcess {
    id: String,
    arguments: Vec<String>,
    child: Child,
    state_dir: TempDir,
    log: PathBuf,
}

impl HostId for HostProcess {
    fn id(&self) -> &str {
        &self.id
    }
}

impl HostProcess {
    pub(crate) async fn spawn(
        lattice: &Lattice,
        host: &HostBuilder<'_>,
        state_dir: TempDir,
        certificate: Option<String>,
    ) -> Self {
        let directory = state_dir.path().display().to_string();
        let mut arguments = vec![
            "--nats-url".to_owned(),
            lattice.url().to_owned(),
            "--lattice".to_owned(),
            lattice.name().to_owned(),
            "--state-dir".to_owned(),
            directory,
            "--name".to_owned(),
            host.name().to_owned(),
            "--trust".to_owned(),
            lattice.account().public().to_string(),
            "--allow-file".to_owned(),
            "--log-format".to_owned(),
            "json".to_owned(),
        ];
        if let Some(time) = host.drains_within() {
            arguments.push("--shutdown-timeout".to_owned());
            arguments.push(time.as_secs().to_string());
        }
        arguments.extend_from_slice(host.further_flags());
        if let Some(certificate) = certificate {
            let path = state_dir.path().join("certificate.jwt");
            std::fs::write(&path, certificate).expect("a file can be written into a new directory");
            arguments.push("--certificate".to_owned());
            arguments.push(path.display().to_string());
        }
        let log = state_dir.path().join("log");
        let mut process = Self {
            id: host.host_id().to_owned(),
            child: launch(&arguments, &log),
            arguments,
            state_dir,
            log,
        };
        process.serves(lattice).await;
        process
    }

    /// The id of the process.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has logged so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Its state directory.
    pub fn state_dir(&self) -> &Path {
        self.state_dir.path()
    }

    /// Ends it as a power cut would, and waits until it is gone.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn kill(&mut self) {
        self.child.kill().expect("the host runs");
        let status = self.child.wait().expect("the host is our child");
        assert_eq!(status.signal(), Some(9), "the host had ended by itself");
    }

    /// Asks it to end.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn terminate(&mut self) {
        assert!(self.exited().is_none(), "the host had ended by itself");
        kill_process(Pid::from_child(&self.child), Signal::TERM).expect("the host runs");
    }

    /// Waits for its end; nothing where a signal ended it.
    pub async fn exit_code(&mut self) -> Option<i32> {
        eventually("the host ends", async || self.exited())
            .await
            .code()
    }

    /// Starts it again with the same arguments and state directory, and waits until it serves.
    ///
    /// # Panics
    /// Where it does not serve in time.
    pub async fn start_again(&mut self, lattice: &Lattice) {
        self.child = launch(&self.arguments, &self.log);
        self.serves(lattice).await;
    }

    async fn serves(&mut self, lattice: &Lattice) {
        eventually("the host process serves", async || {
            if let Some(status) = self.exited() {
                panic!("trellis-host ended with {status}:\n{}", self.log_tail());
            }
            let client = lattice.operator().client().clone();
            let client = client.with_timeout(Duration::from_secs(1));
            client.inventory(&self.id).await.ok()
        })
        .await;
    }

    fn exited(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("the host is our child")
    }

    fn log_tail(&self) -> String {
        let log = self.log();
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..].join("\n")
    }
}

impl Drop for HostProcess {
    fn drop(&mut self) {
        // It may have ended before.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!(
                "the end of the log of host {}:\n{}",
                self.id,
                self.log_tail()
            );
        }
    }
}

/// Kills the processes of the providers of a host, named by its own, and says how many there were.
pub fn kill_providers(host: u32) -> usize {
    signal_providers(host, Signal::KILL)
}

/// Stops the processes of the providers of a host where they are, and says how many there were. They hold their sockets
/// and never answer.
pub fn freeze_providers(host: u32) -> usize {
    signal_providers(host, Signal::STOP)
}

fn signal_providers(host: u32, signal: Signal) -> usize {
    let providers = provider_pids(host);
    for pid in &providers {
        let pid = i32::try_from(*pid).ok().and_then(Pid::from_raw);
        // It may have ended by itself since.
        let _ = kill_process(pid.expect("a process has an id"), signal);
    }
    providers.len()
}

/// The processes of the providers of a host, named by its own.
pub fn provider_pids(host: u32) -> Vec<u32> {
    let mut pids = children(host);
    // A child that has been forked and is not yet another program is still the host.
    pids.retain(|pid| name(*pid).starts_with(PROVIDERS) && !name(*pid).starts_with(HOST));
    pids
}

fn launch(arguments: &[String], log: &Path) -> Child {
    let log = File::options()
        .create(true)
        .append(true)
        .open(log)
        .expect("a file can be written into a new directory");
    Command::new(program("trellis-host"))
        .args(arguments)
        .env_clear()
        .env("RUST_LOG", "info")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the program can be run")
}
