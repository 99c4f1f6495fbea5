//! The Rust compiler that is in use.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail};

use crate::command::{self, QUESTION_WITHIN};

/// Oldest compiler that builds the workspace; the same as `rust-version` in its manifest.
const RELEASE_MIN: (u32, u32) = (1, 95);

/// What `rustc` says about itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Compiler {
    /// The command to run.
    pub(crate) rustc: PathBuf,
    /// `1.95.0`.
    pub(crate) release: String,
    /// Identifies the exact build; libraries of another build can't be used with it.
    pub(crate) commit: String,
    /// `x86_64-unknown-linux-gnu`.
    pub(crate) host: String,
    /// Where its libraries are.
    pub(crate) sysroot: PathBuf,
}

impl Compiler {
    /// Asks the compiler that cargo would use, and refuses one that is too old.
    pub(crate) fn find() -> Result<Self> {
        let rustc = env::var_os("RUSTC").unwrap_or_else(|| OsString::from("rustc"));
        let about = command::read(Command::new(&rustc).arg("-vV"), QUESTION_WITHIN)
            .context("no Rust compiler: install Rust 1.95 or newer")?;
        let sysroot = command::read(
            Command::new(&rustc).args(["--print", "sysroot"]),
            QUESTION_WITHIN,
        )?;
        let compiler = Self::from_answers(&about, sysroot.trim_end_matches('\n'))
            .with_context(|| format!("{} -vV gives no release", Path::new(&rustc).display()))?;
        match release_numbers(&compiler.release) {
            Some(found) if found >= RELEASE_MIN => Ok(compiler.with_own_binary(rustc)),
            _ => bail!(
                "rustc is {}, but {}.{} or newer is needed: `rustup update stable` brings it",
                compiler.release,
                RELEASE_MIN.0,
                RELEASE_MIN.1
            ),
        }
    }

    fn from_answers(about: &str, sysroot: &str) -> Option<Self> {
        let field = |key: &str| {
            about
                .lines()
                .find_map(|line| line.strip_prefix(key)?.strip_prefix(": "))
                .map(str::to_owned)
        };
        Some(Self {
            rustc: PathBuf::new(),
            release: field("release")?,
            commit: field("commit-hash")?,
            host: field("host")?,
            sysroot: PathBuf::from(sysroot),
        })
    }

    /// Prefers the compiler inside the sysroot to a launcher on PATH, which may choose another one elsewhere.
    fn with_own_binary(mut self, rustc: OsString) -> Self {
        let own = self.sysroot.join("bin").join("rustc");
        self.rustc = if own.is_file() { own } else { rustc.into() };
        self
    }
}

fn release_numbers(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(|part| part.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    const ABOUT: &str = "rustc 1.95.0 (59807616e 2026-04-14)\nbinary: rustc\ncommit-hash: 59807616e1fa\n\
        commit-date: 2026-04-14\nhost: x86_64-unknown-linux-gnu\nrelease: 1.95.0\nLLVM version: 22.1.2\n";

    #[test]
    fn the_compilers_answers_are_read() {
        let compiler = Compiler::from_answers(ABOUT, "/opt/rust").unwrap();
        assert_eq!(compiler.release, "1.95.0");
        assert_eq!(compiler.commit, "59807616e1fa");
        assert_eq!(compiler.host, "x86_64-unknown-linux-gnu");
        assert_eq!(compiler.sysroot, Path::new("/opt/rust"));
    }

    #[test]
    fn an_answer_without_a_release_is_none() {
        assert_eq!(Compiler::from_answers("hello", "/"), None);
    }

    #[test]
    fn releases_compare_as_numbers() {
        assert!(release_numbers("1.100.0") > release_numbers("1.95.0"));
        assert!(release_numbers("1.96.0-nightly").unwrap() >= RELEASE_MIN);
        assert!(release_numbers("1.94.1").unwrap() < RELEASE_MIN);
        assert_eq!(release_numbers("x"), None);
    }
}
