//! `wash drain`: empty caches of this machine. Nothing that it deletes is lost: it is fetched, compiled or downloaded again.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use trellis_nats_server::cache_dir;

use crate::cli::{Drain, Drained};
use crate::confirm::{Unattended, confirm};
use crate::environment::{self, Environment};
use crate::exit::Failure;
use crate::output::Report;
use crate::settings::Settings;
use crate::state_dir::StateDir;

/// Where hosts keep fetched artifacts, in their state directories.
const ARTIFACTS: &str = "artifacts";
/// Where hosts keep compiled components.
const COMPILED: &str = "aot";
/// Where hosts keep executables from provider archives.
const EXECUTABLES: &str = "artifacts/programs";

pub(super) fn run(
    args: &Drain,
    settings: &Settings,
    environment: &mut Environment,
) -> Result<Report, Failure> {
    let root = StateDir::resolve(args.state_dir.as_deref(), environment)?;
    let places = places(args.what, &root, environment)?;
    let there: Vec<_> = places.into_iter().filter(|place| place.exists()).collect();
    if there.is_empty() {
        return Ok(Report::new("there is nothing to empty\n").with("drained", there));
    }
    if args.what != Drained::Downloads {
        refuse_while_hosts_run(&root)?;
    }
    let names: Vec<_> = there
        .iter()
        .map(|place| place.display().to_string())
        .collect();
    confirm(
        &format!("empty {}", names.join(", ")),
        settings.yes,
        Unattended::Refuse,
    )?;
    let mut text = String::new();
    for place in &there {
        empty(place).map_err(|error| {
            Failure::local(format!("cannot empty {}: {error}", place.display()))
        })?;
        text.push_str(&format!("{} is empty\n", place.display()));
    }
    Ok(Report::new(text).with("drained", there))
}

fn places(
    what: Drained,
    root: &StateDir,
    environment: &mut Environment,
) -> Result<Vec<PathBuf>, Failure> {
    let hosts = root.all()?;
    let in_each =
        |below: &str| -> Vec<_> { hosts.iter().map(|host| host.path().join(below)).collect() };
    let mut oci = in_each(ARTIFACTS);
    oci.extend(
        environment
            .get(environment::ARTIFACT_CACHE)
            .map(PathBuf::from),
    );
    oci.extend(
        environment
            .xdg_dir("XDG_CACHE_HOME", ".cache")
            .map(|cache| cache.join(ARTIFACTS)),
    );
    let mut lib = in_each(COMPILED);
    lib.extend(in_each(EXECUTABLES));
    let downloads = || {
        cache_dir()
            .map(|directory| vec![directory])
            .map_err(|error| Failure::local_error(&error))
    };
    Ok(match what {
        Drained::Oci => oci,
        Drained::Lib => lib,
        Drained::Downloads => downloads()?,
        Drained::All => {
            let mut all = oci;
            all.extend(lib);
            all.extend(downloads()?);
            all
        }
    })
}

/// A running host may be about to start what would be deleted under it.
fn refuse_while_hosts_run(root: &StateDir) -> Result<(), Failure> {
    for state_dir in root.all()? {
        if state_dir.in_use()? {
            return Err(Failure::refused(format!(
                "refused to empty caches while a host runs in {}; `wash down` stops it",
                state_dir.path().display()
            )));
        }
    }
    Ok(())
}

/// Deletes what is in a directory, and leaves the directory. A link is deleted, never followed. One cache can stand within
/// another, and is gone with it.
fn empty(directory: &Path) -> io::Result<()> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        entries => entries?,
    };
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            fs::remove_dir_all(entry.path())?;
        } else {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_a_cache_is_deleted_and_what_it_leads_to_is_not() {
        let home = tempfile::tempdir().unwrap();
        let (cache, elsewhere) = (home.path().join("cache"), home.path().join("elsewhere"));
        fs::create_dir_all(cache.join("a/b")).unwrap();
        fs::create_dir(&elsewhere).unwrap();
        fs::write(elsewhere.join("keep"), "").unwrap();
        std::os::unix::fs::symlink(&elsewhere, cache.join("link")).unwrap();
        empty(&cache).unwrap();
        assert_eq!(fs::read_dir(&cache).unwrap().count(), 0);
        assert!(elsewhere.join("keep").exists());
    }
}
