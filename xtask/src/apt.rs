//! Debian's packages without installing any, and without root.
//!
//! apt runs on a state and a cache of our own, so nothing of the machine's changes: not what it offers, not what it has,
//! and no service is started that a package brings. Packages are downloaded and unpacked, and their programs run from
//! where they lie. How an archive is reached (proxies, certificates, retries) is the machine's business.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::command::{self, QUESTION_WITHIN};

/// Longest that package lists, or some packages of 150 MB together, may take.
const DOWNLOAD_WITHIN: Duration = Duration::from_secs(600);

/// Longest that unpacking one package may take.
const UNPACK_WITHIN: Duration = Duration::from_secs(300);

/// Packages that are never unpacked beside the system's own: a loader takes one C library only, its own.
const LEFT_OUT: &[&str] = &["libc6", "libc-bin"];

/// Where packages come from.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer<'a> {
    /// One source, given as a stanza; nothing counts as installed.
    Stanza(&'a str),
    /// The machine's sources; what it has installed counts.
    Machine,
}

/// apt on private directories.
#[derive(Debug)]
pub(crate) struct Apt {
    configuration: PathBuf,
}

impl Apt {
    /// Makes the directories.
    pub(crate) fn prepare(scratch: &Path, offer: Offer<'_>) -> Result<Self> {
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
        if let Offer::Stanza(stanza) = offer {
            write("parts/suite.sources", stanza)?;
            write("status", "")?;
        }
        // Hooks, which expect to be root and clean the real cache, are not ours to run.
        let machine = command::read(Command::new("apt-config").arg("dump"), QUESTION_WITHIN)?;
        write("apt.conf", &configuration(&directory, offer, &machine)?)?;
        Ok(Self {
            configuration: directory.join("apt.conf"),
        })
    }

    /// One of apt's programs on these directories.
    pub(crate) fn command(&self, program: &str) -> Command {
        let mut command = Command::new(program);
        command
            .env("APT_CONFIG", &self.configuration)
            .env("LC_ALL", "C.UTF-8");
        command
    }

    /// Gets the package lists.
    pub(crate) fn update(&self) -> Result<()> {
        let mut update = self.command("apt-get");
        // Without this an unreachable archive is a warning and an empty list.
        update.args(["-q", "-o", "APT::Update::Error-Mode=any", "update"]);
        command::read(&mut update, DOWNLOAD_WITHIN).map(drop)
    }

    /// The packages, each as `name=version`, that these need and the machine lacks.
    pub(crate) fn missing(&self, packages: &[&str]) -> Result<Vec<String>> {
        let mut simulate = self.command("apt-get");
        simulate
            .args(["-q", "-s", "install", "--no-install-recommends"])
            .args(packages);
        Ok(installed_by(&command::read(
            &mut simulate,
            QUESTION_WITHIN,
        )?))
    }

    /// Downloads packages into a directory.
    pub(crate) fn download(&self, into: &Path, packages: &[String]) -> Result<()> {
        fs::create_dir_all(into).with_context(|| format!("{} can't be made", into.display()))?;
        let mut download = self.command("apt-get");
        download
            .current_dir(into)
            .args(["-q", "download"])
            .args(packages);
        command::read(&mut download, DOWNLOAD_WITHIN).map(drop)
    }
}

/// Unpacks all packages of a directory into another.
pub(crate) fn unpack(downloads: &Path, into: &Path) -> Result<()> {
    // `dpkg-deb` makes the last directory only.
    fs::create_dir_all(into).with_context(|| format!("{} can't be made", into.display()))?;
    for entry in fs::read_dir(downloads).context("nothing was downloaded")? {
        let package = entry.context("nothing was downloaded")?.path();
        let mut dpkg = Command::new("dpkg-deb");
        dpkg.arg("-x").arg(&package).arg(into);
        command::read(&mut dpkg, UNPACK_WITHIN)
            .with_context(|| format!("{} can't be unpacked", package.display()))?;
    }
    Ok(())
}

/// apt's configuration: our directories, and of the machine's all that says how to reach an archive.
fn configuration(directory: &Path, offer: Offer<'_>, machine: &str) -> Result<String> {
    let ours = directory
        .to_str()
        .context("the target directory's path is not UTF-8")?;
    ensure!(!ours.contains(['"', ';', '\n']), "apt can't work in {ours}");
    let mut text = format!(
        "Dir::Etc::Main \"/dev/null\";\n\
         Dir::Etc::Parts \"/dev/null\";\n\
         Dir::State \"{ours}/state\";\n\
         Dir::Cache \"{ours}/cache\";\n\
         APT::Sandbox::User \"root\";\n"
    );
    text.push_str(&match offer {
        Offer::Stanza(_) => format!(
            "Dir::Etc::SourceList \"/dev/null\";\n\
             Dir::Etc::SourceParts \"{ours}/parts\";\n\
             Dir::State::Status \"{ours}/status\";\n"
        ),
        Offer::Machine => "Dir::State::Status \"/var/lib/dpkg/status\";\n".to_owned(),
    });
    for line in machine.lines().filter(|line| line.starts_with("Acquire::")) {
        text.push_str(line);
        text.push('\n');
    }
    Ok(text)
}

/// What a simulated installation would install: lines such as `Inst name [old] (version archive [architecture])`.
fn installed_by(simulation: &str) -> Vec<String> {
    simulation
        .lines()
        .filter_map(|line| {
            let (name, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
            let version = rest.split_once('(')?.1.split([' ', ')']).next()?;
            (!LEFT_OUT.contains(&name)).then(|| format!("{name}={version}"))
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn of_the_machines_configuration_only_the_way_to_an_archive_is_kept() {
        let machine = "APT::Update::Post-Invoke:: \"rm -f /var/cache/apt/*.bin\";\nAcquire::http::Proxy \"http://proxy:3142\";\n";
        for offer in [Offer::Stanza(""), Offer::Machine] {
            let text = configuration(Path::new("/here"), offer, machine).unwrap();
            assert!(text.contains("Acquire::http::Proxy"));
            assert!(!text.contains("Post-Invoke"));
            assert!(configuration(Path::new("/a\"b"), offer, "").is_err());
        }
    }

    #[test]
    fn a_simulation_names_what_is_missing_with_its_version() {
        let simulation = "NOTE: This is only a simulation!\n\
            Inst liblzf1 (3.6-3 Debian:12.15/oldstable [amd64])\n\
            Inst libpq5 [15.18-0] (15.20-0+deb12u1 Debian-Security:12 [amd64]) []\n\
            Inst libc6 [2.36-9] (2.36-9+deb12u13 Debian:12.15 [amd64])\n\
            Inst redis-server (5:7.0.15-1~deb12u10 Debian-Security:12 [amd64])\n\
            Conf redis-server (5:7.0.15-1~deb12u10 Debian-Security:12 [amd64])\n";
        assert_eq!(
            installed_by(simulation),
            [
                "liblzf1=3.6-3",
                "libpq5=15.20-0+deb12u1",
                "redis-server=5:7.0.15-1~deb12u10"
            ]
        );
    }
}
