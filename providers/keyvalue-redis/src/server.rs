//! Which Redis, as whom: what a URL says, taken apart and checked.
//!
//! `redis[s]://[user][:password@]host[:port][/database]`, and `unix:///path[?db=…&user=…&pass=…]`. `valkey`, `valkeys`,
//! `redis+unix` and `valkey+unix` are other names for the same. `?protocol=…`, which other clients know, changes nothing
//! here. User and password may be percent-encoded.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use url::{Host, Url};

/// Port of a URL that names none.
pub const PORT_DEFAULT: u16 = 6379;

/// Longest URL, in bytes.
pub const URL_BYTES_MAX: usize = 2048;

/// Where a Redis listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// TCP.
    Tcp {
        /// Name or address of the host; an IPv6 address without brackets.
        host: String,
        /// Port.
        port: u16,
        /// Whether TLS is spoken.
        tls: bool,
    },
    /// A socket of this machine.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port, .. } if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Tcp { host, port, .. } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "{}", path.display()),
        }
    }
}

/// What a URL says.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Target {
    /// Where.
    pub address: Address,
    /// As whom; the default user where none is named.
    pub user: Option<String>,
    /// With what password.
    pub password: Option<String>,
    /// In which database.
    pub database: u32,
}

impl fmt::Debug for Target {
    /// Shows whether there is a password, never which.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Target")
            .field("address", &self.address)
            .field("user", &self.user)
            .field("password", &self.password.as_ref().map(|_| "…"))
            .field("database", &self.database)
            .finish()
    }
}

/// A Redis as links are configured for it. Links that agree on all of this share a connection.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// Where, and as whom.
    pub target: Target,
    /// Further root certificates, a PEM file.
    pub tls_ca_file: Option<PathBuf>,
    /// Longest that making a connection may take.
    pub connect_timeout: Duration,
    /// Longest that the server may leave a question unanswered.
    pub response_timeout: Duration,
    /// Longest pause between two attempts to connect.
    pub reconnect_delay_max: Duration,
    /// How often a read is asked again after its connection was lost.
    pub read_retries: u32,
}

impl Target {
    /// Takes a URL apart.
    ///
    /// # Errors
    /// What is wrong with it, in words that show nothing of it.
    pub fn parse(text: &str) -> Result<Self, &'static str> {
        if text.len() > URL_BYTES_MAX {
            return Err("longer than 2048 bytes");
        }
        // The parser's own words may repeat parts of the URL.
        let url = Url::parse(text).map_err(|_| "not a URL such as `redis://127.0.0.1:6379`")?;
        if url.fragment().is_some() {
            return Err("a URL of Redis has no `#` part: certificates are always checked");
        }
        match url.scheme() {
            "redis" | "valkey" => Self::tcp(&url, false),
            "rediss" | "valkeys" => Self::tcp(&url, true),
            "unix" | "redis+unix" | "valkey+unix" => Self::unix(&url),
            _ => Err("the scheme is none of `redis`, `rediss` and `unix`"),
        }
    }

    fn tcp(url: &Url, tls: bool) -> Result<Self, &'static str> {
        let host = match url.host() {
            None | Some(Host::Domain("")) => return Err("it names no host"),
            Some(Host::Domain(name)) if name.contains('%') => {
                return Err("the name of the host has an odd character");
            }
            Some(Host::Domain(name)) => name.to_owned(),
            Some(Host::Ipv4(address)) => address.to_string(),
            Some(Host::Ipv6(address)) => address.to_string(),
        };
        if url.query_pairs().any(|(key, _)| key != "protocol") {
            return Err("the part after `?` knows `protocol` alone");
        }
        let user = Some(url.username()).filter(|user| !user.is_empty());
        Self {
            address: Address::Tcp {
                host,
                port: url.port().unwrap_or(PORT_DEFAULT),
                tls,
            },
            user: user.map(decoded).transpose()?,
            password: url.password().map(decoded).transpose()?,
            database: match url.path().trim_matches('/') {
                "" => 0,
                number => database(number)?,
            },
        }
        .checked()
    }

    fn unix(url: &Url) -> Result<Self, &'static str> {
        if url.host_str().is_some_and(|host| !host.is_empty()) {
            return Err("the path of a socket begins with a third `/`");
        }
        let path = decoded(url.path())?;
        if path.is_empty() || path == "/" {
            return Err("it names no socket");
        }
        let mut target = Self {
            address: Address::Unix(path.into()),
            user: None,
            password: None,
            database: 0,
        };
        for (key, value) in url.query_pairs() {
            match &*key {
                "db" => target.database = database(&value)?,
                "user" => target.user = Some(value.into_owned()),
                "pass" => target.password = Some(value.into_owned()),
                "protocol" => {}
                _ => {
                    return Err(
                        "the part after `?` knows `db`, `user`, `pass` and `protocol` alone",
                    );
                }
            }
        }
        target.checked()
    }

    fn checked(self) -> Result<Self, &'static str> {
        match self.user.is_some() && self.password.is_none() {
            true => Err("it names a user and no password"),
            false => Ok(self),
        }
    }
}

