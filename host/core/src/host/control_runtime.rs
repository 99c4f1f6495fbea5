//! The runtime on which a host speaks with its lattice, apart from the one that guests run on (D14).
//!
//! A guest that spins keeps the thread it is on for milliseconds. Beats, control and the readers of NATS have a thread
//! of their own, so that no guest makes the host look dead.

use std::io;

use tokio::runtime::{Builder, Handle, Runtime};

/// Threads of the runtime. What runs on it waits far more than it works.
const THREADS: usize = 1;

/// Owns the runtime. Dropping it ends what runs on it without waiting.
#[derive(Debug)]
pub(super) struct ControlRuntime {
    runtime: Option<Runtime>,
}

/// The runtime ended before the work did.
#[derive(Debug, thiserror::Error)]
#[error("the host's control runtime has ended")]
pub(super) struct Ended;

impl ControlRuntime {
    pub(super) fn start() -> io::Result<Self> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .thread_name("trellis-control")
            .enable_all()
            .build()?;
        Ok(Self {
            runtime: Some(runtime),
        })
    }

    pub(super) fn handle(&self) -> &Handle {
        self.runtime
            .as_ref()
            .expect("the runtime is taken out only when it is dropped")
            .handle()
    }

    /// Runs a future there, with the tasks that it spawns, and waits for its end. Dropping the wait stops it.
    pub(super) async fn run<F>(&self, future: F) -> Result<F::Output, Ended>
    where
        F: Future + Send + 'static,
        F::Output: Send + 'static,
    {
        on(self.handle(), future).await.map_err(|error| {
            if let Ok(panic) = error.try_into_panic() {
                std::panic::resume_unwind(panic);
            }
            Ended
        })
    }
}

/// Runs a future on a runtime and waits for its end. Dropping the wait stops it.
pub(crate) fn on<F>(runtime: &Handle, future: F) -> tokio_util::task::AbortOnDropHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send + 'static,
{
    tokio_util::task::AbortOnDropHandle::new(runtime.spawn(future))
}

impl Drop for ControlRuntime {
    fn drop(&mut self) {
        // A runtime that is dropped waits for its blocking tasks, which async code must not.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}
