//! Where to connect, and as whom: the part of a configuration that decides which links share a connection.
//!
//! | key | default | meaning |
//! | --- | --- | --- |
//! | `cluster_uris` | none | URLs of the NATS servers, separated by commas; they may hold a login |
//! | `credentials` | none | contents of a creds file |
//! | `client_jwt`, `client_seed` | none | the same in two values; a seed alone is an nkey |
//! | `tls_ca_file` | the system's | further root certificates, a PEM file |
//!
//! `cluster_uri` is read as `cluster_uris`. Whoever names servers names the credentials for them, too.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use percent_encoding::percent_decode_str;
use trellis_provider_sdk::settings::{ConfigError, given};

/// Most servers in one `cluster_uris`.
pub const CLUSTER_URIS_MAX: usize = 32;

/// Time for a connection to come up, and for a server to answer one request. A call's own deadline may be shorter.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(5);

/// Commands that may wait for a server that is away, for each connection; further ones wait before they are queued.
pub const QUEUED_COMMANDS_MAX: usize = 1024;

/// The keys that [`Server::read`] reads.
pub const SERVER_KEYS: &[&str] = &[
    "cluster_uris",
    "cluster_uri",
    "credentials",
    "client_jwt",
    "client_seed",
    "tls_ca_file",
];

/// How a provider proves who it is.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Identity {
    /// Not at all.
    Anonymous,
    /// By a name and a password, which stood in the URL.
    Password {
        /// The name.
        user: String,
        /// The password.
        password: String,
    },
    /// By a token, which stood in the URL in place of a name.
    Token(String),
    /// By the contents of a creds file.
    Credentials(String),
    /// By the seed of an nkey.
    Nkey(String),
}

/// Where to connect, and as whom. Links that agree on this share a connection.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct Server {
    /// The servers, without logins: a client that knows none cannot tell any in its log.
    pub addresses: Vec<ServerAddr>,
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
    /// Shows hosts and ports, and nothing else of a URL.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let of = |address: &ServerAddr| format!("{}:{}", address.host(), address.port());
        f.debug_struct("Server")
            .field(
                "addresses",
                &self.addresses.iter().map(of).collect::<Vec<_>>(),
            )
            .field("identity", &self.identity)
            .field("tls_ca_file", &self.tls_ca_file)
            .finish()
    }
}

impl Server {
    /// A server that asks for no identity.
    ///
    /// # Errors
    /// [`ConfigError`] where the text is no URL.
    pub fn anonymous(uri: &str) -> Result<Self, ConfigError> {
        let (addresses, _) = servers(uri)?;
        Ok(Self {
            addresses,
            identity: Identity::Anonymous,
            tls_ca_file: None,
        })
    }

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
        let (addresses, login) = servers(uris)?;
        let identity = match (identity, login) {
            (None, login) => login.unwrap_or(Identity::Anonymous),
            (Some(identity), None) => identity,
            (Some(_), Some(_)) => {
                return Err(ConfigError::new(
                    "cluster_uris",
                    "a login in the URL stands beside credentials, of which one is enough",
                ));
            }
        };
        Ok(Some(Self {
            addresses,
            identity,
            tls_ca_file,
        }))
    }

    /// Options of a client with this identity, which the server's monitoring calls by a name.
    ///
    /// # Errors
    /// Where the credentials are no creds file.
    pub fn options(&self, name: &str) -> io::Result<ConnectOptions> {
        let options = ConnectOptions::new()
            .name(name)
            .connection_timeout(ANSWER_WITHIN)
            .request_timeout(Some(ANSWER_WITHIN))
            .client_capacity(QUEUED_COMMANDS_MAX);
        let options = match &self.identity {
            Identity::Anonymous => options,
            Identity::Password { user, password } => {
                options.user_and_password(user.clone(), password.clone())
            }
            Identity::Token(token) => options.token(token.clone()),
            Identity::Credentials(text) => options.credentials(text)?,
            Identity::Nkey(seed) => options.nkey(seed.clone()),
        };
        Ok(match &self.tls_ca_file {
            Some(file) => options.add_root_certificates(file.clone()),
            None => options,
        })
    }
}

