//! Where components and providers come from: references, registries, the lattice's own store, archives, the cache.
//!
//! ```text
//! "oci://…"      ──parse──▶ Reference ──Artifacts::fetch──▶ Artifact: a component's bytes, or a provider's program
//! "lattice://…"                            │
//! "file:///…"              files, registries (OCI), the lattice's object store
//!                                          │
//!                          Cache, by content, verified at each load
//! ```
//!
//! | module | noun |
//! | --- | --- |
//! | [`reference`] | [`Reference`]: what a command names |
//! | [`options`] | [`ArtifactOptions`]: what is allowed, limits, times |
//! | [`artifacts`] | [`Artifacts`], the front door: fetch, download, push, list, remove |
//! | [`artifact`] | [`Artifact`], [`Download`]: what comes back |
//! | [`progress`] | [`Progress`] on the way |
//! | [`archive`] | archives of providers: one executable for each platform, and a signed manifest |
//! | [`published`] | providers of wasmCloud 1.x, and which of ours stand in for them |
//! | [`digest`], [`media_type`], [`kind`] | the small nouns |
//! | [`error`] | what can go wrong, each with a stable code |
//!
//! Whatever comes over the network is hostile until its digest has been checked: lengths, times, redirects, manifests
//! and archives are bounded, and nothing is kept that was not whole. Whether claims allow what a component wants is for
//! the host to say; this crate checks the claims of archives alone, because it hands out programs to be run.
//!
//! TLS is rustls with the process's default provider: binaries install it before they open [`Artifacts`].

pub mod archive;
pub mod artifact;
pub mod artifacts;
mod attempts;
mod cache;
mod component;
pub mod digest;
pub mod error;
mod executable;
mod fetch;
mod file;
mod intake;
pub mod kind;
pub mod limits;
mod looks;
pub mod media_type;
pub mod options;
pub mod progress;
mod provider;
pub mod published;
mod push;
pub mod reference;
mod registry;
mod store;

pub use archive::{Archive, ArchiveBuilder, ArchiveError};
pub use artifact::{Artifact, Content, Download, Program, Pushed, Stored, Upload};
pub use artifacts::{Artifacts, LatticeStore};
pub use digest::{Digest, DigestError};
pub use error::{FetchError, OpenError, PushError, StoreError};
pub use kind::Kind;
pub use options::{ArtifactOptions, Timeouts};
pub use progress::Progress;
pub use reference::{LatticeReference, OciReference, Reference, ReferenceError};
