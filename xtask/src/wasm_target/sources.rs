//! What the standard library is built from: its own source, and the C library for WebAssembly.

use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use super::debian;
use crate::command;
use crate::compiler::Compiler;
use crate::project::Project;
use crate::step::note;

/// Environment variable that names a directory with the two archives.
pub(super) const DIRECTORY_VARIABLE: &str = "TRELLIS_TOOLCHAIN_DIR";

/// The C library's archive; holds `usr/lib/wasm32-wasip2/`.
pub(super) const LIBC_ARCHIVE: &str = "wasi-libc-wasip2.tar.xz";

/// Longest that unpacking an archive may take.
const UNPACK_WITHIN: Duration = Duration::from_secs(300);

/// Unpacked sources.
#[derive(Debug)]
pub(super) struct Sources {
    /// The `library` directory of the compiler's own release.
    pub(super) library: PathBuf,
    /// The directory with `libc.a` and `crt1-command.o`.
    pub(super) libc: PathBuf,
}

impl Sources {
    /// Checks that the two directories hold what the build needs.
    pub(super) fn at(library: PathBuf, libc: PathBuf) -> Result<Self> {
        for needed in [
            library.join("std").join("Cargo.toml"),
            library.join("Cargo.lock"),
        ] {
            ensure!(needed.is_file(), "{} is missing", needed.display());
        }
        for name in ["libc.a", "crt1-command.o"] {
            ensure!(
                libc.join(name).is_file(),
                "{} is missing",
                libc.join(name).display()
            );
        }
        Ok(Self { library, libc })
    }
}

/// The library's archive for one compiler; holds `library/`.
pub(super) fn library_archive(compiler: &Compiler) -> String {
    format!("rust-library-{}.tar.xz", compiler.release)
}

/// Where sources are unpacked.
pub(super) fn scratch(project: &Project) -> PathBuf {
    project.setup().join("sources")
}

/// Finds and unpacks the sources, and says where they are from. What did not work is added to `refusals`.
pub(super) fn find(
    project: &Project,
    compiler: &Compiler,
    refusals: &mut Vec<String>,
) -> Option<(Sources, String)> {
    let scratch = scratch(project);
    match env::var_os(DIRECTORY_VARIABLE).filter(|directory| !directory.is_empty()) {
        Some(directory) => match from_directory(Path::new(&directory), compiler, &scratch) {
            Ok(sources) => return Some((sources, Path::new(&directory).display().to_string())),
            Err(error) => refusals.push(format!("{DIRECTORY_VARIABLE}: {error:#}")),
        },
        None => refusals.push(format!("{DIRECTORY_VARIABLE}: not set")),
    }
    note("asking Debian for the standard library's source");
    match debian::sources(compiler, &scratch) {
        Ok(sources) => return Some((sources, "Debian's packages".to_owned())),
        Err(error) => refusals.push(format!("Debian: {error:#}")),
    }
    None
}

fn from_directory(directory: &Path, compiler: &Compiler, scratch: &Path) -> Result<Sources> {
    empty(scratch)?;
    for archive in [library_archive(compiler), LIBC_ARCHIVE.to_owned()] {
        let archive = directory.join(archive);
        ensure!(archive.is_file(), "{} is missing", archive.display());
        let mut tar = Command::new("tar");
        tar.arg("-xJf").arg(&archive).arg("-C").arg(scratch);
        command::read(&mut tar, UNPACK_WITHIN)
            .with_context(|| format!("{} can't be unpacked", archive.display()))?;
    }
    Sources::at(
        scratch.join("library"),
        scratch.join("usr/lib").join(super::TRIPLE),
    )
}

/// Makes a directory, or empties it.
pub(super) fn empty(directory: &Path) -> Result<()> {
    remove(directory)?;
    fs::create_dir_all(directory).with_context(|| format!("{} can't be made", directory.display()))
}

/// Removes a directory with all that is in it, if it is there.
pub(super) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("{} can't be removed", directory.display()))
        }
        _ => Ok(()),
    }
}
