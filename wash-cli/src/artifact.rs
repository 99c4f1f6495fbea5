//! Building an actor's component, and finding the file that the build made.
//!
//! Whatever a build prints goes to stderr: `wash`'s own stdout is data. Where cargo builds, `cargo metadata` is asked
//! for the target directory and the library's name, so a workspace, a renamed library or `CARGO_TARGET_DIR` need no
//! configuration.

use std::env;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use serde::Deserialize;

use crate::manifest::Manifest;

/// The target that components are compiled for.
pub const TARGET: &str = "wasm32-wasip2";

/// Where the standard library for [`TARGET`] comes from, for whoever lacks it.
pub const TARGET_REMEDY: &str =
    "run `rustup target add wasm32-wasip2`, or `cargo xtask setup` in a checkout of Trellis";

/// Why there is no component.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ArtifactError {
    /// A program cannot be run.
    #[error("cannot run `{program}` in {}", directory.display())]
    Spawn {
        /// The program.
        program: String,
        /// Where.
        directory: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// The build failed.
    #[error("the build failed: `{command}` ended with {status}; see its own words above")]
    Build {
        /// What was run.
        command: String,
        /// How it ended.
        status: ExitStatus,
    },
    /// The build failed, and the compiler has no standard library for the target.
    #[error(
        "the build failed, since the Rust target {TARGET} is not installed; {TARGET_REMEDY}, then build again"
    )]
    TargetMissing,
    /// `cargo metadata` failed, or said something unexpected.
    #[error("cannot find the component: `cargo metadata` in {} failed: {fault}", directory.display())]
    Metadata {
        /// Where.
        directory: PathBuf,
        /// What it said.
        fault: String,
    },
    /// The package makes no component.
    #[error(
        "cannot find the component: {} makes none; it needs `crate-type = [\"cdylib\"]` under `[lib]`, or name the file with `artifact` in trellis.toml or --artifact",
        manifest.display()
    )]
    NoTarget {
        /// The Cargo.toml.
        manifest: PathBuf,
    },
    /// There is neither a Cargo.toml nor an `artifact`.
    #[error(
        "cannot find the component: there is no Cargo.toml in {}, so trellis.toml must name `artifact` (or give --artifact) and `version`",
        directory.display()
    )]
    NoCargo {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// The file is not there.
    #[error("cannot find the component at {}{}", path.display(), hint)]
    Missing {
        /// Where it should be.
        path: PathBuf,
        /// What would help.
        hint: &'static str,
    },
}

/// Whether to run the build.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Build {
    /// Run it.
    Run,
    /// The component is there already.
    Skip,
}

/// A component on disk, not signed by us yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Artifact {
    /// The file.
    pub path: PathBuf,
    /// The version of the package that it comes from, where cargo knows it.
    pub package_version: Option<String>,
}

/// Builds the component of the actor in `directory`, as its manifest says, and finds it.
///
/// Blocks until the build has ended. `artifact` overrides where the component is looked for; it is relative to the
/// working directory, the manifest's own to the manifest.
///
/// # Errors
/// [`ArtifactError`], by cause.
pub fn build(
    directory: &Path,
    manifest: &Manifest,
    artifact: Option<&Path>,
    build: Build,
) -> Result<Artifact, ArtifactError> {
    let has_cargo = directory.join("Cargo.toml").is_file();
    if build == Build::Run {
        match &manifest.command {
            Some(command) => run_shell(directory, command)?,
            None if has_cargo => run_cargo(directory)?,
            None => {
                return Err(ArtifactError::NoCargo {
                    directory: directory.to_path_buf(),
                });
            }
        }
    }
    let named = artifact
        .map(Path::to_path_buf)
        .or_else(|| Some(directory.join(manifest.artifact.as_ref()?)));
    let package = if has_cargo && (named.is_none() || manifest.version.is_none()) {
        Some(package_in(directory)?)
    } else {
        None
    };
    let package_version = package.as_ref().map(|package| package.version.clone());
    let path = match (named, package) {
        (Some(path), _) => path,
        (None, Some(package)) => package.component.ok_or_else(|| ArtifactError::NoTarget {
            manifest: directory.join("Cargo.toml"),
        })?,
        (None, None) => {
            return Err(ArtifactError::NoCargo {
                directory: directory.to_path_buf(),
            });
        }
    };
    if !path.is_file() {
        let hint = match build {
            Build::Run => {
                ", though the build succeeded; name the file with `artifact` in trellis.toml or --artifact"
            }
            Build::Skip => {
                "; build it first (leave out --no-build), or name the file with --artifact"
            }
        };
        return Err(ArtifactError::Missing { path, hint });
    }
    Ok(Artifact {
        path,
        package_version,
    })
}

fn run_shell(directory: &Path, command: &str) -> Result<(), ArtifactError> {
    let status = run(Command::new("sh").args(["-c", command]), "sh", directory)?;
    if status.success() {
        return Ok(());
    }
    if command.contains(TARGET) && !target_is_installed(directory) {
        return Err(ArtifactError::TargetMissing);
    }
    Err(ArtifactError::Build {
        command: command.to_owned(),
        status,
    })
}

