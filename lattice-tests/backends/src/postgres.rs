//! A private PostgreSQL server.
//!
//! ```text
//! let postgres = Postgres::start()?;
//! let careful = PostgresOptions::new().with_durability().with_max_connections(10).start()?;
//! postgres.run("CREATE TABLE t (n int)")?;
//! ```
//!
//! PostgreSQL refuses to run as root. Where we are root, it runs as the user `postgres`, else as `nobody`, and its
//! directory belongs to that user.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, geteuid, kill_process};
use tempfile::TempDir;

use crate::certificates::Certificates;
use crate::process::{self, Process, READY_WITHIN};
use crate::{BackendError, locate};

const PROGRAM: &str = "postgres";

/// The superuser.
pub const USER: &str = "postgres";

/// Its password, unless another one is asked for.
pub const PASSWORD: &str = "open sesame";

/// The database that is always there.
pub const DATABASE: &str = "postgres";

/// Users that a server runs as where we are root, the first that the system has.
const UNPRIVILEGED: &[&str] = &["postgres", "nobody"];

/// What a server logs when it serves.
const READY: &str = "database system is ready to accept connections";

/// How a server is to be.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    password: String,
    tls: bool,
    durable: bool,
    max_connections: u32,
}

impl Default for PostgresOptions {
    fn default() -> Self {
        Self {
            password: PASSWORD.to_owned(),
            tls: false,
            durable: false,
            max_connections: 100,
        }
    }
}

impl PostgresOptions {
    /// The default password, no TLS, and nothing survives a kill for certain.
    pub fn new() -> Self {
        Self::default()
    }

    /// The superuser's password. It is asked for (SCRAM) on every connection over the network.
    #[must_use]
    pub fn with_password(mut self, password: &str) -> Self {
        self.password = password.to_owned();
        self
    }

    /// TLS is spoken, beside connections without it, with a certificate made for this server; see [`Postgres::ca_file`].
    #[must_use]
    pub fn with_tls(mut self) -> Self {
        self.tls = true;
        self
    }

    /// Every commit is on disk before it is acknowledged, and there again after [`Postgres::restart`].
    #[must_use]
    pub fn with_durability(mut self) -> Self {
        self.durable = true;
        self
    }

    /// Most connections at once, the superuser's own included. At least 4.
    #[must_use]
    pub fn with_max_connections(mut self, connections: u32) -> Self {
        self.max_connections = connections;
        self
    }

    /// Makes a database directory, starts the server and waits until it serves.
    ///
    /// # Errors
    /// [`BackendError`] where it is not installed or does not start.
    pub fn start(self) -> Result<Postgres, BackendError> {
        let bin = locate::postgres_bin()?;
        let directory = process::directory("postgres")?;
        let user = User::unprivileged()?;
        initialise(&bin, directory.path(), user, &self.password)?;
        let certificates = match self.tls {
            true => Some(Certificates::make(directory.path())?),
            false => None,
        };
        if let Some(files) = &certificates {
            for file in [&files.ca, &files.certificate, &files.key] {
                own(file, user)?;
            }
        }
        process::on_free_port(|port| {
            let settings = self.settings(port, directory.path(), certificates.as_ref());
            process::write(
                &directory.path().join("data/postgresql.auto.conf"),
                &settings,
            )?;
            Ok((port, spawn(&bin, directory.path(), user)?))
        })
        .map(|(port, process)| Postgres {
            process,
            port,
            bin,
            user,
            password: self.password.clone(),
            certificates: certificates.clone(),
            directory,
        })
    }

