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

/// Says how many tests of one program run at once.
const THREADS_VARIABLE: &str = "RUST_TEST_THREADS";

/// Tests at once in one program. Most of the end-to-end tests wait for servers rather than compute, so more than the
/// processors of a small machine get through sooner.
const THREADS_MIN: usize = 4;

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
    // The end-to-end tests run every program, and cargo builds for tests only those of packages that have tests beside
    // their sources.
    command::show(project.cargo().args(["build", "--workspace", "--bins"]))?;
    let mut tests = project.cargo();
    tests
        .args(["test", "--workspace"])
        .args(&options.arguments)
        .env(PATH_VARIABLE, &ready.nats_server.path)
        .env(ACTORS_DIR_VARIABLE, &actors)
        .envs(backends.variables());
    if std::env::var_os(THREADS_VARIABLE).is_none() {
        let processors = std::thread::available_parallelism().map_or(1, usize::from);
        tests.env(THREADS_VARIABLE, processors.max(THREADS_MIN).to_string());
    }
    command::show(&mut tests)?;
    note(&format!("tests passed ({})", took(begin)));
    Ok(())
}
