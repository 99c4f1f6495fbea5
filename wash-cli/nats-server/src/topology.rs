//! Where a server stands among others: a leaf of a remote one, a member of a cluster, a server that takes leaves.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::config::{ConfigError, quoted, utf8};

/// How a server is joined to others, and by which further doors it is reached.
///
/// Every port is bound to the address that clients use, so a server on 127.0.0.1 alone is joined by nobody else.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Topology {
    /// The server whose leaf this one is. Its URL may hold a password: it is written into the configuration file, which
    /// only its owner can read.
    pub remote: Option<Remote>,
    /// The port on which it takes leaves.
    pub leaf_port: Option<u16>,
    /// The cluster that it is a member of.
    pub cluster: Option<Cluster>,
    /// The port on which it takes WebSocket connections, without TLS.
    pub websocket_port: Option<u16>,
    /// The domain of its JetStream. A leaf's has to differ from its remote's.
    pub js_domain: Option<String>,
}

/// A server that another one is a leaf of.
#[derive(Clone, PartialEq, Eq)]
pub struct Remote {
    /// Its URL.
    pub url: String,
    /// The credentials file by which the leaf joins it.
    pub credentials: Option<PathBuf>,
}

impl std::fmt::Debug for Remote {
    /// Without the URL, which may hold a password.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Remote")
            .field("credentials", &self.credentials)
            .finish_non_exhaustive()
    }
}

/// A cluster of servers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cluster {
    /// Its name, the same at each member.
    pub name: String,
    /// The port for the other members.
    pub port: u16,
    /// Where other members are, as URLs of their cluster ports.
    pub routes: Vec<String>,
}

impl Topology {
    /// The lines for the configuration file.
    pub(crate) fn render(&self, host: IpAddr) -> Result<String, ConfigError> {
        let mut text = String::new();
        let host = quoted(&host.to_string());
        let mut line = |line: String| {
            writeln!(text, "{line}").expect("a String takes every write");
        };
        if let Some(cluster) = &self.cluster {
            let routes: Result<Vec<_>, _> = cluster.routes.iter().map(|url| plain(url)).collect();
            line(format!(
                "cluster: {{ name: {}, host: {host}, port: {}, routes: [{}] }}",
                plain(&cluster.name)?,
                cluster.port,
                routes?.join(", ")
            ));
        }
        let mut leafs = Vec::new();
        if let Some(port) = self.leaf_port {
            leafs.push(format!("host: {host}, port: {port}"));
        }
        if let Some(remote) = &self.remote {
            let credentials = match &remote.credentials {
                Some(path) => format!(", credentials: {}", quoted(utf8(path)?)),
                None => String::new(),
            };
            leafs.push(format!(
                "remotes: [{{ url: {}{credentials} }}]",
                plain(&remote.url)?
            ));
        }
        if !leafs.is_empty() {
            line(format!("leafnodes: {{ {} }}", leafs.join(", ")));
        }
        if let Some(port) = self.websocket_port {
            line(format!(
                "websocket: {{ host: {host}, port: {port}, no_tls: true }}"
            ));
        }
        Ok(text)
    }

    /// The member that names the domain, for the object that configures JetStream.
    pub(crate) fn domain(&self) -> Result<String, ConfigError> {
        match &self.js_domain {
            Some(domain) => Ok(format!(", domain: {}", plain(domain)?)),
            None => Ok(String::new()),
        }
    }

    /// Whether the file holds what others should not read.
    #[must_use]
    pub fn is_plain(&self) -> bool {
        self == &Self::default()
    }
}

/// A text between quotes, if it is one line.
fn plain(text: &str) -> Result<String, ConfigError> {
    if text.is_empty() || text.chars().any(char::is_control) {
        return Err(ConfigError::Path {
            path: Path::new(text).to_path_buf(),
        });
    }
    Ok(quoted(text))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn a_server_alone_has_no_lines() {
        let alone = Topology::default();
        assert_eq!(alone.render(Ipv4Addr::LOCALHOST.into()).unwrap(), "");
        assert!(alone.is_plain());
    }

    #[test]
    fn leaves_clusters_and_websockets_are_written_down() {
        let topology = Topology {
            remote: Some(Remote {
                url: "nats-leaf://a:\"b\"@hub:7422".to_owned(),
                credentials: Some("/c/leaf.creds".into()),
            }),
            leaf_port: Some(7422),
            cluster: Some(Cluster {
                name: "home".to_owned(),
                port: 6222,
                routes: vec!["nats://b:6222".to_owned()],
            }),
            websocket_port: Some(4223),
            js_domain: Some("edge".to_owned()),
        };
        assert_eq!(
            topology.render(Ipv4Addr::LOCALHOST.into()).unwrap(),
            "cluster: { name: \"home\", host: \"127.0.0.1\", port: 6222, routes: [\"nats://b:6222\"] }\n\
             leafnodes: { host: \"127.0.0.1\", port: 7422, remotes: [{ url: \"nats-leaf://a:\\\"b\\\"@hub:7422\", credentials: \"/c/leaf.creds\" }] }\n\
             websocket: { host: \"127.0.0.1\", port: 4223, no_tls: true }\n"
        );
        assert_eq!(topology.domain().unwrap(), ", domain: \"edge\"");
        assert!(!format!("{topology:?}").contains("hub:7422"));
    }

    #[test]
    fn a_line_cannot_be_smuggled_in() {
        let topology = Topology {
            js_domain: Some("a\nport: 1".to_owned()),
            ..Topology::default()
        };
        assert!(topology.domain().is_err());
    }
}
