//! `cargo xtask test`: everything that tests need, then the tests.

use std::ffi::OsString;
use std::time::Instant;

use anyhow::Result;
use trellis_nats_server::PATH_VARIABLE;

use crate::project::Project;
use crate::step::{note, took};
use crate::{actors, command, setup};

/// Tells the tests where the built actors are.
const ACTORS_DIR_VARIABLE: &str = "TRELLIS_ACTORS_DIR";

/// Options of `cargo xtask test`.
#[derive(Debug, clap::Args)]
pub(crate) struct Options {
    /// Passed on to `cargo test --workspace`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    arguments: Vec<OsString>,
}

/// Runs all tests: one profile and one feature set, or the big dependencies would be built twice.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let ready = setup::run(project, &setup::Options::default())?;
    let backends = setup::backends(project)?;
    let actors = actors::build(project, &ready.wasm)?;
    let begin = Instant::now();
    command::show(
        project
            .cargo()
            .args(["test", "--workspace"])
            .args(&options.arguments)
            .env(PATH_VARIABLE, &ready.nats_server.path)
            .env(ACTORS_DIR_VARIABLE, &actors)
            .envs(backends.variables()),
    )?;
    note(&format!("tests passed ({})", took(begin)));
    Ok(())
}
