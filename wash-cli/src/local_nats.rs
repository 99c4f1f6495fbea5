//! A NATS server on this machine for `wash up`: the one that is there, or one of our own.
//!
//! Somebody's own server is joined and never stopped. One of ours keeps its data in the host's state directory: in the
//! foreground it ends with us, detached it stays until `wash down` finds it there.

use std::io::{ErrorKind, Read as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use trellis_nats_server::{
    Detached, Launch, NatsServer, Origin, Running, Stopped, cache_dir, explicit_path, locate,
};

use crate::exit::Failure;
use crate::output;
use crate::progress::Progress;
use crate::settings::Settings;
use crate::state_dir::StateDir;

/// Longest that a server may take to greet. It is on this machine.
const GREETING_WITHIN: Duration = Duration::from_millis(500);

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
/// Blocks: up to minutes where a server has to be downloaded.
///
/// # Errors
/// A local failure that says what is missing.
pub fn ensure(
    settings: &Settings,
    state_dir: &StateDir,
    port: u16,
    lifetime: Lifetime,
) -> Result<(LocalNats, Settings), Failure> {
    if settings.urls_named {
        return Ok((LocalNats::Joined, settings.clone()));
    }
    let store = state_dir.nats_dir();
    if let Some(left) = find_left(state_dir)? {
        return Ok((LocalNats::Joined, settings.at(left.url())?));
    }
    if port != 0 && greets(port) {
        let url = format!("nats://{}:{port}", Ipv4Addr::LOCALHOST);
        return Ok((LocalNats::Joined, settings.at(&url)?));
    }
    if port != 0 && is_taken(port) {
        return Err(Failure::local(format!(
            "cannot start nats-server: port {port} is in use by something that does not greet as one; choose another with --nats-port, or name a server with --nats-url"
        )));
    }
    let server = find_executable()?;
    let launch = Launch::new(&server.path, &store)
        .server_name("trellis")
        .port((port != 0).then_some(port));
    let progress = Progress::start("starting nats-server");
    let (nats, url) = match lifetime {
        Lifetime::Ours => {
            let running = launch
                .start()
                .map_err(|error| Failure::local_error(&error))?;
            let url = running.url().to_owned();
            (LocalNats::Supervised(running), url)
        }
        Lifetime::Detached => {
            let detached = launch
                .start_detached()
                .map_err(|error| Failure::local_error(&error))?;
            let url = detached.url().to_owned();
            (LocalNats::Detached(detached), url)
        }
    };
    drop(progress);
    output::note(&format!(
        "note: started nats-server {} at {url}, with its data in {}",
        server.version,
        store.display()
    ));
    Ok((nats, settings.at(&url)?))
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

fn find_executable() -> Result<NatsServer, Failure> {
    let progress = Progress::start("looking for nats-server, downloading it if need be");
    let cache = cache_dir().map_err(|error| Failure::local_error(&error))?;
    let server =
        locate(explicit_path().as_deref(), &cache).map_err(|error| Failure::local_error(&error))?;
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
fn greets(port: u16) -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let greeting = || -> std::io::Result<bool> {
        let mut connection = TcpStream::connect_timeout(&address, GREETING_WITHIN)?;
        connection.set_read_timeout(Some(GREETING_WITHIN))?;
        let mut beginning = [0; GREETING.len()];
        connection.read_exact(&mut beginning)?;
        Ok(beginning == GREETING)
    };
    greeting().unwrap_or(false)
}

/// Whether something else listens on a port of this machine. The server would say so too, at the end of a long log.
fn is_taken(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port))
        .is_err_and(|error| error.kind() == ErrorKind::AddrInUse)
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use std::io::Write as _;
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
        assert!(is_taken(port));
        assert!(!is_taken(0), "the system finds a free one");
    }
}
