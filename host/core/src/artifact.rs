//! Where components and providers are to be had: what a reference names, and how its bytes are read.
//!
//! A component comes from a file of this host, where its operator allows that. A provider is one of those that the host
//! was assembled with, under its own name or under one by which wasmCloud 1.x publishes it; or a program of the host's
//! directory of providers; or, where files are allowed, any program of this machine.

use std::collections::BTreeMap;
use std::fs::OpenOptions;
use std::io::{self, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;

use crate::limits::COMPONENT_BYTES_MAX;

/// What the references of files begin with.
const FILE_SCHEME: &str = "file://";

/// What references of providers in the host's own binary begin with, in manifests of wasmCloud 1.x.
const BUILTIN_SCHEME: &str = "wasmcloud+builtin://";

/// Published providers of wasmCloud 1.x, without tag, and ours that serve the same interfaces.
const PUBLISHED: &[(&str, &str)] = &[
    ("ghcr.io/wasmcloud/http-server", "http-server"),
    ("ghcr.io/wasmcloud/http-client", "http-client"),
    ("ghcr.io/wasmcloud/keyvalue-nats", "keyvalue-nats"),
    ("ghcr.io/wasmcloud/keyvalue-redis", "keyvalue-redis"),
    ("ghcr.io/wasmcloud/messaging-nats", "messaging-nats"),
    ("ghcr.io/wasmcloud/sqldb-postgres", "sql-postgres"),
];

/// Why a reference leads to nothing that can run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ArtifactError {
    /// The reference is of a kind that this host cannot fetch.
    #[error(
        "cannot fetch `{reference}`: this host takes components as `file:///absolute/path` only"
    )]
    Unsupported {
        /// The reference.
        reference: String,
    },
    /// The operator has not allowed files.
    #[error(
        "refused `{reference}`: this host takes nothing from files; start it with `--allow-file` to allow it"
    )]
    FilesNotAllowed {
        /// The reference.
        reference: String,
    },
    /// The path of a file reference is not absolute, or names another machine.
    #[error("cannot use `{reference}`: write a file as `file:///absolute/path`")]
    NotAbsolute {
        /// The reference.
        reference: String,
    },
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
    /// It has no byte.
    #[error("{} is empty", path.display())]
    Empty {
        /// The file.
        path: PathBuf,
    },
    /// It is larger than a component may be.
    #[error("{} has {bytes} bytes, at most {COMPONENT_BYTES_MAX} are accepted", path.display())]
    TooLarge {
        /// The file.
        path: PathBuf,
        /// Its length.
        bytes: u64,
    },
    /// It cannot be read.
    #[error("cannot read {}: {source}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// No provider of this host goes by this reference.
    #[error("this host has no provider `{reference}`; it has {available}")]
    UnknownProvider {
        /// The reference.
        reference: String,
        /// What it has.
        available: String,
    },
}

impl ArtifactError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Unsupported { .. } | Self::NotAbsolute { .. } => "reference-unsupported",
            Self::FilesNotAllowed { .. } => "files-not-allowed",
            Self::Missing { .. } => "artifact-missing",
            Self::NotAFile { .. } | Self::Empty { .. } | Self::Io { .. } => "artifact-unreadable",
            Self::TooLarge { .. } => "artifact-too-large",
            Self::UnknownProvider { .. } => "provider-unknown",
        }
    }
}

/// The file that a component's reference names. Looks at the reference alone, not at the disk.
///
/// # Errors
/// [`ArtifactError`] for a reference of another kind, and where files are not allowed.
pub(crate) fn component_file(reference: &str, allow_file: bool) -> Result<PathBuf, ArtifactError> {
    let Some(path) = reference.strip_prefix(FILE_SCHEME) else {
        return Err(ArtifactError::Unsupported {
            reference: reference.to_owned(),
        });
    };
    if !allow_file {
        return Err(ArtifactError::FilesNotAllowed {
            reference: reference.to_owned(),
        });
    }
    let path = PathBuf::from(path);
    if !path.is_absolute() {
        return Err(ArtifactError::NotAbsolute {
            reference: reference.to_owned(),
        });
    }
    Ok(path)
}

