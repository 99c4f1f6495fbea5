//! The target from rustup, where it manages the compiler in use.

use std::fs;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::TRIPLE;
use crate::command::{self, QUESTION_WITHIN};
use crate::compiler::Compiler;
use crate::project::Project;

/// Longest that the download may take: 20 MB over a slow line, or rustup's own tries against no network.
const ADD_WITHIN: Duration = Duration::from_secs(300);

/// Adds the target to the toolchain in use. Downloads no toolchain.
pub(super) fn add_target(project: &Project, compiler: &Compiler) -> Result<()> {
    let managed = command::read(rustup(project).args(["which", "rustc"]), QUESTION_WITHIN)?;
    let managed =
        fs::canonicalize(managed.trim_end_matches('\n')).context("rustup names no compiler")?;
    let used = fs::canonicalize(&compiler.rustc)
        .with_context(|| format!("{} can't be followed", compiler.rustc.display()))?;
    ensure!(managed == used, "it does not manage {}", used.display());
    command::read(rustup(project).args(["target", "add", TRIPLE]), ADD_WITHIN)?;
    Ok(())
}

fn rustup(project: &Project) -> Command {
    let mut rustup = Command::new("rustup");
    // Where a directory has a toolchain of its own, it is the workspace's that counts. RUSTUP_TOOLCHAIN, set by cargo's
    // launcher, is inherited and says the same.
    rustup
        .current_dir(project.root())
        .env("RUSTUP_AUTO_INSTALL", "0");
    rustup
}
