//! [`Reference`]: what a command names, read from text.
//!
//! | written | means |
//! | --- | --- |
//! | `file:///absolute/path` | a file of the host |
//! | `oci://registry/repository[:tag][@sha256:…]` | an artifact of a registry |
//! | `registry/repository[:tag][@sha256:…]` | the same; the registry needs a dot or a port, or is `localhost` |
//! | `lattice://name[:tag][@sha256:…]` | an artifact of the lattice's own store |
//!
//! A tag that is left out is `latest`, except beside a digest. A bare name (`http-server`) is no reference here: it is a
//! provider that a host has, and never looked for in some public registry.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use crate::digest::{Digest, DigestError};
use crate::limits::REFERENCE_BYTES_MAX;

/// What references of files begin with.
pub const FILE_SCHEME: &str = "file://";
/// What references of registries can begin with.
pub const OCI_SCHEME: &str = "oci://";
/// What references of the lattice's store begin with.
pub const LATTICE_SCHEME: &str = "lattice://";
/// The tag of a reference that names none.
pub const LATEST: &str = "latest";

/// Longest name in the lattice's store and longest repository, in bytes.
const NAME_BYTES_MAX: usize = 255;

/// Longest tag, in bytes.
const TAG_BYTES_MAX: usize = 128;

/// What a command names.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Reference {
    /// A file of the host, by its absolute path.
    File(PathBuf),
    /// An artifact of a registry.
    Oci(OciReference),
    /// An artifact of the lattice's own store.
    Lattice(LatticeReference),
}

/// An artifact of a registry.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct OciReference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

/// An artifact of the lattice's own store.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct LatticeReference {
    name: String,
    tag: String,
    digest: Option<Digest>,
}

/// Why a text is no reference. The code of all is `reference-unsupported`.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ReferenceError {
    /// Longer than [`REFERENCE_BYTES_MAX`].
    #[error("cannot read a reference of {len} bytes: at most {REFERENCE_BYTES_MAX} are accepted")]
    TooLong {
        /// Its length, in bytes.
        len: usize,
    },
    /// A file's path is not absolute, or not of this machine.
    #[error("cannot use {text:?}: write a file as `file:///absolute/path`")]
    NotAbsolute {
        /// The text.
        text: String,
    },
    /// A scheme that is none of ours.
    #[error(
        "cannot use {text:?}: references begin with `file://`, `oci://` or `lattice://`, or with a registry"
    )]
    Scheme {
        /// The text.
        text: String,
    },
    /// No registry at its beginning.
    #[error(
        "cannot use {text:?}: it is neither a file (`file:///absolute/path`), nor in the lattice's store (`lattice://name:tag`), nor does it name a registry (`registry.example/name:tag`)"
    )]
    NoRegistry {
        /// The text.
        text: String,
    },
    /// A part of it is not written as it must be.
    #[error("cannot use {text:?}: its {part} is not {expected}")]
    Part {
        /// The text.
        text: String,
        /// Which part.
        part: &'static str,
        /// How it must be.
        expected: &'static str,
    },
    /// Its digest is none.
    #[error("cannot use {text:?}: {cause}")]
    Digest {
        /// The text.
        text: String,
        /// What is wrong with the digest.
        #[source]
        cause: DigestError,
    },
}

impl ReferenceError {
    /// A stable word for programs and audits.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        "reference-unsupported"
    }
}

impl Reference {
    /// The digest that it pins, if it does: of the manifest in a registry, of the content in the lattice's store.
    #[must_use]
    pub fn digest(&self) -> Option<Digest> {
        match self {
            Self::File(_) => None,
            Self::Oci(oci) => oci.digest,
            Self::Lattice(lattice) => lattice.digest,
        }
    }

    /// Whether it is a file of the host.
    #[must_use]
    pub const fn is_file(&self) -> bool {
        matches!(self, Self::File(_))
    }
}

impl OciReference {
    /// The registry as it was written: a name or an address, with a port where there is one.
    #[must_use]
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository in the registry.
    #[must_use]
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if one was written; [`LATEST`] where neither tag nor digest was.
    #[must_use]
    pub fn tag(&self) -> Option<&str> {
        match (&self.tag, &self.digest) {
            (Some(tag), _) => Some(tag),
            (None, Some(_)) => None,
            (None, None) => Some(LATEST),
        }
    }

    /// The digest of the manifest, if it is pinned.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// Whether what it stands for is whatever is the latest when it is fetched.
    #[must_use]
    pub fn is_latest(&self) -> bool {
        self.digest.is_none() && self.tag() == Some(LATEST)
    }

    /// The same artifact, pinned.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// What a manifest is asked for by: the digest where there is one, else the tag.
    pub(crate) fn manifest(&self) -> String {
        match self.digest {
            Some(digest) => digest.to_string(),
            None => self.tag().unwrap_or(LATEST).to_owned(),
        }
    }

    fn parse(rest: &str, text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = split_digest(rest, text)?;
        let Some((registry, rest)) = rest
            .split_once('/')
            .filter(|(registry, _)| is_registry(registry))
        else {
            return Err(ReferenceError::NoRegistry {
                text: text.to_owned(),
            });
        };
        let (repository, tag) = split_tag(rest, text)?;
        if !is_repository(repository) {
            return Err(ReferenceError::Part {
                text: text.to_owned(),
                part: "repository",
                expected: "of at most 255 lower case letters, digits and single `.`, `_`, `-`, `/` between them",
            });
        }
        Ok(Self {
            registry: registry.to_owned(),
            repository: repository.to_owned(),
            tag: tag.map(str::to_owned),
            digest,
        })
    }
}

impl LatticeReference {
    /// Its name in the store.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its tag, [`LATEST`] where none was written.
    #[must_use]
    pub fn tag(&self) -> &str {
        &self.tag
    }