/// Reads a list of URLs, and the login in them: the client library uses none that stands there, and has one for all.
fn servers(uris: &str) -> Result<(Vec<ServerAddr>, Option<Identity>), ConfigError> {
    let wrong = |reason: &str| ConfigError::new("cluster_uris", reason);
    let malformed = || wrong("not a list of URLs such as `nats://127.0.0.1:4222`");
    let mut login = None;
    let mut addresses = Vec::new();
    for uri in uris.split(',') {
        if addresses.len() >= CLUSTER_URIS_MAX {
            return Err(wrong(&format!("at most {CLUSTER_URIS_MAX} servers")));
        }
        let address: ServerAddr = uri.trim().parse().map_err(|_| malformed())?;
        if address.host().is_empty() {
            return Err(malformed());
        }
        if let Some(found) = login_of(&address)?
            && *login.get_or_insert_with(|| found.clone()) != found
        {
            return Err(wrong("the URLs have different logins"));
        }
        let mut url = address.into_inner();
        let stripped = url.set_username("").and_then(|()| url.set_password(None));
        stripped.map_err(|()| malformed())?;
        addresses.push(ServerAddr::from_url(url).map_err(|_| malformed())?);
    }
    Ok((addresses, login))
}

fn login_of(address: &ServerAddr) -> Result<Option<Identity>, ConfigError> {
    let decoded = |text| {
        let text = percent_decode_str(text).decode_utf8();
        text.map(String::from)
            .map_err(|_| ConfigError::new("cluster_uris", "the login in a URL is not UTF-8"))
    };
    Ok(match (address.username(), address.password()) {
        (None, None) => None,
        (Some(token), None) => Some(Identity::Token(decoded(token)?)),
        (user, Some(password)) => Some(Identity::Password {
            user: decoded(user.unwrap_or_default())?,
            password: decoded(password)?,
        }),
    })
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

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use trellis_provider_sdk::harness::values;

    use super::*;

    fn read(pairs: &[(&str, &str)]) -> Result<Option<Server>, ConfigError> {
        Server::read(&values(pairs))
    }

    fn identity(uris: &str) -> Result<Identity, ConfigError> {
        read(&[("cluster_uris", uris)]).map(|server| server.unwrap().identity)
    }

    #[test]
    fn a_login_in_the_url_is_used_and_is_one_for_all_servers() {
        let password = |user: &str, password: &str| {
            Ok(Identity::Password {
                user: user.to_owned(),
                password: password.to_owned(),
            })
        };
        assert_eq!(
            identity("nats://u%40x:p%3Aw@two:4222, nats://three"),
            password("u@x", "p:w")
        );
        assert_eq!(identity("u:100%@two"), password("u", "100%"));
        assert_eq!(identity("nats://:p@two"), password("", "p"));
        assert_eq!(
            identity("nats://t0ken@two"),
            Ok(Identity::Token("t0ken".to_owned()))
        );
        assert_eq!(identity("nats://two"), Ok(Identity::Anonymous));
        for uris in ["nats://u:p@two, nats://u:q@three", "nats://u%ff:p@two"] {
            assert_eq!(identity(uris).unwrap_err().key, "cluster_uris", "{uris}");
        }
        let both = [("cluster_uris", "nats://u:p@two"), ("client_seed", "SU")];
        assert_eq!(read(&both).unwrap_err().key, "cluster_uris");
    }

    #[test]
    fn what_names_no_server_is_refused_without_being_repeated() {
        let many = vec!["secret"; CLUSTER_URIS_MAX + 1].join(",");
        for uris in [
            "http://secret",
            "nats://",
            "nats:///secret",
            "nats://:secret@",
            "a, ,b",
            &many,
        ] {
            let error = identity(uris).unwrap_err();
            assert_eq!(error.key, "cluster_uris", "{uris}");
            assert!(!error.reason.contains("secret"), "{error}");
        }
    }

    #[test]
    fn neither_the_client_nor_a_log_is_handed_a_login_in_a_url() {
        let uris = "nats://user:hunter2@two:4333,tls://three";
        let server = read(&[("cluster_uris", uris)]).unwrap().unwrap();
        let addresses: Vec<_> = server.addresses.iter().map(|a| a.as_url_str()).collect();
        assert_eq!(addresses, ["nats://two:4333", "tls://three"]);
        let shown = format!("{server:?}");
        assert!(
            shown.contains("two:4333") && !shown.contains("hunter2"),
            "{shown}"
        );
        let seeds = [
            ("cluster_uris", "nats://two"),
            ("client_jwt", "hunter2"),
            ("client_seed", "hunter2"),
        ];
        assert!(!format!("{:?}", read(&seeds).unwrap()).contains("hunter2"));
    }

    #[test]
    fn credentials_without_a_server_are_refused() {
        assert_eq!(read(&[]), Ok(None));
        for key in ["credentials", "client_seed", "tls_ca_file"] {
            assert_eq!(read(&[(key, "x")]).unwrap_err().key, "cluster_uris");
        }
        let half = [("cluster_uris", "nats://two"), ("client_jwt", "x")];
        assert_eq!(read(&half).unwrap_err().key, "client_seed");
    }
}
