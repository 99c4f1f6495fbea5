//! The file that is to run as a provider, looked at before anything is started.

use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::Access;
use trellis_protocol::EntityId;

/// What the file of a provider may be called beside its plain name.
const FILE_PREFIX: &str = "trellis-";

/// Why a file is not run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ProgramError {
    /// There is no such file.
    #[error("there is no file {} on this host", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// It is a directory, a device, a pipe.
    #[error("{} is not a regular file", path.display())]
    NotAFile {
        /// What was found.
        path: PathBuf,
    },
    /// It cannot be executed.
    #[error("{} cannot be executed; `chmod +x` makes it a program, if it is one", path.display())]
    NotExecutable {
        /// The file.
        path: PathBuf,
    },
    /// Others could put another program in its place.
    #[error("other users can write to {}; `chmod o-w` closes it", path.display())]
    Exposed {
        /// The file or its directory.
        path: PathBuf,
    },
    /// It cannot be looked at.
    #[error("cannot look at {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
}

impl ProgramError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Missing { .. } => "artifact-missing",
            Self::NotAFile { .. } | Self::Io { .. } => "artifact-unreadable",
            Self::NotExecutable { .. } => "artifact-not-executable",
            Self::Exposed { .. } => "artifact-exposed",
        }
    }
}

/// A file that can be run.
#[derive(Debug, Clone)]
pub(crate) struct Program {
    path: PathBuf,
}

impl Program {
    /// Looks at a file. Blocks for a moment.
    ///
    /// # Errors
    /// [`ProgramError`] where it could not be run, or where others could put something else in its place.
    pub(crate) fn check(path: &Path) -> Result<Self, ProgramError> {
        let io = |path: &Path| {
            let path = path.to_owned();
            move |source: io::Error| match source.kind() {
                io::ErrorKind::NotFound | io::ErrorKind::NotADirectory => {
                    ProgramError::Missing { path }
                }
                _ => ProgramError::Io { path, source },
            }
        };
        // Links are followed once, here: what is started is what was looked at.
        let path = path.canonicalize().map_err(io(path))?;
        let metadata = path.metadata().map_err(io(&path))?;
        if !metadata.is_file() {
            return Err(ProgramError::NotAFile { path });
        }
        if metadata.permissions().mode() & 0o111 == 0
            || rustix::fs::access(&path, Access::EXEC_OK).is_err()
        {
            return Err(ProgramError::NotExecutable { path });
        }
        let directory = path.parent().unwrap_or(Path::new("/"));
        let around = directory.metadata().map_err(io(directory))?;
        // In a directory like `/tmp` others can add files and not replace this one.
        let is_open = around.mode() & 0o002 != 0 && around.mode() & 0o1000 == 0;
        if metadata.mode() & 0o002 != 0 {
            return Err(ProgramError::Exposed { path });
        }
        if is_open {
            return Err(ProgramError::Exposed {
                path: directory.to_owned(),
            });
        }
        Ok(Self { path })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

/// The file of a name in the host's directory of providers, if it is there. A name is an id, so it has no path in it.
pub(crate) fn in_directory(directory: &Path, name: &str) -> Option<PathBuf> {
    let name = EntityId::new(name).ok()?;
    [name.to_string(), format!("{FILE_PREFIX}{name}")]
        .into_iter()
        .map(|file| directory.join(file))
        .find(|path| path.is_file())
}

/// The names that the directory has, sorted.
pub(crate) fn names_in_directory(directory: &Path) -> Vec<String> {
    /// As many as a person reads.
    const NAMES_MAX: usize = 64;
    let Ok(entries) = directory.read_dir() else {
        return Vec::new();
    };
    let mut names: Vec<String> = entries
        .filter_map(Result::ok)
        .filter(|entry| Program::check(&entry.path()).is_ok())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .map(|file| match file.strip_prefix(FILE_PREFIX) {
            Some(name) => name.to_owned(),
            None => file,
        })
        .filter(|name| EntityId::new(name).is_ok())
        .take(NAMES_MAX)
        .collect();
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use std::fs::{self, Permissions};

    fn file(directory: &Path, name: &str, mode: u32) -> PathBuf {
        let path = directory.join(name);
        fs::write(&path, "#!/bin/sh\n").unwrap();
        fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        path
    }

    #[test]
    fn a_program_is_a_regular_file_that_can_be_executed_and_that_others_cannot_change() {
        let dir = tempfile::tempdir().unwrap();
        let code = |path: &Path| Program::check(path).err().map(|error| error.code());
        assert_eq!(code(&file(dir.path(), "good", 0o755)), None);
        assert_eq!(
            code(&file(dir.path(), "plain", 0o644)),
            Some("artifact-not-executable")
        );
        assert_eq!(
            code(&file(dir.path(), "open", 0o757)),
            Some("artifact-exposed")
        );
        assert_eq!(code(&dir.path().join("nothing")), Some("artifact-missing"));
        assert_eq!(code(dir.path()), Some("artifact-unreadable"));
        let open = dir.path().join("open-directory");
        fs::create_dir(&open).unwrap();
        let inside = file(&open, "good", 0o755);
        fs::set_permissions(&open, Permissions::from_mode(0o777)).unwrap();
        assert_eq!(code(&inside), Some("artifact-exposed"));
        fs::set_permissions(&open, Permissions::from_mode(0o1777)).unwrap();
        assert_eq!(code(&inside), None);
    }

    #[test]
    fn a_name_leads_to_a_file_of_the_directory_and_never_out_of_it() {
        let dir = tempfile::tempdir().unwrap();
        let inner = dir.path().join("inner");
        fs::create_dir(&inner).unwrap();
        file(dir.path(), "outside", 0o755);
        let plain = file(&inner, "plain", 0o755);
        let prefixed = file(&inner, "trellis-cache", 0o755);
        file(&inner, "README", 0o644);
        assert_eq!(in_directory(&inner, "plain"), Some(plain));
        assert_eq!(in_directory(&inner, "cache"), Some(prefixed));
        for name in ["../outside", "..", "", "/bin/sh", "nothing"] {
            assert_eq!(in_directory(&inner, name), None, "{name}");
        }
        assert_eq!(names_in_directory(&inner), ["cache", "plain"]);
    }
}
