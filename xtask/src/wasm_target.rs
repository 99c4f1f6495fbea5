//! The Rust target that actors are compiled for, and how it gets onto a machine.
//!
//! The ways, in order, each tried only where the one before it did not work:
//!
//! 1. It is there already.
//! 2. `rustup target add` ([`rustup`]), where rustup manages the compiler and reaches its server.
//! 3. The standard library is built from source once ([`standard_library`]) with sources from the directory that
//!    `TRELLIS_TOOLCHAIN_DIR` names, or else from Debian's packages ([`debian`]), and laid beside the compiler's other
//!    targets ([`sysroot`]), so that a plain `cargo build --target wasm32-wasip2` works from then on. Where the
//!    compiler's directory can't be written, a look-alike of it under our target directory takes its place, for actors
//!    only.
//!
//! Whatever way it was, a small program is compiled in the end.

mod debian;
mod rustup;
mod sources;
mod sources_list;
mod standard_library;
mod sysroot;

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::command;
use crate::compiler::Compiler;
use crate::project::Project;
use crate::step::note;
use sysroot::Sysroot;

/// The target's name.
pub(crate) const TRIPLE: &str = "wasm32-wasip2";

/// Longest that compiling the small program may take; a second is usual, beside other builds a few.
const VERIFY_WITHIN: Duration = Duration::from_secs(120);

/// How every component begins: the WebAssembly magic, version 13, layer 1.
const COMPONENT_PREAMBLE: &[u8] = b"\0asm\x0d\0\x01\0";

/// How to compile for the target on this machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct WasmTarget {
    /// The look-alike sysroot to use, where the compiler's own could not be given the target.
    sysroot: Option<PathBuf>,
}

impl WasmTarget {
    /// Prepares a cargo command that builds for the target.
    ///
    /// Flags given this way replace those in configuration files, but only where a look-alike sysroot is needed, and
    /// with `--target` they don't reach build scripts and procedural macros.
    pub(crate) fn apply(&self, cargo: &mut Command) {
        if let Some(sysroot) = &self.sysroot {
            let mut flags = inherited_flags();
            flags.push("--sysroot".into());
            flags.push(sysroot.into());
            cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\x1f".as_ref()));
        }
    }
}

/// The compiler flags that the environment asks for, as cargo reads them.
fn inherited_flags() -> Vec<OsString> {
    let split = |name: &str, separator: char| {
        let flags = std::env::var(name).ok()?;
        let flags = flags.split(separator).filter(|flag| !flag.is_empty());
        Some(flags.map(OsString::from).collect())
    };
    split("CARGO_ENCODED_RUSTFLAGS", '\x1f')
        .or_else(|| split("RUSTFLAGS", ' '))
        .unwrap_or_default()
}

/// Makes sure that the target can be compiled for; gives back how, and a few words on it.
pub(crate) fn ensure(project: &Project, compiler: &Compiler) -> Result<(WasmTarget, String)> {
    let (target, how) = match present(project, compiler) {
        Some(found) => found,
        None => install(project, compiler)?,
    };
    verify(project, compiler, &target).with_context(|| {
        format!("the installed {TRIPLE} does not work; remove it (rustup target remove {TRIPLE}) and set up again")
    })?;
    Ok((target, how))
}

/// The target as an earlier set-up, or somebody else, left it.
fn present(project: &Project, compiler: &Compiler) -> Option<(WasmTarget, String)> {
    if Sysroot::of(compiler).has_target(compiler) {
        return Some((WasmTarget::default(), "present".to_owned()));
    }
    let ours = look_alike(project, compiler);
    ours.has_target(compiler).then(|| {
        let how = format!("present in {}", ours.path().display());
        let sysroot = Some(ours.path().to_path_buf());
        (WasmTarget { sysroot }, how)
    })
}

fn look_alike(project: &Project, compiler: &Compiler) -> Sysroot {
    // By compiler build: after an update the old one must not be taken for the new one's.
    let build = compiler.commit.get(..9).unwrap_or(&compiler.commit);
    let name = format!("sysroot-{}-{build}", compiler.release);
    Sysroot::at(&project.setup().join(name))
}

