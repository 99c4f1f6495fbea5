//! Which URLs may be shortened.
//!
//! The rules are RFC 3986's and RFC 9110's (section 4.2) for absolute `http` and `https` URLs, read strictly: what a
//! browser would have to repair first is refused, because it goes out again in a `Location` field.

/// Longest URL, in bytes. Longer ones are seldom links, and each costs room in the store for good.
pub(crate) const URL_BYTES_MAX: usize = 2_048;

/// An absolute `http` or `https` URL of printable ASCII.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct HttpUrl(String);

/// Why a text is not an [`HttpUrl`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UrlError {
    /// It is longer than [`URL_BYTES_MAX`].
    #[error("the url has {bytes} bytes, {URL_BYTES_MAX} are the most")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// It has spaces, control characters or anything beyond ASCII.
    #[error("the url has characters that must be percent-encoded")]
    Characters,
    /// It starts with neither `http://` nor `https://`.
    #[error("the url is not an absolute http or https url")]
    Scheme,
    /// Nothing, or nothing that can be a host, follows the scheme.
    #[error("the url names no valid host")]
    Host,
    /// There is a user name or password before the host.
    #[error("the url holds a user name, which links must not")]
    UserInfo,
    /// What follows the host's colon is no port.
    #[error("the url's port is not a number from 0 to 65535")]
    Port,
}

impl HttpUrl {
    /// Checks `text`.
    ///
    /// # Errors
    ///
    /// The first rule that `text` breaks.
    pub(crate) fn parse(text: &str) -> Result<Self, UrlError> {
        if text.len() > URL_BYTES_MAX {
            return Err(UrlError::TooLong { bytes: text.len() });
        }
        // Quotation marks, angle brackets and the like are in no production of RFC 3986 either.
        if !text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"\"<>\\^`{|}".contains(&byte))
        {
            return Err(UrlError::Characters);
        }
        let (scheme, rest) = text.split_once("://").ok_or(UrlError::Scheme)?;
        if !scheme.eq_ignore_ascii_case("http") && !scheme.eq_ignore_ascii_case("https") {
            return Err(UrlError::Scheme);
        }
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        if authority.contains('@') {
            return Err(UrlError::UserInfo);
        }
        check_authority(authority)?;
        Ok(Self(text.to_owned()))
    }

    /// The URL as it was given.
    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

/// Checks `host`, `host:port`, `[address]` or `[address]:port`.
fn check_authority(authority: &str) -> Result<(), UrlError> {
    let (host_is_valid, port) = match authority.strip_prefix('[') {
        Some(bracketed) => {
            let (address, port) = bracketed.split_once(']').ok_or(UrlError::Host)?;
            (address.parse::<std::net::Ipv6Addr>().is_ok(), port)
        }
        None => {
            let end = authority.find(':').unwrap_or(authority.len());
            let (host, port) = authority.split_at(end);
            (is_registered_name(host), port)
        }
    };
    if !host_is_valid {
        return Err(UrlError::Host);
    }
    let Some(digits) = port.strip_prefix(':') else {
        return if port.is_empty() {
            Ok(())
        } else {
            Err(UrlError::Host)
        };
    };
    // An empty port is allowed and means the scheme's own (RFC 3986, section 3.2.3).
    let valid = digits.bytes().all(|digit| digit.is_ascii_digit())
        && (digits.is_empty() || digits.parse::<u16>().is_ok());
    if valid { Ok(()) } else { Err(UrlError::Port) }
}

/// Whether `host` can be a name in the DNS or an IPv4 address. RFC 3986 allows more, which no resolver does.
fn is_registered_name(host: &str) -> bool {
    host.bytes()
        .all(|byte| byte.is_ascii_alphanumeric() || b"-._".contains(&byte))
        && host.bytes().any(|byte| byte.is_ascii_alphanumeric())
        && !host.starts_with('.')
        && !host.contains("..")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn absolute_http_and_https_urls_are_accepted() {
        for text in [
            "http://example.org",
            "https://example.org/",
            "HTTPS://Example.ORG:8443/a%20b?q=1&r=[2]#part",
            "http://127.0.0.1:8000/x",
            "http://localhost?x",
            "https://[2001:db8::1]:443/",
            "https://example.org.:/",
        ] {
            assert_eq!(
                HttpUrl::parse(text).as_ref().map(HttpUrl::as_str),
                Ok(text),
                "{text}"
            );
        }
    }

    #[test]
    fn other_schemes_and_relative_references_are_refused() {
        for text in [
            "",
            "example.org",
            "/path",
            "//example.org",
            "http:example.org",
            "ftp://example.org/",
            "javascript:alert(1)",
            "javascript://example.org/%0aalert(1)",
        ] {
            assert_eq!(HttpUrl::parse(text), Err(UrlError::Scheme), "{text}");
        }
    }

    #[test]
    fn a_url_without_a_host_is_refused() {
        for text in [
            "http://",
            "http:///path",
            "https://?q",
            "http://:80/",
            "http://./",
            "http://a..b/",
            "http://[::1",
            "http://[nonsense]/",
            "http://[::1]x/",
            "http://exa%6dple.org/",
        ] {
            assert_eq!(HttpUrl::parse(text), Err(UrlError::Host), "{text}");
        }
    }

    #[test]
    fn a_port_is_a_number_up_to_65535() {
        assert!(HttpUrl::parse("http://a:65535/").is_ok());
        for text in [
            "http://a:65536/",
            "http://a:x/",
            "http://a:+1/",
            "http://a:1:2/",
        ] {
            assert_eq!(HttpUrl::parse(text), Err(UrlError::Port), "{text}");
        }
    }

    #[test]
    fn a_user_name_before_the_host_is_refused() {
        assert_eq!(
            HttpUrl::parse("https://bank.example@elsewhere.example/"),
            Err(UrlError::UserInfo)
        );
    }

    #[test]
    fn nothing_that_could_split_a_header_is_accepted() {
        for text in [
            "http://a/\r\nset-cookie: x",
            "http://a/ b",
            "http://a/\u{e9}",
            "http://a/\0",
            "http://a\\@b/",
        ] {
            assert_eq!(HttpUrl::parse(text), Err(UrlError::Characters), "{text:?}");
        }
    }

    #[test]
    fn a_url_of_2048_bytes_is_the_longest() {
        let of = |bytes: usize| {
            let start = "http://a/";
            format!("{start}{}", "x".repeat(bytes - start.len()))
        };
        assert!(HttpUrl::parse(&of(2_048)).is_ok());
        assert_eq!(
            HttpUrl::parse(&of(2_049)),
            Err(UrlError::TooLong { bytes: 2_049 })
        );
    }
}