    fn settings(&self, port: u16, directory: &Path, tls: Option<&Certificates>) -> String {
        let switch = |on| if on { "on" } else { "off" }.to_owned();
        let mut settings = vec![
            ("listen_addresses", "127.0.0.1".to_owned()),
            ("port", port.to_string()),
            ("unix_socket_directories", directory.display().to_string()),
            ("max_connections", self.max_connections.to_string()),
            ("superuser_reserved_connections", "1".to_owned()),
            ("max_wal_senders", "0".to_owned()),
            ("shared_buffers", "16MB".to_owned()),
            ("lc_messages", "C".to_owned()),
            ("timezone", "UTC".to_owned()),
            ("fsync", switch(self.durable)),
            ("full_page_writes", switch(self.durable)),
            ("synchronous_commit", switch(self.durable)),
            ("ssl", switch(tls.is_some())),
        ];
        if let Some(files) = tls {
            settings.push(("ssl_cert_file", files.certificate.display().to_string()));
            settings.push(("ssl_key_file", files.key.display().to_string()));
        }
        settings
            .into_iter()
            .map(|(key, value)| format!("{key} = '{}'\n", value.replace('\'', "''")))
            .collect()
    }
}

/// A running server, ended when this value is dropped.
#[derive(Debug)]
pub struct Postgres {
    // Before the directory: it is still in use while the process runs.
    process: Process,
    port: u16,
    bin: PathBuf,
    user: Option<User>,
    password: String,
    certificates: Option<Certificates>,
    directory: TempDir,
}

impl Postgres {
    /// Starts a server without TLS and without durability.
    ///
    /// # Errors
    /// [`BackendError`] where it is not installed or does not start.
    pub fn start() -> Result<Self, BackendError> {
        PostgresOptions::new().start()
    }

    /// The URL for clients. Its password is written as a URL wants it.
    pub fn url(&self) -> String {
        let password: String = self
            .password
            .bytes()
            .map(|byte| match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => char::from(byte).to_string(),
                byte => format!("%{byte:02X}"),
            })
            .collect();
        let address = self.address();
        format!("postgres://{USER}:{password}@{address}/{DATABASE}")
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// Its port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The superuser's password.
    pub fn password(&self) -> &str {
        &self.password
    }