    /// The digest of its content, if it is pinned.
    #[must_use]
    pub const fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// The same artifact, pinned.
    #[must_use]
    pub fn pinned(&self, digest: Digest) -> Self {
        Self {
            digest: Some(digest),
            ..self.clone()
        }
    }

    /// The object's name in the bucket.
    pub(crate) fn object(&self) -> String {
        format!("{}/{}", self.name, self.tag)
    }

    /// The reference of an object in the bucket, if it is one of ours.
    pub(crate) fn of_object(object: &str) -> Option<Self> {
        let (name, tag) = object.rsplit_once('/')?;
        (is_repository(name) && is_tag(tag)).then(|| Self {
            name: name.to_owned(),
            tag: tag.to_owned(),
            digest: None,
        })
    }

    fn parse(rest: &str, text: &str) -> Result<Self, ReferenceError> {
        let (rest, digest) = split_digest(rest, text)?;
        let (name, tag) = split_tag(rest, text)?;
        if !is_repository(name) {
            return Err(ReferenceError::Part {
                text: text.to_owned(),
                part: "name",
                expected: "of at most 255 lower case letters, digits and single `.`, `_`, `-`, `/` between them",
            });
        }
        Ok(Self {
            name: name.to_owned(),
            tag: tag.unwrap_or(LATEST).to_owned(),
            digest,
        })
    }
}

impl FromStr for Reference {
    type Err = ReferenceError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.len() > REFERENCE_BYTES_MAX {
            return Err(ReferenceError::TooLong { len: text.len() });
        }
        if let Some(path) = text.strip_prefix(FILE_SCHEME) {
            let path = Path::new(path);
            return if path.is_absolute() {
                Ok(Self::File(path.to_owned()))
            } else {
                Err(ReferenceError::NotAbsolute {
                    text: text.to_owned(),
                })
            };
        }
        if let Some(rest) = text.strip_prefix(LATTICE_SCHEME) {
            return LatticeReference::parse(rest, text).map(Self::Lattice);
        }
        let rest = text.strip_prefix(OCI_SCHEME).unwrap_or(text);
        if rest.contains("://") {
            return Err(ReferenceError::Scheme {
                text: text.to_owned(),
            });
        }
        OciReference::parse(rest, text).map(Self::Oci)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => write!(f, "{FILE_SCHEME}{}", path.display()),
            Self::Oci(oci) => write!(f, "{OCI_SCHEME}{oci}"),
            Self::Lattice(lattice) => lattice.fmt(f),
        }
    }
}

/// Without a scheme: `registry/repository:tag@digest`.
impl fmt::Display for OciReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = self.tag() {
            write!(f, ":{tag}")?;
        }
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

/// With its scheme: `lattice://name:tag@digest`.
impl fmt::Display for LatticeReference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{LATTICE_SCHEME}{}:{}", self.name, self.tag)?;
        match self.digest {
            Some(digest) => write!(f, "@{digest}"),
            None => Ok(()),
        }
    }
}

fn split_digest<'a>(
    rest: &'a str,
    text: &str,
) -> Result<(&'a str, Option<Digest>), ReferenceError> {
    let Some((rest, digest)) = rest.split_once('@') else {
        return Ok((rest, None));
    };
    digest
        .parse()
        .map(|digest| (rest, Some(digest)))
        .map_err(|cause| ReferenceError::Digest {
            text: text.to_owned(),
            cause,
        })
}

fn split_tag<'a>(rest: &'a str, text: &str) -> Result<(&'a str, Option<&'a str>), ReferenceError> {
    match rest.split_once(':') {
        None => Ok((rest, None)),
        Some((rest, tag)) if is_tag(tag) => Ok((rest, Some(tag))),
        Some(_) => Err(ReferenceError::Part {
            text: text.to_owned(),
            part: "tag",
            expected: "of at most 128 letters, digits, `.`, `_` and `-`, of which the last two begin none",
        }),
    }
}

/// A name with a dot or a port, an address, or `localhost`.
fn is_registry(text: &str) -> bool {
    let (host, port) = match text.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (text, None),
    };
    let is_port = |port: &str| {
        port.len() <= 5
            && port.bytes().all(|byte| byte.is_ascii_digit())
            && port.parse::<u16>().is_ok()
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let is_v6 = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .is_some_and(|host| host.parse::<std::net::Ipv6Addr>().is_ok());
    let is_name = host.len() <= NAME_BYTES_MAX && host.split('.').all(is_label);
    (is_v6 || is_name)
        && port.is_none_or(is_port)
        && (port.is_some() || is_v6 || host == "localhost" || host.contains('.'))
}

/// Components of lower case letters and digits, set apart by `/`; inside them `.`, `_`, `__` or dashes between two.
fn is_repository(text: &str) -> bool {
    let is_component = |component: &str| {
        let bytes = component.as_bytes();
        let is_plain = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
        bytes.first().is_some_and(is_plain)
            && bytes.last().is_some_and(is_plain)
            && bytes
                .iter()
                .all(|byte| is_plain(byte) || matches!(byte, b'.' | b'_' | b'-'))
            && bytes.split(is_plain).all(|separator| match separator {
                [] | [b'.' | b'_'] | [b'_', b'_'] => true,
                dashes => dashes.iter().all(|byte| *byte == b'-'),
            })
    };
    text.len() <= NAME_BYTES_MAX && text.split('/').all(is_component)
}

fn is_tag(text: &str) -> bool {
    let is_word = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let mut bytes = text.bytes();
    text.len() <= TAG_BYTES_MAX
        && bytes.next().is_some_and(is_word)
        && bytes.all(|byte| is_word(byte) || matches!(byte, b'.' | b'-'))
}

#[cfg(test)]
mod tests;
