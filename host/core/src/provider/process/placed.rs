//! A fetched program, where the user of provider processes can reach it.
//!
//! The cache is the host's own, and nobody else passes its directory. A host that is root starts providers as somebody
//! else, who could not start what lies there, so it lays a copy into a directory that anybody may pass and nobody but
//! root may change. A host of any other user starts the cached file itself.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use super::temporary::Temporary;

/// A directory that others may pass and not list.
const DIRECTORY_MODE: u32 = 0o711;

/// A program that everybody may run and nobody write.
const PROGRAM_MODE: u32 = 0o555;

/// The copy of a program. Dropping it removes it, some time later; a process that runs it goes on.
#[derive(Debug)]
pub(crate) struct Placed {
    path: PathBuf,
    _directory: Temporary,
}

impl Placed {
    /// Lays a copy out under a name for people. `None` where the program can be started from where it is, or from there
    /// alone: temporary files may be where nothing can be executed. Blocks for as long as copying takes.
    ///
    /// # Errors
    /// What the system said.
    pub(crate) fn place(program: &Path, name: &str) -> io::Result<Option<Self>> {
        if !rustix::process::geteuid().is_root() {
            return Ok(None);
        }
        let directory = Temporary::make(None)?;
        let path = directory.path().join(name);
        std::fs::copy(program, &path)?;
        std::fs::set_permissions(&path, Permissions::from_mode(PROGRAM_MODE))?;
        std::fs::set_permissions(directory.path(), Permissions::from_mode(DIRECTORY_MODE))?;
        if rustix::fs::access(&path, Access::EXEC_OK).is_err() {
            return Ok(None);
        }
        Ok(Some(Self {
            path,
            _directory: directory,
        }))
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_host_that_is_root_lays_programs_out_for_others_to_run_and_not_to_change() {
        let dir = tempfile::tempdir().unwrap();
        let program = dir.path().join("cached");
        std::fs::write(&program, "#!/bin/sh\n").unwrap();
        let placed = Placed::place(&program, "web").unwrap();
        let Some(placed) = placed else {
            eprintln!("this test runs as root alone, and where temporary files can be executed");
            return;
        };
        let mode = |path: &Path| path.metadata().unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(placed.path()), PROGRAM_MODE);
        assert_eq!(mode(placed.path().parent().unwrap()), DIRECTORY_MODE);
        assert_eq!(std::fs::read(placed.path()).unwrap(), b"#!/bin/sh\n");
    }
}
