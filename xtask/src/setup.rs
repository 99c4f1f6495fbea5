//! `cargo xtask setup`: what building and testing need, installed where it is missing.

use anyhow::Result;
use trellis_nats_server::NatsServer;

use crate::backends::{self, Backends};
use crate::compiler::Compiler;
use crate::project::Project;
use crate::step::step;
use crate::wasm_target::{self, WasmTarget};
use crate::{c_compiler, cargo_deny, nats_server};

/// Options of `cargo xtask setup`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Also install what only the full check (`.ci/run`) needs.
    #[arg(long)]
    ci: bool,
}

/// A machine that can build everything and run it.
#[derive(Debug)]
pub(crate) struct Ready {
    /// How actors are built.
    pub(crate) wasm: WasmTarget,
    /// What the tests start.
    pub(crate) nats_server: NatsServer,
}

/// Checks, and gets what is missing, for building, testing and the full check.
pub(crate) fn everything(project: &Project, options: &Options) -> Result<()> {
    run(project, options)?;
    backends(project)?;
    if options.ci {
        step("valgrind", || {
            backends::valgrind(project).map(|how| ((), how))
        })?;
    }
    Ok(())
}

/// The part that the tests of providers need: servers of Redis and PostgreSQL, and a registry.
pub(crate) fn backends(project: &Project) -> Result<Backends> {
    step("Redis, PostgreSQL, a registry", || {
        backends::ensure(project)
    })
}

/// Checks, and installs what is missing. Quick where all is there.
pub(crate) fn run(project: &Project, options: &Options) -> Result<Ready> {
    let wasm = wasm(project)?;
    let nats_server = step("nats-server", || {
        let server = nats_server::ensure(project)?;
        let how = format!(
            "{} {}, {}",
            server.version,
            server.origin,
            server.path.display()
        );
        Ok((server, how))
    })?;
    if options.ci {
        step("cargo-deny", || {
            cargo_deny::ensure(project).map(|how| ((), how))
        })?;
    }
    Ok(Ready { wasm, nats_server })
}

/// The part that building actors needs.
pub(crate) fn wasm(project: &Project) -> Result<WasmTarget> {
    let compiler = step("compilers", || {
        let compiler = Compiler::find()?;
        let c_compiler = c_compiler::check()?;
        let how = format!("rustc {}, {c_compiler}", compiler.release);
        Ok((compiler, how))
    })?;
    step(wasm_target::TRIPLE, || {
        wasm_target::ensure(project, &compiler)
    })
}
