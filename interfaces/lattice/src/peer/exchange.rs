//! The exchange of frames with all peers: what its tasks have in common, and how a frame leaves this host.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_claims::SigningKey;
use trellis_flow::Budget;
use trellis_protocol::envelope::{Address, seal};
use trellis_protocol::frame::{CallNumber, Frame};
use trellis_protocol::subject::Subjects;
use trellis_protocol::{Refusal, RefusalCode};

use super::clock::Clock;
use super::courier::{Say, Signal};
use super::remote::Remote;
use super::{PeerHandler, PeerHost, PeerLimits, PeerRejection};
use crate::presence::HOSTS_MAX;
use crate::presence::tally::Tally;
use crate::routes::{LostHost, Routes};

/// Most runs of peers whose counters are kept, present and lost. Only certified hosts get here, so nobody can push them
/// out; a lattice of [`HOSTS_MAX`] hosts may lose each of them a few times.
const REMOTES_MAX: usize = 4 * HOSTS_MAX;

/// How long the tasks may take to end once they were told to.
const END_WAIT: Duration = Duration::from_secs(1);

pub(super) struct Exchange {
    pub(super) client: async_nats::Client,
    pub(super) subjects: Subjects,
    pub(super) key: Arc<SigningKey>,
    pub(super) own: Arc<str>,
    pub(super) incarnation: u64,
    pub(super) routes: Routes,
    pub(super) limits: PeerLimits,
    pub(super) handler: Arc<dyn PeerHandler>,
    pub(super) clock: Clock,
    pub(super) budget: Budget,
    pub(super) rejected: Tally<PeerRejection>,
    /// Prefix of the subjects to which the server says that nobody listens.
    pub(super) inbox: String,
    pub(super) signals: mpsc::UnboundedSender<Signal>,
    pub(super) refusals: Arc<Semaphore>,
    pub(super) incoming_permits: Arc<Semaphore>,
    pub(super) outgoing_permits: Arc<Semaphore>,
    pub(super) draining: AtomicBool,
    pub(super) next_call: AtomicU64,
    pub(super) remotes: Mutex<HashMap<Arc<str>, Arc<Remote>>>,
    /// The reader and the courier.
    pub(super) tasks: TaskTracker,
    /// Peers' calls, and the bodies of our own.
    pub(super) calls: TaskTracker,
    pub(super) cancel: CancellationToken,
}

impl Exchange {
    /// The present run of a host in the routes. A former one is lost at once, whether or not the news has come.
    pub(super) fn remote(&self, host: &str) -> Option<Arc<Remote>> {
        let (public, incarnation) = self.routes.identity(host)?;
        let mut remotes = self.remotes();
        let former = remotes.get(host).cloned();
        let remote = match &former {
            Some(former) if former.host.incarnation == incarnation => {
                if !former.is_lost() {
                    return Some(Arc::clone(former));
                }
                former.back()
            }
            _ => Remote::new(
                PeerHost {
                    key: Arc::from(host),
                    incarnation,
                },
                public,
            ),
        };
        let remote = Arc::new(remote);
        remotes.insert(Arc::clone(&remote.host.key), Arc::clone(&remote));
        if remotes.len() > REMOTES_MAX {
            remotes.retain(|_, known| !known.is_lost());
        }
        drop(remotes);
        if let Some(former) = former {
            former.lose(&lost_refusal(host, "it was started again"));
        }
        Some(remote)
    }

    /// Ends the calls with a host that has left the routes. Its counters stay, should it be back.
    pub(super) fn lost(&self, lost: &LostHost) {
        let remote = self.remotes().get(&*lost.host).cloned();
        if let Some(remote) = remote
            && remote.host.incarnation == lost.incarnation
        {
            remote.lose(&lost_refusal(&lost.host, &lost.reason.to_string()));
        }
    }

    /// Compares with the routes, where news of losses were missed.
    pub(super) fn lose_all_that_left(&self) {
        let remotes: Vec<_> = self.remotes().values().cloned().collect();
        for remote in remotes {
            let present = self.routes.identity(&remote.host.key);
            if present.is_none_or(|(_, incarnation)| incarnation != remote.host.incarnation) {
                remote.lose(&lost_refusal(&remote.host.key, "it left the lattice"));
            }
        }
    }

