//! Commands about one id, carried out one after the other in the order in which they arrived.
//!
//! A command is acknowledged before its work is done, and the next one for the same id may be there before that. Work
//! for different ids does not wait for each other.

use std::collections::{HashMap, VecDeque};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};

use futures::FutureExt;
use tokio::runtime::Handle;
use tokio_util::task::TaskTracker;
use trellis_protocol::EntityId;

/// Commands that may wait for one id, beside the one that is carried out.
pub(crate) const WAITING_MAX: usize = 64;

/// What carrying out a command is.
pub(crate) type Job = Pin<Box<dyn Future<Output = ()> + Send>>;

/// The queues, one for each id that has something to do.
#[derive(Clone)]
pub(crate) struct Commands {
    /// An id stands here while one of its commands is carried out.
    queues: Arc<Mutex<HashMap<EntityId, VecDeque<Job>>>>,
    runtime: Handle,
    tasks: TaskTracker,
}

impl std::fmt::Debug for Commands {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_set().entries(self.lock().keys()).finish()
    }
}

/// Too many commands wait for the same id.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{WAITING_MAX} commands wait for this id already; try again when they are done")]
pub(crate) struct TooManyCommands;

impl Commands {
    /// Commands are carried out by tasks of a tracker on a runtime.
    pub(crate) fn new(runtime: Handle, tasks: TaskTracker) -> Self {
        Self {
            queues: Arc::default(),
            runtime,
            tasks,
        }
    }

    /// Appends a command. Never waits.
    pub(crate) fn enqueue(
        &self,
        id: &EntityId,
        job: impl Future<Output = ()> + Send + 'static,
    ) -> Result<(), TooManyCommands> {
        let mut queues = self.lock();
        if let Some(queue) = queues.get_mut(id) {
            if queue.len() >= WAITING_MAX {
                return Err(TooManyCommands);
            }
            queue.push_back(Box::pin(job));
            return Ok(());
        }
        queues.insert(id.clone(), VecDeque::new());
        let (commands, id, first) = (self.clone(), id.clone(), Box::pin(job) as Job);
        self.tasks.spawn_on(
            async move { commands.work_off(&id, first).await },
            &self.runtime,
        );
        Ok(())
    }

    /// Whether something is to be done for an id.
    pub(crate) fn is_busy(&self, id: &EntityId) -> bool {
        self.lock().contains_key(id)
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
                match queues.get_mut(id).and_then(VecDeque::pop_front) {
                    Some(next) => next,
                    None => {
                        queues.remove(id);
                        return;
                    }
                }
            };
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<EntityId, VecDeque<Job>>> {
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
            .enqueue(&a, async {
                gate.await.unwrap();
                first.await;
            })
            .unwrap();
        commands.enqueue(&a, second).unwrap();
        commands
            .enqueue(&b, async {
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
            commands.enqueue(&id, std::future::pending()).unwrap();
        }
        assert_eq!(
            commands.enqueue(&id, std::future::pending()),
            Err(TooManyCommands)
        );
    }

    #[tokio::test]
    async fn a_command_that_panics_does_not_keep_those_behind_it() {
        let (commands, tasks) = commands();
        let id = EntityId::new("a").unwrap();
        let (done, is_done) = tokio::sync::oneshot::channel();
        commands
            .enqueue(&id, async { panic!("on purpose") })
            .unwrap();
        commands
            .enqueue(&id, async { done.send(()).unwrap() })
            .unwrap();
        is_done.await.unwrap();
        tasks.close();
        tasks.wait().await;
        assert!(!commands.is_busy(&id));
    }
}
