//! What a link allows: hosts, methods and paths. Whatever is not named is denied.

use std::str::FromStr;

use http::Method;
use trellis_provider_sdk::{OutgoingError, OutgoingErrorCode as Code};
use url::Host;

use crate::target::{Scheme, Target, parse_host};

/// How often a path is decoded to see what a server might make of it. No honest path needs more than two.
const DECODINGS_MAX: usize = 4;

/// The rules of one link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rules {
    pub(crate) hosts: Vec<HostRule>,
    pub(crate) methods: Methods,
    pub(crate) paths: Vec<PathPrefix>,
}

impl Rules {
    /// Decides about a request.
    ///
    /// # Errors
    /// `HTTP-request-denied`, with the rule that would have to name it.
    pub(crate) fn check(
        &self,
        method: &Method,
        target: &Target,
        path: &str,
    ) -> Result<(), OutgoingError> {
        let denied = |what: String, key: &str| {
            let text = format!("the link does not allow {what}: `{key}` does not name it");
            Err(OutgoingError::new(Code::HttpRequestDenied, text))
        };
        if !self.hosts.iter().any(|rule| rule.allows(target)) {
            return denied(format!("`{target}`"), "allowed_hosts");
        }
        if !self.methods.allow(method) {
            return denied(format!("the method {method}"), "allowed_methods");
        }
        if self.paths.is_empty() {
            return Ok(());
        }
        if is_ambiguous(path) {
            return Err(OutgoingError::new(
                Code::HttpRequestDenied,
                "the path could be read as another one, and the link has `allowed_paths`",
            ));
        }
        if !self.paths.iter().any(|prefix| prefix.allows(path)) {
            return denied(format!("the path `{path}`"), "allowed_paths");
        }
        Ok(())
    }
}

/// One entry of `allowed_hosts`: `api.example.com`, `*.example.com`, `https://example.com:8443`, `http://10.1.2.3`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HostRule {
    scheme: Scheme,
    host: HostPattern,
    port: u16,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum HostPattern {
    Any,
    /// Names below this one, which begins with a dot.
    Below(String),
    Exactly(Host),
}

impl HostRule {
    fn allows(&self, target: &Target) -> bool {
        self.scheme == target.scheme
            && self.port == target.port
            && match (&self.host, &target.host) {
                (HostPattern::Any, _) => true,
                (HostPattern::Below(suffix), Host::Domain(name)) => name.ends_with(suffix),
                (HostPattern::Below(_), _) => false,
                (HostPattern::Exactly(host), named) => host == named,
            }
    }
}

impl FromStr for HostRule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (scheme, rest) = match text.split_once("://") {
            None => (Scheme::Https, text),
            Some((scheme, rest)) => {
                let scheme = Scheme::of(scheme)
                    .ok_or_else(|| format!("`{text}`: the scheme must be `https` or `http`"))?;
                (scheme, rest)
            }
        };
        if rest.contains(['/', '?', '#', '@', '\\']) {
            return Err(format!(
                "`{text}`: a host and a port at most are named here; paths go into `allowed_paths`"
            ));
        }
        // The colons of an address of version 6 stand within brackets.
        let colon = rest.rfind(':').filter(|at| !rest[*at..].contains(']'));
        let (host, port) = match colon {
            None => (rest, scheme.default_port()),
            Some(at) => {
                let port = rest[at + 1..].parse().ok().filter(|port| *port != 0);
                (
                    &rest[..at],
                    port.ok_or_else(|| format!("`{text}`: the port is no number from 1 to 65535"))?,
                )
            }
        };
        let without_star = |name: &str| {
            Some(name)
                .filter(|name| !name.contains('*'))
                .and_then(parse_host)
        };
        let host = match host.strip_prefix('*') {
            Some("") => HostPattern::Any,
            Some(below) => match below.strip_prefix('.').and_then(without_star) {
                Some(Host::Domain(name)) => HostPattern::Below(format!(".{name}")),
                _ => return Err(format!("`{text}`: after `*` comes a dot and a name")),
            },
            None => {
                let parsed = without_star(host)
                    .ok_or_else(|| format!("`{text}`: `{host}` is no name and no address"))?;
                HostPattern::Exactly(parsed)
            }
        };
        Ok(Self { scheme, host, port })
    }
}

/// What `allowed_methods` says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Methods {
    /// `*`.
    Any,
    /// These.
    Named(Vec<Method>),
}

impl Methods {
    fn allow(&self, method: &Method) -> bool {
        match self {
            Self::Any => true,
            Self::Named(methods) => methods.contains(method),
        }
    }
}

