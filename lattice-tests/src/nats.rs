//! A real nats-server with JetStream, which a test can stop and start again where it was.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use trellis_nats_server::{Launch, Running, cache_dir, explicit_path, locate};

/// Time for a server to end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Time between two looks whether a server has ended.
const LOOK_EVERY: Duration = Duration::from_millis(10);

/// A server of a test's own.
#[derive(Debug)]
pub struct Nats {
    running: Option<Running>,
    url: String,
    port: u16,
    store: TempDir,
}

impl Nats {
    /// Starts one on a free port. Blocks until it serves.
    ///
    /// # Panics
    /// Where none can be had.
    pub fn start() -> Self {
        let store = tempfile::tempdir().expect("a temporary directory can be made");
        let running = Launch::new(&executable(), store.path())
            .start()
            .expect("nats-server starts");
        let url = running.url().to_owned();
        let port = url
            .rsplit(':')
            .next()
            .and_then(|port| port.trim_end_matches('/').parse().ok())
            .expect("the url of a server ends with its port");
        Self {
            running: Some(running),
            url,
            port,
            store,
        }
    }

    /// The URL for clients.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Stops it. What it stored stays. Blocks.
    ///
    /// # Panics
    /// Where it does not stop.
    pub fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(STOP_WITHIN).expect("nats-server stops");
        }
    }

    /// Ends it as a power cut would, and waits until it is gone. What it had acknowledged stays. Blocks.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn kill(&mut self) {
        let mut running = self.running.take().expect("the server runs");
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has an id"), Signal::KILL).expect("the server runs");
        while running
            .exited()
            .expect("the server can be waited for")
            .is_none()
        {
            std::thread::sleep(LOOK_EVERY);
        }
    }

    /// Has it stand still where it is, until [`Self::go_on`].
    ///
    /// # Panics
    /// Where it does not run.
    pub fn stand_still(&self) {
        self.signal(Signal::STOP);
    }

    /// Has it go on.
    ///
    /// # Panics
    /// Where it does not run.
    pub fn go_on(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let running = self.running.as_ref().expect("the server runs");
        let pid = i32::try_from(running.pid()).ok().and_then(Pid::from_raw);
        kill_process(pid.expect("a process has an id"), signal).expect("the server runs");
    }

    /// Starts it again on the same port, with what it stored. Blocks until it serves.
    ///
    /// # Panics
    /// Where it does not start.
    pub fn start_again(&mut self) {
        self.running = Some(
            Launch::new(&executable(), self.store.path())
                .port(Some(self.port))
                .start()
                .expect("nats-server starts where it was"),
        );
    }
}

fn executable() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            let cache = cache_dir().expect("there is a cache directory");
            match locate(explicit_path().as_deref(), &cache) {
                Ok(found) => found.path,
                Err(error) => panic!("{error}"),
            }
        })
        .clone()
}

/// A server without JetStream, with its files in `store`. It ends with the value. Blocks until it serves.
///
/// # Panics
/// Where none can be had.
pub fn without_jetstream(store: &Path) -> Running {
    Launch::new(&executable(), store)
        .without_jetstream()
        .start()
        .expect("nats-server starts")
}
