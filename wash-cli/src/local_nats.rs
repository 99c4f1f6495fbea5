//! A NATS server on this machine for `wash up`: the one that is there, or one of our own.
//!
//! Somebody's own server is joined and never stopped. One of ours keeps its data in the host's state directory: in the
//! foreground it ends with us, detached it stays until `wash down` finds it there.

use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use trellis_nats_server::{
    Cluster, Detached, Launch, NatsServer, Origin, Remote, Running, Stopped, Topology, cache_dir,
    explicit_path, locate,
};

use crate::cli::NatsFlags;
use crate::exit::{Failure, FailureKind};
use crate::output;
use crate::progress::Progress;
use crate::settings::{Settings, server_url};
use crate::state_dir::StateDir;

/// Longest that a server may take to greet. It is on this machine.
const GREETING_WITHIN: Duration = Duration::from_millis(500);

/// Where a server is looked for and started if nobody says otherwise.
const LOCALHOST: &str = "127.0.0.1";

/// Largest file of lines for the server's configuration, in bytes.
const CONFIG_BYTES_MAX: u64 = 1024 * 1024;

/// What a server's greeting begins with.
const GREETING: &[u8] = b"INFO ";

/// How long a server of ours may take to end.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);

/// How long a server that has to be started is to live.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lifetime {
    /// As long as this process.
    Ours,
    /// Until `wash down`.
    Detached,
}

/// A server to use.
#[derive(Debug)]
pub enum LocalNats {
    /// It was there, and stays. Whether it is one that an earlier `wash up` left is for `is_ours` to say.
    Joined,
    /// Started, and ends with this value.
    Supervised(Running),
    /// Started, and stays.
    Detached(Detached),
}

/// Finds or starts a server, and says how to reach it.
///
/// A server that somebody names by URL is joined. So is the one that an earlier `wash up` left, and one that answers where
/// `flags` would have one started.
///
/// Blocks: up to minutes where a server has to be downloaded.
///
/// # Errors
/// A local failure that says what is missing; [`FailureKind::Unreachable`] where none may be started.
pub fn ensure(
    settings: &Settings,
    state_dir: &StateDir,
    flags: &NatsFlags,
    lifetime: Lifetime,
) -> Result<(LocalNats, Settings), Failure> {
    if settings.urls_named && !settings.urls_yield_to(flags) {
        refuse_to_join(flags, &settings.servers())?;
        return Ok((LocalNats::Joined, settings.clone()));
    }
    let store = state_dir.nats_dir();
    if let Some(left) = find_left(state_dir)? {
        return Ok((LocalNats::Joined, settings.at(left.url())?));
    }
    let port = flags.port();
    let host = flags.nats_host.as_deref().unwrap_or(LOCALHOST);
    let url = url(host, port);
    if port != 0 && greets_at(host, port) {
        refuse_to_join(flags, &url)?;
        return Ok((LocalNats::Joined, settings.at(&url)?));
    }
    if flags.nats_connect_only {
        return Err(Failure::new(
            FailureKind::Unreachable,
            format!(
                "no NATS server answers at {url}, and --nats-connect-only forbids to start one"
            ),
        ));
    }
    let address = flags.listen_address().ok_or_else(|| {
        Failure::new(
            FailureKind::Unreachable,
            format!(
                "no NATS server answers at {url}; to have one started there, give --nats-host as an address of this machine"
            ),
        )
    })?;
    if port != 0 && is_taken(address, port) {
        return Err(Failure::local(format!(
            "cannot start nats-server: port {port} is in use by something that does not greet as one; choose another with --nats-port, or name a server with --nats-url"
        )));
    }
    check_domain(flags, settings)?;
    let launch = launch(flags, address, &store)?;
    let (nats, url, version) = start(&launch, flags, lifetime)?;
    output::note(&format!(
        "note: started nats-server {version} at {url}, with its data in {}",
        store.display()
    ));
    if flags.nats_leaf_port.is_some() && flags.nats_js_domain.is_none() {
        output::note(&format!(
            "note: its JetStream has the domain {HUB_DOMAIN}; leaves name it with --js-domain {HUB_DOMAIN}"
        ));
    }
    if !address.is_loopback() {
        output::note(
            "note: it listens beyond this machine, and takes everybody there; --nats-config-file can ask for passwords and TLS",
        );
    }
    Ok((nats, settings.at(&url)?))
}

/// A server that is joined is as it is: flags that would have shaped it are not passed over in silence.
fn refuse_to_join(flags: &NatsFlags, url: &str) -> Result<(), Failure> {
    let shaping = [
        ("--nats-config-file", flags.nats_config_file.is_some()),
        ("--nats-remote-url", flags.nats_remote_url.is_some()),
        ("--nats-js-domain", flags.nats_js_domain.is_some()),
        ("--nats-leaf-port", flags.nats_leaf_port.is_some()),
        ("--nats-websocket-port", flags.nats_websocket_port.is_some()),
        ("--nats-cluster", flags.nats_cluster.is_some()),
        ("--nats-server-name", flags.nats_server_name.is_some()),
    ];
    match shaping.iter().find(|(_, given)| *given) {
        Some((flag, _)) => Err(Failure::usage(format!(
            "{flag} is for a NATS server that is started, but {url} names one that is there; leave the flag out, or choose another port with --nats-port"
        ))),
        None => Ok(()),
    }
}

