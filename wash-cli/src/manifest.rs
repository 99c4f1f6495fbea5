//! `trellis.toml`: what `wash build` must know of an actor beyond its Cargo.toml.
//!
//! ```toml
//! name = "shortlink"                       # what people call it; goes into its claims
//! version = "1.2.0"                        # default: the package's version in Cargo.toml
//! revision = 3                             # grows with each release; default 0
//! tags = ["demo"]
//! call_alias = "demo/shortlink"
//! capabilities = ["wasi:http/incoming-handler", "wasi:keyvalue"]
//!
//! [build]
//! command = "make component"               # default: `cargo build --release --target wasm32-wasip2`
//! artifact = "out/shortlink.wasm"          # default: what cargo makes, found by `cargo metadata`
//! ```
//!
//! An unknown key is a mistake, since a misspelt one would be left out in silence. The file is read and never written.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use trellis_claims::{Capabilities, Capability};

use crate::keys::check_name;

/// The file's name.
pub const FILE_NAME: &str = "trellis.toml";

/// Largest manifest, in bytes.
pub const MANIFEST_BYTES_MAX: u64 = 256 * 1024;

/// What a manifest says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Manifest {
    /// What people call the actor.
    pub name: String,
    /// Its version, where it is not Cargo.toml's.
    pub version: Option<String>,
    /// A number that grows with each release.
    pub revision: u32,
    /// Words for people and policies.
    pub tags: Vec<String>,
    /// Another name to call it by.
    pub call_alias: Option<String>,
    /// What its claims grant.
    pub capabilities: Capabilities,
    /// What builds it, for a shell, where it is not cargo.
    pub command: Option<String>,
    /// The component that the command makes, relative to the manifest.
    pub artifact: Option<PathBuf>,
}

/// Why a manifest is not accepted.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ManifestError {
    /// It is not there.
    #[error(
        "there is no {FILE_NAME} in {}; make one with `name = \"…\"` and `capabilities = […]`, or name its directory with --path",
        directory.display()
    )]
    Missing {
        /// Where it was looked for.
        directory: PathBuf,
    },
    /// It cannot be read.
    #[error("cannot read {}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It is larger than [`MANIFEST_BYTES_MAX`].
    #[error("cannot read {}: it has {bytes} bytes, at most {MANIFEST_BYTES_MAX} are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// It is not TOML, or a key is unknown, missing or of the wrong type.
    #[error("cannot understand {}: {fault}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong, and in which line.
        fault: String,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    name: String,
    version: Option<String>,
    #[serde(default)]
    revision: u32,
    #[serde(default)]
    tags: Vec<String>,
    call_alias: Option<String>,
    capabilities: Vec<String>,
    #[serde(default)]
    build: Build,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Build {
    command: Option<String>,
    artifact: Option<PathBuf>,
}

impl Manifest {
    /// Reads the manifest of the actor in a directory.
    ///
    /// # Errors
    /// [`ManifestError`], by cause.
    pub fn of(directory: &Path) -> Result<Self, ManifestError> {
        let path = directory.join(FILE_NAME);
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::NotFound => ManifestError::Missing {
                directory: directory.to_path_buf(),
            },
            _ => ManifestError::Io {
                path: path.clone(),
                source,
            },
        };
        let bytes = fs::metadata(&path).map_err(failed)?.len();
        if bytes > MANIFEST_BYTES_MAX {
            return Err(ManifestError::TooLarge { path, bytes });
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Self::parse(&text).map_err(|fault| ManifestError::Malformed { path, fault })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| explain(text, &error))?;
        check_name("an actor", &file.name).map_err(|fault| format!("`name`: {fault}"))?;
        let capabilities = file
            .capabilities
            .iter()
            .map(|text| text.parse::<Capability>())
            .collect::<Result<_, _>>()
            .map_err(|fault| format!("`capabilities`: {fault}"))?;
        Ok(Self {
            name: file.name,
            version: file.version,
            revision: file.revision,
            tags: file.tags,
            call_alias: file.call_alias,
            capabilities,
            command: file.build.command,
            artifact: file.build.artifact,
        })
    }
}

/// One line, with the number of the line at fault.
fn explain(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().replace('\n', ", ");
    match error.span() {
        // A missing key has no place; its span is the whole document.
        Some(span) if span.start > 0 || span.end < text.len() => {
            let before = text.get(..span.start).unwrap_or_default();
            format!("line {}: {message}", before.matches('\n').count() + 1)
        }
        _ => message,
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn the_smallest_manifest_is_a_name_and_capabilities() {
        let manifest = Manifest::parse("name = \"hello\"\ncapabilities = []\n").unwrap();
        assert_eq!(manifest.name, "hello");
        assert_eq!((manifest.revision, manifest.version), (0, None));
        assert!(manifest.capabilities.is_empty());
    }

    #[test]
    fn every_key_is_read() {
        let manifest = Manifest::parse(
            "name = \"a\"\nversion = \"1.2.0\"\nrevision = 3\ntags = [\"t\"]\ncall_alias = \"x/a\"\n\
             capabilities = [\"wasi:keyvalue\"]\n[build]\ncommand = \"make\"\nartifact = \"out/a.wasm\"\n",
        )
        .unwrap();
        assert_eq!(manifest.version.as_deref(), Some("1.2.0"));
        assert_eq!(manifest.revision, 3);
        assert_eq!(manifest.tags, ["t"]);
        assert_eq!(manifest.call_alias.as_deref(), Some("x/a"));
        assert_eq!(manifest.capabilities.len(), 1);
        assert_eq!(manifest.command.as_deref(), Some("make"));
        assert_eq!(manifest.artifact.as_deref(), Some(Path::new("out/a.wasm")));
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let fault = Manifest::parse("name = \"a\"\ncapabilites = []\n").unwrap_err();
        assert!(fault.starts_with("line 2: "), "{fault}");
        assert!(fault.contains("`capabilites`"), "{fault}");
        let fault =
            Manifest::parse("name = \"a\"\ncapabilities = []\n[build]\ncmd = \"x\"\n").unwrap_err();
        assert!(
            fault.starts_with("line 4: ") && fault.contains("`cmd`"),
            "{fault}"
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        let fault = Manifest::parse("name = \"a\"\n").unwrap_err();
        assert!(fault.contains("`capabilities`"), "{fault}");
    }

    #[test]
    fn a_bad_capability_is_refused_with_its_text() {
        let fault =
            Manifest::parse("name = \"a\"\ncapabilities = [\"wasi:http@0.2.0\"]").unwrap_err();
        assert!(
            fault.starts_with("`capabilities`: ") && fault.contains("wasi:http@0.2.0"),
            "{fault}"
        );
    }

    #[test]
    fn a_name_that_cannot_be_a_file_is_refused() {
        let fault = Manifest::parse("name = \"../a\"\ncapabilities = []").unwrap_err();
        assert!(fault.starts_with("`name`: "), "{fault}");
    }
}
