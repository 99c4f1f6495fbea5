//! The sources from Debian's packages, without installing any and without root.
//!
//! The suite that carries them is usually not configured, and asking for it system-wide would change which packages the
//! machine offers. So apt runs on a source list of our own, too (see [`crate::apt`]). The archive's address and key are
//! those of the machine's own Debian source.

use std::fs;
use std::path::Path;

use anyhow::{Context as _, Result};

use super::sources::{self, Sources};
use super::sources_list;
use crate::apt::{self, Apt, Offer};
use crate::command::{self, QUESTION_WITHIN};
use crate::compiler::Compiler;

/// The suite that follows the compiler's releases.
const SUITE: &str = "trixie-backports";

/// The standard library's source.
const RUST_SOURCE: &str = "rust-src";

/// The C library for WebAssembly.
const WASI_LIBC: &str = "wasi-libc";

/// Downloads and unpacks the two packages under `scratch`.
pub(super) fn sources(compiler: &Compiler, scratch: &Path) -> Result<Sources> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = debian_codename(&release).context("this machine is no Debian")?;
    let archive = sources_list::archive(Path::new("/etc/apt"), codename)
        .context("this machine's apt names no Debian archive")?;
    sources::empty(scratch)?;
    let apt = Apt::prepare(scratch, Offer::Stanza(&archive.stanza(SUITE)))?;
    apt.update()?;
    let version = version_for(&apt, compiler)?;
    let downloads = scratch.join("packages");
    apt.download(
        &downloads,
        &[format!("{RUST_SOURCE}={version}"), WASI_LIBC.to_owned()],
    )?;

    let unpacked = scratch.join("unpacked");
    apt::unpack(&downloads, &unpacked)?;
    Sources::at(
        unpacked.join(format!("usr/src/rustc-{}/library", compiler.release)),
        unpacked.join("usr/lib").join(super::TRIPLE),
    )
}

/// The codename in `/etc/os-release`, if the system is Debian itself: a derivative's archive lacks the suite.
fn debian_codename(os_release: &str) -> Option<&str> {
    let field = |key: &str| {
        os_release
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
            .map(|value| value.trim_matches('"'))
    };
    field("VERSION_CODENAME").filter(|_| field("ID") == Some("debian"))
}

/// The package's version for exactly this compiler: the library and the compiler know each other's insides.
fn version_for(apt: &Apt, compiler: &Compiler) -> Result<String> {
    let mut madison = apt.command("apt-cache");
    madison.args(["madison", RUST_SOURCE]);
    let table = command::read(&mut madison, QUESTION_WITHIN)?;
    let versions = versions(&table);
    let wanted = versions
        .iter()
        .find(|version| is_release(version, &compiler.release))
        .with_context(|| {
            format!(
                "{SUITE} has no {RUST_SOURCE} {}, only {}",
                compiler.release,
                if versions.is_empty() {
                    "none at all".to_owned()
                } else {
                    versions.join(", ")
                }
            )
        })?;
    Ok((*wanted).to_owned())
}

/// The versions in a table of `apt-cache madison`, binary packages only, newest first.
fn versions(table: &str) -> Vec<&str> {
    table
        .lines()
        .filter(|line| line.ends_with("Packages"))
        .filter_map(|line| line.split('|').nth(1).map(str::trim))
        .collect()
}

/// Whether `1.95.0+dfsg1-2~bpo13+1` packages release `1.95.0`.
fn is_release(version: &str, release: &str) -> bool {
    version
        .strip_prefix(release)
        .is_some_and(|rest| rest.starts_with(['+', '-', '~']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_debian_itself_has_a_codename_for_us() {
        let debian = "ID=debian\nVERSION_CODENAME=bookworm\n";
        let derivative = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n";
        assert_eq!(debian_codename(debian), Some("bookworm"));
        assert_eq!(debian_codename(derivative), None);
        assert_eq!(debian_codename(""), None);
    }

    #[test]
    fn the_version_is_chosen_by_the_compilers_release() {
        let table = "  rust-src | 1.96.1+dfsg1-2~bpo13+1 | http://archive/debian trixie-backports/main amd64 Packages\n\
                     \x20 rust-src | 1.95.0+dfsg1-2~bpo13+1 | http://archive/debian trixie-backports/main amd64 Packages\n\
                     \x20    rustc | 1.95.0+dfsg1-2~bpo13+1 | http://archive/debian trixie-backports/main Sources\n";
        let all = versions(table);
        assert_eq!(all.len(), 2);
        let wanted: Vec<_> = all
            .iter()
            .filter(|version| is_release(version, "1.95.0"))
            .collect();
        assert_eq!(wanted, [&"1.95.0+dfsg1-2~bpo13+1"]);
    }

    #[test]
    fn a_longer_number_is_another_release() {
        assert!(is_release("1.9.0-1", "1.9.0"));
        assert!(!is_release("1.9.01-1", "1.9.0"));
        assert!(!is_release("1.95.0-1", "1.9"));
    }
}