/// NATS hands the interface of a JetStream that has no domain to no leaf, so a leaf has to be told the domain that holds the
/// lattice's state: its remote's, or its own.
fn check_domain(flags: &NatsFlags, settings: &Settings) -> Result<(), Failure> {
    if flags.nats_remote_url.is_none() || settings.js_domain.is_some() {
        return Ok(());
    }
    match &flags.nats_js_domain {
        None => Err(Failure::usage(
            "--nats-remote-url needs --js-domain, the JetStream domain of the server there (that of a hub that `wash up` started is `hub`, unless --nats-js-domain named another)",
        )),
        Some(own) => {
            output::note(&format!(
                "note: the lattice's state is in this leaf's own domain {own}, and hosts at its remote do not see it; --js-domain names the remote's"
            ));
            Ok(())
        }
    }
}

/// The domain of the JetStream of a server that takes leaves, if nobody names it: leaves have to.
const HUB_DOMAIN: &str = "hub";

/// A name that no other server has: a remote takes no two leaves of one name.
fn name_among_others() -> Result<String, Failure> {
    let mut bytes = [0; 8];
    std::fs::File::open("/dev/urandom")
        .and_then(|mut random| random.read_exact(&mut bytes))
        .map_err(|error| Failure::local(format!("cannot name the nats-server: {error}")))?;
    Ok(format!("trellis-{:016x}", u64::from_ne_bytes(bytes)))
}

fn launch(flags: &NatsFlags, address: IpAddr, store: &Path) -> Result<Launch, Failure> {
    let server = find_executable(flags.nats_server.as_deref())?;
    let port = flags.port();
    let topology = Topology {
        remote: flags.nats_remote_url.clone().map(|url| Remote {
            url,
            credentials: flags.nats_credsfile.clone().map(absolute),
        }),
        leaf_port: flags.nats_leaf_port,
        cluster: flags
            .nats_cluster
            .clone()
            .zip(flags.nats_cluster_port)
            .map(|(name, port)| Cluster {
                name,
                port,
                routes: flags.nats_route.clone(),
            }),
        websocket_port: flags.nats_websocket_port,
        js_domain: flags
            .nats_js_domain
            .clone()
            .or_else(|| flags.nats_leaf_port.map(|_| HUB_DOMAIN.to_owned())),
    };
    let name = match &flags.nats_server_name {
        Some(name) => name.clone(),
        None if topology.remote.is_some() => name_among_others()?,
        None => "trellis".to_owned(),
    };
    // Without a domain of its own a leaf's JetStream would take for itself what is meant for its remote's.
    let leaves_jetstream_to_its_remote = topology.remote.is_some() && topology.js_domain.is_none();
    let mut launch = Launch::new(&server.path, store)
        .host(address)
        .server_name(name)
        .port((port != 0).then_some(port))
        .topology(topology);
    if leaves_jetstream_to_its_remote {
        launch = launch.without_jetstream();
    }
    if let Some(path) = &flags.nats_config_file {
        launch = launch.extra_config(read_config(path)?);
    }
    Ok(launch)
}

fn start(
    launch: &Launch,
    flags: &NatsFlags,
    lifetime: Lifetime,
) -> Result<(LocalNats, String, String), Failure> {
    let progress = Progress::start("starting nats-server");
    let started = match lifetime {
        Lifetime::Ours => launch.start().map(|running| {
            let url = running.url().to_owned();
            (LocalNats::Supervised(running), url)
        }),
        Lifetime::Detached => launch.start_detached().map(|detached| {
            let url = detached.url().to_owned();
            (LocalNats::Detached(detached), url)
        }),
    };
    drop(progress);
    let (nats, url) = started.map_err(|error| Failure::local_error(&error))?;
    // It was found a moment ago, so this asks a cache or a small program.
    let version = find_executable(flags.nats_server.as_deref())?.version;
    Ok((nats, url, version.to_string()))
}

fn read_config(path: &Path) -> Result<String, Failure> {
    let failed = |fault: String| {
        Failure::local(format!(
            "cannot read the lines for nats-server in {}: {fault}",
            path.display()
        ))
    };
    let bytes = std::fs::metadata(path)
        .map_err(|error| failed(error.to_string()))?
        .len();
    if bytes > CONFIG_BYTES_MAX {
        return Err(failed(format!(
            "it has {bytes} bytes, at most {CONFIG_BYTES_MAX} are accepted"
        )));
    }
    std::fs::read_to_string(path).map_err(|error| failed(error.to_string()))
}

