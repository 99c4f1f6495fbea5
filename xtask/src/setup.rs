//! `cargo xtask setup`: what building and testing need, installed where it is missing.

use anyhow::Result;
use trellis_nats_server::NatsServer;

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

/// A machine that can build and test everything.
#[derive(Debug)]
pub(crate) struct Ready {
    /// How actors are built.
    pub(crate) wasm: WasmTarget,
    /// What the tests start.
    pub(crate) nats_server: NatsServer,
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