fn run_cargo(directory: &Path) -> Result<(), ArtifactError> {
    let args = ["build", "--release", "--target", TARGET];
    let status = run(Command::new(cargo()).args(args), "cargo", directory)?;
    if status.success() {
        return Ok(());
    }
    // Looked at only now: a toolchain may have the target in a way of its own, which a build alone can tell.
    if !target_is_installed(directory) {
        return Err(ArtifactError::TargetMissing);
    }
    Err(ArtifactError::Build {
        command: format!("cargo {}", args.join(" ")),
        status,
    })
}

fn run(
    command: &mut Command,
    program: &str,
    directory: &Path,
) -> Result<ExitStatus, ArtifactError> {
    command
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(io::stderr())
        .status()
        .map_err(|source| ArtifactError::Spawn {
            program: program.to_owned(),
            directory: directory.to_path_buf(),
            source,
        })
}

/// The cargo that runs us, if one does, so that both are of the same toolchain.
fn cargo() -> OsString {
    env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// What there is to build actors with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Toolchain {
    /// A compiler, with a standard library for [`TARGET`].
    Ready {
        /// What the compiler says it is.
        version: String,
    },
    /// A compiler without one.
    TargetMissing {
        /// What the compiler says it is.
        version: String,
    },
    /// No compiler that can be run.
    Missing,
}

/// Asks the compiler that `PATH`, or `RUSTC`, leads to.
#[must_use]
pub fn toolchain() -> Toolchain {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc)
        .arg("--version")
        .stdin(Stdio::null())
        .output();
    let version = match asked {
        Ok(output) if output.status.success() => String::from_utf8_lossy(&output.stdout)
            .lines()
            .next()
            .unwrap_or("rustc")
            .to_owned(),
        _ => return Toolchain::Missing,
    };
    if target_is_installed(Path::new(".")) {
        Toolchain::Ready { version }
    } else {
        Toolchain::TargetMissing { version }
    }
}

/// Whether the compiler that builds in `directory` has a standard library for [`TARGET`]. `true` where it cannot be
/// asked: then the build's own words are the better ones.
fn target_is_installed(directory: &Path) -> bool {
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let asked = Command::new(rustc)
        .args(["--print", "target-libdir", "--target", TARGET])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output();
    let Ok(asked) = asked else { return true };
    let library = PathBuf::from(String::from_utf8_lossy(&asked.stdout).trim());
    if !asked.status.success() || library.as_os_str().is_empty() {
        return true;
    }
    fs::read_dir(library).is_ok_and(|entries| {
        entries
            .flatten()
            .any(|entry| entry.file_name().to_string_lossy().starts_with("libcore"))
    })
}

/// What cargo knows about the package in a directory.
struct Package {
    version: String,
    component: Option<PathBuf>,
}

#[derive(Deserialize)]
struct Metadata {
    packages: Vec<MetadataPackage>,
    target_directory: PathBuf,
}

#[derive(Deserialize)]
struct MetadataPackage {
    version: String,
    manifest_path: PathBuf,
    targets: Vec<MetadataTarget>,
}

#[derive(Deserialize)]
struct MetadataTarget {
    name: String,
    crate_types: Vec<String>,
}

fn package_in(directory: &Path) -> Result<Package, ArtifactError> {
    let failed = |fault: String| ArtifactError::Metadata {
        directory: directory.to_path_buf(),
        fault,
    };
    let output = Command::new(cargo())
        .args(["metadata", "--no-deps", "--format-version", "1"])
        .current_dir(directory)
        .stdin(Stdio::null())
        .output()
        .map_err(|source| ArtifactError::Spawn {
            program: "cargo".to_owned(),
            directory: directory.to_path_buf(),
            source,
        })?;
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        return Err(failed(words.trim().to_owned()));
    }
    let metadata: Metadata =
        serde_json::from_slice(&output.stdout).map_err(|error| failed(error.to_string()))?;
    let manifest = fs::canonicalize(directory.join("Cargo.toml"))
        .map_err(|error| failed(error.to_string()))?;
    let package = metadata
        .packages
        .into_iter()
        // Cargo names paths as they were reached, which may be through a link.
        .find(|package| fs::canonicalize(&package.manifest_path).is_ok_and(|path| path == manifest))
        .ok_or_else(|| failed("its Cargo.toml has no [package]".to_owned()))?;
    let release = metadata.target_directory.join(TARGET).join("release");
    Ok(Package {
        component: package
            .targets
            .iter()
            .find_map(component_name)
            .map(|name| release.join(name)),
        version: package.version,
    })
}

/// The name of the file that a library becomes; a program, where there is no library.
fn component_name(target: &MetadataTarget) -> Option<String> {
    let makes = |kind: &str| target.crate_types.iter().any(|made| made == kind);
    if makes("cdylib") {
        Some(format!("{}.wasm", target.name.replace('-', "_")))
    } else if makes("bin") {
        Some(format!("{}.wasm", target.name))
    } else {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(name: &str, kinds: &[&str]) -> MetadataTarget {
        MetadataTarget {
            name: name.into(),
            crate_types: kinds.iter().map(ToString::to_string).collect(),
        }
    }

    #[test]
    fn a_library_loses_its_hyphens_and_a_program_keeps_them() {
        let library = target("code-maker", &["cdylib", "rlib"]);
        assert_eq!(component_name(&library).as_deref(), Some("code_maker.wasm"));
        let program = target("code-maker", &["bin"]);
        assert_eq!(component_name(&program).as_deref(), Some("code-maker.wasm"));
        assert_eq!(component_name(&target("x", &["rlib"])), None);
    }
}
