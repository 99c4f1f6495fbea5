//! Where answers to one connection's requests arrive: one subscription, and whoever waits, by a number.
//!
//! The client library has such an inbox of its own. It keeps what it knows of a request that was never answered for as
//! long as the connection lives, so a server that never answers would fill the provider's memory; this one forgets a
//! request with whoever waited for it.
//!
//! Each address has a number at random. Whoever is asked reads one address, and must not be able to tell those of others:
//! it could answer for them, or confirm what no server has.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_nats::{Client, Message, Subscriber};
use futures::StreamExt;
use rand::Rng;
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
    waiting: Arc<Waiting>,
    /// Holds the subscription, and with it the connection; ends with the inbox.
    _reader: AbortOnDropHandle<()>,
}

type Waiting = Mutex<HashMap<u128, oneshot::Sender<Message>>>;

/// An address for one message. What comes when this is gone is dropped.
#[derive(Debug)]
pub(crate) struct Expected {
    pub(crate) address: String,
    number: u128,
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
            waiting,
            _reader: AbortOnDropHandle::new(reader),
        })
    }

    /// A new address.
    pub(crate) fn expect(&self) -> Result<Expected, Failure> {
        let number = rand::rng().random::<u128>();
        let (sender, receiver) = oneshot::channel();
        let mut waiting = lock(&self.waiting);
        if waiting.len() >= WAITING_MAX {
            return Err(Failure::Busy { limit: WAITING_MAX });
        }
        waiting.insert(number, sender);
        drop(waiting);
        Ok(Expected {
            address: format!("{}{number:032x}", self.prefix),
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
            .and_then(|number| u128::from_str_radix(number, 16).ok())
            .and_then(|number| lock(&waiting).remove(&number));
        if let Some(sender) = sender {
            // Whoever waited may have gone this moment.
            let _ = sender.send(message);
        }
    }
    // Nothing comes any more, so nobody needs to wait.
    lock(&waiting).clear();
}

fn lock(waiting: &Waiting) -> MutexGuard<'_, HashMap<u128, oneshot::Sender<Message>>> {
    // The map is consistent between any two statements.
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}
