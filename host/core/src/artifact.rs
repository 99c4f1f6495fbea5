//! Where components and providers are to be had: what a reference names, and whether this host may take it.
//!
//! A component comes from a file of this host, from a registry, or from the lattice's store. A provider is one of those
//! that the host was assembled with, under its own name or under one by which wasmCloud 1.x publishes it; a program of the
//! host's directory of providers; or it comes from where components come from. Fetching is for `trellis-artifacts`.

use std::collections::BTreeMap;

use trellis_artifacts::published::{self, BUILTIN_SCHEME};
use trellis_artifacts::{ArtifactOptions, FetchError, Reference};

/// Why a reference leads to nothing that can run.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub(crate) enum ArtifactError {
    /// It is not fetched, or not allowed to be.
    #[error(transparent)]
    Fetch(Box<FetchError>),
    /// What came is of the other kind.
    #[error("`{reference}` leads to {found}, not to {wanted}")]
    OtherKind {
        /// The reference.
        reference: String,
        /// What came.
        found: &'static str,
        /// What was looked for.
        wanted: &'static str,
    },
    /// No provider of this host goes by this reference.
    #[error(
        "this host has no provider `{reference}`; it has {available}. One that is not built in is named by a registry (`registry.example/name:tag`), `lattice://name:tag` or `file:///absolute/path`"
    )]
    UnknownProvider {
        /// The reference.
        reference: String,
        /// What it has.
        available: String,
    },
}

impl From<FetchError> for ArtifactError {
    fn from(error: FetchError) -> Self {
        Self::Fetch(Box::new(error))
    }
}

impl ArtifactError {
    /// A stable word for programs and audits.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::Fetch(error) => error.code(),
            Self::OtherKind { .. } => "artifact-of-another-kind",
            Self::UnknownProvider { .. } => "provider-unknown",
        }
    }

    /// Whether the same might be had a little later: a whole site that comes back from a power cut has hosts before it
    /// has registries.
    pub(crate) fn may_pass(&self) -> bool {
        const PASSING: &[&str] = &[
            "registry-unreachable",
            "registry-timeout",
            "registry-failing",
            "store-unavailable",
            "transfer-timeout",
        ];
        PASSING.contains(&self.code())
    }
}

/// What a reference may name on one host.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Allowed {
    /// Files of the host.
    pub(crate) files: bool,
    /// What changes under its name.
    pub(crate) latest: bool,
}

impl Allowed {
    /// What a host's options allow.
    pub(crate) fn by(options: &ArtifactOptions) -> Self {
        Self {
            files: options.allow_file,
            latest: options.allow_latest,
        }
    }

    /// What a text names, if it may be fetched. Looks at the text alone.
    ///
    /// # Errors
    /// [`ArtifactError::Fetch`] for what is no reference, and for what the operator did not allow.
    pub(crate) fn reference(self, text: &str) -> Result<Reference, ArtifactError> {
        let reference: Reference = text.parse().map_err(FetchError::from)?;
        match &reference {
            Reference::File(_) if !self.files => Err(FetchError::FilesNotAllowed {
                reference: text.to_owned(),
            }
            .into()),
            Reference::Oci(oci) if oci.is_latest() && !self.latest => {
                Err(FetchError::LatestNotAllowed {
                    reference: text.to_owned(),
                }
                .into())
            }
            _ => Ok(reference),
        }
    }
}

/// The name of the provider that a reference means, whether this host has it or not.
///
/// `aliases` are the operator's own: a reference without its tag, and the name it stands for. They win over the
/// table of [`published`] providers.
pub(crate) fn provider_meant<'a>(
    reference: &'a str,
    aliases: &'a BTreeMap<String, String>,
) -> &'a str {
    aliases
        .get(published::without_tag(reference))
        .or_else(|| aliases.get(reference))
        .map(String::as_str)
        .or_else(|| published::ours(reference))
        .or_else(|| reference.strip_prefix(BUILTIN_SCHEME))
        .unwrap_or(reference)
}

/// The error for a reference that leads to no provider, with what this host has.
pub(crate) fn unknown(reference: &str, available: impl Iterator<Item = String>) -> ArtifactError {
    ArtifactError::UnknownProvider {
        reference: reference.to_owned(),
        available: list(available),
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
    fn what_the_operator_did_not_allow_is_refused_by_its_reference_alone() {
        let nothing = Allowed::by(&ArtifactOptions::default());
        let all = Allowed {
            files: true,
            latest: true,
        };
        for (reference, code) in [
            ("file:///a/b.wasm", "files-not-allowed"),
            ("ghcr.io/a/b", "latest-not-allowed"),
            ("oci://ghcr.io/a/b:latest", "latest-not-allowed"),
        ] {
            let error = nothing.reference(reference).unwrap_err();
            assert_eq!(error.code(), code, "{reference}: {error}");
            assert!(all.reference(reference).is_ok(), "{reference}");
        }
        for reference in ["ghcr.io/a/b:1", "lattice://a", "oci://ghcr.io/a/b:1"] {
            assert!(nothing.reference(reference).is_ok(), "{reference}");
        }
        for reference in ["file://a/b.wasm", "/a/b.wasm", "http://a/b", ""] {
            let error = all.reference(reference).unwrap_err();
            assert_eq!(error.code(), "reference-unsupported", "{reference}");
        }
    }

    #[test]
    fn a_provider_is_found_by_its_own_and_by_its_published_names() {
        for (reference, name) in [
            ("http-server", "http-server"),
            ("ghcr.io/wasmcloud/http-server:0.23.0", "http-server"),
            ("wasmcloud+builtin://sqldb-postgres", "sql-postgres"),
            ("wasmcloud+builtin://of-the-directory", "of-the-directory"),
        ] {
            assert_eq!(named(reference), name, "{reference}");
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