fn install(project: &Project, compiler: &Compiler) -> Result<(WasmTarget, String)> {
    let _ours = lock(&project.setup().join("lock"))?;
    let real = Sysroot::of(compiler);
    // The compiler may be shared with other copies of this workspace, so its lock is beside it.
    let writable = real.is_writable();
    let _shared = match writable {
        true => Some(lock(&real.lock_path())?),
        false => None,
    };
    // Somebody else may have installed it while we waited.
    if let Some(found) = present(project, compiler) {
        return Ok(found);
    }
    let mut refusals = Vec::new();
    match rustup::add_target(project, compiler) {
        Ok(()) if real.has_target(compiler) => {
            return Ok((WasmTarget::default(), "added by rustup".to_owned()));
        }
        Ok(()) => refusals.push("rustup: added it to another toolchain".to_owned()),
        Err(error) => refusals.push(format!("rustup: {error:#}")),
    }
    note(&format!("not from {}", refusals.join("; ")));

    real.check_linkers(compiler)?;
    let Some((sources, from)) = sources::find(project, compiler, &mut refusals) else {
        bail!(
            "it is missing and can't be had ({}): run `rustup target add {TRIPLE}` where there is a network, or set {} \
             to a directory with {} and {}",
            refusals.join("; "),
            sources::DIRECTORY_VARIABLE,
            sources::library_archive(compiler),
            sources::LIBC_ARCHIVE,
        );
    };
    note(&format!("building the standard library from {from}, once"));
    let built = standard_library::build(project, compiler, &sources)?;
    let target = if writable {
        real.install(compiler, &built)?;
        WasmTarget::default()
    } else {
        let ours = look_alike(project, compiler);
        ours.resemble(&real, compiler)?;
        ours.install(compiler, &built)?;
        WasmTarget {
            sysroot: Some(ours.path().to_path_buf()),
        }
    };
    // Three hundred megabytes that are needed once.
    sources::remove(&sources::scratch(project))?;
    sources::remove(&standard_library::work(project))?;
    let place = target.sysroot.as_deref().unwrap_or(real.path());
    Ok((
        target.clone(),
        format!("built from {from} into {}", place.display()),
    ))
}

/// Takes a lock that ends with the returned file, or with the process.
pub(crate) fn lock(path: &Path) -> Result<File> {
    let lock = || {
        if let Some(directory) = path.parent() {
            fs::create_dir_all(directory)?;
        }
        let file = File::create(path)?;
        file.lock()?;
        Ok::<_, std::io::Error>(file)
    };
    lock().with_context(|| format!("{} can't be locked", path.display()))
}

/// Compiles a small program for the target, and looks whether a component came out.
fn verify(project: &Project, compiler: &Compiler, target: &WasmTarget) -> Result<()> {
    fs::create_dir_all(project.setup())
        .with_context(|| format!("{} can't be made", project.setup().display()))?;
    let scratch =
        tempfile::tempdir_in(project.setup()).context("no temporary directory can be made")?;
    let source = scratch.path().join("hello.rs");
    let component = scratch.path().join("hello.wasm");
    fs::write(&source, "fn main() { println!(\"hello\"); }\n")
        .with_context(|| format!("{} can't be written", source.display()))?;
    let mut rustc = Command::new(&compiler.rustc);
    rustc
        .args(["--edition", "2024", "--target", TRIPLE, "-o"])
        .arg(&component)
        .arg(&source);
    if let Some(sysroot) = &target.sysroot {
        rustc.arg("--sysroot").arg(sysroot);
    }
    command::read(&mut rustc, VERIFY_WITHIN)?;
    let bytes =
        fs::read(&component).with_context(|| format!("{} was not made", component.display()))?;
    ensure!(
        bytes.starts_with(COMPONENT_PREAMBLE),
        "what was compiled is no component"
    );
    Ok(())
}
