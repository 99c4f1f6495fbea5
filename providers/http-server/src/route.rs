//! Which link answers a request.
//!
//! A [`RouteTable`] never changes: a change of links makes a new one, and requests under way keep the route they have.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use http::HeaderName;
use http::header::HOST;
use http::request::Parts;
use trellis_provider_sdk::{EntityId, LinkName};

use crate::link_config::{Claim, Policy};

/// One link, as requests see it.
#[derive(Debug)]
pub(crate) struct Route {
    /// The actor that answers.
    pub(crate) target: EntityId,
    /// The link to call it by.
    pub(crate) link: LinkName,
    /// What the link wants.
    pub(crate) claim: Claim,
    /// How its requests are treated.
    pub(crate) policy: Policy,
}

/// Where the requests of one listener go.
#[derive(Debug)]
pub(crate) enum RouteTable {
    /// All to one link, or to none since it has gone.
    One(Option<Arc<Route>>),
    /// By path; the longest prefix first.
    Paths(Vec<(Box<str>, Arc<Route>)>),
    /// By host name in lower case, as this field gives it.
    Hosts {
        header: HeaderName,
        routes: HashMap<Box<str>, Arc<Route>>,
    },
}

impl RouteTable {
    /// A table by path.
    pub(crate) fn paths(routes: impl Iterator<Item = Arc<Route>>) -> Self {
        let mut paths: Vec<(Box<str>, Arc<Route>)> = routes
            .filter_map(|route| match &route.claim {
                Claim::Path(path) => Some((path.as_str().into(), route)),
                _ => None,
            })
            .collect();
        paths.sort_by_key(|(path, _)| std::cmp::Reverse(path.len()));
        Self::Paths(paths)
    }

    /// A table by host name.
    pub(crate) fn hosts(header: HeaderName, routes: impl Iterator<Item = Arc<Route>>) -> Self {
        Self::Hosts {
            header,
            routes: routes
                .filter_map(|route| match &route.claim {
                    Claim::Host(host) => Some((host.as_str().into(), route)),
                    _ => None,
                })
                .collect(),
        }
    }

    /// The route of a request whose URI has been made absolute.
    pub(crate) fn find(&self, request: &Parts) -> Option<&Arc<Route>> {
        match self {
            Self::One(route) => route.as_ref(),
            Self::Paths(routes) => {
                let path = request.uri.path();
                routes
                    .iter()
                    .find(|(prefix, _)| covers(prefix, path))
                    .map(|(_, route)| route)
            }
            Self::Hosts { header, routes } => {
                let host = if *header == HOST {
                    request.uri.host()
                } else {
                    request
                        .headers
                        .get(header)
                        .and_then(|value| value.to_str().ok())
                        .map(|value| without_port(value.trim()))
                }?;
                routes.get(&*lower_case(host.trim_end_matches('.')))
            }
        }
    }
}

/// Whether a path is the prefix or below it. The prefix has no slash at its end.
fn covers(prefix: &str, path: &str) -> bool {
    path.strip_prefix(prefix)
        .is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        // The colons of an IPv6 address stand before its bracket.
        Some(colon) if !host[colon..].contains(']') => &host[..colon],
        _ => host,
    }
}

fn lower_case(host: &str) -> Cow<'_, str> {
    if host.bytes().any(|b| b.is_ascii_uppercase()) {
        Cow::Owned(host.to_ascii_lowercase())
    } else {
        Cow::Borrowed(host)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_prefix_ends_at_the_border_of_a_segment() {
        for (path, covered) in [
            ("/api", true),
            ("/api/", true),
            ("/api/x", true),
            ("/apix", false),
            ("/ap", false),
            ("/", false),
        ] {
            assert_eq!(covers("/api", path), covered, "{path}");
        }
        assert!(covers("", "/anything"));
    }

    #[test]
    fn a_port_is_cut_off_and_an_address_is_not() {
        assert_eq!(without_port("a.example:80"), "a.example");
        assert_eq!(without_port("a.example"), "a.example");
        assert_eq!(without_port("[::1]:80"), "[::1]");
        assert_eq!(without_port("[::1]"), "[::1]");
    }
}
