//! Starts a server and waits until it serves.

use std::fs;
use std::io::{self, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus};
use std::thread;
use std::time::{Duration, Instant};

use crate::config::{Config, ConfigError};
use crate::detached::{self, Detached};
use crate::ports::Ports;
use crate::store::{Store, StoreLock};
use crate::supervisor::{self, Running};
use crate::topology::Topology;

/// How long a server may take until it serves, unless [`Launch::ready_within`] says otherwise. An empty store takes
/// some 50 ms; the rest is room for recovering a large one on a busy machine.
pub const READY_WITHIN_DEFAULT: Duration = Duration::from_secs(30);

/// Longest that one connection may take to bring the server's greeting.
const GREETING_WITHIN: Duration = Duration::from_secs(2);

/// How often a starting server is looked at.
const POLL_EVERY: Duration = Duration::from_millis(10);

/// How a server is started. Built by [`Launch::new`] and the methods that follow it, which each return the launch.
#[derive(Clone, Debug)]
pub struct Launch {
    executable: PathBuf,
    store_dir: PathBuf,
    host: IpAddr,
    port: Option<u16>,
    jetstream: bool,
    server_name: Option<String>,
    topology: Topology,
    extra_config: Option<String>,
    ready_within: Duration,
}

/// A server could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The store directory can't be prepared.
    #[error("the nats-server directory {} can't be used", store_dir.display())]
    Store {
        /// The directory.
        store_dir: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// Another server runs on the same store directory.
    #[error("another nats-server is already running on {}", store_dir.display())]
    InUse {
        /// The directory.
        store_dir: PathBuf,
    },
    /// A setting can't be written down.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The executable can't be run.
    #[error("{} can't be started", executable.display())]
    Spawn {
        /// The executable.
        executable: PathBuf,
        /// What went wrong.
        #[source]
        source: io::Error,
    },
    /// It ended before it served: a taken port, a mistake in the configuration.
    #[error("nats-server ended with {status} before it was ready; {log}")]
    Exited {
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// It does not serve within the time given; it was killed.
    #[error("nats-server was not ready within {} s; {log}", within.as_secs())]
    NotReady {
        /// The time given.
        within: Duration,
        /// The end of its log.
        log: String,
    },
}

/// A started process that serves.
pub(crate) struct Started {
    pub(crate) child: Child,
    pub(crate) url: String,
    pub(crate) server_pid: u32,
    pub(crate) store: Store,
}

impl Launch {
    /// A server that keeps everything in `store_dir` (made if missing), bound to 127.0.0.1, on a port the kernel
    /// chooses, with JetStream.
    ///
    /// What is in the directory: `jetstream/`, `nats-server.conf`, `nats-server.log`, `nats-server.pid`,
    /// `nats-server.lock` and `ports/`. All but the first are rewritten at each start.
    pub fn new(executable: &Path, store_dir: &Path) -> Self {
        Self {
            executable: executable.to_path_buf(),
            store_dir: store_dir.to_path_buf(),
            host: Ipv4Addr::LOCALHOST.into(),
            port: None,
            jetstream: true,
            server_name: None,
            topology: Topology::default(),
            extra_config: None,
            ready_within: READY_WITHIN_DEFAULT,
        }
    }

    /// The address to bind. Anything but a loopback address is open to the network, without authentication unless
    /// [`Launch::extra_config`] brings some.
    #[must_use]
    pub fn host(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    /// The port to bind; `None` lets the kernel choose a free one.
    #[must_use]
    pub fn port(mut self, port: Option<u16>) -> Self {
        self.port = port;
        self
    }

    /// Leaves JetStream out.
    #[must_use]
    pub fn without_jetstream(mut self) -> Self {
        self.jetstream = false;
        self
    }

    /// The server's name in its cluster and in its log; by default its own random id.
    #[must_use]
    pub fn server_name(mut self, name: impl Into<String>) -> Self {
        self.server_name = Some(name.into());
        self
    }

    /// Where the server stands among others; by default alone.
    #[must_use]
    pub fn topology(mut self, topology: Topology) -> Self {
        self.topology = topology;
        self
    }

    /// Lines in the server's configuration language, appended to ours as they are.
    #[must_use]
    pub fn extra_config(mut self, text: impl Into<String>) -> Self {
        self.extra_config = Some(text.into());
        self
    }

    /// How long the server may take until it serves.
    #[must_use]
    pub fn ready_within(mut self, within: Duration) -> Self {
        self.ready_within = within;
        self
    }

    /// Starts the server under supervision: it ends when the returned value is dropped, and also when this process
    /// dies without a chance to drop anything.
    ///
    /// Blocks until the server greets a client.
    ///
    /// # Errors
    ///
    /// Each variant of [`StartError`]; nothing is left running after any of them.
    pub fn start(&self) -> Result<Running, StartError> {
        self.start_by(supervisor::spawn, supervisor::kill)
            .map(Running::new)
    }

    /// Starts the server so that it stays when this process ends: in a process group of its own, out of reach of the
    /// terminal's Ctrl-C, with its log and pid file in the store directory.
    ///
    /// Blocks until the server greets a client.
    ///
    /// # Errors
    ///
    /// Each variant of [`StartError`]; nothing is left running after any of them.
    pub fn start_detached(&self) -> Result<Detached, StartError> {
        self.start_by(detached::spawn, detached::kill)
            .map(Detached::new)
    }

    fn start_by(
        &self,
        spawn: impl Fn(&Path, &Path, StoreLock, fs::File) -> io::Result<Child>,
        kill: impl Fn(&mut Child),
    ) -> Result<Started, StartError> {
        let in_store = |source| StartError::Store {
            store_dir: self.store_dir.clone(),
            source,
        };
        let store = Store::new(&self.store_dir).map_err(in_store)?;
        let lock = store
            .claim()
            .map_err(in_store)?
            .ok_or_else(|| StartError::InUse {
                store_dir: self.store_dir.clone(),
            })?;
        let log = store.clear().map_err(in_store)?;
        store
            .write_config(&self.config(&store)?)
            .map_err(in_store)?;
        let mut child = spawn(&self.executable, &store.config(), lock, log).map_err(|source| {
            StartError::Spawn {
                executable: self.executable.clone(),
                source,
            }
        })?;
        match self.wait_until_ready(&mut child, &store) {
            Ok(ports) => Ok(Started {
                child,
                url: ports.url(self.host),
                server_pid: ports.pid,
                store,
            }),
            Err(error) => {
                kill(&mut child);
                Err(error)
            }
        }
    }

    fn config(&self, store: &Store) -> Result<String, ConfigError> {
        let jetstream_dir = store.jetstream_dir();
        Config {
            server_name: self.server_name.as_deref(),
            host: self.host,
            port: self.port,
            jetstream_dir: self.jetstream.then_some(&jetstream_dir),
            log_file: &store.log(),
            pid_file: &store.pid_file(),
            ports_dir: &store.ports_dir(),
            topology: &self.topology,
            extra: self.extra_config.as_deref(),
        }
        .render()
    }

    fn wait_until_ready(&self, child: &mut Child, store: &Store) -> Result<Ports, StartError> {
        let in_store = |source| StartError::Store {
            store_dir: self.store_dir.clone(),
            source,
        };
        let deadline = Instant::now() + self.ready_within;
        loop {
            if let Some(status) = child.try_wait().map_err(in_store)? {
                return Err(StartError::Exited {
                    status,
                    log: store.log_tail(),
                });
            }
            if let Some(ports) = Ports::read(&store.ports_dir()).map_err(in_store)?
                && greets(SocketAddr::new(reachable(self.host), ports.port))
            {
                return Ok(ports);
            }
            if Instant::now() >= deadline {
                return Err(StartError::NotReady {
                    within: self.ready_within,
                    log: store.log_tail(),
                });
            }
            thread::sleep(POLL_EVERY);
        }
    }
}

/// The address to reach a server at that is bound to `host`.
fn reachable(host: IpAddr) -> IpAddr {
    match host {
        IpAddr::V4(host) if host.is_unspecified() => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(host) if host.is_unspecified() => std::net::Ipv6Addr::LOCALHOST.into(),
        host => host,
    }
}

/// Whether a NATS server says hello at this address: it speaks first, with a line that begins with `INFO`.
fn greets(address: SocketAddr) -> bool {
    let greeting = || -> io::Result<[u8; 4]> {
        let mut connection = TcpStream::connect_timeout(&address, GREETING_WITHIN)?;
        connection.set_read_timeout(Some(GREETING_WITHIN))?;
        let mut word = [0; 4];
        connection.read_exact(&mut word)?;
        Ok(word)
    };
    greeting().is_ok_and(|word| &word == b"INFO")
}
