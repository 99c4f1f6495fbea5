//! `cargo-deny`, which checks licences, bans and sources. Only the full check needs it, not the tests.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::command::{self, QUESTION_WITHIN};
use crate::project::Project;
use crate::step;

/// The release whose configuration format and verdicts we know; another may judge the same tree differently.
const VERSION: &str = "0.20.2";

/// Finds or installs it; gives back a few words on which.
pub(crate) fn ensure(project: &Project) -> Result<String> {
    let tools = project.tools();
    let ours = tools.join("bin").join("cargo-deny");
    for candidate in [ours, PathBuf::from("cargo-deny")] {
        if is_wanted(&candidate) {
            return Ok(format!("{VERSION}, {}", candidate.display()));
        }
    }
    step::note(&format!(
        "building cargo-deny {VERSION}, once, into {}",
        tools.display()
    ));
    let scratch = project.setup().join("cargo-deny");
    let mut install = project.cargo();
    install
        // Unoptimised and without debug information: a minute to build, and each check still takes a second.
        .args([
            "install",
            "--quiet",
            "--locked",
            "--debug",
            "cargo-deny",
            "--version",
            VERSION,
            "--root",
        ])
        .arg(&tools)
        .arg("--target-dir")
        .arg(&scratch)
        .env("CARGO_PROFILE_DEV_DEBUG", "0")
        .env_remove("RUSTFLAGS");
    command::show(&mut install).with_context(|| {
        format!("cargo-deny {VERSION} can't be built: install it and put it on PATH")
    })?;
    // 700 MB of object files that nobody needs again; leaving them would be untidy but not wrong.
    let _ = fs::remove_dir_all(&scratch);
    Ok(format!("{VERSION}, built into {}", tools.display()))
}

fn is_wanted(program: &Path) -> bool {
    command::read(Command::new(program).arg("--version"), QUESTION_WITHIN)
        .is_ok_and(|answer| answer.split_whitespace().nth(1) == Some(VERSION))
}
