//! Where things are in this workspace.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use crate::wasm_target::TRIPLE;

/// The workspace and the directories that tasks write to, all of them under its target directory.
#[derive(Debug)]
pub(crate) struct Project {
    root: PathBuf,
    target: PathBuf,
}

impl Project {
    /// Finds the workspace that this program belongs to, whatever the working directory is.
    pub(crate) fn find() -> Result<Self> {
        // Cargo says it at run time; a program started by hand falls back on where it was built.
        let member = env::var_os("CARGO_MANIFEST_DIR")
            .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")), PathBuf::from);
        let root = member
            .join("..")
            .canonicalize()
            .with_context(|| format!("{} is not in a workspace", member.display()))?;
        let target = match env::var_os("CARGO_TARGET_DIR") {
            Some(target) if !target.is_empty() => std::path::absolute(PathBuf::from(target))
                .context("CARGO_TARGET_DIR names no directory")?,
            _ => root.join("target"),
        };
        Ok(Self { root, target })
    }

    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The workspace of the example actors.
    pub(crate) fn actors(&self) -> PathBuf {
        self.root.join("actors")
    }

    /// The actors' own target directory: they compile for another target and would lock ours.
    pub(crate) fn actors_target(&self) -> PathBuf {
        self.target.join("actors")
    }

    /// The workspace's own programs, as `cargo build` leaves them.
    pub(crate) fn programs(&self) -> PathBuf {
        self.target.join("debug")
    }

    /// The same as measured: `cargo build --release`.
    pub(crate) fn release_programs(&self) -> PathBuf {
        self.target.join("release")
    }

    /// Where building the actors leaves their components.
    pub(crate) fn components(&self) -> PathBuf {
        self.actors_target().join(TRIPLE).join("release")
    }

    /// What setting up leaves for the next time.
    pub(crate) fn setup(&self) -> PathBuf {
        self.target.join("setup")
    }

    /// Programs that are installed for this workspace alone.
    pub(crate) fn tools(&self) -> PathBuf {
        self.target.join("tools")
    }

    /// A `cargo` command at the workspace's root.
    pub(crate) fn cargo(&self) -> Command {
        let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
        command.current_dir(&self.root);
        command
    }
}
