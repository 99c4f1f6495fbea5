//! The servers that take part, each with the same answer to the same request.

use std::net::TcpListener;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use tokio::net::TcpStream;
use trellis_nats_server::NatsServer;

use crate::project::Project;
use crate::stage::Stage;

/// Longest that a server may take to answer.
const UP_WITHIN: Duration = Duration::from_secs(30);

/// A running server.
pub(super) struct Contestant {
    pub(super) name: &'static str,
    pub(super) address: String,
    /// The process whose time on the processor counts.
    pub(super) pid: u32,
    runs: Runs,
}

enum Runs {
    Process(Ended),
    Stage(Box<Stage>),
}

/// A process that is killed when nobody needs it any more. None of these servers has anything to lose.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Contestant {
    pub(super) fn bare_hyper(project: &Project) -> Result<Self> {
        let address = free_address()?;
        let mut command = Command::new(project.release_programs().join("bench-hyper"));
        command.args(["--listen", &address]);
        Self::process("bare hyper", address, command)
    }

    pub(super) fn wasmtime_serve(project: &Project, program: &Path) -> Result<Self> {
        let address = free_address()?;
        let hello = project.components().join("hello.wasm");
        let mut command = Command::new(program);
        // A fresh instance for each request, as hosts do it.
        command
            .args([
                "serve",
                "-S",
                "cli",
                "-O",
                "pooling-allocator",
                "--addr",
                &address,
            ])
            .arg(hello);
        Self::process("wasmtime serve", address, command)
    }

    fn process(name: &'static str, address: String, mut command: Command) -> Result<Self> {
        let child = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .with_context(|| format!("{name} can't be started"))?;
        Ok(Self {
            name,
            address,
            pid: child.id(),
            runs: Runs::Process(Ended(child)),
        })
    }

    /// A host with the built-in HTTP server and the signed hello actor.
    pub(super) async fn trellis(project: &Project, nats_server: &NatsServer) -> Result<Self> {
        let program = project.release_programs().join("wash");
        let mut stage = Stage::open(project, program, nats_server)?;
        let deployed = deploy(&mut stage).await;
        if let Err(error) = deployed {
            stage.close(false)?;
            return Err(error);
        }
        Ok(Self {
            name: "trellis",
            address: stage.address.clone(),
            pid: stage.host_pid("bench").context("the host is gone")?,
            runs: Runs::Stage(Box::new(stage)),
        })
    }

    /// Waits until it takes connections.
    pub(super) async fn answers(&self) -> Result<()> {
        let begin = Instant::now();
        while TcpStream::connect(&self.address).await.is_err() {
            if begin.elapsed() > UP_WITHIN {
                bail!("{} does not listen at {}", self.name, self.address);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Ok(())
    }

    pub(super) fn stop(self) -> Result<()> {
        match self.runs {
            Runs::Process(process) => {
                drop(process);
                Ok(())
            }
            Runs::Stage(stage) => stage.close(true),
        }
    }
}

async fn deploy(stage: &mut Stage) -> Result<()> {
    stage.start_host("bench")?;
    stage.hosts_up(1).await?;
    let hello = stage.sign("hello").await?;
    let address = format!("address={}", stage.address);
    let wash = &stage.wash;
    wash.run(&["config", "put", "web", &address]).await?;
    wash.run(&["start", "provider", "http-server", "http"])
        .await?;
    wash.run(&[
        "start",
        "component",
        &hello,
        "hello",
        "--max-instances",
        "500",
    ])
    .await?;
    wash.run(&[
        "link",
        "put",
        "http",
        "hello",
        "wasi",
        "http",
        "--interface",
        "incoming-handler",
        "--source-config",
        "web",
    ])
    .await?;
    Ok(())
}

fn free_address() -> Result<String> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.to_string())
}
