//! A compiler's library directory: looked into, imitated, and given a target.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::TRIPLE;
use super::sources;
use crate::compiler::Compiler;

/// Our mark inside a target that we installed: the compiler build it belongs to.
const MARK: &str = ".trellis-compiler";

/// Programs that the compiler calls to link a component.
const LINKERS: [&str; 2] = ["rust-lld", "wasm-component-ld"];

/// A directory in the shape of `rustc --print sysroot`.
#[derive(Debug)]
pub(super) struct Sysroot(PathBuf);

impl Sysroot {
    /// The compiler's own.
    pub(super) fn of(compiler: &Compiler) -> Self {
        Self(compiler.sysroot.clone())
    }

    pub(super) fn at(path: &Path) -> Self {
        Self(path.to_path_buf())
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }

    /// Where each target has a directory.
    fn targets(&self) -> PathBuf {
        self.0.join("lib").join("rustlib")
    }

    fn target(&self) -> PathBuf {
        self.targets().join(TRIPLE)
    }

    pub(super) fn lock_path(&self) -> PathBuf {
        self.targets().join(".trellis-setup.lock")
    }

    /// Whether the target is here, whole, and not one that we built for another compiler.
    pub(super) fn has_target(&self, compiler: &Compiler) -> bool {
        let libraries = self.target().join("lib");
        let has_std = fs::read_dir(&libraries)
            .into_iter()
            .flatten()
            .flatten()
            .any(|entry| {
                let name = entry.file_name();
                let name = name.to_string_lossy();
                name.starts_with("libstd-") && name.ends_with(".rlib")
            });
        let own = libraries.join("self-contained");
        let mark = fs::read_to_string(self.target().join(MARK)).ok();
        has_std
            && ["libc.a", "crt1-command.o"]
                .iter()
                .all(|name| own.join(name).is_file())
            && mark.is_none_or(|mark| mark == compiler.commit)
    }

    /// Whether a target can be put here.
    pub(super) fn is_writable(&self) -> bool {
        // Trying is the only answer that holds for every kind of permission and mount.
        tempfile::Builder::new()
            .prefix(".trellis-")
            .tempdir_in(self.targets())
            .is_ok()
    }

    /// Refuses a compiler that comes without the linkers for components.
    pub(super) fn check_linkers(&self, compiler: &Compiler) -> Result<()> {
        let programs = self.targets().join(&compiler.host).join("bin");
        for linker in LINKERS {
            if !programs.join(linker).is_file() {
                bail!(
                    "this Rust has no {linker} ({} is missing), which {TRIPLE} needs: use a toolchain from rustup",
                    programs.join(linker).display()
                );
            }
        }
        Ok(())
    }

    /// Makes this directory look like `real`, by links, for compiling with `--sysroot`.
    pub(super) fn resemble(&self, real: &Self, compiler: &Compiler) -> Result<()> {
        sources::empty(&self.0)?;
        let targets = self.targets();
        fs::create_dir_all(&targets)
            .with_context(|| format!("{} can't be made", targets.display()))?;
        let host = &compiler.host;
        // The host's directory has its libraries, for build scripts, and the linkers.
        link(&real.targets().join(host), &targets.join(host))
    }

    /// Links the standard library's source to where cargo looks for it. Only ever done to a look-alike: the machine's
    /// own sysroot is never given a `rust-src` that nobody has installed.
    pub(super) fn add_source(&self, library: &Path) -> Result<()> {
        let place = self.targets().join("src").join("rust");
        fs::create_dir_all(&place).with_context(|| format!("{} can't be made", place.display()))?;
        link(library, &place.join("library"))
    }

    /// Puts a built target in place: copied beside its place, then renamed, so that nobody sees half of it.
    pub(super) fn install(&self, compiler: &Compiler, built: &Path) -> Result<()> {
        let aside = tempfile::Builder::new()
            .prefix(".trellis-")
            .tempdir_in(self.targets())
            .with_context(|| format!("{} can't be written", self.targets().display()))?;
        let fresh = aside.path().join(TRIPLE);
        copy(built, &fresh)?;
        fs::write(fresh.join(MARK), &compiler.commit)
            .with_context(|| format!("{} can't be written", fresh.display()))?;
        let place = self.target();
        if place.exists() {
            // For another compiler, or half of one. It goes with the temporary directory.
            fs::rename(&place, aside.path().join("old"))
                .with_context(|| format!("{} can't be replaced", place.display()))?;
        }
        fs::rename(&fresh, &place)
            .with_context(|| format!("{} can't be put in place", place.display()))
    }
}

