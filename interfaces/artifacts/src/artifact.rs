//! What comes back: [`Artifact`], ready to run; [`Download`], as it was published; and what is known of the store's.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;
use trellis_claims::provider::ProviderClaims;

use crate::digest::Digest;
use crate::kind::Kind;
use crate::reference::{LatticeReference, Reference};

/// An artifact that was fetched, checked, and is ready to run.
#[derive(Debug, Clone)]
pub struct Artifact {
    /// What it is.
    pub content: Content,
    /// SHA-256 of what was published: of the component, the archive, the executable of a file.
    pub digest: Digest,
    /// Its media type.
    pub media_type: String,
    /// The reference with its digest: what fetches the same bytes again, without asking what a tag stands for. A file's
    /// has none.
    pub resolved: Reference,
}

/// What an artifact is.
#[derive(Debug, Clone)]
#[expect(
    clippy::large_enum_variant,
    reason = "one for each start of something, and never many"
)]
pub enum Content {
    /// A component's bytes. They begin as a component's, are whole, and their claims have not been looked at.
    Component(Bytes),
    /// A provider's program for this machine.
    Program(Program),
}

/// A provider's program for this machine.
#[derive(Debug, Clone)]
pub struct Program {
    /// Where it lies. The file of a `file://` reference itself, or one in the cache that is there at least as long as
    /// this value or a clone of it.
    pub path: PathBuf,
    /// What the archive's manifest says, checked. `None` for an executable of a file.
    pub claims: Option<ProviderClaims>,
    /// A shared lock on the cached file, which keeps it from being cleared away by any process.
    pub(crate) _kept: Option<Arc<File>>,
}

impl Artifact {
    /// The component's bytes, if it is one.
    #[must_use]
    pub fn component(&self) -> Option<&Bytes> {
        match &self.content {
            Content::Component(bytes) => Some(bytes),
            Content::Program(_) => None,
        }
    }

    /// The provider's program, if it is one.
    #[must_use]
    pub fn program(&self) -> Option<&Program> {
        match &self.content {
            Content::Component(_) => None,
            Content::Program(program) => Some(program),
        }
    }
}

/// An artifact as it was published, in the cache (or the file of a `file://` reference).
#[derive(Debug, Clone)]
pub struct Download {
    /// Where it lies, at least as long as this value or a clone of it.
    pub path: PathBuf,
    /// Its length.
    pub bytes: u64,
    /// SHA-256 of it.
    pub digest: Digest,
    /// Its media type; by its first bytes where it came from a file.
    pub media_type: String,
    /// What it is for, by its first bytes. `None` if it is neither.
    pub kind: Option<Kind>,
    /// What its publisher wrote beside it.
    pub annotations: BTreeMap<String, String>,
    /// The reference with its digest.
    pub resolved: Reference,
    pub(crate) _kept: Option<Arc<File>>,
}

/// What is to be pushed.
#[derive(Debug, Clone, Copy)]
pub enum Upload<'a> {
    /// These bytes.
    Bytes(&'a Bytes),
    /// The content of this file.
    File(&'a Path),
}

/// What was pushed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pushed {
    /// SHA-256 of the content.
    pub digest: Digest,
    /// Its length, in bytes.
    pub bytes: u64,
    /// The reference with its digest: the manifest's in a registry, the content's in the lattice's store.
    pub resolved: Reference,
}

/// An artifact in the lattice's store.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its reference, without the digest.
    pub reference: LatticeReference,
    /// SHA-256 of its content.
    pub digest: Digest,
    /// Its length, in bytes.
    pub bytes: u64,
    /// Its media type.
    pub media_type: String,
    /// When it was pushed.
    pub pushed: Option<SystemTime>,
    /// What its publisher wrote beside it.
    pub annotations: BTreeMap<String, String>,
}
