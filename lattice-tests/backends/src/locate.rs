//! Finds the servers' programs: named by a variable, on the `PATH`, where systems put them, or where `cargo xtask setup`
//! unpacked them for this workspace.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};

use crate::BackendError;

/// Environment variable with the path of `redis-server`.
pub const REDIS_SERVER_VARIABLE: &str = "TRELLIS_REDIS_SERVER";

/// Environment variable with the directory that holds `initdb` and `postgres`.
pub const POSTGRES_BIN_VARIABLE: &str = "TRELLIS_POSTGRES_BIN";

/// Environment variable with the path of `docker-registry`.
pub const DOCKER_REGISTRY_VARIABLE: &str = "TRELLIS_DOCKER_REGISTRY";

/// Directories, below the target directory, of what `cargo xtask setup` unpacked.
pub const UNPACKED: &[&str] = &["tools/backends/bin", "tools/docker-registry/bin"];

/// Oldest PostgreSQL that is used.
pub const POSTGRES_MAJOR_MIN: u32 = 15;

/// Where packages leave PostgreSQL's programs, which are rarely on the `PATH`: the directory above the versions, what a
/// version's directory begins with, and the directory below it.
const POSTGRES_HOMES: &[(&str, &str, &str)] = &[
    ("/usr/lib/postgresql", "", "bin"),
    ("/usr/local/opt", "postgresql@", "bin"),
    ("/opt/homebrew/opt", "postgresql@", "bin"),
    ("/usr", "pgsql-", "bin"),
];

/// The `redis-server` to start.
///
/// # Errors
/// [`BackendError::NotInstalled`], with how to get it.
pub fn redis_server() -> Result<PathBuf, BackendError> {
    let remedy = remedy("redis-server", "redis", REDIS_SERVER_VARIABLE);
    program("redis-server", REDIS_SERVER_VARIABLE, remedy)
}

/// The `docker-registry` to start.
///
/// # Errors
/// [`BackendError::NotInstalled`], with how to get it.
pub fn docker_registry() -> Result<PathBuf, BackendError> {
    let remedy = format!(
        "`cargo xtask setup` gets it, as does `apt-get install docker-registry` (which starts a service, too), or set \
         {DOCKER_REGISTRY_VARIABLE} to the program of the distribution project"
    );
    program("docker-registry", DOCKER_REGISTRY_VARIABLE, remedy)
}

fn program(program: &'static str, variable: &str, remedy: String) -> Result<PathBuf, BackendError> {
    if let Some(path) = named(variable) {
        return match path.is_file() {
            true => Ok(path),
            false => Err(misnamed(program, variable)),
        };
    }
    on_path()
        .into_iter()
        .chain(unpacked())
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
        .ok_or(BackendError::NotInstalled { program, remedy })
}

/// The directory with PostgreSQL's server programs, the newest version where there are several.
///
/// # Errors
/// [`BackendError::NotInstalled`], with how to get it.
pub fn postgres_bin() -> Result<PathBuf, BackendError> {
    const PROGRAM: &str = "postgres";
    if let Some(path) = named(POSTGRES_BIN_VARIABLE) {
        return match holds_postgres(&path) {
            true => Ok(path),
            false => Err(misnamed(PROGRAM, POSTGRES_BIN_VARIABLE)),
        };
    }
    let mut versions: Vec<_> = POSTGRES_HOMES
        .iter()
        .flat_map(|(home, prefix, bin)| postgres_versions(Path::new(home), prefix, bin))
        .filter(|(major, bin)| *major >= POSTGRES_MAJOR_MIN && holds_postgres(bin))
        .collect();
    versions.sort();
    // On the `PATH` there may be links or wrappers, beside which PostgreSQL does not find its other files.
    let installed = versions.into_iter().rev().map(|(_, bin)| bin);
    installed
        .chain(on_path())
        .chain(unpacked())
        .find(|bin| holds_postgres(bin))
        .ok_or_else(|| BackendError::NotInstalled {
            program: PROGRAM,
            remedy: remedy("postgresql", "postgresql@17", POSTGRES_BIN_VARIABLE),
        })
}

fn remedy(debian: &str, brew: &str, variable: &str) -> String {
    format!(
        "`cargo xtask setup` gets it, as do `apt-get install {debian}` and `brew install {brew}`, or set {variable}"
    )
}

fn misnamed(program: &'static str, variable: &str) -> BackendError {
    BackendError::NotInstalled {
        program,
        remedy: format!("{variable} is set and does not lead to it"),
    }
}

fn named(variable: &str) -> Option<PathBuf> {
    env::var_os(variable)
        .filter(|path| !path.is_empty())
        .map(PathBuf::from)
}

fn on_path() -> Vec<PathBuf> {
    env::var_os("PATH").map_or_else(Vec::new, |path| env::split_paths(&path).collect())
}

/// Beside the running program, which cargo has put somewhere into the target directory.
fn unpacked() -> Vec<PathBuf> {
    let running = env::current_exe().unwrap_or_default();
    running
        .ancestors()
        .skip(1)
        .flat_map(|directory| UNPACKED.iter().map(|unpacked| directory.join(unpacked)))
        .filter(|directory| directory.is_dir())
        .collect()
}

fn holds_postgres(bin: &Path) -> bool {
    ["initdb", "postgres"]
        .iter()
        .all(|program| bin.join(program).is_file())
}

fn postgres_versions(home: &Path, prefix: &str, bin: &str) -> Vec<(u32, PathBuf)> {
    let Ok(entries) = fs::read_dir(home) else {
        return Vec::new();
    };
    entries
        .filter_map(|entry| {
            let path = entry.ok()?.path();
            let version = path.file_name()?.to_str()?.strip_prefix(prefix)?;
            Some((version.parse().ok()?, path.join(bin)))
        })
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn versions_are_numbers_behind_their_prefix() {
        let home = tempfile::tempdir().unwrap();
        for name in ["15", "9", "common", "x17"] {
            fs::create_dir(home.path().join(name)).unwrap();
        }
        let mut found = postgres_versions(home.path(), "", "bin");
        found.sort();
        assert_eq!(
            found,
            [
                (9, home.path().join("9/bin")),
                (15, home.path().join("15/bin"))
            ]
        );
    }

    #[test]
    fn what_is_missing_is_an_error_that_says_how_to_get_it() {
        let remedy = remedy("redis-server", "redis", REDIS_SERVER_VARIABLE);
        assert!(remedy.contains("cargo xtask setup"), "{remedy}");
        assert!(remedy.contains("brew install redis"), "{remedy}");
    }
}