/// One entry of `allowed_paths`: `/v1` names `/v1` and what is below it, `/v1/` only the latter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct PathPrefix(String);

impl PathPrefix {
    fn allows(&self, path: &str) -> bool {
        path.strip_prefix(&self.0)
            .is_some_and(|rest| rest.is_empty() || rest.starts_with('/') || self.0.ends_with('/'))
    }
}

impl FromStr for PathPrefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if !text.starts_with('/') {
            return Err(format!("`{text}`: a path begins with `/`"));
        }
        if text.contains(['?', '#']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(format!(
                "`{text}`: a path alone is named here, percent-encoded where it must be"
            ));
        }
        if is_ambiguous(text) {
            return Err(format!("`{text}`: the path could be read as another one"));
        }
        Ok(Self(text.to_owned()))
    }
}

/// Whether a server might take the path for one outside of its first segments: by `.` and `..`, plain, encoded once or
/// more often, or behind a path parameter (`..;`), and by slashes that are none yet (`%2f`, `\`).
///
/// Such paths are not mended but denied. What is checked and what is sent must be the same bytes.
fn is_ambiguous(path: &str) -> bool {
    let mut text = path.as_bytes().to_vec();
    let slashes = count_slashes(&text);
    for _ in 0..DECODINGS_MAX {
        let is_odd = |byte: &u8| *byte == b'\\' || *byte < b' ' || *byte == 0x7f;
        let is_step = |segment: &[u8]| {
            let name = segment
                .split(|byte| *byte == b';')
                .next()
                .unwrap_or(segment);
            name == b"." || name == b".."
        };
        if count_slashes(&text) != slashes
            || text.iter().any(is_odd)
            || text.split(|byte| *byte == b'/').any(is_step)
        {
            return true;
        }
        let decoded = decode(&text);
        if decoded == text {
            return false;
        }
        text = decoded;
    }
    true
}

fn count_slashes(text: &[u8]) -> usize {
    text.iter().filter(|byte| **byte == b'/').count()
}

