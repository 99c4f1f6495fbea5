//! Following one bucket: replay what is there, follow what comes, ask the leader whether that is all, start over in doubt.
//!
//! ```text
//!   open ──▶ replay into a fresh content ──▶ publish ──▶ follow ◀──┐
//!    ▲                                                    │        │ an entry: apply, publish
//!    │  reconnected, consumer lost, another bucket,       │        │ a check passed: current as of its question
//!    └── fewer or more messages than can be explained ◀───┴────────┘
//! ```
//!
//! A check (D8) asks the stream's leader for its last sequence. Once the copy has applied that, it was current at the
//! moment of the question. Messages that were deleted from the end of a stream never arrive: then the leader is asked
//! for the last one it still holds, and that decides.

use std::sync::Arc;
use std::time::{Duration, Instant};

use async_nats::jetstream::Context;
use async_nats::jetstream::consumer::push::{Ordered, OrderedConfig};
use async_nats::jetstream::consumer::{DeliverPolicy, ReplayPolicy};
use async_nats::jetstream::kv::Store;
use async_nats::jetstream::stream::Info;
use futures::{FutureExt as _, StreamExt as _};
use rand::Rng as _;
use tokio::sync::watch;
use tokio::time::{sleep, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

use super::bucket::{self, Bucket, chain};
use super::content::{Bounded, Content};
use super::moment::Moment;
use super::{Publish, Shared};
use crate::connection::{Connection, JETSTREAM_TIMEOUT};

/// How often the leader is asked for its last sequence, before jitter of a quarter either way.
pub const CHECK_INTERVAL: Duration = Duration::from_secs(15);

/// How long the watch may need to deliver what the leader has named, before the copy is built anew.
pub const CHECK_PATIENCE: Duration = Duration::from_secs(3);

/// Longest silence in the middle of a replay before it is started over.
const REPLAY_SILENCE: Duration = Duration::from_secs(10);

/// Most entries that are applied between two views, so that a busy bucket still shows.
const BATCH_MAX: usize = 256;

/// Shortest and longest pause before starting over after a failure.
const PAUSE: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// Why the copy is built anew.
#[derive(Debug, thiserror::Error)]
enum Restart {
    #[error("the connection was lost in between")]
    Reconnected,
    #[error("the watch broke off: {0}")]
    Watch(String),
    #[error("the bucket is another one than before")]
    Recreated,
    #[error("the bucket has sequence {last}, the copy {applied}")]
    Diverged { last: u64, applied: u64 },
    #[error("{0}")]
    Unavailable(String),
}

/// Follows one bucket until it is cancelled.
pub(super) struct Follower<C> {
    context: Context,
    name: String,
    bucket: Bucket,
    reconnects: watch::Receiver<u64>,
    shared: Arc<Shared>,
    content: Bounded<C>,
    applied: u64,
}

/// One entry as the watch delivers it.
struct Entry {
    key: String,
    value: Option<bytes::Bytes>,
    revision: u64,
    /// Entries that are still to come.
    pending: u64,
}

/// A question to the leader that the copy has not yet caught up with.
struct Awaited {
    last: u64,
    asked: Moment,
    until: tokio::time::Instant,
}

impl<C: Content + Publish> Follower<C> {
    pub(super) fn new(connection: &Connection, bucket: Bucket, shared: Arc<Shared>) -> Self {
        Self {
            context: connection.jetstream.clone(),
            name: bucket.name(connection.lattice()),
            bucket,
            reconnects: connection.reconnects(),
            shared,
            content: Bounded::default(),
            applied: 0,
        }
    }

    /// Follows until it is cancelled, or the connection is closed. Never fails: what goes wrong is logged, and tried again with growing pauses.
    pub(super) async fn run(mut self, cancel: CancellationToken) {
        let mut pause = PAUSE.0;
        // Without a sender there is no connection any more, and never will be.
        while self.reconnects.has_changed().is_ok() {
            let began = Instant::now();
            let restart = tokio::select! {
                () = cancel.cancelled() => return,
                restart = self.follow() => restart,
            };
            let bucket = self.bucket;
            if matches!(restart, Restart::Reconnected) {
                tracing::info!(%bucket, "comparing the state after a reconnect");
            } else if pause == PAUSE.0 {
                tracing::warn!(%bucket, reason = %restart, "building the copy of the state anew");
            } else {
                tracing::debug!(%bucket, reason = %restart, "building the copy of the state anew");
            }
            pause = if began.elapsed() > PAUSE.1 {
                PAUSE.0
            } else {
                (pause * 2).min(PAUSE.1)
            };
            tokio::select! {
                () = cancel.cancelled() => return,
                () = sleep(jittered(pause / 2)) => {}
                // No use in waiting on when the connection has just come back.
                _ = self.reconnects.changed() => {}
            }
        }
    }

    async fn follow(&mut self) -> Restart {
        self.reconnects.mark_unchanged();
        match self.replay().await {
            Ok((store, info, watch)) => self.keep_up(&store, &info, watch).await,
            Err(restart) => restart,
        }
    }

    /// Reads everything that is there into a fresh content, and publishes that.
    async fn replay(&mut self) -> Result<(Store, Info, Ordered), Restart> {
        let unavailable = |reason: String| Restart::Unavailable(reason);
        let store = bucket::open(&self.context, &self.name)
            .await
            .map_err(|error| unavailable(error.to_string()))?;
        let info = store.stream.cached_info().clone();
        let watching = async {
            let consumer = store
                .stream
                .create_consumer(OrderedConfig {
                    deliver_subject: self.context.client().new_inbox(),
                    description: Some("state of a lattice, followed".to_owned()),
                    filter_subject: format!("{}>", store.prefix),
                    replay_policy: ReplayPolicy::Instant,
                    deliver_policy: DeliverPolicy::LastPerSubject,
                    ..OrderedConfig::default()
                })
                .await
                .map_err(|error| unavailable(chain(&error)))?;
            let pending = consumer.cached_info().num_pending;
            let messages = consumer
                .messages()
                .await
                .map_err(|error| unavailable(chain(&error)))?;
            Ok((pending, messages))
        };
        let (mut pending, mut watch) = timeout(JETSTREAM_TIMEOUT * 2, watching)
            .await
            .map_err(|_| unavailable("no answer to the creation of a watch".to_owned()))??;

        let mut content = Bounded::<C>::default();
        let mut applied = 0;
        while pending > 0 {
            let next = timeout(REPLAY_SILENCE, watch.next())
                .await
                .map_err(|_| Restart::Watch("nothing more came of a replay".to_owned()))?;
            let entry = entry(next, &store.prefix)?;
            apply(&self.shared, self.bucket, &mut content, &entry);
            applied = applied.max(entry.revision);
            pending = entry.pending;
        }
        self.content = content;
        self.applied = applied;
        self.publish();
        self.shared.replayed(self.bucket);
        Ok((store, info, watch))
    }

    /// Applies what comes, and checks from time to time, until something is in doubt.
    async fn keep_up(&mut self, store: &Store, opened: &Info, mut watch: Ordered) -> Restart {
        let mut reconnects = self.reconnects.clone();
        let mut checking = Some(ask(store).boxed());
        let mut awaited: Option<Awaited> = None;
        let next_check = sleep(jittered(CHECK_INTERVAL));
        tokio::pin!(next_check);
        loop {
            let patience = awaited.as_ref().map(|awaited| awaited.until);
            tokio::select! {
                _ = reconnects.changed() => return Restart::Reconnected,
                next = watch.next() => {
                    if let Err(restart) = self.take(next, &mut watch, &store.prefix) {
                        return restart;
                    }
                }
                answer = async { checking.as_mut().expect("the branch's condition").await }, if checking.is_some() => {
                    checking = None;
                    next_check.as_mut().reset(tokio::time::Instant::now() + jittered(CHECK_INTERVAL));
                    match answer {
                        Ok((asked, info)) => {
                            let last = info.state.last_sequence;
                            if info.created != opened.created {
                                return Restart::Recreated;
                            }
                            if last < self.applied {
                                return Restart::Diverged { last, applied: self.applied };
                            }
                            let until = tokio::time::Instant::now() + CHECK_PATIENCE;
                            awaited = Some(Awaited { last, asked, until });
                        }
                        // No answer makes the copy no older than it is: its age tells.
                        Err(reason) => tracing::debug!(bucket = %self.bucket, reason, "the leader was not reached"),
                    }
                }
                () = &mut next_check, if checking.is_none() => checking = Some(ask(store).boxed()),
                () = async { sleep_until(patience.expect("the branch's condition")).await }, if patience.is_some() => {
                    if let Some(Awaited { last, asked, .. }) = awaited.take() {
                        match self.explain(store, last).await {
                            Ok(()) => self.shared.current(self.bucket, asked),
                            Err(restart) => return restart,
                        }
                    }
                }
            }
            if let Some(Awaited { asked, .. }) =
                awaited.take_if(|awaited| awaited.last <= self.applied)
            {
                self.shared.current(self.bucket, asked);
            }
        }
    }

    /// Applies an entry and those that are already there, then publishes once.
    fn take(
        &mut self,
        next: Option<Next>,
        watch: &mut Ordered,
        prefix: &str,
    ) -> Result<(), Restart> {
        let mut next = Some(next);
        let mut taken = 0;
        let result = loop {
            let Some(message) = next.take() else {
                break Ok(());
            };
            match entry(message, prefix) {
                Ok(entry) => {
                    apply(&self.shared, self.bucket, &mut self.content, &entry);
                    self.applied = self.applied.max(entry.revision);
                }
                Err(restart) => break Err(restart),
            }
            taken += 1;
            if taken < BATCH_MAX {
                next = watch.next().now_or_never();
            }
        };
        self.publish();
        result
    }

    /// The leader has named a sequence that did not arrive. Fine, if no message holds it any more.
    async fn explain(&mut self, store: &Store, last: u64) -> Result<(), Restart> {
        let held = timeout(
            JETSTREAM_TIMEOUT,
            bucket::last_held(&store.stream, &store.prefix),
        )
        .await
        .map_err(|_| Restart::Unavailable("the leader did not answer".to_owned()))?
        .map_err(Restart::Unavailable)?;
        if held > self.applied {
            return Err(Restart::Diverged {
                last: held,
                applied: self.applied,
            });
        }
        self.applied = last;
        self.publish();
        Ok(())
    }

    fn publish(&self) {
        self.shared
            .publish(self.bucket, &self.content.content, self.applied);
    }
}

type Next =
    Result<async_nats::jetstream::Message, async_nats::jetstream::consumer::push::OrderedError>;

/// Reads a message of the watch as an entry.
fn entry(next: Option<Next>, prefix: &str) -> Result<Entry, Restart> {
    let message = match next {
        Some(Ok(message)) => message,
        Some(Err(error)) => return Err(Restart::Watch(chain(&error))),
        None => return Err(Restart::Watch("it ended".to_owned())),
    };
    let info = message
        .info()
        .map_err(|error| Restart::Watch(error.to_string()))?;
    let (revision, pending) = (info.stream_sequence, info.pending);
    let Some(key) = message.subject.strip_prefix(prefix) else {
        return Err(Restart::Watch(format!(
            "an entry outside the bucket, `{}`",
            message.subject
        )));
    };
    let deleted = message
        .headers
        .as_ref()
        .and_then(|headers| headers.get("KV-Operation"))
        .is_some_and(|operation| matches!(operation.as_str(), "DEL" | "PURGE"));
    Ok(Entry {
        key: key.to_owned(),
        value: (!deleted).then(|| message.payload.clone()),
        revision,
        pending,
    })
}

fn apply<C: Content>(shared: &Shared, bucket: Bucket, content: &mut Bounded<C>, entry: &Entry) {
    if let Err(reason) = content.apply(&entry.key, entry.value.as_deref()) {
        shared.skip(bucket, &entry.key, &reason);
    }
}

/// Asks the stream's leader how far it is, and notes when it was asked.
async fn ask(store: &Store) -> Result<(Moment, Info), String> {
    let asked = Moment::now();
    match timeout(JETSTREAM_TIMEOUT, store.stream.get_info()).await {
        Ok(Ok(info)) => Ok((asked, info)),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err("no answer".to_owned()),
    }
}

fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(rand::rng().random_range(0.75..1.25))
}
