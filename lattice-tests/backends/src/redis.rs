//! A private Redis server.
//!
//! ```text
//! let redis = Redis::start()?;
//! let careful = RedisOptions::new().with_password("sesame").with_appendonly().start()?;
//! ```

use std::fmt::Write as _;
use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::process::{self, Process, READY_WITHIN};
use crate::{BackendError, locate};

const PROGRAM: &str = "redis-server";

/// Longest wait for one answer while a server starts.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How a server is to be.
#[derive(Debug, Clone, Default)]
pub struct RedisOptions {
    password: Option<String>,
    users: Vec<(String, String, String)>,
    tls: bool,
    appendonly: bool,
    max_clients: Option<u32>,
}

impl RedisOptions {
    /// No password, no TLS, and nothing is kept on disk.
    pub fn new() -> Self {
        Self::default()
    }

    /// The default user needs this password.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = Some(password.to_owned());
        self
    }

    /// A further user, with what the rules allow (`~app:* +@read`).
    #[must_use]
    pub fn with_user(mut self, name: &str, password: &str, rules: &str) -> Self {
        self.users
            .push((name.to_owned(), password.to_owned(), rules.to_owned()));
        self
    }

    /// Only TLS is spoken, with a certificate made for this server; see [`Redis::ca_file`].
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Every write is on disk before it is acknowledged, and there again after [`Redis::restart`].
    #[must_use]
    pub fn with_appendonly(mut self) -> Self {
        self.appendonly = true;
        self
    }

    /// Most connections at once.
    #[must_use]
    pub fn with_max_clients(mut self, clients: u32) -> Self {
        self.max_clients = Some(clients);
        self
    }

    /// Starts the server and waits until it answers.
    ///
    /// # Errors
    /// [`BackendError`] where it is not installed or does not start.
    pub fn start(self) -> Result<Redis, BackendError> {
        let executable = locate::redis_server()?;
        let directory = process::directory("redis")?;
        let certificates = match self.tls {
            true => Some(Certificates::make(directory.path())?),
            false => None,
        };
        process::on_free_port(|port| {
            let text = self.configuration(port, directory.path(), certificates.as_ref());
            process::write(&directory.path().join("redis.conf"), &text)?;
            let process = spawn(&executable, directory.path())?;
            Ok((port, process))
        })
        .map(|(port, process)| Redis {
            process,
            port,
            executable,
            password: self.password.clone(),
            certificates: certificates.clone(),
            directory,
        })
    }

    fn configuration(
        &self,
        port: u16,
        directory: &Path,
        certificates: Option<&Certificates>,
    ) -> String {
        let mut text = String::new();
        let mut line = |words: &[&str]| {
            let words: Vec<_> = words.iter().map(|word| quoted(word)).collect();
            writeln!(text, "{}", words.join(" ")).expect("a String takes every write");
        };
        let (port, directory) = (port.to_string(), directory.display().to_string());
        line(&["bind", "127.0.0.1"]);
        line(&["dir", &directory]);
        line(&["unixsocket", &format!("{directory}/{SOCKET}")]);
        line(&["daemonize", "no"]);
        line(&["save", ""]);
        match certificates {
            None => line(&["port", &port]),
            Some(files) => {
                line(&["port", "0"]);
                line(&["tls-port", &port]);
                line(&["tls-cert-file", &files.certificate.display().to_string()]);
                line(&["tls-key-file", &files.key.display().to_string()]);
                line(&["tls-ca-cert-file", &files.ca.display().to_string()]);
                line(&["tls-auth-clients", "no"]);
            }
        }
        if self.appendonly {
            line(&["appendonly", "yes"]);
            line(&["appendfsync", "always"]);
        }
        if let Some(password) = &self.password {
            line(&["requirepass", password]);
        }
        if let Some(clients) = self.max_clients {
            line(&["maxclients", &clients.to_string()]);
        }
        for (name, password, rules) in &self.users {
            let password = format!(">{password}");
            let mut words = vec!["user", name, "on", &password];
            words.extend(rules.split_whitespace());
            line(&words);
        }
        text
    }
}

/// Name of the local socket, by which readiness is seen whatever is configured for the port.
const SOCKET: &str = "socket";

/// A running server, ended when this value is dropped.
#[derive(Debug)]
pub struct Redis {
    // Before the directory: it is still in use while the process runs.
    process: Process,
    port: u16,
    executable: PathBuf,
    password: Option<String>,
    certificates: Option<Certificates>,
    directory: TempDir,
}

impl Redis {
    /// Starts a server without password, TLS and persistence.
    ///
    /// # Errors
    /// [`BackendError`] where it is not installed or does not start.
    pub fn start() -> Result<Self, BackendError> {
        RedisOptions::new().start()
    }

    /// The URL for clients, with the default user's password where it has one.
    pub fn url(&self) -> String {
        match &self.password {
            None => self.url_at(self.address(), ""),
            Some(password) => self.url_at(self.address(), &format!(":{password}@")),
        }
    }

    /// The URL for another user, or for another password.
    pub fn url_as(&self, user: &str, password: &str) -> String {
        self.url_at(self.address(), &format!("{user}:{password}@"))
    }

    /// The same URL as [`Redis::url`] with another address: a proxy's.
    pub fn url_through(&self, address: SocketAddr) -> String {
        self.url()
            .replace(&self.address().to_string(), &address.to_string())
    }

