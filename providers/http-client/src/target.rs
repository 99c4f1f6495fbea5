//! Where a request goes, in one spelling: every rule, look-up, connection and field is made of this and of nothing else.

use std::fmt;
use std::net::IpAddr;

use http::uri::Authority;
use http::{HeaderMap, Uri, header};
use trellis_provider_sdk::{OutgoingError, OutgoingErrorCode as Code};
use url::Host;

/// The two schemes that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Scheme {
    Http,
    Https,
}

impl Scheme {
    pub(crate) fn of(text: &str) -> Option<Self> {
        match text {
            "http" => Some(Self::Http),
            "https" => Some(Self::Https),
            _ => None,
        }
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
        }
    }

    pub(crate) fn default_port(self) -> u16 {
        match self {
            Self::Http => 80,
            Self::Https => 443,
        }
    }
}

/// Scheme, host and port. Connections are kept by these.
///
/// The host is as the URL standard writes it: lower case, in Punycode, without a final dot; an address in whatever form
/// (octal, hexadecimal, one number) as that address.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Target {
    pub(crate) scheme: Scheme,
    pub(crate) host: Host,
    pub(crate) port: u16,
}

impl Target {
    /// Reads a request's URI.
    ///
    /// # Errors
    /// `HTTP-request-URI-invalid`: no scheme or none that is spoken, no host or none that can be, credentials, a port that
    /// is none, and bytes that no request line can have.
    pub(crate) fn of(uri: &Uri) -> Result<Self, OutgoingError> {
        let invalid = |reason: &str| OutgoingError::new(Code::HttpRequestUriInvalid, reason);
        let scheme = uri
            .scheme_str()
            .and_then(Scheme::of)
            .ok_or_else(|| invalid("the scheme is neither `http` nor `https`"))?;
        let authority = uri
            .authority()
            .ok_or_else(|| invalid("the URI has no host"))?;
        let path = uri.path_and_query().map_or("", |path| path.as_str());
        if !path.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(invalid(
                "the path has characters that must be percent-encoded",
            ));
        }
        Self::of_authority(scheme, authority).map_err(invalid)
    }

    fn of_authority(scheme: Scheme, authority: &Authority) -> Result<Self, &'static str> {
        let text = authority.as_str();
        if text.contains('@') {
            return Err("the URI holds credentials; they belong into an `authorization` field");
        }
        let host_text = authority.host();
        let port = match text.strip_prefix(host_text) {
            Some("") => scheme.default_port(),
            Some(rest) => rest
                .strip_prefix(':')
                .filter(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
                .and_then(|port| port.parse().ok())
                .filter(|port| *port != 0)
                .ok_or("the port is no number from 1 to 65535")?,
            None => return Err("the URI's host cannot be read"),
        };
        let host = parse_host(host_text).ok_or("the URI's host is no name and no address")?;
        Ok(Self { scheme, host, port })
    }

    /// Holds a request's `host` field to its URI. Who checks one and whoever reads the other must mean the same server.
    ///
    /// # Errors
    /// `HTTP-protocol-error` where there are two, or one that names another target.
    pub(crate) fn check_host_field(&self, fields: &HeaderMap) -> Result<(), OutgoingError> {
        for value in fields.get_all(header::HOST) {
            let named = value
                .to_str()
                .ok()
                .and_then(|text| text.parse::<Authority>().ok())
                .and_then(|authority| Self::of_authority(self.scheme, &authority).ok());
            if named.as_ref() != Some(self) {
                return Err(OutgoingError::new(
                    Code::HttpProtocolError,
                    "the `host` field names another target than the URI",
                ));
            }
        }
        Ok(())
    }

    /// Host and port as a URI and a `host` field have them: without the scheme's own port.
    pub(crate) fn authority(&self) -> String {
        if self.port == self.scheme.default_port() {
            self.host.to_string()
        } else {
            format!("{}:{}", self.host, self.port)
        }
    }

    /// The address, where the host is one.
    pub(crate) fn address(&self) -> Option<IpAddr> {
        match self.host {
            Host::Domain(_) => None,
            Host::Ipv4(address) => Some(address.into()),
            Host::Ipv6(address) => Some(address.into()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://{}", self.scheme.as_str(), self.authority())
    }
}

/// A host in its one spelling.
pub(crate) fn parse_host(text: &str) -> Option<Host> {
    match Host::parse(text).ok()? {
        Host::Domain(name) => {
            // The dot says that the name is complete, which it is taken for anyway.
            let name = name.strip_suffix('.').unwrap_or(&name);
            let is_name = !name.is_empty() && name.split('.').all(|label| !label.is_empty());
            is_name.then(|| Host::Domain(name.to_owned()))
        }
        address => Some(address),
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn target(uri: &str) -> Option<String> {
        let uri = uri.parse().ok()?;
        Target::of(&uri).ok().map(|target| target.to_string())
    }

    #[test]
    fn one_target_has_one_spelling() {
        for uri in [
            "https://api.example.com/",
            "https://API.Example.COM/",
            "https://api.example.com./",
            "https://api.example.com:443/",
            "https://api.example.com:00443/x?y",
        ] {
            assert_eq!(
                target(uri).as_deref(),
                Some("https://api.example.com"),
                "{uri}"
            );
        }
        assert_eq!(
            target("http://api.example.com:443/").as_deref(),
            Some("http://api.example.com:443")
        );
    }

    #[test]
    fn an_address_is_an_address_in_every_form() {
        for host in [
            "127.0.0.1",
            "127.0.0.1.",
            "127.1",
            "2130706433",
            "0x7f000001",
            "0x7f.1",
            "0177.0.0.1",
            "017700000001",
        ] {
            let uri = format!("http://{host}/");
            assert_eq!(target(&uri).as_deref(), Some("http://127.0.0.1"), "{host}");
        }
        assert_eq!(
            target("http://[0:0::1]:80/").as_deref(),
            Some("http://[::1]")
        );
    }

    #[test]
    fn what_cannot_be_told_for_sure_is_refused() {
        for uri in [
            "ftp://example.com/",
            "/path",
            "https://user:secret@example.com/",
            "https://user@example.com/",
            "https://@example.com/",
            "https://example.com:/",
            "https://example.com:0/",
            "https://example.com:65536/",
            "https://example..com/",
            "https://.example.com/",
            "https://example.com../",
            "https://1.2.3.256/",
            "https://[::1/",
            "https://[fe80::1%25eth0]/",
        ] {
            assert_eq!(target(uri), None, "{uri}");
        }
    }

    #[test]
    fn a_host_field_must_name_the_target_in_whatever_spelling() {
        let target = Target::of(&"https://example.com/".parse().unwrap()).unwrap();
        for (value, fits) in [
            ("example.com", true),
            ("EXAMPLE.com:443", true),
            ("example.com.", true),
            ("example.com:80", false),
            ("other.example.com", false),
            ("example.com, other.com", false),
            ("a@example.com", false),
            ("", false),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(header::HOST, HeaderValue::from_static(value));
            assert_eq!(target.check_host_field(&fields).is_ok(), fits, "{value}");
        }
        assert!(target.check_host_field(&HeaderMap::new()).is_ok());
    }
}
