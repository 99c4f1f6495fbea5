//! A provider's process: how it ends, and how it is ended together with everything that it started.

use std::process::ExitStatus;
use std::time::Duration;

use rustix::process::{Pid, Signal};
use tokio::time::timeout;

use super::temporary::Temporary;

/// How long a process may take to end by itself once its socket is closed, and again after it was asked by a signal.
const GRACE: Duration = Duration::from_secs(1);

/// A process. Dropping it kills it.
#[derive(Debug)]
pub(super) struct Child {
    child: tokio::process::Child,
    group: Option<Pid>,
    /// Removed after the process has ended.
    temporary: Option<Temporary>,
}

impl Child {
    pub(super) fn new(child: tokio::process::Child, temporary: Option<Temporary>) -> Self {
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .and_then(Pid::from_raw);
        Self {
            child,
            group,
            temporary,
        }
    }

    pub(super) fn id(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until it has ended. May be dropped and asked again.
    pub(super) async fn ended(&mut self) -> Option<ExitStatus> {
        let status = self.child.wait().await.ok();
        // The process was the group's leader. What it started dies with it.
        self.signal(Signal::KILL);
        self.group = None;
        status
    }

    /// Ends it: some time to go by itself, then a signal that can be heeded, then one that cannot. Its socket should be
    /// closed before.
    pub(super) async fn end(&mut self) -> Option<ExitStatus> {
        let mut ended = timeout(GRACE, self.ended()).await;
        if ended.is_err() {
            self.signal(Signal::TERM);
            ended = timeout(GRACE, self.ended()).await;
        }
        match ended {
            Ok(status) => {
                self.clear().await;
                status
            }
            Err(_) => self.kill().await,
        }
    }

    /// Ends it at once.
    pub(super) async fn kill(&mut self) -> Option<ExitStatus> {
        self.signal(Signal::KILL);
        // The kernel may need a while, for a process that waits for a disk; nobody waits here for long.
        let status = timeout(GRACE, self.ended()).await.ok().flatten();
        self.clear().await;
        status
    }

    /// Removes its temporary files.
    async fn clear(&mut self) {
        if let Some(temporary) = self.temporary.take() {
            temporary.remove().await;
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(group) = self.group {
            // It may have ended already.
            let _ = rustix::process::kill_process_group(group, signal);
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        self.signal(Signal::KILL);
    }
}
