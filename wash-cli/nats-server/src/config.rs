//! The configuration file of a server that we start.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crate::topology::Topology;

/// Largest log file before the server starts a new one, in bytes.
const LOG_BYTES_MAX: u64 = 16 * 1024 * 1024;

/// Log files kept, the current one included.
const LOG_FILES_MAX: u32 = 2;

/// A setting can't be written into a configuration file.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The server's configuration language has no way to write this path or value.
    #[error("{:?} can't stand in a nats-server configuration: it is not plain UTF-8 in one line", path.display())]
    Path {
        /// The path.
        path: PathBuf,
    },
    /// The server name is empty, too long, or holds spaces or control characters.
    #[error("{name:?} can't be a server name: 1 to 128 characters without spaces are needed")]
    ServerName {
        /// The name.
        name: String,
    },
}

/// What goes into the file.
#[derive(Debug)]
pub(crate) struct Config<'a> {
    pub(crate) server_name: Option<&'a str>,
    pub(crate) host: IpAddr,
    pub(crate) port: Option<u16>,
    pub(crate) jetstream_dir: Option<&'a Path>,
    pub(crate) log_file: &'a Path,
    pub(crate) pid_file: &'a Path,
    pub(crate) ports_dir: &'a Path,
    pub(crate) topology: &'a Topology,
    pub(crate) extra: Option<&'a str>,
}

impl Config<'_> {
    /// The text of the file.
    pub(crate) fn render(&self) -> Result<String, ConfigError> {
        let mut text = String::new();
        let mut line = |key: &str, value: &str| {
            writeln!(text, "{key}: {value}").expect("a String takes every write");
        };
        if let Some(name) = self.server_name {
            line("server_name", &quoted(server_name(name)?));
        }
        line("host", &quoted(&self.host.to_string()));
        // -1 lets the kernel choose; the ports file says which it chose, so there is no race for a port.
        line(
            "port",
            &self.port.map_or_else(|| "-1".to_owned(), |p| p.to_string()),
        );
        line("log_file", &quoted(utf8(self.log_file)?));
        line("log_size_limit", &LOG_BYTES_MAX.to_string());
        line("log_max_num", &LOG_FILES_MAX.to_string());
        line("pid_file", &quoted(utf8(self.pid_file)?));
        line("ports_file_dir", &quoted(utf8(self.ports_dir)?));
        if let Some(directory) = self.jetstream_dir {
            // The default flushes to disk every two minutes: a crash would bring back leases and revisions that
            // others have already seen replaced.
            let directory = quoted(utf8(directory)?);
            let domain = self.topology.domain()?;
            line(
                "jetstream",
                &format!("{{ store_dir: {directory}, sync_interval: always{domain} }}"),
            );
        }
        text.push_str(&self.topology.render(self.host)?);
        if let Some(extra) = self.extra {
            text.push_str(extra);
            text.push('\n');
        }
        Ok(text)
    }
}

fn server_name(name: &str) -> Result<&str, ConfigError> {
    let plain = |character: char| !character.is_whitespace() && !character.is_control();
    if name.is_empty() || name.chars().count() > 128 || !name.chars().all(plain) {
        return Err(ConfigError::ServerName {
            name: name.to_owned(),
        });
    }
    Ok(name)
}

pub(crate) fn utf8(path: &Path) -> Result<&str, ConfigError> {
    path.to_str()
        .filter(|text| !text.chars().any(char::is_control))
        .ok_or_else(|| ConfigError::Path {
            path: path.to_path_buf(),
        })
}

/// A string of the configuration language. Only the backslash and the quote are special between quotes.
pub(crate) fn quoted(text: &str) -> String {
    let escaped = text.replace('\\', "\\\\").replace('"', "\\\"");
    format!("\"{escaped}\"")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::ffi::OsStr;
    use std::net::Ipv4Addr;
    use std::os::unix::ffi::OsStrExt as _;

    use super::*;

    static ALONE: Topology = Topology {
        remote: None,
        leaf_port: None,
        cluster: None,
        websocket_port: None,
        js_domain: None,
    };

    fn config() -> Config<'static> {
        Config {
            server_name: Some("one"),
            host: Ipv4Addr::LOCALHOST.into(),
            port: None,
            jetstream_dir: Some(Path::new("/s/jetstream")),
            log_file: Path::new("/s/log"),
            pid_file: Path::new("/s/pid"),
            ports_dir: Path::new("/s/ports"),
            topology: &ALONE,
            extra: None,
        }
    }

    #[test]
    fn no_port_given_asks_the_kernel_for_one() {
        assert!(config().render().unwrap().contains("port: -1\n"));
        let fixed = Config {
            port: Some(4222),
            ..config()
        };
        assert!(fixed.render().unwrap().contains("port: 4222\n"));
    }

    #[test]
    fn jetstream_syncs_every_write() {
        assert!(
            config()
                .render()
                .unwrap()
                .contains("{ store_dir: \"/s/jetstream\", sync_interval: always }")
        );
        let without = Config {
            jetstream_dir: None,
            ..config()
        };
        assert!(!without.render().unwrap().contains("jetstream"));
    }

    #[test]
    fn quotes_and_backslashes_in_a_path_stay_inside_the_string() {
        let odd = Config {
            log_file: Path::new("/a \"b\" \\c"),
            ..config()
        };
        assert!(
            odd.render()
                .unwrap()
                .contains("log_file: \"/a \\\"b\\\" \\\\c\"\n")
        );
    }

    #[test]
    fn a_path_that_could_break_out_of_its_line_is_refused() {
        for path in [
            Path::new("/a\nport: 1"),
            Path::new(OsStr::from_bytes(b"/\xff")),
        ] {
            let bad = Config {
                log_file: path,
                ..config()
            };
            assert!(matches!(bad.render(), Err(ConfigError::Path { .. })));
        }
    }

    #[test]
    fn a_server_name_is_one_word_of_at_most_128_characters() {
        let named = |name: &str| {
            Config {
                server_name: Some(name),
                ..config()
            }
            .render()
            .is_ok()
        };
        assert!(named(&"x".repeat(128)));
        for bad in ["", "two words", "line\nbreak", &"x".repeat(129)] {
            assert!(!named(bad), "{bad:?}");
        }
    }
}