    /// Signs a frame of a call that has begun, and sends it. Runs on the task of whoever has something to say.
    ///
    /// The peer may have done the call's work by now, whatever becomes of this frame: a failure is never retryable.
    pub(super) async fn send(&self, to: &Remote, frame: &Frame) -> Result<(), Refusal> {
        let envelope = self.seal(to, frame)?;
        let subject = self.subjects.rpc(&to.host.key, &self.own);
        let sent = self.client.publish(subject, envelope.into()).await;
        sent.map_err(|error| {
            Refusal::new(
                RefusalCode::OutcomeUnknown,
                format!("the host with the call cannot be told how it goes on: {error}"),
            )
        })
    }

    /// The same for the first frame of a call: the server tells us where nobody listens.
    pub(super) async fn send_first(
        &self,
        to: &Remote,
        call: CallNumber,
        frame: &Frame,
    ) -> Result<(), Refusal> {
        let envelope = self.seal(to, frame)?;
        let subject = self.subjects.rpc(&to.host.key, &self.own);
        let inbox = format!("{}.{}.{call}", self.inbox, to.host.key);
        let sent = self
            .client
            .publish_with_reply(subject, inbox, envelope.into())
            .await;
        sent.map_err(|error| {
            Refusal::new(
                RefusalCode::NotHere,
                format!("nothing was sent to the host: {error}"),
            )
        })
    }

    fn seal(&self, to: &Remote, frame: &Frame) -> Result<Vec<u8>, Refusal> {
        let frame = frame.encode().map_err(|error| error.to_refusal())?;
        let address = Address {
            recipient: &to.host.key,
            recipient_incarnation: to.host.incarnation,
            sender_incarnation: self.incarnation,
            sequence: to.next_sequence(),
            sent_ms: self.clock.elapsed_ms(),
        };
        seal(&self.key, &address, &frame)
            .map_err(|error| Refusal::new(RefusalCode::Internal, error.to_string()))
    }

    /// Leaves something to the courier.
    pub(super) fn signal(
        &self,
        to: &Arc<Remote>,
        call: CallNumber,
        say: Say,
        permits: Vec<OwnedSemaphorePermit>,
    ) {
        // After the end of the tasks nobody says anything.
        let _ = self.signals.send(Signal {
            to: Arc::clone(to),
            call,
            say,
            permits,
        });
    }

    /// Refuses a call from the reader task.
    pub(super) fn refuse(&self, to: &Arc<Remote>, call: CallNumber, refusal: Refusal) {
        match Arc::clone(&self.refusals).try_acquire_owned() {
            Ok(permit) => self.signal(to, call, Say::Refuse(refusal), vec![permit]),
            Err(_) => self.rejected.count(PeerRejection::RefusalDropped),
        }
    }

    pub(super) async fn shutdown(&self, within: Duration) -> bool {
        self.draining.store(true, Ordering::Relaxed);
        self.calls.close();
        let ended = tokio::time::timeout(within, self.calls.wait())
            .await
            .is_ok();
        let reason = Refusal::new(RefusalCode::Cancelled, "this host stops");
        let remotes: Vec<_> = self.remotes().drain().map(|(_, remote)| remote).collect();
        for remote in remotes {
            remote.lose(&reason);
        }
        self.cancel.cancel();
        self.tasks.close();
        let rest = async {
            self.tasks.wait().await;
            self.calls.wait().await;
            // What was said last shall still leave.
            self.client.flush().await
        };
        if tokio::time::timeout(END_WAIT, rest).await.is_err() {
            tracing::warn!("calls of peers did not end in time");
        }
        ended
    }

    pub(super) fn remotes(&self) -> MutexGuard<'_, HashMap<Arc<str>, Arc<Remote>>> {
        self.remotes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What becomes of a call whose host has gone.
pub(super) fn lost_refusal(host: &str, reason: &str) -> Refusal {
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        format!("host {host} was lost with the call: {reason}"),
    )
}
