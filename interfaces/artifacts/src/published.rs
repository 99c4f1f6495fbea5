//! Published providers of wasmCloud 1.x, and which of ours serve the same interfaces in their place.
//!
//! Hosts resolve references by this table, and `wash import` foretells by it what will resolve. Whether a host has the
//! provider is the host's to say, and an operator's own aliases come before the table.

use crate::reference::OCI_SCHEME;

/// What references of providers in the host's own binary begin with.
pub const BUILTIN_SCHEME: &str = "wasmcloud+builtin://";

/// Where the published ones are.
const REPOSITORIES: &str = "ghcr.io/wasmcloud/";

/// Their names there, and the names of ours.
const PROVIDERS: &[(&str, &str)] = &[
    ("http-server", "http-server"),
    ("http-client", "http-client"),
    ("keyvalue-nats", "keyvalue-nats"),
    ("keyvalue-redis", "keyvalue-redis"),
    ("messaging-nats", "messaging-nats"),
    ("sqldb-postgres", "sql-postgres"),
];

/// The name of our provider for a reference in a manifest of wasmCloud 1.x, whatever its tag and digest.
///
/// `None` for what no provider of ours stands in for, and for references that are nobody's in particular.
#[must_use]
pub fn ours(reference: &str) -> Option<&'static str> {
    let name = match reference.strip_prefix(BUILTIN_SCHEME) {
        Some(name) => name,
        None => without_tag(reference).strip_prefix(REPOSITORIES)?,
    };
    PROVIDERS
        .iter()
        .find_map(|(theirs, ours)| (*theirs == name).then_some(*ours))
}

/// A reference of a registry without its scheme, `:tag` and `@digest`. A colon before the last slash belongs to a port.
#[must_use]
pub fn without_tag(reference: &str) -> &str {
    let reference = reference.strip_prefix(OCI_SCHEME).unwrap_or(reference);
    let reference = reference.split('@').next().unwrap_or(reference);
    match reference.rsplit_once(':') {
        Some((plain, tag)) if !tag.contains('/') => plain,
        _ => reference,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_tag_and_either_form_leads_to_ours() {
        for reference in [
            "ghcr.io/wasmcloud/http-server",
            "ghcr.io/wasmcloud/http-server:0.27.0",
            "oci://ghcr.io/wasmcloud/http-server:canary",
            "oci://ghcr.io/wasmcloud/http-server@sha256:00",
            "wasmcloud+builtin://http-server",
        ] {
            assert_eq!(ours(reference), Some("http-server"), "{reference}");
        }
        let postgres = ours("ghcr.io/wasmcloud/sqldb-postgres:0.9");
        assert_eq!(postgres, Some("sql-postgres"));
    }

    #[test]
    fn what_is_somebody_elses_is_not_ours() {
        for reference in [
            "ghcr.io/else/http-server:1",
            "ghcr.io/wasmcloud/http-server-extra:1",
            "wasmcloud+builtin://files",
            "http-server",
            "file:///x.par.gz",
            "",
        ] {
            assert_eq!(ours(reference), None, "{reference}");
        }
    }

    #[test]
    fn a_port_is_no_tag() {
        assert_eq!(
            without_tag("example.org:5000/http:2"),
            "example.org:5000/http"
        );
        assert_eq!(
            without_tag("oci://localhost:5000/http"),
            "localhost:5000/http"
        );
    }
}
