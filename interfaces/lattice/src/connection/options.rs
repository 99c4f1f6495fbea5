//! What is needed to reach a lattice. Plain data: where it comes from is for the binaries.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use async_nats::ServerAddr;
use percent_encoding::percent_decode_str;
use trellis_protocol::LatticeName;
use trellis_protocol::subject::{CONTROL_PREFIX_DEFAULT, Subjects};
use zeroize::Zeroizing;

/// Time for the first connect where nobody chose another: a server that was started at the same moment is up by then.
pub const CONNECT_TIMEOUT_DEFAULT: Duration = Duration::from_secs(10);

/// How to reach a lattice, and as whom.
#[derive(Clone)]
pub struct LatticeOptions {
    /// Servers of one NATS system, tried in random order.
    pub urls: Vec<ServerUrl>,
    /// What the NATS server's monitoring calls this client.
    pub name: String,
    /// The lattice.
    pub lattice: LatticeName,
    /// A credentials file (JWT and seed). Preferred where `nkey_seed` is given too.
    pub creds_file: Option<PathBuf>,
    /// The seed of a user nkey, `SU…`.
    pub nkey_seed: Option<Zeroizing<String>>,
    /// TLS beyond what the URLs ask for.
    pub tls: TlsOptions,
    /// The JetStream domain that holds the lattice's state.
    pub js_domain: Option<String>,
    /// What control subjects begin with.
    pub control_prefix: String,
    /// How long the first connect may take.
    pub connect_timeout: Duration,
}

/// How to speak TLS.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsOptions {
    /// Root certificates to believe instead of the system's. Naming them makes TLS a condition.
    pub ca: Option<PathBuf>,
    /// The client's certificate, used with `key`.
    pub cert: Option<PathBuf>,
    /// The client certificate's private key.
    pub key: Option<PathBuf>,
    /// Whether the handshake comes before the server's greeting.
    pub first: bool,
}

impl Default for LatticeOptions {
    /// A server on this machine, without a password, and the lattice `default`.
    fn default() -> Self {
        Self {
            urls: vec![ServerUrl::local()],
            name: "trellis".to_owned(),
            lattice: LatticeName::default(),
            creds_file: None,
            nkey_seed: None,
            tls: TlsOptions::default(),
            js_domain: None,
            control_prefix: CONTROL_PREFIX_DEFAULT.to_owned(),
            connect_timeout: CONNECT_TIMEOUT_DEFAULT,
        }
    }
}

impl LatticeOptions {
    /// The lattice's subjects under the options' prefix.
    pub fn subjects(&self) -> Subjects {
        Subjects::with_control_prefix(self.lattice.clone(), &self.control_prefix)
    }

    /// The login in the URLs, of which the first counts: one client has one for all its servers.
    pub(super) fn login(&self) -> Option<Login> {
        self.urls.iter().find_map(ServerUrl::login)
    }

    /// The servers, for people.
    pub(super) fn servers(&self) -> String {
        let urls: Vec<_> = self.urls.iter().map(|url| format!("`{url}`")).collect();
        urls.join(", ")
    }
}

impl fmt::Debug for LatticeOptions {
    /// Shows whether there is a seed, never the seed.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LatticeOptions")
            .field("urls", &self.urls)
            .field("name", &self.name)
            .field("lattice", &self.lattice)
            .field("creds_file", &self.creds_file)
            .field("nkey_seed", &self.nkey_seed.as_ref().map(|_| "…"))
            .field("tls", &self.tls)
            .field("js_domain", &self.js_domain)
            .field("control_prefix", &self.control_prefix)
            .field("connect_timeout", &self.connect_timeout)
            .finish()
    }
}

/// A text is not the URL of a NATS server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "cannot read a NATS server's URL: {reason}; write it `nats://host:port` or `tls://host:port`"
)]
pub struct UrlError {
    reason: String,
}

/// The URL of a NATS server. It may hold a password, so neither `Debug` nor `Display` shows user or password.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl(ServerAddr);

