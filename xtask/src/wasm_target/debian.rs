//! The sources from Debian's packages, without installing any and without root.
//!
//! The suite that carries them is usually not configured, and asking for it system-wide would change which packages the
//! machine offers. So apt runs on a state, a cache and a source list of our own. The archive's address and key are
//! those of the machine's own Debian source, and so are its proxy settings.

use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::sources::{self, Sources};
use super::sources_list::{self, Archive};
use crate::command::{self, QUESTION_WITHIN};
use crate::compiler::Compiler;

/// The suite that follows the compiler's releases.
const SUITE: &str = "trixie-backports";

/// The standard library's source.
const RUST_SOURCE: &str = "rust-src";

/// The C library for WebAssembly.
const WASI_LIBC: &str = "wasi-libc";

/// Longest that the package list, or the two packages of 46 MB, may take.
const DOWNLOAD_WITHIN: Duration = Duration::from_secs(600);

/// Longest that unpacking one package may take.
const UNPACK_WITHIN: Duration = Duration::from_secs(300);

/// Downloads and unpacks the two packages under `scratch`.
pub(super) fn sources(compiler: &Compiler, scratch: &Path) -> Result<Sources> {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let codename = debian_codename(&release).context("this machine is no Debian")?;
    let archive = sources_list::archive(Path::new("/etc/apt"), codename)
        .context("this machine's apt names no Debian archive")?;
    sources::empty(scratch)?;
    let apt = Apt::prepare(scratch, &archive)?;
    apt.update()?;
    let version = apt.version_for(compiler)?;
    let downloads = scratch.join("packages");
    apt.download(
        &downloads,
        &[format!("{RUST_SOURCE}={version}"), WASI_LIBC.to_owned()],
    )?;

    let unpacked = scratch.join("unpacked");
    for entry in fs::read_dir(&downloads).context("nothing was downloaded")? {
        let package = entry.context("nothing was downloaded")?.path();
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("-x").arg(&package).arg(&unpacked);
        command::read(&mut dpkg, UNPACK_WITHIN)
            .with_context(|| format!("{} can't be unpacked", package.display()))?;
    }
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

/// apt on private directories.
struct Apt {
    configuration: std::path::PathBuf,
}

impl Apt {
    fn prepare(scratch: &Path, archive: &Archive) -> Result<Self> {
        let directory = scratch.join("apt");
        for needed in ["parts", "state/lists/partial", "cache/archives/partial"] {
            let needed = directory.join(needed);
            fs::create_dir_all(&needed)
                .with_context(|| format!("{} can't be made", needed.display()))?;
        }
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("{} can't be written", path.display()))
        };
        write("parts/suite.sources", &archive.stanza(SUITE))?;
        write("status", "")?;
        // How to reach an archive (proxies, certificates, retries) is the machine's business; hooks, which expect to be
        // root and clean the real cache, are not ours to run.
        let machine = command::read(Command::new("apt-config").arg("dump"), QUESTION_WITHIN)?;
        write("apt.conf", &configuration(&directory, &machine)?)?;
        Ok(Self {
            configuration: directory.join("apt.conf"),
        })
    }

    fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.configuration)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    fn update(&self) -> Result<()> {
        let mut update = self.command("apt-get");
        // Without this an unreachable archive is a warning and an empty list.
        update.args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        command::read(&mut update, DOWNLOAD_WITHIN).map(drop)
    }

    /// The package's version for exactly this compiler: the library and the compiler know each other's insides.
    fn version_for(&self, compiler: &Compiler) -> Result<String> {
        let mut madison = self.command("apt-cache");
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

    fn download(&self, into: &Path, packages: &[String]) -> Result<()> {
        fs::create_dir_all(into).with_context(|| format!("{} can't be made", into.display()))?;
        let mut download = self.command("apt-get");
        download
            .current_dir(into)
            .args(["-q", "download"])
            .args(packages);
        command::read(&mut download, DOWNLOAD_WITHIN).map(drop)
    }
}

/// apt's configuration: our directories, and of the machine's all that says how to reach an archive.
fn configuration(directory: &Path, machine: &str) -> Result<String> {
    let ours = directory
        .to_str()
        .context("the target directory's path is not UTF-8")?;
    ensure!(!ours.contains(['"', ';', '\n']), "apt can't work in {ours}");
    let mut text = format!(
        "Dir::Etc::Main \"/dev/null\";\n\
         Dir::Etc::Parts \"/dev/null\";\n\
         Dir::Etc::SourceList \"/dev/null\";\n\
         Dir::Etc::SourceParts \"{ours}/parts\";\n\
         Dir::State \"{ours}/state\";\n\
         Dir::State::Status \"{ours}/status\";\n\
         Dir::Cache \"{ours}/cache\";\n\
         APT::Sandbox::User \"root\";\n"
    );
    for line in machine.lines().filter(|line| line.starts_with("Acquire::")) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
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
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
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

    #[test]
    fn of_the_machines_configuration_only_the_way_to_an_archive_is_kept() {
        let machine = "APT::Update::Post-Invoke:: \"rm -f /var/cache/apt/*.bin\";\nAcquire::http::Proxy \"http://proxy:3142\";\n";
        let text = configuration(Path::new("/here"), machine).unwrap();
        assert!(text.contains("Acquire::http::Proxy"));
        assert!(!text.contains("Post-Invoke"));
        assert!(configuration(Path::new("/a\"b"), "").is_err());
    }
}
