//! `cargo xtask actors`: the example actors as unsigned components.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::project::Project;
use crate::setup;
use crate::step::step;
use crate::wasm_target::{TRIPLE, WasmTarget};

/// Options of `cargo xtask actors`.
#[derive(Debug, Default, clap::Args)]
pub(crate) struct Options {
    /// Check their format and lints instead of building them.
    #[arg(long)]
    lint: bool,
}

/// Builds or checks them.
pub(crate) fn run(project: &Project, options: &Options) -> Result<()> {
    let wasm = setup::wasm(project)?;
    if options.lint {
        lint(project, &wasm)
    } else {
        build(project, &wasm).map(drop)
    }
}

/// What the full check demands of the main workspace, for theirs.
fn lint(project: &Project, wasm: &WasmTarget) -> Result<()> {
    step("actors: format", || {
        command::show(cargo(project).args(["fmt", "--all", "--check"]))?;
        Ok(((), "as rustfmt wants it".to_owned()))
    })?;
    step("actors: clippy", || {
        let mut clippy = cargo(project);
        clippy
            .args([
                "clippy",
                "--quiet",
                "--release",
                "--target",
                TRIPLE,
                "--target-dir",
            ])
            .arg(project.actors_target())
            .args(["--", "-D", "warnings"]);
        wasm.apply(&mut clippy);
        command::show(&mut clippy)?;
        Ok(((), "no warnings".to_owned()))
    })
}

/// A cargo command in the actors' workspace.
fn cargo(project: &Project) -> Command {
    let mut cargo = project.cargo();
    cargo.current_dir(project.actors());
    cargo
}

/// Builds them for a target that is ready; gives back the directory that holds the `.wasm` files.
pub(crate) fn build(project: &Project, wasm: &WasmTarget) -> Result<PathBuf> {
    step("actors", || {
        let manifest = project.actors().join("Cargo.toml");
        if !manifest.is_file() {
            bail!("{} is missing", manifest.display());
        }
        let mut cargo = cargo(project);
        cargo
            .args([
                "build",
                "--quiet",
                "--release",
                "--target",
                TRIPLE,
                "--target-dir",
            ])
            .arg(project.actors_target());
        wasm.apply(&mut cargo);
        command::show(&mut cargo)?;

        let out = project.components();
        let count = fs::read_dir(&out)
            .with_context(|| format!("{} can't be read", out.display()))?
            .filter_map(Result::ok)
            .filter(|entry| {
                // What `wash build` signed lies beside what was built.
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.ends_with(".wasm") && !name.ends_with("_s.wasm")
            })
            .count();
        if count == 0 {
            bail!("no component was built into {}", out.display());
        }
        let how = format!("{count} components in {}", out.display());
        Ok((out, how))
    })
}