/// Reads a component. Blocks.
///
/// # Errors
/// [`ArtifactError`], by cause.
pub(crate) fn read_component(path: &Path) -> Result<Vec<u8>, ArtifactError> {
    let io = |source: io::Error| match source.kind() {
        io::ErrorKind::NotFound => ArtifactError::Missing {
            path: path.to_owned(),
        },
        _ => ArtifactError::Io {
            path: path.to_owned(),
            source,
        },
    };
    // Looked at before it is opened, because opening a device can do something to it. What stands there when it is opened
    // may be another file, so nothing is waited for then either: a pipe would wait for its other end.
    if !std::fs::metadata(path).map_err(io)?.is_file() {
        return Err(ArtifactError::NotAFile {
            path: path.to_owned(),
        });
    }
    let file = OpenOptions::new()
        .read(true)
        .custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY).bits().cast_signed())
        .open(path)
        .map_err(io)?;
    let metadata = file.metadata().map_err(io)?;
    if !metadata.is_file() {
        return Err(ArtifactError::NotAFile {
            path: path.to_owned(),
        });
    }
    let bytes = metadata.len();
    // Not read at all: files that the kernel makes up have no length either, and reading some of them never ends.
    if bytes == 0 {
        return Err(ArtifactError::Empty {
            path: path.to_owned(),
        });
    }
    if bytes > COMPONENT_BYTES_MAX {
        return Err(ArtifactError::TooLarge {
            path: path.to_owned(),
            bytes,
        });
    }
    // It may grow while it is read, so the limit holds here as well.
    let mut component = Vec::with_capacity(usize::try_from(bytes).unwrap_or(0));
    file.take(COMPONENT_BYTES_MAX + 1)
        .read_to_end(&mut component)
        .map_err(io)?;
    match component.len() as u64 {
        0 => Err(ArtifactError::Empty {
            path: path.to_owned(),
        }),
        bytes if bytes > COMPONENT_BYTES_MAX => Err(ArtifactError::TooLarge {
            path: path.to_owned(),
            bytes,
        }),
        _ => Ok(component),
    }
}

/// Whether a reference names a file.
pub(crate) fn is_file_reference(reference: &str) -> bool {
    reference.starts_with(FILE_SCHEME)
}

/// The program that a provider's reference names. Looks at the reference alone, not at the disk.
///
/// # Errors
/// As [`component_file`].
pub(crate) fn provider_file(reference: &str, allow_file: bool) -> Result<PathBuf, ArtifactError> {
    component_file(reference, allow_file)
}

/// The name of the provider that a reference means, whether this host has it or not.
///
/// `aliases` are the operator's own: a reference without its tag, and the name it stands for. They win over the built-in
/// table.
pub(crate) fn provider_meant<'a>(
    reference: &'a str,
    aliases: &'a BTreeMap<String, String>,
) -> &'a str {
    let plain = without_tag(reference.strip_prefix("oci://").unwrap_or(reference));
    aliases
        .get(plain)
        .or_else(|| aliases.get(reference))
        .map(String::as_str)
        .or_else(|| reference.strip_prefix(BUILTIN_SCHEME))
        .or_else(|| {
            PUBLISHED
                .iter()
                .find_map(|(published, ours)| (*published == plain).then_some(*ours))
        })
        .unwrap_or(reference)
}

/// The error for a reference that leads to no provider, with what this host has.
pub(crate) fn unknown(reference: &str, available: impl Iterator<Item = String>) -> ArtifactError {
    ArtifactError::UnknownProvider {
        reference: reference.to_owned(),
        available: list(available),
    }
}

/// A reference without `:tag` and `@digest`. A colon before the last slash belongs to a port.
fn without_tag(reference: &str) -> &str {
    let reference = reference.split('@').next().unwrap_or(reference);
    match reference.rsplit_once(':') {
        Some((plain, tag)) if !tag.contains('/') => plain,
        _ => reference,
    }
}