impl ServerUrl {
    /// The usual port on this machine.
    pub fn local() -> Self {
        "nats://127.0.0.1:4222"
            .parse()
            .expect("a literal of the right form")
    }

    /// Reads a list with commas between, as environment variables hold it.
    ///
    /// # Errors
    /// [`UrlError`] for the first that is none.
    pub fn parse_list(text: &str) -> Result<Vec<Self>, UrlError> {
        text.split(',')
            .map(str::trim)
            .filter(|url| !url.is_empty())
            .map(str::parse)
            .collect()
    }

    /// The whole URL, with user and password where it has them. Never for logs or people.
    pub fn reveal(&self) -> &str {
        self.0.as_url_str()
    }

    pub(super) fn address(&self) -> &ServerAddr {
        &self.0
    }

    /// User and password, or a token, where the URL holds them: the client library reads neither.
    pub(super) fn login(&self) -> Option<Login> {
        let decoded = |text| {
            let text = percent_decode_str(text).decode_utf8_lossy();
            Zeroizing::new(text.into_owned())
        };
        match (self.0.username(), self.0.password()) {
            (None, None) => None,
            (Some(token), None) => Some(Login::Token(decoded(token))),
            (user, Some(password)) => Some(Login::Password {
                user: decoded(user.unwrap_or_default()),
                password: decoded(password),
            }),
        }
    }
}

/// Who connects, as a URL says it.
#[derive(PartialEq, Eq)]
pub(super) enum Login {
    Password {
        user: Zeroizing<String>,
        password: Zeroizing<String>,
    },
    Token(Zeroizing<String>),
}

impl FromStr for ServerUrl {
    type Err = UrlError;

    fn from_str(text: &str) -> Result<Self, UrlError> {
        let address: ServerAddr = text.parse().map_err(|error: std::io::Error| UrlError {
            reason: error.to_string(),
        })?;
        if address.host().is_empty() {
            return Err(UrlError {
                reason: "it names no host".to_owned(),
            });
        }
        Ok(Self(address))
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.0.tls_required() { "tls" } else { "nats" };
        let (host, port) = (self.0.host(), self.0.port());
        // An IPv6 address stands in brackets, so that the text can be read again.
        if host.contains(':') {
            write!(f, "{scheme}://[{host}]:{port}")
        } else {
            write!(f, "{scheme}://{host}:{port}")
        }
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn a_url_never_shows_its_password() {
        let url: ServerUrl = "nats://user:hunter2@example.org:4333".parse().unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "nats://example.org:4333 nats://example.org:4333"
        );
        let options = LatticeOptions {
            urls: vec![url],
            nkey_seed: Some(Zeroizing::new("SUHUNTER2".to_owned())),
            ..LatticeOptions::default()
        };
        let shown = format!("{options:?}").to_lowercase();
        assert!(!shown.contains("hunter2"), "{shown}");
    }

    #[test]
    fn a_login_is_read_from_a_url_and_decoded() {
        let login = |text: &str| text.parse::<ServerUrl>().unwrap().login();
        let Some(Login::Password { user, password }) = login("nats://u%40x:p%3Aw@a") else {
            panic!("no password");
        };
        assert_eq!((user.as_str(), password.as_str()), ("u@x", "p:w"));
        assert!(matches!(login("nats://t0ken@a"), Some(Login::Token(token)) if *token == "t0ken"));
        assert!(login("nats://a").is_none());
    }

    #[test]
    fn a_list_of_urls_is_read_with_commas_and_blanks() {
        let urls = ServerUrl::parse_list(" nats://a:1, b ,tls://c").unwrap();
        let shown: Vec<_> = urls.iter().map(ToString::to_string).collect();
        assert_eq!(shown, ["nats://a:1", "nats://b:4222", "tls://c:4222"]);
        assert!(ServerUrl::parse_list("http://a").is_err());
    }
}
