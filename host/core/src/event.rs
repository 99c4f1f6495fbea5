//! Telling the lattice what happens on this host, without ever making the host wait for it.
//!
//! Events go into a bounded queue and one task publishes them in order. Where NATS is away for long the queue is full:
//! further events are dropped and counted, because what they tell is in the next heartbeat as well.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use trellis_protocol::event::{EventData, encode};
use trellis_protocol::subject::Subjects;
use uuid::Uuid;

/// Events that wait to be published.
const QUEUE_MAX: usize = 1_024;

/// The way for events out of this host. Cloning it is two reference counts.
#[derive(Debug, Clone)]
pub(crate) struct Events {
    queue: mpsc::Sender<Item>,
    source: Arc<str>,
    dropped: Arc<AtomicU64>,
}

#[derive(Debug)]
enum Item {
    Event {
        name: &'static str,
        body: Vec<u8>,
    },
    /// Answered once everything before it has been handed to the connection.
    Flush(oneshot::Sender<()>),
}

impl Events {
    /// Makes the queue, and the task that empties it, which ends when it is cancelled.
    pub(crate) fn new(
        client: async_nats::Client,
        subjects: Subjects,
        source: Arc<str>,
        cancel: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let (queue, items) = mpsc::channel(QUEUE_MAX);
        let events = Self {
            queue,
            source,
            dropped: Arc::default(),
        };
        (events, publish(client, subjects, items, cancel))
    }

    /// Publishes an event about this host.
    pub(crate) fn publish(&self, event: &EventData) {
        self.publish_about(&self.source, event);
    }

    /// Publishes an event about a host, this one or another that cannot do so any more.
    pub(crate) fn publish_about(&self, host: &str, event: &EventData) {
        let name = event.name();
        let body = encode(event, host, SystemTime::now(), Uuid::new_v4());
        if self.queue.try_send(Item::Event { name, body }).is_err() {
            let dropped = self.dropped.fetch_add(1, Ordering::Relaxed) + 1;
            if dropped.is_power_of_two() {
                tracing::warn!(
                    event = name,
                    dropped,
                    "an event was not published: NATS takes none"
                );
            }
        }
    }

    /// How many events were not published.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped.load(Ordering::Relaxed)
    }

    /// Waits until what was published before is with the server; `false` where the time was not enough.
    pub(crate) async fn flush(&self, within: Duration) -> bool {
        let (sender, flushed) = oneshot::channel();
        let flush =
            async { self.queue.send(Item::Flush(sender)).await.is_ok() && flushed.await.is_ok() };
        tokio::time::timeout(within, flush).await.unwrap_or(false)
    }
}

async fn publish(
    client: async_nats::Client,
    subjects: Subjects,
    mut items: mpsc::Receiver<Item>,
    cancel: CancellationToken,
) {
    loop {
        let item = tokio::select! {
            () = cancel.cancelled() => return,
            item = items.recv() => item,
        };
        match item {
            None => return,
            Some(Item::Event { name, body }) => {
                let published = client.publish(subjects.event(name), body.into());
                tokio::select! {
                    () = cancel.cancelled() => return,
                    result = published => if let Err(error) = result {
                        tracing::warn!(event = name, %error, "an event was not published");
                    }
                }
            }
            Some(Item::Flush(done)) => {
                tokio::select! {
                    () = cancel.cancelled() => return,
                    flushed = client.flush() => if flushed.is_ok() {
                        // Whoever asked may have stopped waiting.
                        let _ = done.send(());
                    }
                }
            }
        }
    }
}
