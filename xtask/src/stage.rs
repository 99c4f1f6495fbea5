//! A lattice to show or to measure: its processes, and the one directory that all of them write to.

mod wash;

use std::fs::File;
use std::net::TcpListener;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trellis_nats_server::{Launch, NatsServer, Running};

use crate::project::Project;
pub(crate) use wash::Wash;

/// Longest that a host may take to end by itself.
const END_WITHIN: Duration = Duration::from_secs(20);

/// Longest that hosts may take to come up.
const UP_WITHIN: Duration = Duration::from_secs(45);

/// Lines of a host's log that are shown when something failed.
const LOG_LINES: usize = 15;

/// Everything that runs.
#[derive(Debug)]
pub(crate) struct Stage {
    pub(crate) wash: Wash,
    actors: PathBuf,
    components: PathBuf,
    /// Where the application answers, `127.0.0.1:<port>`.
    pub(crate) address: String,
    hosts: Vec<HostProcess>,
    // Fields are dropped in this order: the server ends before its directory goes.
    nats: Running,
    directory: TempDir,
}

/// One host, as `wash up` runs it.
#[derive(Debug)]
struct HostProcess {
    name: &'static str,
    child: Child,
}

impl Stage {
    /// Starts NATS, with everything it and others write in a new directory. `program` is the `wash` that drives it.
    pub(crate) fn open(
        project: &Project,
        program: PathBuf,
        nats_server: &NatsServer,
    ) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix("trellis-stage-")
            .tempdir()
            .context("no temporary directory can be made")?;
        let nats = Launch::new(&nats_server.path, &directory.path().join("nats"))
            .server_name("trellis-stage")
            .start()
            .context("NATS can't be started")?;
        let wash = Wash {
            program,
            nats_url: nats.url().to_owned(),
            lattice: "stage".to_owned(),
            keys_dir: directory.path().join("keys"),
        };
        Ok(Self {
            wash,
            actors: project.actors(),
            components: project.components(),
            address: format!("127.0.0.1:{}", free_port()?),
            hosts: Vec::new(),
            nats,
            directory,
        })
    }

    /// An address that is free now, for a link beside the first.
    pub(crate) fn another_address(&self) -> Result<String> {
        Ok(format!("127.0.0.1:{}", free_port()?))
    }

    /// Where a file of the stage goes.
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Starts a host, or starts it again: the same name has the same directory, so the same key and memory.
    pub(crate) fn start_host(&mut self, name: &'static str) -> Result<()> {
        self.start_host_under(&[], name)
    }

    /// The same as the child of another program, such as a profiler: its name and its arguments.
    pub(crate) fn start_host_under(&mut self, runner: &[&str], name: &'static str) -> Result<()> {
        let log = File::options()
            .create(true)
            .append(true)
            .open(self.log(name))?;
        let mut wash = self.wash.clone();
        if let Some(program) = runner.first() {
            wash.program = PathBuf::from(program);
        }
        let mut command = wash.command();
        if let Some(arguments) = runner.get(1..) {
            command.args(arguments).arg(&self.wash.program);
        }
        command
            .args(["up", "--friendly-name", name, "--state-dir"])
            .arg(self.file(name))
            .stdout(log.try_clone()?)
            .stderr(log)
            .stdin(Stdio::null())
            // Ctrl-C is for us, who then end the hosts in good order.
            .process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("{} can't be run", self.wash.program.display()))?;
        self.hosts.push(HostProcess { name, child });
        Ok(())
    }

    /// Fails where a host has ended by itself, with what it last said.
    pub(crate) fn check_hosts(&mut self) -> Result<()> {
        for host in &mut self.hosts {
            if let Some(status) = host.child.try_wait()? {
                let (name, directory) = (host.name, self.directory.path());
                bail!(
                    "host {name} ended with {status}: {}",
                    last_lines(&directory.join(format!("{name}.log")))
                );
            }
        }
        Ok(())
    }

    /// How many hosts have been started and not been killed.
    pub(crate) fn host_count(&self) -> usize {
        self.hosts.len()
    }

    /// Process id of a host.
    pub(crate) fn host_pid(&self, name: &str) -> Option<u32> {
        let host = self.hosts.iter().find(|host| host.name == name)?;
        Some(host.child.id())
    }

    /// Waits until so many hosts answer, and fails as soon as one has ended.
    pub(crate) async fn hosts_up(&mut self, count: usize) -> Result<String> {
        let begin = Instant::now();
        loop {
            self.check_hosts()?;
            // Before the first host has joined, the question itself fails.
            if let Ok(answer) = self.wash.json(&["get", "hosts"]).await {
                let names: Vec<_> = answer["hosts"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|host| host["friendly_name"].as_str())
                    .collect();
                if names.len() >= count {
                    return Ok(format!("{} answer", names.join(" and ")));
                }
            }
            if begin.elapsed() > UP_WITHIN {
                bail!(
                    "{count} hosts did not come up within {} s",
                    UP_WITHIN.as_secs()
                );
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Signs an actor by its trellis.toml; gives back the signed component.
    pub(crate) async fn sign(&self, actor: &str) -> Result<String> {
        let signed = self.file(&format!("{actor}_signed.wasm"));
        let (directory, signed) = (self.actors.join(actor), text(&signed)?.to_owned());
        // Where the component is, said outright: cargo would answer for the directory that it builds into by itself.
        let component = self.components.join(format!("{actor}.wasm"));
        let line = [
            "build",
            "--no-build",
            "--path",
            text(&directory)?,
            "--artifact",
            text(&component)?,
            "--destination",
            &signed,
        ];
        self.wash.run(&line).await?;
        Ok(signed)
    }

    /// Kills a host as a power cut would.
    pub(crate) fn kill_host(&mut self, name: &str) -> Result<()> {
        let index = self
            .hosts
            .iter()
            .position(|host| host.name == name)
            .with_context(|| format!("no host is called {name}"))?;
        let mut host = self.hosts.remove(index);
        host.child.kill()?;
        host.child.wait()?;
        Ok(())
    }

    fn log(&self, name: &str) -> PathBuf {
        self.file(&format!("{name}.log"))
    }

    /// Ends everything in good order and removes the directory. After a failure it shows what the hosts last said.
    pub(crate) fn close(mut self, well: bool) -> Result<()> {
        if !well {
            for name in ["north", "south"] {
                eprintln!(
                    "\nlast lines of host {name}:\n{}",
                    last_lines(&self.log(name))
                );
            }
        }
        let mut late = Vec::new();
        for host in &self.hosts {
            let pid = i32::try_from(host.child.id()).ok().and_then(Pid::from_raw);
            if let Some(pid) = pid {
                // It may have ended by itself; then there is nobody to tell.
                let _ = kill_process(pid, Signal::TERM);
            }
        }
        let deadline = Instant::now() + END_WITHIN;
        for host in &mut self.hosts {
            while host.child.try_wait()?.is_none() {
                if Instant::now() >= deadline {
                    late.push(host.name);
                    host.child.kill()?;
                    host.child.wait()?;
                    break;
                }
                thread::sleep(Duration::from_millis(20));
            }
        }
        self.hosts.clear();
        self.nats.stop(END_WITHIN).context("NATS did not stop")?;
        self.directory
            .close()
            .context("the temporary directory can't be removed")?;
        if late.is_empty() {
            return Ok(());
        }
        bail!(
            "did not end within {} s: {}",
            END_WITHIN.as_secs(),
            late.join(", ")
        )
    }
}

impl Drop for HostProcess {
    /// For every way out that is not `close`.
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

fn text(path: &Path) -> Result<&str> {
    path.to_str().context("a path is not UTF-8")
}

fn free_port() -> Result<u16> {
    // The port may be taken between this moment and the provider's; the tour then says so.
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

fn last_lines(log: &Path) -> String {
    let text = std::fs::read(log).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(LOG_LINES)..].join("\n")
}
