//! Where to connect, and as whom: the part of a configuration that decides which links share a connection.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use crate::config::{ConfigError, given};

/// Most servers in one `cluster_uris`.
pub const CLUSTER_URIS_MAX: usize = 32;

pub(crate) const SERVER_KEYS: &[&str] = &[
    "cluster_uris",
    "cluster_uri",
    "credentials",
    "client_jwt",
    "client_seed",
    "tls_ca_file",
];
/// How the provider proves who it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Not at all.
    Anonymous,
    /// By a name and a password, which stand in the URL.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// By a token, which stands in the URL in place of a name.
    Token(String),
    /// By the contents of a creds file.
    Credentials(String),
    /// By the seed of an nkey.
    Nkey(String),
}

/// Where to connect, and as whom. Links that agree on this share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// URLs.
    pub uris: Vec<String>,
    /// Who connects.
    pub identity: Identity,
    /// Further root certificates.
    pub tls_ca_file: Option<PathBuf>,
}

impl fmt::Debug for Identity {
    /// Shows the kind alone.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Anonymous => "anonymous",
            Self::Password { .. } => "password",
            Self::Token(_) => "token",
            Self::Credentials(_) => "credentials",
            Self::Nkey(_) => "nkey",
        })
    }
}

impl fmt::Debug for Server {
    /// Shows how many URLs there are: one may hold a password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("uris", &self.uris.len())
            .field("identity", &self.identity)
            .field("tls_ca_file", &self.tls_ca_file)
            .finish()
    }
}

impl Server {
    /// The server that a configuration names; `None` where it says nothing about one.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is malformed.
    pub fn read(config: &BTreeMap<String, String>) -> Result<Option<Self>, ConfigError> {
        let uris = given(config, "cluster_uris").or_else(|| given(config, "cluster_uri"));
        let identity = identity(config)?;
        let tls_ca_file = given(config, "tls_ca_file").map(PathBuf::from);
        let Some(uris) = uris else {
            return match identity.is_some() || tls_ca_file.is_some() {
                // Credentials without a server would silently go to whichever the provider knows.
                true => Err(ConfigError::new(
                    "cluster_uris",
                    "credentials and certificates need the servers they are for",
                )),
                false => Ok(None),
            };
        };
        let uris: Vec<_> = uris.split(',').map(|uri| uri.trim().to_owned()).collect();
        if uris.len() > CLUSTER_URIS_MAX {
            return Err(ConfigError::new(
                "cluster_uris",
                format!("at most {CLUSTER_URIS_MAX} servers"),
            ));
        }
        let identity = match (identity, login(&uris)?) {
            (None, login) => login.unwrap_or(Identity::Anonymous),
            (Some(identity), None) => identity,
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "cluster_uris",
                    "a login in the URL stands beside credentials, of which one is enough",
                ));
            }
        };
        Ok(Some(Server {
            uris,
            identity,
            tls_ca_file,
        }))
    }
}

/// The login in the URLs. The client library reads none from there, and has one for all servers.
fn login(uris: &[String]) -> Result<Option<Identity>, ConfigError> {
    let wrong = |reason| ConfigError::new("cluster_uris", reason);
    let mut found = None;
    for uri in uris {
        let address: async_nats::ServerAddr = uri
            .parse()
            .map_err(|_| wrong("not a list of URLs such as `nats://127.0.0.1:4222`"))?;
        let Some(user) = address.username() else {
            continue;
        };
        let decoded = |text| {
            percent_decoded(text).ok_or_else(|| wrong("the login in a URL is not well encoded"))
        };
        let login = match address.password() {
            Some(password) => Identity::Password {
                user: decoded(user)?,
                password: decoded(password)?,
            },
            None => Identity::Token(decoded(user)?),
        };
        if *found.get_or_insert_with(|| login.clone()) != login {
            return Err(wrong("the URLs have different logins"));
        }
    }
    Ok(found)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        rest = after;
        if *first != b'%' {
            bytes.push(*first);
            continue;
        }
        let (digits, after) = rest.split_at_checked(2)?;
        let digits = std::str::from_utf8(digits).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = after;
    }
    String::from_utf8(bytes).ok()
}

fn identity(config: &BTreeMap<String, String>) -> Result<Option<Identity>, ConfigError> {
    let get = |key| given(config, key);
    match (get("credentials"), get("client_jwt"), get("client_seed")) {
        (None, None, None) => Ok(None),
        (Some(credentials), None, None) => Ok(Some(Identity::Credentials(credentials.to_owned()))),
        (None, Some(jwt), Some(seed)) => Ok(Some(Identity::Credentials(format!(
            "-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n\
             -----BEGIN USER NKEY SEED-----\n{seed}\n------END USER NKEY SEED------\n"
        )))),
        (None, None, Some(seed)) => Ok(Some(Identity::Nkey(seed.to_owned()))),
        (None, Some(_), None) => Err(ConfigError::new(
            "client_seed",
            "missing beside `client_jwt`",
        )),
        (Some(_), _, _) => Err(ConfigError::new(
            "credentials",
            "stands beside `client_jwt` or `client_seed`, of which one form is enough",
        )),
    }
}
