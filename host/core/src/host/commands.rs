//! Commands about one id, carried out one after the other in the order in which they arrived.
//!
//! A command is acknowledged before its work is done, and the next one for the same id may be there before that. Work
//! for different ids does not wait for each other.
//!
//! A command that makes an earlier one pointless says so to it at once: whoever stops an actor does not wait until its
//! component has been fetched. The earlier one then ends where it can, and tells that as its outcome; the order stays.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use trellis_protocol::EntityId;

use super::scaler::are_rivals;
use crate::limits::COMMANDS_MAX;

/// Commands that may wait for one id, beside the one that is carried out.
pub(crate) const WAITING_MAX: usize = 64;

/// What carrying out a command is.
type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a command is for, as far as others can make it pointless.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Something is to run under the id.
    Run {
        reference: String,
        /// Whose scaler asks.
        scaler: Option<String>,
        /// Whether it replaces what runs, whoever manages that.
        replaces: bool,
    },
    /// Nothing is to run under the id any more, or nothing of one scaler.
    Stop { scaler: Option<String> },
}

impl Purpose {
    /// Whether an earlier command is pointless once this one is there.
    fn makes_moot(&self, earlier: &Self) -> bool {
        let Self::Run {
            reference: former,
            scaler: former_scaler,
            replaces: former_replaces,
        } = earlier
        else {
            return false;
        };
        match self {
            Self::Stop { scaler } => !are_rivals(scaler.as_deref(), former_scaler.as_deref()),
            // Of two versions that are to replace what runs, the later one is meant. What only starts is left to do so:
            // the later one would be passed over, or may turn out to be of no use.
            Self::Run {
                reference,
                scaler,
                replaces,
            } => {
                let is_rival = are_rivals(scaler.as_deref(), former_scaler.as_deref());
                reference != former
                    && (is_rival || *replaces && (*former_replaces || former_scaler.is_some()))
            }
        }
    }
}

/// A command that has not been carried out.
struct Waiting {
    standing: Standing,
    job: Job,
}

/// What a command is for, and the word that it is pointless.
#[derive(Clone)]
struct Standing {
    purpose: Purpose,
    moot: CancellationToken,
}

/// What there is to do for one id.
struct Queue {
    /// The command that is carried out.
    current: Standing,
    waiting: VecDeque<Waiting>,
}

/// The queues, one for each id that has something to do.
#[derive(Default)]
struct Queues {
    by_id: HashMap<EntityId, Queue>,
    /// What is carried out or waits, for all ids.
    commands: usize,
}

/// What there is to do on this host.
#[derive(Clone)]
pub(crate) struct Commands {
    queues: Arc<Mutex<Queues>>,
    runtime: Handle,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().by_id.keys()).finish()
    }
}

/// Too many commands wait.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum TooManyCommands {
    /// For the same id.
    #[error("{WAITING_MAX} commands wait for this id already; try again when they are done")]
    ForId,
    /// On this host.
    #[error(
        "this host has {COMMANDS_MAX} commands to carry out already; try again when some are done"
    )]
    OnHost,
}

impl Queue {
    /// Tells those that a command makes pointless. Says how many learn it now.
    fn tell_moot(&self, later: &Purpose) -> usize {
        let waiting = self.waiting.iter().map(|waiting| &waiting.standing);
        let moot = std::iter::once(&self.current)
            .chain(waiting)
            .filter(|earlier| later.makes_moot(&earlier.purpose) && !earlier.moot.is_cancelled());
        moot.map(|earlier| earlier.moot.cancel()).count()
    }
}

impl Commands {
    /// Commands are carried out by tasks of a tracker on a runtime.
    pub(crate) fn new(runtime: Handle, tasks: TaskTracker) -> Self {
        Self {
            queues: Arc::default(),
            runtime,
            tasks,
        }
    }

