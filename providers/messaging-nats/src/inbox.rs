//! Where answers to one connection's requests arrive: one subscription, and whoever waits, by number.
//!
//! The client library has such an inbox of its own. It keeps what it knows of a request that was never answered for as
//! long as the connection lives, so a server that never answers would fill the provider's memory; this one forgets a
//! request with whoever waited for it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use tokio::sync::oneshot;
use tokio_util::task::AbortOnDropHandle;

use crate::error::Failure;

/// Most requests and confirmations that one connection waits for at once.
pub(crate) const WAITING_MAX: usize = 4096;

/// An inbox.
#[derive(Debug)]
pub(crate) struct Inbox {
    /// What each address begins with.
    prefix: String,
    next: AtomicU64,
    waiting: Arc<Waiting>,
    /// Holds the subscription, and with it the connection; ends with the inbox.
    _reader: AbortOnDropHandle<()>,
}

type Waiting = Mutex<HashMap<u64, oneshot::Sender<Message>>>;

/// An address for one message. What comes when this is gone is dropped.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) address: String,
    number: u64,
    receiver: oneshot::Receiver<Message>,
    waiting: Arc<Waiting>,
}

impl Inbox {
    /// Subscribes to addresses that nobody can guess.
    pub(crate) async fn open(client: &Client) -> Result<Self, Failure> {
        let prefix = format!("{}.", client.new_inbox());
        let subscriber = client
            .subscribe(format!("{prefix}*"))
            .await
            .map_err(|error| Failure::backend("subscribing to answers", &error))?;
        let waiting = Arc::<Waiting>::default();
        let reader = tokio::spawn(read(subscriber, prefix.len(), waiting.clone()));
        Ok(Self {
            prefix,
            next: AtomicU64::new(0),
            waiting,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    /// A new address.
    pub(crate) fn expect(&self) -> Result<Expected, Failure> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (sender, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= WAITING_MAX {
            return Err(Failure::Busy { limit: WAITING_MAX });
        }
        waiting.insert(number, sender);
        drop(waiting);
        Ok(Expected {
            address: format!("{}{number}", self.prefix),
            number,
            receiver,
            waiting: self.waiting.clone(),
        })
    }
}

impl Expected {
    /// Waits for the message; `None` where none can come any more.
    pub(crate) async fn arrive(&mut self) -> Option<Message> {
        (&mut self.receiver).await.ok()
    }
}

impl Drop for Expected {
    fn drop(&mut self) {
        lock(&self.waiting).remove(&self.number);
    }
}

async fn read(mut subscriber: Subscriber, prefix_bytes: usize, waiting: Arc<Waiting>) {
    while let Some(message) = subscriber.next().await {
        let number = message.subject.get(prefix_bytes..);
        let sender = number
            .and_then(|number| number.parse().ok())
            .and_then(|number: u64| lock(&waiting).remove(&number));
        if let Some(sender) = sender {
            // Whoever waited may have gone this moment.
            let _ = sender.send(message);
        }
    }
    // Nothing comes any more, so nobody needs to wait.
    lock(&waiting).clear();
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u64, oneshot::Sender<Message>>> {
    // The map is consistent between any two statements.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