fn absolute(path: PathBuf) -> PathBuf {
    // Where there is no working directory any more, the server will say that it finds no such file.
    std::path::absolute(&path).unwrap_or(path)
}

/// The URL by which a host of this machine is reached.
fn url(host: &str, port: u16) -> String {
    let host = match host {
        "0.0.0.0" => LOCALHOST,
        "::" | "[::]" => "[::1]",
        host => host,
    };
    server_url(host, port)
}

impl LocalNats {
    /// Whether it is for us to stop: we started it, or it is the one that a `wash up --detached` left in this directory
    /// (which is how a daemon meets the server of its parent).
    ///
    /// # Errors
    /// A local failure where the directory cannot be read.
    pub fn is_ours(&self, state_dir: &StateDir) -> Result<bool, Failure> {
        match self {
            Self::Supervised(_) | Self::Detached(_) => Ok(true),
            Self::Joined => Ok(find_left(state_dir)?.is_some()),
        }
    }

    /// Stops a server of ours. One that was joined is left alone.
    ///
    /// # Errors
    /// A local failure where the operating system refuses.
    pub fn stop(self) -> Result<(), Failure> {
        let stopped = match self {
            Self::Joined => return Ok(()),
            Self::Supervised(running) => running.stop(STOP_WITHIN),
            Self::Detached(detached) => detached.stop(STOP_WITHIN),
        };
        match stopped {
            Ok(Stopped::InTime | Stopped::Killed) => Ok(()),
            Err(error) => Err(Failure::local_error(&error)),
        }
    }
}

/// The server that a detached `wash up` left running in a directory.
///
/// # Errors
/// A local failure where the directory cannot be read.
pub fn find_left(state_dir: &StateDir) -> Result<Option<Detached>, Failure> {
    let store = state_dir.nats_dir();
    Detached::find(&store).map_err(|error| {
        Failure::local(format!(
            "cannot look for a NATS server in {}: {error}",
            store.display()
        ))
    })
}

fn find_executable(named: Option<&Path>) -> Result<NatsServer, Failure> {
    let progress = Progress::start("looking for nats-server, downloading it if need be");
    let cache = cache_dir().map_err(|error| Failure::local_error(&error))?;
    let named = named.map(Path::to_path_buf).or_else(explicit_path);
    let server = locate(named.as_deref(), &cache).map_err(|error| Failure::local_error(&error))?;
    drop(progress);
    if server.origin == Origin::Fetched {
        output::note(&format!(
            "note: downloaded nats-server {} to {}",
            server.version,
            server.path.display()
        ));
    }
    Ok(server)
}

/// Whether a NATS server listens on a port of this machine.
pub(crate) fn greets(port: u16) -> bool {
    greets_at(LOCALHOST, port)
}

/// Whether a NATS server listens there.
fn greets_at(host: &str, port: u16) -> bool {
    let host = match host {
        "0.0.0.0" => LOCALHOST,
        "::" => "::1",
        host => host,
    };
    let Ok(mut addresses) = (host.trim_matches(['[', ']']), port).to_socket_addrs() else {
        return false;
    };
    let greeting = |address: SocketAddr| -> std::io::Result<bool> {
        let mut connection = TcpStream::connect_timeout(&address, GREETING_WITHIN)?;
        connection.set_read_timeout(Some(GREETING_WITHIN))?;
        let mut beginning = [0; GREETING.len()];
        connection.read_exact(&mut beginning)?;
        Ok(beginning == GREETING)
    };
    addresses.any(|address| greeting(address).unwrap_or(false))
}

/// Whether something else listens on a port of this machine. The server would say so too, at the end of a long log.
fn is_taken(address: IpAddr, port: u16) -> bool {
    TcpListener::bind((address, port)).is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Write as _;
    use std::net::Ipv4Addr;
    use std::thread;

    use super::*;

    fn serve(words: &'static [u8]) -> u16 {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        thread::spawn(move || listener.accept().unwrap().0.write_all(words));
        port
    }

    #[test]
    fn only_what_greets_as_nats_is_taken_for_it() {
        assert!(greets(serve(b"INFO {\"server_id\":\"x\"}\r\n")));
        assert!(!greets(serve(b"HTTP/1.1 400\r\n\r\n")));
        assert!(!greets(serve(b"")));
    }

    #[test]
    fn a_port_is_taken_while_somebody_listens_there() {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
        assert!(is_taken(here, port));
        assert!(!is_taken(here, 0), "the system finds a free one");
    }

    #[test]
    fn a_server_that_is_there_cannot_be_made_a_leaf() {
        let leaf = NatsFlags {
            nats_remote_url: Some("nats://hub:7422".to_owned()),
            ..NatsFlags::default()
        };
        let failure = refuse_to_join(&leaf, "nats://a:4222").unwrap_err();
        assert_eq!(failure.kind(), FailureKind::Usage);
        assert!(failure.message().contains("--nats-remote-url"), "{failure}");
        assert!(refuse_to_join(&NatsFlags::default(), "nats://a:4222").is_ok());
    }
}
