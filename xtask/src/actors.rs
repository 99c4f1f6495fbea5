//! `cargo xtask actors`: the example actors as unsigned components.

use std::fs;
use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};

use crate::command;
use crate::project::Project;
use crate::setup;
use crate::step::step;
use crate::wasm_target::{TRIPLE, WasmTarget};

/// Builds them; gives back the directory that holds the `.wasm` files.
pub(crate) fn run(project: &Project) -> Result<PathBuf> {
    let wasm = setup::wasm(project)?;
    build(project, &wasm)
}

/// Builds them for a target that is ready.
pub(crate) fn build(project: &Project, wasm: &WasmTarget) -> Result<PathBuf> {
    step("actors", || {
        let actors = project.actors();
        let manifest = actors.join("Cargo.toml");
        if !manifest.is_file() {
            bail!("{} is missing", manifest.display());
        }
        let mut cargo = project.cargo();
        cargo
            .current_dir(&actors)
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

        let out = project.actors_target().join(TRIPLE).join("release");
        let count = fs::read_dir(&out)
            .with_context(|| format!("{} can't be read", out.display()))?
            .filter_map(Result::ok)
            .filter(|entry| {
                entry
                    .path()
                    .extension()
                    .is_some_and(|extension| extension == "wasm")
            })
            .count();
        if count == 0 {
            bail!("no component was built into {}", out.display());
        }
        let how = format!("{count} components in {}", out.display());
        Ok((out, how))
    })
}
