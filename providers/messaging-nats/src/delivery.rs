//! One message to one actor.

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trellis_protocol::limits::VALUE_BYTES_MAX;
use trellis_provider_sdk::interface::ActorCaller;
use trellis_provider_sdk::{EntityId, LinkName, Outbound, Refusal, RefusalCode};

use crate::backoff;
use crate::connection::Connection;
use crate::wit::handler;
use crate::wit::types::BrokerMessage;

/// How often a message is offered again to an actor that has no room, and the pauses between.
const OFFERS_MAX: u32 = 6;
const OFFER_AFTER: (Duration, Duration) = (Duration::from_millis(25), Duration::from_secs(1));

/// Largest body that a call can carry to an actor, in bytes; what is left is for the subjects.
pub(crate) const BODY_BYTES_MAX: usize = VALUE_BYTES_MAX - 2048;

/// Who gets the messages of a subscription, and how. It changes with the link, while messages come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Receiver {
    pub(crate) actor: EntityId,
    pub(crate) link: LinkName,
    pub(crate) max_in_flight: usize,
    pub(crate) timeout: Duration,
}

/// What each subscription has.
#[derive(Clone)]
pub(crate) struct Delivery {
    pub(crate) outbound: Arc<dyn Outbound>,
    pub(crate) connection: Arc<Connection>,
    pub(crate) receiver: watch::Receiver<Receiver>,
    /// Take no more messages, and finish those that are here.
    pub(crate) stop: CancellationToken,
    /// Give up everything.
    pub(crate) kill: CancellationToken,
}

/// Why a message was not handled.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotHandled {
    /// The actor says so.
    #[error("the actor answered with an error: {0}")]
    Failed(String),
    /// No call can carry it, to whatever actor.
    #[error("a message of {bytes} bytes exceeds the {BODY_BYTES_MAX} that a call can carry")]
    TooLarge { bytes: usize },
    /// It was not called, or did not answer.
    #[error("{0}")]
    Refused(Refusal),
}

impl NotHandled {
    /// Whether the same message would meet the same end whenever it came. No refusal says so: it may come from what the
    /// actor itself called, or from an actor that is not the right one today.
    pub(crate) fn is_permanent(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }
}

impl Delivery {
    /// Hands a message of this trace to the actor, again and again for a while where it has no room for it.
    pub(crate) async fn deliver(
        &self,
        message: BrokerMessage,
        traceparent: Option<String>,
    ) -> Result<(), NotHandled> {
        if message.body.len() > BODY_BYTES_MAX {
            return Err(NotHandled::TooLarge {
                bytes: message.body.len(),
            });
        }
        let receiver = self.receiver.borrow().clone();
        if let Some(reply_to) = &message.reply_to {
            self.connection.answers.allow(&receiver.actor, reply_to);
        }
        let deadline = Instant::now() + receiver.timeout;
        let actor = handler::Client(ActorCaller {
            outbound: &*self.outbound,
            target: receiver.actor,
            link: receiver.link,
            deadline,
            cancel: self.kill.child_token(),
            traceparent,
        });
        let mut offers = 0;
        loop {
            let refusal = match actor.handle_message(&message).await {
                Ok(Ok(())) => return Ok(()),
                Ok(Err(error)) => return Err(NotHandled::Failed(error)),
                Err(refusal) => refusal,
            };
            offers += 1;
            let (first, most) = OFFER_AFTER;
            let pause = backoff::delay(offers - 1, first, most);
            if !has_not_begun(&refusal) || offers >= OFFERS_MAX || Instant::now() + pause > deadline
            {
                return Err(NotHandled::Refused(refusal));
            }
            tokio::time::sleep(pause).await;
        }
    }

    /// Messages that the actor may handle at once.
    pub(crate) fn max_in_flight(&self) -> usize {
        self.receiver.borrow().max_in_flight
    }
}

/// Whether the call was refused before anything of it was done, for a reason that may pass.
fn has_not_begun(refusal: &Refusal) -> bool {
    refusal.code.is_retryable() || refusal.code == RefusalCode::NoRoute
}
