//! Builds the standard library for the target, from source.
//!
//! Cargo's `build-std` does it, as a dependency of an empty crate, with the switch that lets a stable compiler use
//! unstable options. It happens in a look-alike sysroot: cargo wants the source inside the sysroot, and the machine's
//! own stays as it is until the result is complete.
//!
//! The library's few dependencies come from where all others of the workspace come from, by the lock file in the
//! source. Debian's package carries them as well, but without the prebuilt object file that `wit-bindgen` links.

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};

use super::TRIPLE;
use super::sources::{self, Sources};
use super::sysroot::{Sysroot, is_rust_library};
use crate::command;
use crate::compiler::Compiler;
use crate::project::Project;

/// The empty crate's name; its own library is not part of the result.
const EMPTY_CRATE: &str = "empty";

/// What a distributed standard library consists of.
const CRATES: &str = "build-std=std,panic_abort,proc_macro,test";

/// Where it is built.
pub(super) fn work(project: &Project) -> PathBuf {
    project.setup().join("standard-library")
}

/// Builds; gives back a directory in the shape of `lib/rustlib/wasm32-wasip2`.
pub(super) fn build(project: &Project, compiler: &Compiler, sources: &Sources) -> Result<PathBuf> {
    let work = work(project);
    sources::empty(&work)?;
    let look_alike = Sysroot::at(&work.join("sysroot"));
    look_alike.resemble(&Sysroot::of(compiler), compiler)?;
    look_alike.add_source(&sources.library)?;
    let rustc = launcher(&work, compiler, look_alike.path())?;
    empty_crate(&work)?;

    let mut cargo = project.cargo();
    cargo
        .current_dir(work.join(EMPTY_CRATE))
        .args([
            "build",
            "--quiet",
            "--release",
            "--target",
            TRIPLE,
            "-Z",
            CRATES,
            "--target-dir",
        ])
        .arg(work.join("target"));
    for name in inherited_settings() {
        cargo.env_remove(name);
    }
    cargo
        .env("RUSTC", &rustc)
        // Without bitcode in them the libraries can't take part in an actor's link-time optimisation.
        .env("RUSTFLAGS", "-Cembed-bitcode=yes")
        .env("RUSTC_BOOTSTRAP", "1");
    command::show(&mut cargo).context("the standard library can't be built")?;
    collect(&work, &sources.libc)
}

/// A compiler that takes the look-alike for its sysroot, also when cargo asks for it.
fn launcher(work: &Path, compiler: &Compiler, sysroot: &Path) -> Result<PathBuf> {
    let path = work.join("rustc");
    let script = format!(
        "#!/bin/sh\nexec {} --sysroot {} \"$@\"\n",
        quoted(&compiler.rustc)?,
        quoted(sysroot)?
    );
    fs::write(&path, script).with_context(|| format!("{} can't be written", path.display()))?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} can't be made executable", path.display()))?;
    Ok(path)
}

/// A path as one word of a shell.
fn quoted(path: &Path) -> Result<String> {
    let text = path
        .to_str()
        .with_context(|| format!("{} is not UTF-8", path.display()))?;
    Ok(format!("'{}'", text.replace('\'', r"'\''")))
}

fn empty_crate(work: &Path) -> Result<()> {
    let directory = work.join(EMPTY_CRATE);
    let write = || {
        fs::create_dir_all(directory.join("src"))?;
        let manifest = format!(
            "[package]\nname = \"{EMPTY_CRATE}\"\nversion = \"0.0.0\"\nedition = \"2024\"\n\n[workspace]\n"
        );
        fs::write(directory.join("Cargo.toml"), manifest)?;
        fs::write(directory.join("src").join("lib.rs"), "")
    };
    write().with_context(|| format!("{} can't be written", directory.display()))
}

/// Variables that would change how the standard library is built: flags, wrappers and profiles meant for our own code.
fn inherited_settings() -> impl Iterator<Item = String> {
    env::vars_os()
        .filter_map(|(name, _)| name.into_string().ok())
        .filter(|name| {
            [
                "CARGO_BUILD_",
                "CARGO_PROFILE_",
                "CARGO_TARGET_",
                "CARGO_UNSTABLE_",
            ]
            .iter()
            .any(|prefix| name.starts_with(prefix))
                || [
                    "CARGO_ENCODED_RUSTFLAGS",
                    "RUSTC_WRAPPER",
                    "RUSTC_WORKSPACE_WRAPPER",
                ]
                .contains(&name.as_str())
        })
}

fn collect(work: &Path, libc: &Path) -> Result<PathBuf> {
    let built = work.join(TRIPLE);
    let libraries = built.join("lib");
    let own = libraries.join("self-contained");
    fs::create_dir_all(&own).with_context(|| format!("{} can't be made", own.display()))?;
    let outputs = work
        .join("target")
        .join(TRIPLE)
        .join("release")
        .join("deps");
    let ours = format!("lib{EMPTY_CRATE}-");
    let count = copy_matching(&outputs, &libraries, |name| {
        is_rust_library(name.as_ref()) && !name.starts_with(&ours)
    })?;
    if count == 0 {
        bail!(
            "building the standard library left nothing in {}",
            outputs.display()
        );
    }
    copy_matching(libc, &own, |name| {
        name == "libc.a" || (name.starts_with("crt1") && name.ends_with(".o"))
    })?;
    Ok(built)
}

/// Copies the files of one directory whose names are wanted; gives back how many.
fn copy_matching(from: &Path, to: &Path, wanted: impl Fn(&str) -> bool) -> Result<usize> {
    let failed = || format!("{} can't be copied to {}", from.display(), to.display());
    let mut count = 0;
    for entry in fs::read_dir(from).with_context(failed)? {
        let entry = entry.with_context(failed)?;
        let name = entry.file_name();
        if name.to_str().is_some_and(&wanted) {
            fs::copy(entry.path(), to.join(name)).with_context(failed)?;
            count += 1;
        }
    }
    Ok(count)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_path_with_a_quote_stays_one_word() {
        assert_eq!(quoted(Path::new("/a b/it's")).unwrap(), r"'/a b/it'\''s'");
    }
}
