//! The lattice's events, as they happen.

use async_nats::Subscriber;
use futures::StreamExt as _;
use trellis_protocol::event::{Event, EventError};

use super::{ClientError, ControlClient};

/// Events that wait for a slow reader before further ones are dropped: the connection's limit for a subscription.
pub const EVENTS_BUFFERED: usize = crate::connection::CONTROL_SUBSCRIPTION_MESSAGES;

/// A subscription to the events of a lattice. Dropping it ends it.
#[derive(Debug)]
pub struct Events {
    messages: Subscriber,
}

impl ControlClient {
    /// Subscribes to every event of the lattice.
    ///
    /// Whatever a later command of this client causes will arrive: both go over one connection, in order. Of what others
    /// cause in the same instant the first events may be missed, since NATS does not confirm a subscription.
    ///
    /// # Errors
    /// [`ClientError::Connection`], [`ClientError::TimedOut`].
    pub async fn events(&self) -> Result<Events, ClientError> {
        let failed = |reason: String| ClientError::Connection {
            request: "events".to_owned(),
            reason,
        };
        let subscribing = async {
            let messages = self
                .nats
                .subscribe(self.subjects.events())
                .await
                .map_err(|error| failed(error.to_string()))?;
            // Flushed, so that a caller who commands nothing is not left with a subscription that was never sent.
            self.nats
                .flush()
                .await
                .map_err(|error| failed(error.to_string()))?;
            Ok(Events { messages })
        };
        tokio::time::timeout(self.timeout, subscribing)
            .await
            .unwrap_or_else(|_| {
                Err(ClientError::TimedOut {
                    request: "events".to_owned(),
                    after: self.timeout,
                })
            })
    }
}

impl Events {
    /// The next event; none once the connection has been closed. Cancel-safe.
    ///
    /// # Errors
    /// [`EventError`] for a message that is no event; the next one can be asked for all the same.
    pub async fn next(&mut self) -> Option<Result<Event, EventError>> {
        let message = self.messages.next().await?;
        Some(Event::parse(&message.payload))
    }
}
