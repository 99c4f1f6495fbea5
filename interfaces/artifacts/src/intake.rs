//! [`Intake`]: bytes of a source on their way into the cache. Hashing and writing happen on a thread that may block, a few
//! pieces behind.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::cache::{Cache, Draft};
use crate::error::CacheError;

/// Pieces between the network and the disk. They are of at most some hundred KiB.
const PIECES_MAX: usize = 8;

enum Step {
    Add(Bytes),
    Restart,
}

/// Bytes on their way into the cache. Dropping it drops what was written.
#[derive(Debug)]
pub(crate) struct Intake {
    steps: Option<mpsc::Sender<Step>>,
    writing: JoinHandle<Result<Draft, CacheError>>,
    received_bytes: u64,
}

impl Intake {
    /// Makes room for so many bytes, where that is known.
    pub(crate) async fn begin(cache: &Arc<Cache>, bytes: Option<u64>) -> Result<Self, CacheError> {
        let (steps, mut queue) = mpsc::channel(PIECES_MAX);
        let cache = cache.clone();
        let mut draft = blocking(move || cache.draft(bytes)).await?;
        let writing = tokio::task::spawn_blocking(move || {
            while let Some(step) = queue.blocking_recv() {
                match step {
                    Step::Add(piece) => draft.add(&piece)?,
                    Step::Restart => draft.restart()?,
                }
            }
            Ok(draft)
        });
        Ok(Self {
            steps: Some(steps),
            writing,
            received_bytes: 0,
        })
    }

    pub(crate) const fn received_bytes(&self) -> u64 {
        self.received_bytes
    }

    pub(crate) async fn add(&mut self, piece: Bytes) -> Result<(), CacheError> {
        self.received_bytes += piece.len() as u64;
        self.step(Step::Add(piece)).await
    }

    /// Forgets what came so far.
    pub(crate) async fn restart(&mut self) -> Result<(), CacheError> {
        self.received_bytes = 0;
        self.step(Step::Restart).await
    }

    async fn step(&mut self, step: Step) -> Result<(), CacheError> {
        if let Some(steps) = &self.steps
            && steps.send(step).await.is_ok()
        {
            return Ok(());
        }
        // The writer ended before us, so it has something to say.
        self.steps = None;
        match self.join().await {
            Err(error) => Err(error),
            Ok(_) => Err(interrupted()),
        }
    }

    /// What was written, once all of it is.
    pub(crate) async fn finish(mut self) -> Result<Draft, CacheError> {
        self.steps = None;
        self.join().await
    }

    async fn join(&mut self) -> Result<Draft, CacheError> {
        (&mut self.writing)
            .await
            .unwrap_or_else(|_| Err(interrupted()))
    }
}

fn interrupted() -> CacheError {
    CacheError::Unusable {
        path: std::path::PathBuf::new(),
        source: std::io::ErrorKind::Interrupted.into(),
    }
}

/// Runs what blocks where that is allowed. A runtime that shuts down counts as an unusable cache.
pub(crate) async fn blocking<T: Send + 'static, E: From<CacheError> + Send + 'static>(
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E> {
    tokio::task::spawn_blocking(work)
        .await
        .unwrap_or_else(|_| Err(interrupted().into()))
}