    /// The certificate to trust, where TLS is spoken.
    pub fn ca_file(&self) -> Option<&Path> {
        self.certificates.as_ref().map(|files| &*files.ca)
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Runs statements as the superuser, by `psql`, and gives back what they print: rows as lines, columns between
    /// bars.
    ///
    /// # Errors
    /// [`BackendError`] where a statement fails, with the server's words.
    pub fn run(&self, sql: &str) -> Result<String, BackendError> {
        let output = Command::new(self.bin.join("psql"))
            .arg("-XAtq")
            .args(["-v", "ON_ERROR_STOP=1", "-U", USER, "-d", DATABASE, "-h"])
            .arg(self.directory.path())
            .args(["-p", &self.port.to_string(), "-c", sql])
            .env("PGCONNECT_TIMEOUT", "10")
            .stdin(Stdio::null())
            .output()
            .map_err(BackendError::system("starting psql"))?;
        succeeded("psql", output)
    }

    /// Kills it with all its sessions (SIGKILL).
    pub fn kill(&mut self) {
        // The sessions lead process groups of their own. A stopped server starts no further ones meanwhile.
        let _ = self.process.signal(Signal::STOP);
        for session in self.sessions() {
            let _ = kill_process(session, Signal::KILL);
        }
        self.process.kill();
    }

    /// Stops it with all its sessions where they are (SIGSTOP): connections stay open and nothing answers.
    ///
    /// # Errors
    /// [`BackendError`] where it has ended.
    pub fn stop_process(&self) -> Result<(), BackendError> {
        self.process.signal(Signal::STOP)?;
        for session in self.sessions() {
            let _ = kill_process(session, Signal::STOP);
        }
        Ok(())
    }

    /// Lets a stopped server go on (SIGCONT).
    ///
    /// # Errors
    /// [`BackendError`] where it has ended.
    pub fn continue_process(&self) -> Result<(), BackendError> {
        for session in self.sessions() {
            let _ = kill_process(session, Signal::CONT);
        }
        self.process.signal(Signal::CONT)
    }

    /// Starts it again on the same port and directory; one that still runs is killed first.
    ///
    /// # Errors
    /// [`BackendError`] where it does not start.
    pub fn restart(&mut self) -> Result<(), BackendError> {
        self.kill();
        let deadline = Instant::now() + READY_WITHIN;
        loop {
            match spawn(&self.bin, self.directory.path(), self.user) {
                // Somebody's outgoing connection has the port, or a killed session still has the memory.
                Err(error @ BackendError::Ended { .. })
                    if is_passing(&error) && Instant::now() < deadline =>
                {
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

    /// Its children: a process for each session, and some that keep house.
    fn sessions(&self) -> Vec<Pid> {
        children(self.process.pid())
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // By itself a session sees only after a moment that its server has gone, and writes into the directory meanwhile.
        self.kill();
    }
}

fn is_passing(error: &BackendError) -> bool {
    error.is_port_taken() || error.to_string().contains("shared memory block")
}

/// A user of the system.
#[derive(Debug, Clone, Copy)]
struct User {
    uid: u32,
    gid: u32,
}

impl User {
    /// Whom a server runs as; `None` where it is us.
    fn unprivileged() -> Result<Option<Self>, BackendError> {
        if !geteuid().is_root() {
            return Ok(None);
        }
        let users = fs::read_to_string("/etc/passwd")
            .map_err(BackendError::system("reading the system's users"))?;
        let find = |name: &&str| {
            let line = users
                .lines()
                .find(|line| line.split(':').next() == Some(*name))?;
            let mut fields = line.split(':').skip(2);
            Some(Self {
                uid: fields.next()?.parse().ok()?,
                gid: fields.next()?.parse().ok()?,
            })
        };
        match UNPRIVILEGED.iter().find_map(find) {
            Some(user) => Ok(Some(user)),
            None => Err(BackendError::system(
                "finding a user other than root for PostgreSQL",
            )(std::io::ErrorKind::NotFound.into())),
        }
    }
}

fn own(path: &Path, user: Option<User>) -> Result<(), BackendError> {
    match user {
        None => Ok(()),
        Some(user) => chown(path, Some(user.uid), Some(user.gid)).map_err(BackendError::system(
            format!("giving {} to PostgreSQL's user", path.display()),
        )),
    }
}

/// A command that runs as the server's user, in its directory and away from the settings around us.
fn command(program: impl AsRef<OsStr>, directory: &Path, user: Option<User>) -> Command {
    let mut command = Command::new(program);
    command.current_dir(directory).env("LC_ALL", "C");
    for variable in ["PGDATA", "PGHOST", "PGPORT", "PGUSER", "PGOPTIONS", "PGTZ"] {
        command.env_remove(variable);
    }
    if let Some(user) = user {
        command.uid(user.uid).gid(user.gid);
    }
    command
}

fn initialise(
    bin: &Path,
    directory: &Path,
    user: Option<User>,
    password: &str,
) -> Result<(), BackendError> {
    let file = directory.join("password");
    process::write(&file, password)?;
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600))
        .map_err(BackendError::system("protecting a password"))?;
    own(&file, user)?;
    own(directory, user)?;
    let output = command(bin.join("initdb"), directory, user)
        .arg("--pgdata")
        .arg(directory.join("data"))
        .arg("--pwfile")
        .arg(&file)
        .args(["--username", USER, "--encoding", "UTF8", "--locale", "C"])
        .args([
            "--auth-local",
            "trust",
            "--auth-host",
            "scram-sha-256",
            "--no-sync",
        ])
        .stdin(Stdio::null())
        .output()
        .map_err(BackendError::system("starting initdb"))?;
    succeeded("initdb", output).map(drop)
}

fn spawn(bin: &Path, directory: &Path, user: Option<User>) -> Result<Process, BackendError> {
    let log = directory.join("log");
    // What an earlier start said must not be taken for this one's.
    process::write(&log, "")?;
    let mut command = command(bin.join(PROGRAM), directory, user);
    command.arg("-D").arg(directory.join("data"));
    let mut process = Process::spawn(PROGRAM, &mut command, &log)?;
    process.wait_until_ready(READY_WITHIN, || {
        fs::read_to_string(&log).is_ok_and(|text| text.contains(READY))
    })?;
    Ok(process)
}

fn succeeded(program: &'static str, output: std::process::Output) -> Result<String, BackendError> {
    match output.status.success() {
        true => Ok(String::from_utf8_lossy(&output.stdout)
            .trim_end()
            .to_owned()),
        false => Err(BackendError::Ended {
            program,
            status: output.status,
            log: String::from_utf8_lossy(&output.stderr).trim().to_owned(),
        }),
    }
}

/// The processes whose parent this is. `ps` knows everywhere, and is not installed everywhere; Linux has files.
fn children(parent: u32) -> Vec<Pid> {
    let from_files = || -> Option<Vec<(u32, u32)>> {
        let mut pairs = Vec::new();
        for entry in fs::read_dir("/proc").ok()?.flatten() {
            let Some(pid) = entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse().ok())
            else {
                continue;
            };
            // The name of the program, in brackets, may hold anything; state and parent follow it.
            let stat = fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
            let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
            if let Some(parent) = after.split(' ').nth(1).and_then(|text| text.parse().ok()) {
                pairs.push((pid, parent));
            }
        }
        (!pairs.is_empty()).then_some(pairs)
    };
    let from_ps = || -> Option<Vec<(u32, u32)>> {
        let output = Command::new("ps")
            .args(["-A", "-o", "pid=,ppid="])
            .output()
            .ok()?;
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let pair = |line: &str| {
            let mut words = line.split_whitespace();
            Some((words.next()?.parse().ok()?, words.next()?.parse().ok()?))
        };
        Some(text.lines().filter_map(pair).collect())
    };
    from_files()
        .or_else(from_ps)
        .unwrap_or_default()
        .into_iter()
        .filter(|(_, of)| *of == parent)
        .filter_map(|(pid, _)| Pid::from_raw(i32::try_from(pid).ok()?))
        .collect()
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::net::TcpStream;

    use super::*;

    #[test]
    fn a_server_keeps_what_it_was_told_to_keep_through_a_kill() {
        let mut postgres = PostgresOptions::new().with_durability().start().unwrap();
        postgres
            .run("CREATE TABLE t (n int); INSERT INTO t VALUES (7)")
            .unwrap();
        postgres.kill();
        assert!(postgres.run("SELECT 1").is_err());
        postgres.restart().unwrap();
        assert_eq!(postgres.run("SELECT n FROM t").unwrap(), "7");
        let error = postgres.run("SELECT nothing").unwrap_err().to_string();
        assert!(
            error.contains("column \"nothing\" does not exist"),
            "{error}"
        );
    }

    #[test]
    fn a_server_goes_with_its_value_and_so_do_its_sessions() {
        let postgres = PostgresOptions::new().with_tls().start().unwrap();
        assert!(postgres.ca_file().unwrap().is_file());
        let (address, sessions) = (postgres.address(), postgres.sessions());
        assert!(!sessions.is_empty());
        assert!(TcpStream::connect(address).is_ok());
        drop(postgres);
        assert!(TcpStream::connect(address).is_err());
        for session in sessions {
            let deadline = Instant::now() + READY_WITHIN;
            while rustix::process::test_kill_process(session).is_ok() && is_running(session) {
                assert!(Instant::now() < deadline, "{session:?} is still there");
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }

    /// Whether a process is more than an entry that nobody has reaped yet.
    fn is_running(pid: Pid) -> bool {
        let stat = fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero()));
        stat.is_ok_and(|stat| !stat.contains(") Z "))
    }
}
