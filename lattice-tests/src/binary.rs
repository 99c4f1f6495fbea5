//! Programs and components that the tests run but do not build themselves.

use std::path::{Path, PathBuf};

/// Names the directory with the built actors, for whoever builds them elsewhere.
pub const ACTORS_DIR_VARIABLE: &str = "TRELLIS_ACTORS_DIR";

/// A program of this workspace, beside the test that runs.
///
/// # Panics
/// Where it has not been built.
pub fn program(name: &str) -> PathBuf {
    let test = std::env::current_exe().expect("a test knows its own path");
    let found = test
        .ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| {
        panic!("the program `{name}` is not built: run `cargo build --workspace --bins`, or all tests at once")
    })
}

/// The unsigned component of one of the actors.
///
/// # Panics
/// Where it has not been built.
pub fn component(actor: &str) -> Vec<u8> {
    let directory = std::env::var_os(ACTORS_DIR_VARIABLE)
        .filter(|value| !value.is_empty())
        .map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/actors/wasm32-wasip2/release"),
            PathBuf::from,
        );
    let path = directory.join(format!("{actor}.wasm"));
    std::fs::read(&path).unwrap_or_else(|error| {
        panic!(
            "{} can't be read ({error}): run `cargo xtask actors`",
            path.display()
        )
    })
}
