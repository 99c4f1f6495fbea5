//! A private registry of artifacts: `docker-registry`, as Debian has it.
//!
//! ```text
//! let registry = Registry::start()?;
//! let careful = RegistryOptions::new().with_password().with_tls().start()?;
//! ```

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::process::{self, Process, READY_WITHIN};
use crate::{BackendError, locate};

const PROGRAM: &str = "docker-registry";

/// Who may use a registry with a password.
pub const USER: &str = "trellis";

/// The password of [`USER`].
pub const PASSWORD: &str = "sesame";

/// [`PASSWORD`] as the registry wants it: bcrypt with the smallest cost, for a password that everybody knows.
const PASSWORD_HASH: &str = "$2b$04$abcdefghijklmnopqrstuuinwY/tkBVrn3xrxQI/TgnMHhkvl85RW";

/// Longest wait for one answer while a registry starts.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);

/// How a registry is to be.
#[derive(Debug, Clone, Copy, Default)]
pub struct RegistryOptions {
    password: bool,
    tls: bool,
}

impl RegistryOptions {
    /// Plain HTTP, for everybody.
    pub fn new() -> Self {
        Self::default()
    }

    /// Only [`USER`] with [`PASSWORD`] may read and write.
    #[must_use]
    pub fn with_password(mut self) -> Self {
        self.password = true;
        self
    }

    /// Only TLS is spoken, with a certificate made for this registry; see [`Registry::ca_file`].
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Starts the registry and waits until it answers.
    ///
    /// # Errors
    /// [`BackendError`] where it is not installed or does not start.
    pub fn start(self) -> Result<Registry, BackendError> {
        let executable = locate::docker_registry()?;
        let directory = process::directory("registry")?;
        let certificates = match self.tls {
            true => Some(Certificates::make(directory.path())?),
            false => None,
        };
        if self.password {
            let line = format!("{USER}:{PASSWORD_HASH}\n");
            process::write(&directory.path().join("htpasswd"), &line)?;
        }
        process::on_free_port(|port| {
            let text = self.configuration(port, directory.path(), certificates.as_ref());
            process::write(&directory.path().join("config.yml"), &text)?;
            let process = spawn(&executable, directory.path(), port)?;
            Ok((port, process))
        })
        .map(|(port, process)| Registry {
            process,
            port,
            executable,
            certificates: certificates.clone(),
            directory,
        })
    }

    fn configuration(
        self,
        port: u16,
        directory: &Path,
        certificates: Option<&Certificates>,
    ) -> String {
        // JSON is YAML, and needs no other quotes.
        let directory = directory.display();
        let tls = certificates.map_or_else(String::new, |files| {
            format!(
                "  tls:\n    certificate: \"{}\"\n    key: \"{}\"\n",
                files.certificate.display(),
                files.key.display()
            )
        });
        let auth = match self.password {
            true => format!(
                "auth:\n  htpasswd:\n    realm: tests\n    path: \"{directory}/htpasswd\"\n"
            ),
            false => String::new(),
        };
        format!(
            "version: 0.1\nlog:\n  level: warn\nstorage:\n  filesystem:\n    rootdirectory: \"{directory}/data\"\n  \
             delete:\n    enabled: true\nhttp:\n  addr: 127.0.0.1:{port}\n{tls}{auth}"
        )
    }
}

/// A running registry, ended when this value is dropped.
#[derive(Debug)]
pub struct Registry {
    // Before the directory: it is still in use while the process runs.
    process: Process,
    port: u16,
    executable: PathBuf,
    certificates: Option<Certificates>,
    directory: TempDir,
}

impl Registry {
    /// Starts a registry without password and TLS.
    ///
    /// # Errors
    /// [`BackendError`] where it is not installed or does not start.
    pub fn start() -> Result<Self, BackendError> {
        RegistryOptions::new().start()
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its name in references: `127.0.0.1:<port>`.
    pub fn name(&self) -> String {
        self.address().to_string()
    }

    /// The certificate to trust, where TLS is spoken.
    pub fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|files| &*files.ca)
    }

    /// The file with some content, by its digest (`sha256:…`), to be damaged or removed.
    pub fn blob_file(&self, digest: &str) -> PathBuf {
        let hex = digest.strip_prefix("sha256:").unwrap_or(digest);
        let blobs = self.directory.path().join("data/docker/registry/v2/blobs");
        let short = hex.get(..2).unwrap_or(hex);
        blobs.join("sha256").join(short).join(hex).join("data")
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
        self.process = spawn(&self.executable, self.directory.path(), self.port)?;
        Ok(())
    }
}

fn spawn(executable: &Path, directory: &Path, port: u16) -> Result<Process, BackendError> {
    let mut command = Command::new(executable);
    command
        .arg("serve")
        .arg(directory.join("config.yml"))
        .env_clear()
        .current_dir(directory);
    let mut process = Process::spawn(PROGRAM, &mut command, &directory.join("log"))?;
    process.wait_until_ready(READY_WITHIN, || answers(port).is_ok_and(|answers| answers))?;
    Ok(process)
}

/// Whether it takes requests. One that speaks TLS answers plain text as well, with a reproach.
fn answers(port: u16) -> std::io::Result<bool> {
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    stream.set_read_timeout(Some(ANSWER_WITHIN))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = [0; 5];
    stream.read_exact(&mut answer)?;
    Ok(answer == *b"HTTP/")
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn ask(registry: &Registry, request: &str) -> std::io::Result<String> {
        let mut stream = TcpStream::connect(registry.address())?;
        stream.set_read_timeout(Some(ANSWER_WITHIN))?;
        stream.write_all(request.as_bytes())?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        Ok(answer.lines().next().unwrap_or_default().to_owned())
    }

    #[test]
    fn a_registry_answers_until_it_is_killed_and_again_afterwards() {
        let mut registry = Registry::start().unwrap();
        let request = "GET /v2/ HTTP/1.0\r\n\r\n";
        assert_eq!(ask(&registry, request).unwrap(), "HTTP/1.0 200 OK");
        registry.kill();
        assert!(ask(&registry, request).is_err());
        registry.restart().unwrap();
        assert_eq!(ask(&registry, request).unwrap(), "HTTP/1.0 200 OK");
    }

    #[test]
    fn a_password_is_asked_for_and_accepted() {
        let registry = RegistryOptions::new().with_password().start().unwrap();
        let with = |header: &str| format!("GET /v2/ HTTP/1.0\r\n{header}\r\n");
        let refused = ask(&registry, &with("")).unwrap();
        assert_eq!(refused, "HTTP/1.0 401 Unauthorized");
        // trellis:sesame
        let header = "Authorization: Basic dHJlbGxpczpzZXNhbWU=\r\n";
        assert_eq!(ask(&registry, &with(header)).unwrap(), "HTTP/1.0 200 OK");
    }

    #[test]
    fn a_registry_with_tls_has_certificates() {
        let registry = RegistryOptions::new().with_tls().start().unwrap();
        assert!(registry.ca_file().unwrap().is_file());
    }
}
