//! References to components and providers, as people write them: a path becomes an absolute `file://` reference, and
//! everything else is passed on as it is.

use std::fs;
use std::path::{Path, PathBuf};

use crate::exit::Failure;
use crate::output::{self, printable};

const FILE_SCHEME: &str = "file://";

/// Whether a reference is to a file of the host's machine.
#[must_use]
pub fn is_file(reference: &str) -> bool {
    reference.starts_with(FILE_SCHEME)
}

/// The reference to send for what somebody wrote.
///
/// A path is what begins with `/`, `./` or `../` or ends with `.wasm`, and whatever else holds a `/` and is a file. A bare
/// word is a name, such as that of a built-in provider, even if a file is called so; then a note tells how to write the
/// file.
///
/// # Errors
/// A local failure where a path leads to no file.
pub fn resolve(written: &str) -> Result<String, Failure> {
    if let Some(path) = written.strip_prefix(FILE_SCHEME) {
        // An absolute one may be meant for another machine, so it is not looked at.
        return if path.starts_with('/') {
            Ok(written.to_owned())
        } else {
            file(Path::new(path))
        };
    }
    if written.contains("://") {
        return Ok(written.to_owned());
    }
    let must_be_file = ["/", "./", "../"]
        .iter()
        .any(|prefix| written.starts_with(prefix))
        || written.ends_with(".wasm");
    let path = Path::new(written);
    if must_be_file || (written.contains('/') && path.is_file()) {
        return file(path);
    }
    if !written.contains('/') && path.is_file() {
        let shown = printable(written);
        output::note(&format!(
            "note: {shown} is taken for a name; the file that is called so here is ./{shown}"
        ));
    }
    Ok(written.to_owned())
}

fn file(path: &Path) -> Result<String, Failure> {
    let found: PathBuf = fs::canonicalize(path).map_err(|error| {
        Failure::local(format!(
            "cannot find the file {}: {error}; `wash build` makes it, and says where it is",
            path.display()
        ))
    })?;
    if !found.is_file() {
        return Err(Failure::local(format!(
            "{} is no file; name the component in it",
            path.display()
        )));
    }
    match found.to_str() {
        Some(text) => Ok(format!("{FILE_SCHEME}{text}")),
        None => Err(Failure::local(format!(
            "cannot refer to {}: its path is not UTF-8",
            found.display()
        ))),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::exit::FailureKind;

    #[test]
    fn a_path_becomes_an_absolute_file_reference() {
        let home = tempfile::tempdir().unwrap();
        let real = fs::canonicalize(home.path()).unwrap();
        fs::create_dir(real.join("sub")).unwrap();
        fs::write(real.join("a.wasm"), b"").unwrap();
        let written = format!("{}/sub/../a.wasm", real.display());
        assert_eq!(
            resolve(&written).unwrap(),
            format!("file://{}/a.wasm", real.display())
        );
    }

    #[test]
    fn names_and_references_of_registries_are_passed_on() {
        for written in [
            "http-server",
            "ghcr.io/wasmcloud/http-server:0.22.0",
            "oci://localhost:5000/a:1",
            "file:///on/another/machine.wasm",
            "wasmcloud+builtin://http-server",
        ] {
            assert_eq!(resolve(written).unwrap(), written);
        }
    }

    #[test]
    fn a_path_to_no_file_is_a_local_failure() {
        for written in ["./nothing-here", "nothing-here.wasm", "/", "file://nothing"] {
            let failure = resolve(written).unwrap_err();
            assert_eq!(failure.kind(), FailureKind::Local, "{written}");
        }
    }
}