/// Decodes percent-encoding once.
fn decode(text: &[u8]) -> Vec<u8> {
    let digit = |byte: u8| {
        char::from(byte)
            .to_digit(16)
            .and_then(|d| u8::try_from(d).ok())
    };
    let mut decoded = Vec::with_capacity(text.len());
    let mut rest = text;
    while let [first, tail @ ..] = rest {
        rest = tail;
        if *first == b'%'
            && let [high, low, after @ ..] = tail
            && let (Some(high), Some(low)) = (digit(*high), digit(*low))
        {
            decoded.push(high << 4 | low);
            rest = after;
        } else {
            decoded.push(*first);
        }
    }
    decoded
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn rules(hosts: &[&str], paths: &[&str]) -> Rules {
        Rules {
            hosts: hosts.iter().map(|text| text.parse().unwrap()).collect(),
            methods: Methods::Named(vec![Method::GET, Method::HEAD]),
            paths: paths.iter().map(|text| text.parse().unwrap()).collect(),
        }
    }

    fn allows(rules: &Rules, uri: &str) -> bool {
        let uri = uri.parse().unwrap();
        let target = Target::of(&uri).unwrap();
        rules.check(&Method::GET, &target, uri.path()).is_ok()
    }

    #[test]
    fn a_host_means_https_and_its_own_port_unless_it_says_otherwise() {
        for (rule, uri, allowed) in [
            ("example.com", "https://example.com/", true),
            ("example.com", "https://example.com:443/", true),
            ("example.com", "https://EXAMPLE.com./", true),
            ("EXAMPLE.com.", "https://example.com/", true),
            ("example.com", "http://example.com/", false),
            ("example.com", "https://example.com:8443/", false),
            ("example.com", "https://www.example.com/", false),
            ("example.com", "https://example.com.evil.net/", false),
            ("example.com", "https://notexample.com/", false),
            ("example.com:8443", "https://example.com:8443/", true),
            ("example.com:8443", "https://example.com/", false),
            ("http://example.com", "http://example.com/", true),
            ("http://example.com", "http://example.com:80/", true),
            ("http://example.com", "https://example.com/", false),
            ("http://example.com:443", "https://example.com/", false),
            ("https://example.com", "https://example.com/", true),
            ("http://127.0.0.1:80", "http://2130706433/", true),
            ("http://127.1", "http://127.0.0.1/", true),
            ("http://[::1]:8080", "http://[0::1]:8080/", true),
            ("http://[::1]", "http://[::1]/", true),
            ("http://[::1]", "http://[::1]:8080/", false),
            (
                "b\u{fc}cher.example",
                "https://xn--bcher-kva.example/",
                true,
            ),
        ] {
            assert_eq!(allows(&rules(&[rule], &[]), uri), allowed, "{rule} {uri}");
        }
    }

    #[test]
    fn a_star_stands_for_one_label_or_more_and_never_for_none() {
        let below = rules(&["*.example.com"], &[]);
        assert!(allows(&below, "https://a.example.com/"));
        assert!(allows(&below, "https://a.b.example.com/"));
        assert!(!allows(&below, "https://example.com/"));
        assert!(!allows(&below, "https://aexample.com/"));
        assert!(!allows(&below, "https://a.example.com.evil.net/"));
        assert!(!allows(&below, "http://a.example.com/"));
        let any = rules(&["*"], &[]);
        assert!(allows(&any, "https://anything.example/"));
        assert!(!allows(&any, "http://anything.example/"));
    }

    #[test]
    fn an_entry_that_is_no_host_is_refused() {
        for text in [
            "",
            "https://",
            "ftp://example.com",
            "example.com/",
            "example.com/path",
            "user@example.com",
            "example.com:",
            "example.com:0",
            "example.com:65536",
            "*example.com",
            "*.",
            "*.1.2.3.4",
            "a.*.example.com",
            "exa mple.com",
            "::1",
        ] {
            assert!(text.parse::<HostRule>().is_err(), "{text}");
        }
    }

    #[test]
    fn a_method_must_be_named_as_it_is_written() {
        let target = Target::of(&"https://a.example/".parse().unwrap()).unwrap();
        let check = |rules: &Rules, method: &str| {
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            rules.check(&method, &target, "/").is_ok()
        };
        let named = rules(&["a.example"], &[]);
        for (method, allowed) in [
            ("GET", true),
            ("get", false),
            ("POST", false),
            ("TRACE", false),
        ] {
            assert_eq!(check(&named, method), allowed, "{method}");
        }
        let any = Rules {
            methods: Methods::Any,
            ..named
        };
        assert!(check(&any, "PROPFIND"));
    }

    #[test]
    fn a_prefix_ends_where_a_segment_does() {
        for (prefix, path, allowed) in [
            ("/v1", "/v1", true),
            ("/v1", "/v1/users", true),
            ("/v1", "/v1?x=/../", true),
            ("/v1", "/v10", false),
            ("/v1", "/v2", false),
            ("/v1", "/V1/users", false),
            ("/v1/", "/v1/users", true),
            ("/v1/", "/v1", false),
            ("/", "/anything", true),
            ("/v1", "/", false),
            ("/v1", "", false),
        ] {
            let uri = format!("https://a.example{path}");
            assert_eq!(
                allows(&rules(&["a.example"], &[prefix]), &uri),
                allowed,
                "{prefix} {path}"
            );
        }
    }

    #[test]
    fn no_spelling_leaves_the_prefix() {
        for path in [
            "/v1/../admin",
            "/v1/..",
            "/v1/./admin",
            "/v1/%2e%2e/admin",
            "/v1/%2E%2e/admin",
            "/v1/.%2e/admin",
            "/v1/%2e/admin",
            "/v1/%252e%252e/admin",
            "/v1/%25252e%25252e/admin",
            "/v1/%2525252525252e/admin",
            "/v1/..;/admin",
            "/v1/..;a=b/admin",
            "/v1/%2e%2e;/admin",
            "/v1/..%2fadmin",
            "/v1/..%2Fadmin",
            "/v1%2f..%2fadmin",
            "/v1/..%5cadmin",
            "/v1/%5c..%5cadmin",
            "/v1/a%2fb",
            "/v1/%252f",
            "/v1/%00",
            "/v1/%0d%0aX",
        ] {
            let uri = format!("https://a.example{path}");
            assert!(!allows(&rules(&["a.example"], &["/v1"]), &uri), "{path}");
            assert!(allows(&rules(&["a.example"], &[]), &uri), "{path}");
        }
        for path in [
            "/v1/100%25",
            "/v1/a.b..c",
            "/v1/...",
            "/v1/%C3%A4",
            "/v1/a;b=c",
            "/v1/%zz",
        ] {
            let uri = format!("https://a.example{path}");
            assert!(allows(&rules(&["a.example"], &["/v1"]), &uri), "{path}");
        }
    }

    #[test]
    fn a_prefix_that_says_two_things_is_refused() {
        for text in ["", "v1", "/v1/../v2", "/a?b", "/a#b", "/%2e%2e", "/\u{e4}"] {
            assert!(text.parse::<PathPrefix>().is_err(), "{text}");
        }
    }
}
