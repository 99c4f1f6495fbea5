//! The truth about a lattice, as a watched copy: links, public claims, configurations, and who holds which id.
//!
//! ```text
//!  LATTICEDATA_ ─┐ replay, then follow             ┌─ view() → StateView, immutable
//!  CONFIGDATA_  ─┼──▶ one task for each bucket ──▶ ┼─ changed(), synchronised(), reached()
//!  TRELLIS_     ─┘    asks the leader how far      └─ age()
//!                     there is to follow (D8)
//! ```
//!
//! Everything is served from memory: no call waits for JetStream, and losing NATS costs nothing but [`age`]. After a
//! reconnect, a lost consumer, or a bucket that is another one than before, the copy is built anew beside the old one
//! and replaces it, so that what was removed meanwhile vanishes.
//!
//! Writes ([`write`]) are compare-and-swap on the key's revision: of two concurrent ones both survive.
//!
//! The state is not believed here: who may write a bucket could write anything (D1). Contents that cannot be read are
//! skipped and counted. Of links a host may insist that somebody whom it trusts has signed them: see [`LinkBelief`].
//!
//! [`age`]: LatticeState::age

mod belief;
mod bucket;
mod content;
mod follow;
mod moment;
mod view;
pub mod write;

pub use belief::{Believed, LinkBelief, StoredLink};
pub use bucket::{Bucket, OPEN_TIMEOUT, OpenError, WRITE_ATTEMPTS_MAX, WRITE_TIMEOUT};
pub use content::{
    BUCKET_BYTES_MAX, ENTRIES_MAX, LINKS_PER_SOURCE_MAX, SUBJECT_BYTES_MAX, TOKEN_BYTES_MAX,
    VALUE_BYTES_MAX,
};
pub use follow::{CHECK_INTERVAL, CHECK_PATIENCE};
pub use view::{MissingConfig, StateView};
pub use write::{DeletedLink, WriteError};

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::Duration;

use async_nats::jetstream::kv::Store;
use tokio::sync::watch;
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;
use trellis_claims::UnixTime;

use crate::connection::{Connection, Throttle};
use belief::LinkIndex;
use content::{ConfigData, Content, LatticeData, TrellisData};
use moment::Moment;

/// Shortest time between two log lines about skipped entries.
const SKIP_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// A lattice's state, followed. Cloning shares it; the last clone that goes stops following.
#[derive(Clone, Debug)]
pub struct LatticeState {
    shared: Arc<Shared>,
    stores: Arc<[Store; 3]>,
    tasks: TaskTracker,
    cancel: CancellationToken,
    _stop: Arc<DropGuard>,
}

impl LatticeState {
    /// Opens the lattice's buckets, creates those that are missing, and begins to follow them.
    ///
    /// The copy is empty at first: see [`synchronised`](Self::synchronised).
    ///
    /// # Errors
    /// [`OpenError`] where JetStream refuses, or does not answer within [`OPEN_TIMEOUT`] for each bucket.
    pub async fn open(connection: &Connection) -> Result<Self, OpenError> {
        Self::open_with(connection, None).await
    }