fn link(original: &Path, place: &Path) -> Result<()> {
    symlink(original, place).with_context(|| {
        format!(
            "{} can't be linked to {}",
            place.display(),
            original.display()
        )
    })
}

/// Copies a directory of files and directories.
fn copy(from: &Path, to: &Path) -> Result<()> {
    let failed = || format!("{} can't be copied to {}", from.display(), to.display());
    fs::create_dir_all(to).with_context(failed)?;
    for entry in fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let (source, place) = (entry.path(), to.join(entry.file_name()));
        if entry.file_type().with_context(failed)?.is_dir() {
            copy(&source, &place)?;
        } else {
            fs::copy(&source, &place).with_context(failed)?;
        }
    }
    Ok(())
}

/// Whether a file's name says that it is a static library of Rust.
pub(super) fn is_rust_library(name: &OsStr) -> bool {
    Path::new(name)
        .extension()
        .is_some_and(|extension| extension == "rlib")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn compiler(commit: &str, sysroot: &Path) -> Compiler {
        Compiler {
            rustc: PathBuf::from("rustc"),
            release: "1.95.0".to_owned(),
            commit: commit.to_owned(),
            host: "x86_64-unknown-linux-gnu".to_owned(),
            sysroot: sysroot.to_path_buf(),
        }
    }

    fn built(root: &Path) -> PathBuf {
        let built = root.join("built");
        let own = built.join("lib").join("self-contained");
        fs::create_dir_all(&own).unwrap();
        fs::write(built.join("lib").join("libstd-1.rlib"), "").unwrap();
        fs::write(own.join("libc.a"), "").unwrap();
        fs::write(own.join("crt1-command.o"), "").unwrap();
        built
    }

    #[test]
    fn an_installed_target_is_found_by_its_own_compiler_only() {
        let root = tempfile::tempdir().unwrap();
        let (old, new) = (compiler("old", root.path()), compiler("new", root.path()));
        let sysroot = Sysroot::of(&old);
        fs::create_dir_all(sysroot.targets()).unwrap();
        assert!(!sysroot.has_target(&old));

        sysroot.install(&old, &built(root.path())).unwrap();
        assert!(sysroot.has_target(&old));
        assert!(!sysroot.has_target(&new));

        sysroot.install(&new, &built(root.path())).unwrap();
        assert!(sysroot.has_target(&new));
        let left: Vec<_> = fs::read_dir(sysroot.targets())
            .unwrap()
            .map(|e| e.unwrap().file_name())
            .collect();
        assert_eq!(left, [TRIPLE]);
    }

    #[test]
    fn a_target_without_a_mark_is_somebody_elses_and_counts() {
        let root = tempfile::tempdir().unwrap();
        let compiler = compiler("any", root.path());
        let sysroot = Sysroot::of(&compiler);
        fs::create_dir_all(sysroot.targets()).unwrap();
        fs::rename(built(root.path()), sysroot.target()).unwrap();
        assert!(sysroot.has_target(&compiler));
    }

    #[test]
    fn a_target_without_its_c_library_does_not_count() {
        let root = tempfile::tempdir().unwrap();
        let compiler = compiler("any", root.path());
        let sysroot = Sysroot::of(&compiler);
        sysroot
            .resemble(&Sysroot::at(Path::new("/nowhere")), &compiler)
            .unwrap();
        let built = built(root.path().join("elsewhere").as_path());
        fs::remove_file(built.join("lib/self-contained/libc.a")).unwrap();
        fs::rename(built, sysroot.target()).unwrap();
        assert!(!sysroot.has_target(&compiler));
    }

    #[test]
    fn a_compiler_without_the_linkers_is_refused_by_name() {
        let root = tempfile::tempdir().unwrap();
        let compiler = compiler("any", root.path());
        let error = Sysroot::of(&compiler).check_linkers(&compiler).unwrap_err();
        assert!(error.to_string().contains("rust-lld"), "{error}");
    }

    #[test]
    fn a_directory_that_is_not_there_is_not_writable() {
        assert!(!Sysroot::at(Path::new("/no/such/sysroot")).is_writable());
    }
}
