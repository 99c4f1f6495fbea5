//! The ports file: how a server that chose its own port says which.
//!
//! With `ports_file_dir` set, the server writes `<program>_<pid>.ports` once it accepts connections: a small JSON
//! object from protocol name to URLs. It is written in place, so a reader can meet half of it.

use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::Path;

/// Largest ports file that is read; a real one has some fifty bytes for each address.
const FILE_BYTES_MAX: u64 = 64 * 1024;

/// Where one server listens for clients.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Ports {
    /// The server's process id, from the file's name.
    pub(crate) pid: u32,
    /// `nats` or `tls`.
    pub(crate) scheme: String,
    /// The address that it names first. One that listens everywhere names every address of the machine.
    pub(crate) address: Option<IpAddr>,
    /// The port for clients.
    pub(crate) port: u16,
}

impl Ports {
    /// Reads the first whole ports file of a directory; `None` while there is none.
    pub(crate) fn read(directory: &Path) -> io::Result<Option<Self>> {
        for entry in fs::read_dir(directory)? {
            let path = entry?.path();
            let pid = path
                .file_name()
                .and_then(|name| name.to_str())
                .and_then(pid_of);
            let Some(pid) = pid else { continue };
            if fs::metadata(&path)?.len() > FILE_BYTES_MAX {
                continue;
            }
            if let Some((scheme, address, port)) = client_port(&fs::read_to_string(&path)?) {
                return Ok(Some(Self {
                    pid,
                    scheme,
                    address,
                    port,
                }));
            }
        }
        Ok(None)
    }

    /// The URL that clients use, given the address the server was bound to.
    pub(crate) fn url(&self, host: IpAddr) -> String {
        let host = match host {
            IpAddr::V4(host) => host.to_string(),
            IpAddr::V6(host) => format!("[{host}]"),
        };
        format!("{}://{host}:{}", self.scheme, self.port)
    }
}

fn pid_of(file_name: &str) -> Option<u32> {
    let (_, pid) = file_name.strip_suffix(".ports")?.rsplit_once('_')?;
    pid.parse().ok()
}

/// Scheme, address and port of the first client URL, once the text is whole.
///
/// The file is written by a program we started, in one fixed shape, so looking for the one member is enough; a JSON
/// parser would be this crate's largest dependency.
fn client_port(text: &str) -> Option<(String, Option<IpAddr>, u16)> {
    if !text.trim_end().ends_with('}') {
        return None;
    }
    let (_, after_key) = text.split_once("\"nats\"")?;
    let (_, list) = after_key.split_once('[')?;
    let (list, _) = list.split_once(']')?;
    let url = list.split('"').nth(1)?;
    let (scheme, address) = url.split_once("://")?;
    let (address, port) = address.rsplit_once(':')?;
    let address = address.trim_matches(['[', ']']).parse().ok();
    Some((scheme.to_owned(), address, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_client_port_is_found_among_others() {
        let text =
            "{\"monitoring\":[\"http://127.0.0.1:8222\"],\"nats\":[\"nats://127.0.0.1:40123\"]}";
        let localhost = Some(std::net::Ipv4Addr::LOCALHOST.into());
        assert_eq!(
            client_port(text),
            Some(("nats".to_owned(), localhost, 40123))
        );
    }

    #[test]
    fn half_a_file_is_not_read() {
        let text = "{\"nats\":[\"nats://127.0.0.1:40123\"]}";
        for end in 0..text.len() {
            assert_eq!(client_port(&text[..end]), None);
        }
    }

    #[test]
    fn the_process_id_is_in_the_name() {
        assert_eq!(pid_of("nats-server_4711.ports"), Some(4711));
        assert_eq!(pid_of("my_server_1.ports"), Some(1));
        assert_eq!(pid_of("nats-server.ports"), None);
        assert_eq!(pid_of("nats-server_4711.log"), None);
    }
}
