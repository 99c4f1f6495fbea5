//! Who takes part: an address that answers, and the processes behind it.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;
use tokio::net::TcpStream;

use super::Bench;
use super::process::Who;

/// Longest that a server may take to answer.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A running server.
#[derive(Debug)]
pub(super) struct Contestant {
    pub(super) name: String,
    /// `127.0.0.1:<port>`.
    pub(super) address: String,
    /// What is asked for.
    pub(super) path: String,
    /// The processes whose time on the processor counts.
    pub(super) servers: Vec<Who>,
    /// And those of the backend, which are told apart.
    pub(super) backend: Vec<Who>,
    _process: Option<Ended>,
}

/// A process that is killed when nobody needs it any more. None of these has anything to lose.
#[derive(Debug)]
pub(super) struct Ended(Child);

impl Ended {
    /// Starts a program that says nothing.
    pub(super) fn start(command: &mut Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{} can't be run", command.get_program().display()))?;
        Ok(Self(child))
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Contestant {
    /// Hyper alone, or with the bare client of a backend: its kind, its URL and its processes.
    pub(super) fn bare(
        bench: &Bench<'_>,
        name: &str,
        backend: Option<(&str, &str, Who)>,
    ) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(bench.program("bench-bare"));
        command.args(["--listen", &address]);
        let mut backends = Vec::new();
        if let Some((kind, url, who)) = backend {
            command.args(["--backend", kind, "--url", url]);
            backends.push(who);
        }
        Self::process(name, address, &mut command, backends)
    }

    /// The same component without a lattice.
    pub(super) fn wasmtime_serve(program: &Path, component: &Path) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(program);
        // A fresh instance for each request, as hosts do it.
        command
            .args(["serve", "-S", "cli", "-O", "pooling-allocator", "--addr"])
            .arg(&address)
            .arg(component);
        Self::process("wasmtime serve", address, &mut command, Vec::new())
    }

    fn process(
        name: &str,
        address: String,
        command: &mut Command,
        backend: Vec<Who>,
    ) -> Result<Self> {
        let process = Ended::start(command)?;
        Ok(Self {
            name: name.to_owned(),
            address,
            path: "/".to_owned(),
            servers: vec![Who::Tree(process.pid())],
            backend,
            _process: Some(process),
        })
    }

    /// An actor behind a host's HTTP server.
    pub(super) fn actor(
        name: &str,
        address: String,
        path: &str,
        servers: Vec<Who>,
        backend: Vec<Who>,
    ) -> Self {
        Self {
            name: name.to_owned(),
            address,
            path: path.to_owned(),
            servers,
            backend,
            _process: None,
        }
    }

    /// Waits until it answers a request well.
    pub(super) async fn answers(&self) -> Result<()> {
        let begin = Instant::now();
        loop {
            let last = if TcpStream::connect(&self.address).await.is_err() {
                "it does not listen".to_owned()
            } else {
                match super::get::get(&self.address, &self.path) {
                    Ok(answer) if answer.status == 200 => return Ok(()),
                    Ok(answer) => format!("{}: {}", answer.status, answer.body.trim()),
                    Err(error) => format!("{error:#}"),
                }
            };
            if begin.elapsed() > UP_WITHIN {
                bail!("{} at {}: {last}", self.name, self.address);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// An address that is free at this moment.
pub(super) fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}

/// The public key of a stage's host.
pub(super) async fn host_key(stage: &crate::stage::Stage, name: &str) -> Result<String> {
    let answer: Value = stage.wash.json(&["get", "hosts"]).await?;
    answer["hosts"]
        .as_array()
        .into_iter()
        .flatten()
        .find(|host| host["friendly_name"] == name)
        .and_then(|host| host["id"].as_str())
        .map(str::to_owned)
        .with_context(|| format!("no host is called {name}"))
}
