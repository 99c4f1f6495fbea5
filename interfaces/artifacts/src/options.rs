//! [`ArtifactOptions`]: what is allowed, limits, times. Plain data: where it comes from is for the binaries.

use std::path::PathBuf;
use std::time::Duration;

use trellis_claims::TrustRoots;

use crate::limits::{
    ARCHIVE_BYTES_MAX, CACHE_BYTES_MAX, COMPONENT_BYTES_MAX, CONNECT_WITHIN, HEAD_WITHIN,
    STALL_WITHIN,
};

/// What is allowed, limits, times.
#[derive(Debug, Clone)]
pub struct ArtifactOptions {
    /// The cache's directory, made with mode 0700 where it is missing. Several processes can share one. Without one, a
    /// temporary directory that goes with the last [`Artifacts`](crate::Artifacts).
    pub cache_dir: Option<PathBuf>,
    /// Size that the cache is kept below, in bytes: what was not used for the longest time goes first.
    pub cache_bytes_max: u64,
    /// Largest component, in bytes.
    pub component_bytes_max: u64,
    /// Largest archive and largest executable of a provider, in bytes.
    pub archive_bytes_max: u64,
    /// Whether `file://` is fetched.
    pub allow_file: bool,
    /// Whether references without tag and digest, or with the tag `latest`, are fetched from registries.
    pub allow_latest: bool,
    /// Registries that are spoken to over plain HTTP, as they stand in references, with the port.
    pub insecure_registries: Vec<String>,
    /// Files of certificates (PEM) that registries' are checked against, beside the system's.
    pub ca_files: Vec<PathBuf>,
    /// Whose archives of providers are run.
    pub trust: TrustRoots,
    /// How long a source may be silent.
    pub timeouts: Timeouts,
}

/// How long a source may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Timeouts {
    /// Until a connection stands, TLS included.
    pub connect: Duration,
    /// Until a response's head is there.
    pub head: Duration,
    /// Between two pieces of a body.
    pub stall: Duration,
    /// The first pause before another attempt. Each further one is twice as long, all are jittered.
    pub backoff: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            connect: CONNECT_WITHIN,
            head: HEAD_WITHIN,
            stall: STALL_WITHIN,
            backoff: Duration::from_millis(500),
        }
    }
}

/// Nothing is allowed but pinned and tagged references of registries over TLS; nobody's providers are trusted.
impl Default for ArtifactOptions {
    fn default() -> Self {
        Self {
            cache_dir: None,
            cache_bytes_max: CACHE_BYTES_MAX,
            component_bytes_max: COMPONENT_BYTES_MAX,
            archive_bytes_max: ARCHIVE_BYTES_MAX,
            allow_file: false,
            allow_latest: false,
            insecure_registries: Vec::new(),
            ca_files: Vec::new(),
            trust: TrustRoots::default(),
            timeouts: Timeouts::default(),
        }
    }
}
