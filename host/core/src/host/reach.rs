//! Patience with NATS while a host leaves: what waits for a server that is gone waits in vain, so it may do so only for a
//! moment, and for all steps together.

use std::time::Duration;

use async_nats::Client;
use async_nats::connection::State;
use tokio::time::{Instant, sleep};

/// How long a leaving host waits for NATS while it is not connected, in all.
const UNREACHABLE_MAX: Duration = Duration::from_millis(500);

/// Pause between two looks at the connection.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// The time that is left for waiting without a connection.
#[derive(Debug)]
pub(super) struct Reach {
    client: Client,
    left: Duration,
}

impl Reach {
    pub(super) fn new(client: Client) -> Self {
        Self {
            client,
            left: UNREACHABLE_MAX,
        }
    }

    /// Waits for something that needs NATS; `None` once NATS has been away for too long. What is ready is had in any case.
    pub(super) async fn wait<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            biased;
            done = future => Some(done),
            () = Self::lose(&self.client, &mut self.left) => None,
        }
    }

    /// Ends once the time without a connection is used up.
    async fn lose(client: &Client, left: &mut Duration) {
        loop {
            let away = client.connection_state() != State::Connected;
            if away && left.is_zero() {
                return;
            }
            let begin = Instant::now();
            sleep(LOOK_EVERY).await;
            if away {
                *left = left.saturating_sub(begin.elapsed());
            }
        }
    }
}
