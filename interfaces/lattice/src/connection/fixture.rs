//! A real nats-server of a test's own: free port, temporary directory, gone with the test.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

use std::path::PathBuf;
use std::sync::OnceLock;
use std::time::Duration;

use tempfile::TempDir;
use trellis_nats_server::{Launch, Running, cache_dir, explicit_path, locate};
use trellis_protocol::LatticeName;

use super::{Connection, LatticeOptions, connect};

/// A server that a test can stop and start again on the same port and store.
pub(crate) struct Nats {
    running: Option<Running>,
    url: String,
    store: TempDir,
}

impl Nats {
    pub(crate) fn start() -> Self {
        Self::start_with(|launch| launch)
    }

    /// Starts one after `adjust` has changed how.
    pub(crate) fn start_with(adjust: impl FnOnce(Launch) -> Launch) -> Self {
        let store = tempfile::tempdir().unwrap();
        let running = adjust(Launch::new(&executable(), store.path()))
            .start()
            .unwrap();
        Self {
            url: running.url().to_owned(),
            running: Some(running),
            store,
        }
    }

    pub(crate) fn options(&self) -> LatticeOptions {
        LatticeOptions {
            urls: vec![self.url.parse().unwrap()],
            lattice: LatticeName::new("test").unwrap(),
            connect_timeout: Duration::from_secs(5),
            ..LatticeOptions::default()
        }
    }

    pub(crate) async fn connect(&self) -> Connection {
        connect(&self.options()).await.unwrap()
    }

    /// Stops it; what it stored stays.
    pub(crate) fn stop(&mut self) {
        if let Some(running) = self.running.take() {
            running.stop(Duration::from_secs(10)).unwrap();
        }
    }

    /// Starts it again where it was.
    pub(crate) fn start_again(&mut self) {
        let port = self
            .url
            .rsplit(':')
            .next()
            .unwrap()
            .trim_end_matches('/')
            .parse()
            .unwrap();
        let launch = Launch::new(&executable(), self.store.path()).port(Some(port));
        self.running = Some(launch.start().unwrap());
    }

    /// Forgets what was stored. The server must be stopped.
    pub(crate) fn wipe(&self) {
        std::fs::remove_dir_all(self.store.path().join("jetstream")).unwrap();
    }
}

fn executable() -> PathBuf {
    static FOUND: OnceLock<PathBuf> = OnceLock::new();
    FOUND
        .get_or_init(|| {
            locate(explicit_path().as_deref(), &cache_dir().unwrap())
                .unwrap()
                .path
        })
        .clone()
}

/// Asks again and again until it holds; fails the test where it does not within ten seconds.
pub(crate) async fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..1000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never came true: {what}");
}
