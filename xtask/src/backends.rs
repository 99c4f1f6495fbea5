//! Redis, PostgreSQL and a registry of artifacts for the tests, and valgrind for the full check.
//!
//! What the machine has is used. What it lacks is taken from its own packages where it is a Debian or a relative of it:
//! downloaded and unpacked under the target directory, never installed. So root is not needed, and no service is ever
//! started that a package would bring. Small scripts beside what was unpacked start its programs with its libraries.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use trellis_test_backends::locate::{
    self, DOCKER_REGISTRY_VARIABLE, POSTGRES_BIN_VARIABLE, POSTGRES_MAJOR_MIN,
    REDIS_SERVER_VARIABLE,
};

use crate::apt::{self, Apt, Offer};
use crate::command::{self, QUESTION_WITHIN};
use crate::project::Project;
use crate::step::note;
use crate::wasm_target::lock;

/// What the tests start.
#[derive(Debug)]
pub(crate) struct Backends {
    /// `redis-server`.
    pub(crate) redis_server: PathBuf,
    /// The directory with `initdb` and `postgres`.
    pub(crate) postgres_bin: PathBuf,
    /// `docker-registry`.
    pub(crate) docker_registry: PathBuf,
}

impl Backends {
    /// Environment variables that lead tests to them.
    pub(crate) fn variables(&self) -> [(&'static str, &OsStr); 3] {
        [
            (REDIS_SERVER_VARIABLE, self.redis_server.as_os_str()),
            (POSTGRES_BIN_VARIABLE, self.postgres_bin.as_os_str()),
            (DOCKER_REGISTRY_VARIABLE, self.docker_registry.as_os_str()),
        ]
    }
}

/// Finds the servers, or unpacks those that are missing; gives back a few words on which, too.
pub(crate) fn ensure(project: &Project) -> Result<(Backends, String)> {
    let named = |variable| std::env::var_os(variable).is_some_and(|value| !value.is_empty());
    let mut missing = Vec::new();
    for (package, variable, found) in [
        (
            "redis-server",
            REDIS_SERVER_VARIABLE,
            locate::redis_server(),
        ),
        ("postgresql", POSTGRES_BIN_VARIABLE, locate::postgres_bin()),
    ] {
        match found {
            Ok(_) => {}
            // Somebody wanted a certain one: another would not do.
            Err(error) if named(variable) => return Err(error.into()),
            Err(_) => missing.push(package),
        }
    }
    if !missing.is_empty() {
        // Where `locate` looks: its scripts are in `bin` below.
        let home = project.tools().join("backends");
        unpacked(project, &home, &missing).with_context(|| {
            format!(
                "{} can't be had: install it (on Debian: apt-get install redis-server postgresql; on macOS: brew \
                 install redis postgresql@17), or set {REDIS_SERVER_VARIABLE} and {POSTGRES_BIN_VARIABLE}",
                missing.join(" and ")
            )
        })?;
    }
    // In a home of its own: unpacking it removes nothing that was unpacked before.
    match locate::docker_registry() {
        Ok(_) => {}
        Err(error) if named(DOCKER_REGISTRY_VARIABLE) => return Err(error.into()),
        Err(_) => {
            let home = project.tools().join("docker-registry");
            unpacked(project, &home, &["docker-registry"]).with_context(|| {
                format!(
                    "docker-registry can't be had: build it from the distribution project, and set \
                     {DOCKER_REGISTRY_VARIABLE}"
                )
            })?;
        }
    }
    let backends = Backends {
        redis_server: locate::redis_server()?,
        postgres_bin: locate::postgres_bin()?,
        docker_registry: locate::docker_registry()?,
    };
    let version = |program: &Path| {
        let answer = command::read(Command::new(program).arg("--version"), QUESTION_WITHIN);
        answer.map(|answer| answer.trim().to_owned())
    };
    let redis = version(&backends.redis_server)?;
    let redis = redis.split(" sha=").next().unwrap_or_default();
    let postgres = version(&backends.postgres_bin.join("postgres"))?;
    ensure!(
        major(&postgres).is_some_and(|major| major >= POSTGRES_MAJOR_MIN),
        "{} is {postgres}; {POSTGRES_MAJOR_MIN} is the oldest that will do: set {POSTGRES_BIN_VARIABLE}",
        backends.postgres_bin.display()
    );
    let registry = version(&backends.docker_registry)?;
    let registry = registry.split_whitespace().last().unwrap_or_default();
    Ok((
        backends,
        format!("{redis}, {postgres}, docker-registry {registry}"),
    ))
}

/// Finds valgrind, or unpacks it, which counts instructions; gives back a few words on which.
pub(crate) fn valgrind(project: &Project) -> Result<String> {
    let version = |program: &Path| {
        command::read(Command::new(program).arg("--version"), QUESTION_WITHIN)
            .map(|answer| format!("{}, {}", answer.trim(), program.display()))
    };
    let ours = project.tools().join("bin/valgrind");
    for candidate in [Path::new("valgrind"), &ours] {
        if let Ok(found) = version(candidate) {
            return Ok(found);
        }
    }
    let home = project.tools().join("valgrind");
    unpacked(project, &home, &["valgrind"])
        .context("valgrind can't be had: install it (on Debian: apt-get install valgrind)")?;
    let directory = project.tools().join("bin");
    fs::create_dir_all(&directory)
        .and_then(|()| fs::copy(home.join("bin/valgrind"), &ours))
        .with_context(|| format!("{} can't be made", ours.display()))?;
    version(&ours)
}

/// Unpacks packages, with all that they need and the machine lacks, into a home of their own: their files below `root`,
/// scripts that start their programs in `bin`.
fn unpacked(project: &Project, home: &Path, packages: &[&str]) -> Result<()> {
    for program in ["apt-get", "apt-config", "dpkg-deb"] {
        if command::read(Command::new(program).arg("--version"), QUESTION_WITHIN).is_err() {
            bail!("this machine has no {program}");
        }
    }
    let _ours = lock(&project.setup().join("packages.lock"))?;
    note(&format!(
        "getting {} from the system's packages, not to be installed, into {}",
        packages.join(" and "),
        home.display()
    ));
    let name = home.file_name().context("a home has a name")?;
    let scratch = project.setup().join(name);
    empty(&scratch)?;
    let apt = Apt::prepare(&scratch, Offer::Machine)?;
    apt.update()?;
    let downloads = scratch.join("packages");
    let missing = apt.missing(packages)?;
    if missing.is_empty() {
        bail!(
            "the system says that {} is installed, and its programs are not on PATH nor where the system puts them",
            packages.join(" and ")
        );
    }
    apt.download(&downloads, &missing)?;
    // Built aside and renamed: whoever sees it sees it whole. Its scripts know where it will be.
    let aside = scratch.join("home");
    let root = aside.join("root");
    apt::unpack(&downloads, &root)?;
    let bin = aside.join("bin");
    fs::create_dir_all(&bin).with_context(|| format!("{} can't be made", bin.display()))?;
    let libraries = libraries(&root, &home.join("root"));
    for program in programs(&root) {
        let Ok(inside) = program.strip_prefix(&root) else {
            continue;
        };
        let script = script(&home.join("root"), inside, &libraries)?;
        let path = bin.join(program.file_name().context("a program has a name")?);
        fs::write(&path, script)
            .and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(0o755)))
            .with_context(|| format!("{} can't be written", path.display()))?;
    }
    remove(home)?;
    if let Some(parent) = home.parent() {
        fs::create_dir_all(parent)
            .with_context(|| format!("{} can't be made", parent.display()))?;
    }
    fs::rename(&aside, home).with_context(|| format!("{} can't be made", home.display()))?;
    remove(&scratch)
}