    /// Appends a command, which is told by a token when it has become pointless. Never waits. Gives back how many
    /// earlier commands this one makes so.
    pub(crate) fn enqueue<F>(
        &self,
        id: &EntityId,
        purpose: Purpose,
        job: impl FnOnce(CancellationToken) -> F,
    ) -> Result<usize, TooManyCommands>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        if self.lock().commands >= COMMANDS_MAX {
            return Err(TooManyCommands::OnHost);
        }
        self.enqueue_anyhow(id, purpose, job)
    }

    /// The same for what this host itself has to do, however much that is.
    pub(crate) fn enqueue_anyhow<F>(
        &self,
        id: &EntityId,
        purpose: Purpose,
        job: impl FnOnce(CancellationToken) -> F,
    ) -> Result<usize, TooManyCommands>
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let moot = CancellationToken::new();
        let job: Job = Box::pin(job(moot.clone()));
        let standing = Standing { purpose, moot };
        let mut queues = self.lock();
        if let Some(queue) = queues.by_id.get_mut(id) {
            if queue.waiting.len() >= WAITING_MAX {
                return Err(TooManyCommands::ForId);
            }
            let told = queue.tell_moot(&standing.purpose);
            queue.waiting.push_back(Waiting { standing, job });
            queues.commands += 1;
            return Ok(told);
        }
        let queue = Queue {
            current: standing,
            waiting: VecDeque::new(),
        };
        queues.by_id.insert(id.clone(), queue);
        queues.commands += 1;
        let (commands, id) = (self.clone(), id.clone());
        self.tasks.spawn_on(
            async move { commands.work_off(&id, job).await },
            &self.runtime,
        );
        Ok(0)
    }

    /// Whether something is to be done for an id.
    pub(crate) fn is_busy(&self, id: &EntityId) -> bool {
        self.lock().by_id.contains_key(id)
    }

    async fn work_off(&self, id: &EntityId, first: Job) {
        let mut job = first;
        loop {
            // One command's fault must not take those behind it along.
            if AssertUnwindSafe(job).catch_unwind().await.is_err() {
                tracing::error!(%id, "a command panicked, which is a fault of this software");
            }
            job = {
                let mut queues = self.lock();
                queues.commands = queues.commands.saturating_sub(1);
                let next = queues.by_id.get_mut(id).and_then(|queue| {
                    let next = queue.waiting.pop_front()?;
                    queue.current = next.standing;
                    Some(next.job)
                });
                match next {
                    Some(next) => next,
                    None => {
                        queues.by_id.remove(id);
                        return;
                    }
                }
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    fn commands() -> (Commands, TaskTracker) {
        let tasks = TaskTracker::new();
        (Commands::new(Handle::current(), tasks.clone()), tasks)
    }

    fn run(reference: &str, scaler: Option<&str>, replaces: bool) -> Purpose {
        Purpose::Run {
            reference: reference.to_owned(),
            scaler: scaler.map(str::to_owned),
            replaces,
        }
    }

    fn stop(scaler: Option<&str>) -> Purpose {
        Purpose::Stop {
            scaler: scaler.map(str::to_owned),
        }
    }

    #[tokio::test]
    async fn commands_for_one_id_run_in_order_and_those_for_others_beside_them() {
        let (commands, tasks) = commands();
        let (a, b) = (EntityId::new("a").unwrap(), EntityId::new("b").unwrap());
        let order: Arc<Mutex<Vec<u32>>> = Arc::default();
        let (open, gate) = tokio::sync::oneshot::channel::<()>();
        let note = |number| {
            let order = Arc::clone(&order);
            async move { order.lock().unwrap().push(number) }
        };
        let (first, second, other) = (note(1), note(2), note(3));
        commands
            .enqueue(&a, stop(None), |_| async {
                gate.await.unwrap();
                first.await;
            })
            .unwrap();
        commands.enqueue(&a, stop(None), |_| second).unwrap();
        commands
            .enqueue(&b, stop(None), |_| async {
                other.await;
                open.send(()).unwrap();
            })
            .unwrap();
        assert!(commands.is_busy(&a));
        tasks.close();
        tasks.wait().await;
        assert_eq!(*order.lock().unwrap(), [3, 1, 2]);
        assert!(!commands.is_busy(&a));
    }

    #[tokio::test]
    async fn the_last_place_is_given_and_the_next_command_is_refused() {
        let (commands, _tasks) = commands();
        let id = EntityId::new("a").unwrap();
        for _ in 0..=WAITING_MAX {
            commands
                .enqueue(&id, stop(None), |_| std::future::pending())
                .unwrap();
        }
        assert_eq!(
            commands.enqueue(&id, stop(None), |_| std::future::pending()),
            Err(TooManyCommands::ForId)
        );
    }

    #[tokio::test]
    async fn many_ids_share_the_room_of_a_host_and_what_is_done_gives_it_back() {
        let (commands, tasks) = commands();
        let (open, gate) = tokio::sync::watch::channel(false);
        let gated = |mut gate: tokio::sync::watch::Receiver<bool>| async move {
            gate.wait_for(|open| *open).await.unwrap();
        };
        let ids = (0..COMMANDS_MAX).map(|n| EntityId::new(&format!("a{n}")).unwrap());
        for id in ids {
            let gate = gate.clone();
            commands.enqueue(&id, stop(None), |_| gated(gate)).unwrap();
        }
        let one_more = EntityId::new("one-more").unwrap();
        let refused = commands.enqueue(&one_more, stop(None), |_| async {});
        assert_eq!(refused, Err(TooManyCommands::OnHost));
        // What ran before a restart is not lost for that.
        let restored = EntityId::new("restored").unwrap();
        commands
            .enqueue_anyhow(&restored, stop(None), |_| async {})
            .unwrap();
        open.send(true).unwrap();
        tasks.close();
        tasks.wait().await;
        assert_eq!(commands.lock().commands, 0);
        commands
            .enqueue(&one_more, stop(None), |_| async {})
            .unwrap();
    }

    #[tokio::test]
    async fn a_command_that_panics_does_not_keep_those_behind_it() {
        let (commands, tasks) = commands();
        let id = EntityId::new("a").unwrap();
        let (done, is_done) = tokio::sync::oneshot::channel();
        commands
            .enqueue(&id, stop(None), |_| async { panic!("on purpose") })
            .unwrap();
        commands
            .enqueue(&id, stop(None), |_| async { done.send(()).unwrap() })
            .unwrap();
        is_done.await.unwrap();
        tasks.close();
        tasks.wait().await;
        assert!(!commands.is_busy(&id));
    }

    #[tokio::test]
    async fn a_stop_tells_what_runs_and_what_waits_that_it_is_pointless() {
        let (commands, tasks) = commands();
        let id = EntityId::new("a").unwrap();
        let until_moot = |moot: CancellationToken| async move { moot.cancelled().await };
        let enqueue = |purpose| commands.enqueue(&id, purpose, until_moot).unwrap();
        assert_eq!(enqueue(run("1", None, false)), 0);
        assert_eq!(enqueue(run("1", None, false)), 0);
        let stopped = commands.enqueue(&id, stop(None), |_| async {}).unwrap();
        assert_eq!(stopped, 2);
        let again = commands.enqueue(&id, stop(None), |_| async {}).unwrap();
        assert_eq!(again, 0, "they know already");
        tasks.close();
        tasks.wait().await;
    }

    #[test]
    fn only_what_can_no_longer_be_meant_is_pointless() {
        let (old, new) = (Some("old"), Some("new"));
        for (later, earlier, is_moot) in [
            (stop(None), run("1", None, false), true),
            (stop(None), run("1", old, false), true),
            (stop(old), run("1", old, false), true),
            (stop(old), run("1", None, true), true),
            // The order of an application manager: the new version, then the end of the old one.
            (stop(old), run("2", new, false), false),
            (stop(None), stop(None), false),
            (run("2", None, true), run("1", None, true), true),
            (run("3", new, false), run("2", old, false), true),
            (run("2", None, true), run("1", old, false), true),
            (run("1", None, true), run("1", None, true), false),
            (run("2", None, true), run("1", None, false), false),
            (run("2", None, false), run("1", None, true), false),
            (run("1", old, false), stop(None), false),
        ] {
            assert_eq!(later.makes_moot(&earlier), is_moot, "{later:?} {earlier:?}");
        }
    }
}
