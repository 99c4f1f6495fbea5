//! Which providers of wasmCloud 1.x ours stand in for.

/// References of providers in a host's own binary.
const BUILTIN_SCHEME: &str = "wasmcloud+builtin://";

/// Where the published ones are.
const PUBLISHED: &str = "ghcr.io/wasmcloud/";

/// Their names, and those of ours. Hosts know the same table, so the old references start the same providers.
const PROVIDERS: &[(&str, &str)] = &[
    ("http-server", "http-server"),
    ("http-client", "http-client"),
    ("keyvalue-nats", "keyvalue-nats"),
    ("keyvalue-redis", "keyvalue-redis"),
    ("messaging-nats", "messaging-nats"),
    ("sqldb-postgres", "sql-postgres"),
];

/// Our provider for a reference, whatever its tag.
pub(super) fn ours(reference: &str) -> Option<&'static str> {
    let name = match reference.strip_prefix(BUILTIN_SCHEME) {
        Some(name) => name,
        None => {
            let reference = reference.strip_prefix("oci://").unwrap_or(reference);
            let name = reference.strip_prefix(PUBLISHED)?;
            name.split(['@', ':']).next()?
        }
    };
    PROVIDERS
        .iter()
        .find(|(theirs, _)| *theirs == name)
        .map(|(_, ours)| *ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn any_tag_and_either_form_leads_to_ours() {
        for reference in [
            "ghcr.io/wasmcloud/http-server:0.27.0",
            "oci://ghcr.io/wasmcloud/http-server@sha256:00",
            "wasmcloud+builtin://http-server",
        ] {
            assert_eq!(ours(reference), Some("http-server"), "{reference}");
        }
        assert_eq!(
            ours("ghcr.io/wasmcloud/sqldb-postgres:0.9"),
            Some("sql-postgres")
        );
        for reference in [
            "ghcr.io/else/http-server:1",
            "ghcr.io/wasmcloud/http-server-extra:1",
            "file:///x.par.gz",
            "",
        ] {
            assert_eq!(ours(reference), None, "{reference}");
        }
    }
}