/// The programs that are started by name, of those that were unpacked.
fn programs(root: &Path) -> Vec<PathBuf> {
    let mut programs: Vec<_> = ["redis-server", "docker-registry", "valgrind"]
        .iter()
        .map(|name| root.join("usr/bin").join(name))
        .collect();
    let versions = fs::read_dir(root.join("usr/lib/postgresql"));
    let versions = versions.into_iter().flatten().flatten();
    programs.extend(versions.flat_map(|version| {
        let bin = version.path().join("bin");
        ["initdb", "postgres", "pg_ctl", "psql"].map(|name| bin.join(name))
    }));
    programs.retain(|program| program.exists());
    programs
}

/// Where libraries were unpacked: below `root`, which is going to be at `at`.
fn libraries(root: &Path, at: &Path) -> Vec<PathBuf> {
    ["usr/lib", "lib"]
        .iter()
        .flat_map(|base| {
            let entries = fs::read_dir(root.join(base))
                .into_iter()
                .flatten()
                .flatten();
            entries
                .filter(|entry| entry.file_name().to_string_lossy().contains("-linux-gnu"))
                .map(move |entry| at.join(base).join(entry.file_name()))
        })
        .collect()
}

/// A script that starts a program as if it had been installed.
fn script(root: &Path, program: &Path, libraries: &[PathBuf]) -> Result<String> {
    let quoted = |path: &Path| {
        let text = path
            .to_str()
            .context("the target directory's path is not UTF-8")?;
        ensure!(
            !text.contains(['\'', ':', '\n']),
            "programs can't be started from {text}"
        );
        Ok(format!("'{text}'"))
    };
    let libraries = libraries.iter().map(|path| quoted(path));
    let libraries = libraries.collect::<Result<Vec<_>>>()?.join(":");
    let tools = ["usr/libexec/valgrind", "usr/lib/valgrind"].map(|tools| quoted(&root.join(tools)));
    let [tools, older_tools] = tools;
    let (tools, older_tools) = (tools?, older_tools?);
    let program = quoted(&root.join(program))?;
    Ok(format!(
        "#!/bin/sh\n\
         export LD_LIBRARY_PATH={libraries}${{LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}}\n\
         for tools in {tools} {older_tools}; do\n    \
             if [ -d \"$tools\" ]; then export VALGRIND_LIB=\"$tools\"; break; fi\n\
         done\n\
         exec {program} \"$@\"\n"
    ))
}