    /// As [`open`](Self::open); of the links only those take effect that `belief` believes, where one is given.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub async fn open_with(
        connection: &Connection,
        belief: Option<Arc<dyn LinkBelief>>,
    ) -> Result<Self, OpenError> {
        let lattice = connection.lattice();
        let open =
            async |bucket: Bucket| bucket::open(&connection.jetstream, &bucket.name(lattice)).await;
        let stores = [
            open(Bucket::LatticeData).await?,
            open(Bucket::ConfigData).await?,
            open(Bucket::Trellis).await?,
        ];
        let cancel = CancellationToken::new();
        let state = Self {
            shared: Arc::new(Shared {
                belief,
                ..Shared::default()
            }),
            stores: Arc::new(stores),
            tasks: TaskTracker::new(),
            _stop: Arc::new(cancel.clone().drop_guard()),
            cancel,
        };
        state.follow::<LatticeData>(connection, Bucket::LatticeData);
        state.follow::<ConfigData>(connection, Bucket::ConfigData);
        state.follow::<TrellisData>(connection, Bucket::Trellis);
        if state.shared.belief.is_some() {
            let (shared, cancel) = (Arc::clone(&state.shared), state.cancel.clone());
            state.tasks.spawn(async move {
                // Only time that passes is looked at here, so a late look costs nothing but being late.
                let looking = async {
                    loop {
                        tokio::time::sleep(belief::LOOK_AGAIN).await;
                        shared.judge_again();
                    }
                };
                cancel.run_until_cancelled(looking).await;
            });
        }
        state.tasks.close();
        Ok(state)
    }

    fn follow<C: Content + Publish>(&self, connection: &Connection, bucket: Bucket) {
        let follower = follow::Follower::<C>::new(connection, bucket, Arc::clone(&self.shared));
        self.tasks.spawn(follower.run(self.cancel.clone()));
    }

    /// The state at this moment. Cheap: a lock held for one reference count.
    pub fn view(&self) -> Arc<StateView> {
        self.shared.view()
    }

    /// Changes with each change of content; the value is [`StateView::generation`].
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.shared.generation.subscribe()
    }

    /// Waits until every bucket has been replayed once. Cancel-safe.
    pub async fn synchronised(&self) {
        let mut replayed = self.shared.replayed.subscribe();
        // The sender lives in `shared`, which `self` holds, so that waiting cannot fail.
        let _ = replayed
            .wait_for(|replayed| replayed.iter().all(|replayed| *replayed))
            .await;
    }

    /// Whether every bucket has been replayed once.
    pub fn is_synchronised(&self) -> bool {
        self.shared
            .replayed
            .borrow()
            .iter()
            .all(|replayed| *replayed)
    }

    /// Waits until [`StateView::sequence`] is at least a peer's, at most for a time. Says whether it is. Cancel-safe.
    pub async fn reached(&self, sequence: u64, within: Duration) -> bool {
        self.wait(within, |applied| {
            applied
                .iter()
                .fold(0u64, |sum, applied| sum.saturating_add(*applied))
                >= sequence
        })
        .await
    }

    /// Waits until a revision of a bucket is in the view, such as that of an own write. Says whether it is. Cancel-safe.
    pub async fn applied(&self, bucket: Bucket, revision: u64, within: Duration) -> bool {
        self.wait(within, |applied| applied[bucket.index()] >= revision)
            .await
    }

    /// Waits until the view has everything that a bucket held when this was called, by the word of the stream's leader: what
    /// another host has acknowledged is then in it. Says whether it has. Cancel-safe.
    pub async fn caught_up(&self, bucket: Bucket, within: Duration) -> bool {
        let began = tokio::time::Instant::now();
        let store = self.store(bucket);
        let asking = bucket::last_held(&store.stream, &store.prefix);
        match tokio::time::timeout(within, asking).await {
            Ok(Ok(last)) => {
                let left = within.saturating_sub(began.elapsed());
                self.applied(bucket, last, left).await
            }
            Ok(Err(_)) | Err(_) => false,
        }
    }

    async fn wait(&self, within: Duration, reached: impl FnMut(&[u64; 3]) -> bool) -> bool {
        let mut applied = self.shared.applied.subscribe();
        matches!(
            tokio::time::timeout(within, applied.wait_for(reached)).await,
            Ok(Ok(_))
        )
    }

    /// Time since the whole copy was known to be current: since the oldest of the moments at which a bucket's leader was
    /// asked for its last sequence and the copy then applied it (D8). Time asleep counts. None before that has happened once.
    pub fn age(&self) -> Option<Duration> {
        let current = *self
            .shared
            .current
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut oldest = Moment::now();
        for moment in current {
            oldest = oldest.min(moment?);
        }
        Some(oldest.elapsed())
    }

    /// How many entries have been skipped because they could not be read, or were over a limit.
    pub fn skipped(&self) -> u64 {
        self.shared.skipped.load(Ordering::Relaxed)
    }

    /// Stops following and waits until the tasks have ended. Views that were taken stay good.
    pub async fn close(&self) {
        self.cancel.cancel();
        self.tasks.wait().await;
    }

    fn store(&self, bucket: Bucket) -> &Store {
        &self.stores[bucket.index()]
    }
}