fn list(available: impl Iterator<Item = String>) -> String {
    let names: Vec<_> = available.map(|name| format!("`{name}`")).collect();
    if names.is_empty() {
        "none".to_owned()
    } else {
        names.join(", ")
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn named(reference: &str) -> String {
        provider_meant(reference, &BTreeMap::new()).to_owned()
    }

    #[test]
    fn a_file_reference_is_an_absolute_path_and_only_where_files_are_allowed() {
        assert_eq!(
            component_file("file:///a/b.wasm", true).unwrap(),
            PathBuf::from("/a/b.wasm")
        );
        for (reference, allow_file, code) in [
            ("file:///a/b.wasm", false, "files-not-allowed"),
            ("file://a/b.wasm", true, "reference-unsupported"),
            ("file://", true, "reference-unsupported"),
            ("/a/b.wasm", true, "reference-unsupported"),
            ("ghcr.io/a/b:1", true, "reference-unsupported"),
        ] {
            let error = component_file(reference, allow_file).unwrap_err();
            assert_eq!(error.code(), code, "{reference}: {error}");
        }
    }

    #[test]
    fn a_component_file_is_regular_and_neither_empty_nor_missing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.wasm");
        assert!(matches!(
            read_component(&path),
            Err(ArtifactError::Missing { .. })
        ));
        assert!(matches!(
            read_component(dir.path()),
            Err(ArtifactError::NotAFile { .. })
        ));
        assert!(matches!(
            read_component(Path::new("/dev/zero")),
            Err(ArtifactError::NotAFile { .. })
        ));
        std::fs::write(&path, b"").unwrap();
        assert!(matches!(
            read_component(&path),
            Err(ArtifactError::Empty { .. })
        ));
        std::fs::write(&path, b"x").unwrap();
        assert_eq!(read_component(&path).unwrap(), b"x");
    }

    #[test]
    #[cfg(target_os = "linux")]
    fn a_file_that_the_kernel_makes_up_is_not_read() {
        // Regular by its type. Reading `/proc/kmsg` instead would wait for the kernel's next message.
        for path in ["/proc/self/status", "/proc/self/mem"] {
            assert!(matches!(
                read_component(Path::new(path)),
                Err(ArtifactError::Empty { .. })
            ));
        }
    }

    #[test]
    fn the_largest_component_is_read_and_one_byte_more_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("c.wasm");
        let file = std::fs::File::create(&path).unwrap();
        file.set_len(COMPONENT_BYTES_MAX).unwrap();
        assert_eq!(
            read_component(&path).unwrap().len() as u64,
            COMPONENT_BYTES_MAX
        );
        file.set_len(COMPONENT_BYTES_MAX + 1).unwrap();
        assert!(matches!(
            read_component(&path),
            Err(ArtifactError::TooLarge { .. })
        ));
    }

    #[test]
    fn a_provider_is_found_by_its_own_and_by_its_published_names() {
        for reference in [
            "http-server",
            "wasmcloud+builtin://http-server",
            "ghcr.io/wasmcloud/http-server:0.23.0",
            "ghcr.io/wasmcloud/http-server",
            "oci://ghcr.io/wasmcloud/http-server:canary",
            "ghcr.io/wasmcloud/http-server@sha256:00",
        ] {
            assert_eq!(named(reference), "http-server", "{reference}");
        }
    }

    #[test]
    fn an_unknown_provider_is_refused_with_what_there_is() {
        let have = ["http-server", "keyvalue-nats"].map(str::to_owned);
        let error = unknown("http", have.into_iter()).to_string();
        assert!(error.contains("`http`"), "{error}");
        assert!(error.contains("`http-server`, `keyvalue-nats`"), "{error}");
        let none = unknown("", std::iter::empty()).to_string();
        assert!(none.contains("none"), "{none}");
    }

    #[test]
    fn an_operators_alias_wins_over_the_table() {
        let aliases =
            BTreeMap::from([("example.org:5000/http".to_owned(), "http-server".to_owned())]);
        let found = provider_meant("example.org:5000/http:2", &aliases);
        assert_eq!(found, "http-server");
    }
}