    fn url_at(&self, address: SocketAddr, user: &str) -> String {
        match self.certificates {
            None => format!("redis://{user}{address}"),
            Some(_) => format!("rediss://{user}{address}"),
        }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The certificate to trust, where TLS is spoken.
    pub fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|files| &*files.ca)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Kills it (SIGKILL).
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Stops its process where it is (SIGSTOP): connections stay open and nothing answers.
    ///
    /// # Errors
    /// [`BackendError`] where it has ended.
    pub fn stop_process(&self) -> Result<(), BackendError> {
        self.process.freeze()
    }

    /// Lets a stopped process go on (SIGCONT).
    ///
    /// # Errors
    /// [`BackendError`] where it has ended.
    pub fn continue_process(&self) -> Result<(), BackendError> {
        self.process.thaw()
    }

    /// Starts it again on the same port and directory; one that still runs is killed first.
    ///
    /// # Errors
    /// [`BackendError`] where it does not start.
    pub fn restart(&mut self) -> Result<(), BackendError> {
        self.process.kill();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match spawn(&self.executable, self.directory.path()) {
                // Somebody's outgoing connection has the port for the moment.
                Err(error) if error.is_port_taken() && Instant::now() < deadline => {
                    std::thread::sleep(Duration::from_millis(100));
                }
                started => {
                    self.process = started?;
                    return Ok(());
                }
            }
        }
    }

    /// The end of its log.
    pub fn log_tail(&self) -> String {
        self.process.log_tail()
    }
}

fn spawn(executable: &Path, directory: &Path) -> Result<Process, BackendError> {
    let log = directory.join("log");
    // What an earlier start said must not be taken for this one's.
    process::write(&log, "")?;
    let mut command = Command::new(executable);
    command
        .arg(directory.join("redis.conf"))
        .current_dir(directory);
    let mut process = Process::spawn(PROGRAM, &mut command, &log)?;
    let socket = directory.join(SOCKET);
    process.wait_until_ready(READY_WITHIN, || answers(&socket).unwrap_or(false))?;
    Ok(process)
}

/// Whether the server takes commands: a refusal for want of a password shows that as well as an answer does.
fn answers(socket: &Path) -> io::Result<bool> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(b"PING\r\n")?;
    let mut answer = [0; 64];
    let bytes = stream.read(&mut answer)?;
    Ok(answer[..bytes].starts_with(b"+PONG") || answer[..bytes].starts_with(b"-NOAUTH"))
}

/// A word of the configuration file.
fn quoted(word: &str) -> String {
    format!("\"{}\"", word.replace('\\', "\\\\").replace('"', "\\\""))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::net::TcpStream;

    use super::*;

    fn ask(redis: &Redis, command: &str) -> io::Result<String> {
        let mut stream = TcpStream::connect(redis.address())?;
        stream.set_read_timeout(Some(Duration::from_millis(500)))?;
        stream.write_all(command.as_bytes())?;
        stream.write_all(b"\r\n")?;
        let mut answer = [0; 256];
        let bytes = stream.read(&mut answer)?;
        Ok(String::from_utf8_lossy(&answer[..bytes]).into_owned())
    }

    #[test]
    fn a_server_keeps_what_it_was_told_to_keep_through_a_kill() {
        let mut redis = RedisOptions::new().with_appendonly().start().unwrap();
        assert_eq!(ask(&redis, "SET k v").unwrap(), "+OK\r\n");
        redis.kill();
        assert!(ask(&redis, "GET k").is_err());
        redis.restart().unwrap();
        assert_eq!(ask(&redis, "GET k").unwrap(), "$1\r\nv\r\n");
    }

    #[test]
    fn a_stopped_server_is_silent_until_it_goes_on() {
        let redis = Redis::start().unwrap();
        redis.stop_process().unwrap();
        assert!(ask(&redis, "PING").is_err());
        redis.continue_process().unwrap();
        assert_eq!(ask(&redis, "PING").unwrap(), "+PONG\r\n");
    }

    #[test]
    fn passwords_and_users_are_asked_for() {
        let redis = RedisOptions::new()
            .with_password("open \"sesame\"")
            .with_user("reader", "r", "~* +get")
            .start()
            .unwrap();
        assert!(ask(&redis, "GET k").unwrap().starts_with("-NOAUTH"));
        assert_eq!(ask(&redis, "AUTH reader r").unwrap(), "+OK\r\n");
        assert!(
            ask(&redis, "AUTH reader x")
                .unwrap()
                .starts_with("-WRONGPASS")
        );
        assert!(
            redis
                .url_as("reader", "r")
                .starts_with("redis://reader:r@127.0.0.1:")
        );
    }

    #[test]
    fn several_servers_run_side_by_side_and_go_with_their_values() {
        let servers: Vec<_> = (0..3).map(|_| Redis::start().unwrap()).collect();
        let address = servers[0].address();
        assert!(TcpStream::connect(address).is_ok());
        drop(servers);
        assert!(TcpStream::connect(address).is_err());
    }

    #[test]
    fn a_server_with_tls_has_certificates() {
        let redis = RedisOptions::new().with_tls().start().unwrap();
        assert!(redis.url().starts_with("rediss://127.0.0.1:"));
        assert!(redis.ca_file().unwrap().is_file());
    }
}