/// What the tasks write and everybody reads.
#[derive(Debug)]
struct Shared {
    view: RwLock<Arc<StateView>>,
    /// Which links take effect; all, where there is none.
    belief: Option<Arc<dyn LinkBelief>>,
    /// Held while a new view is made from the former one; readers never wait for it.
    publishing: Mutex<()>,
    generation: watch::Sender<u64>,
    applied: watch::Sender<[u64; 3]>,
    replayed: watch::Sender<[bool; 3]>,
    current: Mutex<[Option<Moment>; 3]>,
    skipped: AtomicU64,
    skip_log: Throttle,
}

impl Default for Shared {
    fn default() -> Self {
        Self {
            view: RwLock::default(),
            belief: None,
            publishing: Mutex::default(),
            generation: watch::Sender::new(0),
            applied: watch::Sender::new([0; 3]),
            replayed: watch::Sender::new([false; 3]),
            current: Mutex::default(),
            skipped: AtomicU64::new(0),
            skip_log: Throttle::new(SKIP_LOG_INTERVAL),
        }
    }
}

/// How a bucket's content becomes part of a view.
trait Publish: Sized {
    /// Puts a copy into the view, if it differs from what is there. Says whether it did.
    fn publish(&self, view: &mut StateView, belief: Option<&dyn LinkBelief>) -> bool;
}

impl Publish for LatticeData {
    fn publish(&self, view: &mut StateView, belief: Option<&dyn LinkBelief>) -> bool {
        let differs = *view.lattice != *self;
        if differs {
            let index = LinkIndex::new(self, &view.index, belief, UnixTime::now());
            view.index = Arc::new(index);
            view.lattice = Arc::new(self.clone());
        }
        differs
    }
}

impl Publish for ConfigData {
    fn publish(&self, view: &mut StateView, _: Option<&dyn LinkBelief>) -> bool {
        let differs = *view.config != *self;
        if differs {
            view.config = Arc::new(self.clone());
        }
        differs
    }
}

impl Publish for TrellisData {
    fn publish(&self, view: &mut StateView, _: Option<&dyn LinkBelief>) -> bool {
        let differs = *view.trellis != *self;
        if differs {
            view.trellis = Arc::new(self.clone());
        }
        differs
    }
}

impl Shared {
    fn view(&self) -> Arc<StateView> {
        Arc::clone(&self.view.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a new view with this content of a bucket, and tells whoever waits.
    fn publish<C: Publish>(&self, bucket: Bucket, content: &C, applied: u64) {
        let publishing = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut view = StateView::clone(&self.view());
        let changed = content.publish(&mut view, self.belief.as_deref());
        if !changed && view.applied[bucket.index()] == applied {
            return;
        }
        view.generation += u64::from(changed);
        view.applied[bucket.index()] = applied;
        let (generation, applied) = (view.generation, view.applied);
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        self.applied.send_replace(applied);
        self.generation
            .send_if_modified(|current| std::mem::replace(current, generation) != generation);
        // Until here, so that numbers are told in the order of the views.
        drop(publishing);
    }

    /// Judges the links again for which that is due, without anything having been written.
    fn judge_again(&self) {
        let now = UnixTime::now();
        if !self.view().index.is_due(now) {
            return;
        }
        let publishing = self
            .publishing
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let mut view = StateView::clone(&self.view());
        let index = LinkIndex::new(&view.lattice, &view.index, self.belief.as_deref(), now);
        view.index = Arc::new(index);
        view.generation += 1;
        let generation = view.generation;
        *self.view.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(view);
        self.generation.send_replace(generation);
        drop(publishing);
    }

    fn replayed(&self, bucket: Bucket) {
        self.replayed
            .send_if_modified(|replayed| !std::mem::replace(&mut replayed[bucket.index()], true));
    }

    fn current(&self, bucket: Bucket, since: Moment) {
        self.current.lock().unwrap_or_else(PoisonError::into_inner)[bucket.index()] = Some(since);
    }

    fn skip(&self, bucket: Bucket, key: &str, reason: &content::Skip) {
        let skipped = self.skipped.fetch_add(1, Ordering::Relaxed) + 1;
        if self.skip_log.permits() {
            // Keys come from strangers: a long one would fill the log.
            let key = &key[..key.floor_char_boundary(128)];
            tracing::warn!(%bucket, key, %reason, skipped, "skipped an entry of the lattice's state");
        }
    }
}

#[cfg(test)]
mod tests;
