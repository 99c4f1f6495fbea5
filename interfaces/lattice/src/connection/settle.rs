//! Knowing that the server has taken what was sent to it.

use std::time::Duration;

use async_nats::Client;
use bytes::Bytes;
use futures::StreamExt as _;

/// Longest wait for the echo.
const ECHO_MAX: Duration = Duration::from_secs(1);

/// Waits until the server has taken what this connection sent before, its subscriptions among it.
///
/// A flush says only that everything was written. But a server takes what one connection sends in order, so an echo says
/// more. Where permissions allow none, or the server is slow, a second goes by instead.
///
/// # Errors
/// What the client says, if it takes no command any more.
pub async fn settle(client: &Client) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    let inbox = client.new_inbox();
    let mut echo = client.subscribe(inbox.clone()).await?;
    client.publish(inbox, Bytes::new()).await?;
    client.flush().await?;
    if tokio::time::timeout(ECHO_MAX, echo.next()).await.is_err() {
        tracing::debug!("no echo from NATS; messages of the first moment may miss this host");
    }
    Ok(())
}
