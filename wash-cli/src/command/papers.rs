//! Writing what comes with the program: completions and manual pages.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::Failure;

/// Writes a file into a directory, which is made where it is not there, and gives back its absolute path.
pub(super) fn write(directory: &Path, name: &OsStr, content: &[u8]) -> Result<PathBuf, Failure> {
    let path = directory.join(name);
    fs::create_dir_all(directory)
        .and_then(|()| fs::write(&path, content))
        .and_then(|()| fs::canonicalize(&path))
        .map_err(|error| {
            Failure::local(format!(
                "cannot write {}: {error}; name another directory with --dir",
                path.display()
            ))
        })
}
