//! Files of this host that are replaced whole: beside their place, then renamed into it.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::Path;

/// How far a file has come when its writer comes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lasting {
    /// It outlasts this process.
    InKernel,
    /// It outlasts a power cut.
    OnDisk,
}

/// Puts a file (mode 0600) in its place whole: a crash leaves the former one or this one.
pub(crate) fn write_atomically(path: &Path, bytes: &[u8]) -> io::Result<()> {
    put_in_place(path, bytes, Lasting::OnDisk)
}

/// The same, as lasting as is asked for.
pub(crate) fn put_in_place(path: &Path, bytes: &[u8], lasting: Lasting) -> io::Result<()> {
    let dir = path.parent().unwrap_or(Path::new("."));
    // Made with mode 0600 under a random name.
    let mut file = tempfile::NamedTempFile::new_in(dir)?;
    file.write_all(bytes)?;
    if lasting == Lasting::InKernel {
        file.persist(path).map_err(|error| error.error)?;
        return Ok(());
    }
    file.as_file().sync_all()?;
    file.persist(path).map_err(|error| error.error)?;
    // The rename itself lasts only once the directory is written.
    File::open(dir)?.sync_all()
}