fn database(text: &str) -> Result<u32, &'static str> {
    // Redis counts its databases in an `int`.
    text.parse()
        .ok()
        .filter(|number| *number <= i32::MAX as u32)
        .ok_or("the database is not a number")
}

/// Undoes percent-encoding.
fn decoded(text: &str) -> Result<String, &'static str> {
    const ODD: &str = "a `%` is not followed by two hexadecimal digits of UTF-8";
    let digit = |byte: Option<u8>| -> Result<u8, &'static str> {
        let digit = byte.and_then(|byte| char::from(byte).to_digit(16));
        digit.and_then(|digit| u8::try_from(digit).ok()).ok_or(ODD)
    };
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => digit(rest.next())? << 4 | digit(rest.next())?,
            byte => byte,
        });
    }
    String::from_utf8(bytes).map_err(|_| ODD)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn tcp(host: &str, port: u16, tls: bool) -> Target {
        Target {
            address: Address::Tcp {
                host: host.to_owned(),
                port,
                tls,
            },
            user: None,
            password: None,
            database: 0,
        }
    }

    #[test]
    fn a_url_says_where_as_whom_and_in_which_database() {
        for url in [
            "redis://cache",
            "redis://cache/",
            "redis://cache:6379/0",
            "valkey://cache?protocol=resp3",
        ] {
            assert_eq!(
                Target::parse(url).unwrap(),
                tcp("cache", 6379, false),
                "{url}"
            );
        }
        assert_eq!(
            Target::parse("rediss://ada:p%40ss%2F@10.0.0.1:7000/5").unwrap(),
            Target {
                user: Some("ada".to_owned()),
                password: Some("p@ss/".to_owned()),
                database: 5,
                ..tcp("10.0.0.1", 7000, true)
            }
        );
        let target = Target::parse("redis://:secret@[::1]:7000").unwrap();
        assert_eq!(target.password.as_deref(), Some("secret"));
        assert_eq!(target.address.to_string(), "[::1]:7000");
        let target = Target::parse("unix:///run/a%20b.sock?db=2&user=u&pass=p").unwrap();
        assert_eq!(target.address, Address::Unix("/run/a b.sock".into()));
        assert_eq!((target.database, target.user.as_deref()), (2, Some("u")));
    }

    #[test]
    fn what_is_wrong_with_a_url_is_told_without_showing_it() {
        for url in [
            "",
            "secret",
            "http://secret",
            "redis://",
            "redis:secret",
            "redis:///secret",
            "redis://:secret@",
            "redis://:secret@host:port",
            "redis://secret@host",
            "redis://:%zzsecret@host",
            "redis://:%ffsecret@host",
            "redis://host/secret",
            "redis://host/1/secret",
            "redis://host/-1",
            "redis://host/2147483648",
            "redis://host?secret=1",
            "redis://:secret@host/#insecure",
            "rediss://a%zzsecret",
            "unix://secret",
            "unix://secret/path",
            "unix:///",
            "unix:///path?secret=1",
        ] {
            let reason = Target::parse(url).unwrap_err();
            assert!(!reason.contains("secret"), "{url}: {reason}");
        }
        assert!(Target::parse(&format!("redis://{}", "a".repeat(URL_BYTES_MAX))).is_err());
    }

    #[test]
    fn a_password_never_shows() {
        let target = Target::parse("redis://ada:hunter2@host").unwrap();
        assert!(!format!("{target:?}").contains("hunter2"));
        assert!(!target.address.to_string().contains("hunter2"));
    }
}
