//! Whom the endpoint tells of: the process from its start, and its host once there is one.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Duration;

use tokio::runtime::Handle;
use trellis_host_core::{Host, Readiness, Requirement};
use trellis_protocol::control::HostStats;

/// Longest time that a thread of the host may take to take up new work, before the process counts as stuck.
const LIVE_MAX: Duration = Duration::from_secs(5);

/// The process and its host.
#[derive(Debug)]
pub(crate) struct Subject {
    guests: Handle,
    host: OnceLock<Weak<Host>>,
    stopping: AtomicBool,
}

impl Subject {
    /// A process whose guests run on this runtime.
    pub(crate) fn new(guests: Handle) -> Self {
        Self {
            guests,
            host: OnceLock::new(),
            stopping: AtomicBool::new(false),
        }
    }

    /// From now on it tells of this host.
    pub(crate) fn set(&self, host: &Arc<Host>) {
        // A process has one host; a second one would not be told of.
        let _ = self.host.set(Arc::downgrade(host));
    }

    /// The host has begun to stop.
    pub(crate) fn stopping(&self) {
        self.stopping.store(true, Ordering::Release);
    }

    /// The host's numbers, where it runs.
    pub(crate) fn stats(&self) -> Option<HostStats> {
        self.host().map(|host| host.stats())
    }

    /// The host's numbers as text, where it runs.
    pub(super) fn metrics(&self) -> Option<String> {
        self.host().map(|host| host.metrics())
    }

    /// Whether the process takes up new work.
    pub(super) async fn is_live(&self) -> bool {
        let probe = self.guests.spawn(async {});
        matches!(tokio::time::timeout(LIVE_MAX, probe).await, Ok(Ok(())))
    }

    /// Whether the host can do its work, and if not, what is in the way.
    pub(super) async fn readiness(&self) -> Readiness {
        let not_running = |says: &str| Readiness {
            requirements: vec![Requirement {
                name: "running",
                is_met: false,
                says: says.to_owned(),
            }],
        };
        if self.stopping.load(Ordering::Acquire) {
            return not_running("the host is shutting down");
        }
        match self.host() {
            Some(host) => host.readiness().await,
            None => not_running("the host has not started yet"),
        }
    }

    fn host(&self) -> Option<Arc<Host>> {
        self.host.get()?.upgrade()
    }
}