/// The major version in `postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)`.
fn major(version: &str) -> Option<u32> {
    let number = version.split_once("(PostgreSQL) ")?.1;
    number
        .split(|character: char| !character.is_ascii_digit())
        .next()?
        .parse()
        .ok()
}

fn empty(directory: &Path) -> Result<()> {
    remove(directory)?;
    fs::create_dir_all(directory).with_context(|| format!("{} can't be made", directory.display()))
}

fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", directory.display()))
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_version_of_postgresql_is_understood() {
        assert_eq!(
            major("postgres (PostgreSQL) 15.20 (Debian 15.20-0+deb12u1)"),
            Some(15)
        );
        assert_eq!(major("postgres (PostgreSQL) 18beta1"), Some(18));
        assert_eq!(major("Redis server v=7.0.15"), None);
    }

    #[test]
    fn a_script_starts_the_unpacked_program_with_its_libraries() {
        let home = tempfile::tempdir().unwrap();
        let root = home.path().join("root");
        let bin = root.join("usr/lib/postgresql/15/bin");
        fs::create_dir_all(&bin).unwrap();
        fs::create_dir_all(root.join("usr/lib/x86_64-linux-gnu")).unwrap();
        let program = bin.join("postgres");
        fs::write(&program, "#!/bin/sh\necho \"$1 $LD_LIBRARY_PATH\"\n").unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        assert_eq!(programs(&root), [&*program]);

        let text = script(
            &root,
            program.strip_prefix(&root).unwrap(),
            &libraries(&root, &root),
        );
        let path = home.path().join("script");
        fs::write(&path, text.unwrap()).unwrap();
        let mut run = Command::new("sh");
        run.arg(&path)
            .arg("hello world")
            .env_remove("LD_LIBRARY_PATH");
        let said = command::read(&mut run, QUESTION_WITHIN).unwrap();
        let libraries = root.join("usr/lib/x86_64-linux-gnu");
        assert_eq!(said, format!("hello world {}\n", libraries.display()));
        assert!(script(Path::new("/it's"), Path::new("x"), &[]).is_err());
    }
}
