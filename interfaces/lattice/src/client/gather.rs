//! Questions to every host: answers come until a deadline, or until it has become quiet.

use std::time::Duration;

use async_nats::{Client, StatusCode};
use futures::StreamExt as _;
use serde::de::DeserializeOwned;
use tokio::time::{Instant, timeout_at};
use trellis_protocol::control::{
    self, ComponentAuction, ComponentAuctionAck, HostDescription, ProviderAuction,
    ProviderAuctionAck,
};

use super::{ClientError, ControlClient};

/// Silence after an answer that ends a gathering before its deadline.
///
/// Hosts answer from memory, so those that will answer do so within a round trip of each other.
pub const QUIET: Duration = Duration::from_millis(300);

/// Most answers that are kept of one question.
pub const ANSWERS_MAX: usize = 4096;

impl ControlClient {
    /// Who is there? Waits for the first answer until the deadline, and after it for [`QUIET`] at a time.
    ///
    /// An empty list says that no host is there, or none answered in time.
    ///
    /// # Errors
    /// [`ClientError::Connection`].
    pub async fn ping(&self, within: Duration) -> Result<Vec<HostDescription>, ClientError> {
        let mut hosts: Vec<HostDescription> = self
            .gather("host", "ping", Vec::new(), within, Some(QUIET))
            .await?;
        hosts.sort_by(|a, b| a.id.cmp(&b.id));
        hosts.dedup_by(|a, b| a.id == b.id);
        Ok(hosts)
    }

    /// Which hosts can run this actor? Silence is their no, so this always takes the whole time (D11).
    ///
    /// # Errors
    /// [`ClientError::Body`], [`ClientError::Connection`].
    pub async fn auction_component(
        &self,
        auction: &ComponentAuction,
        within: Duration,
    ) -> Result<Vec<ComponentAuctionAck>, ClientError> {
        self.gather(
            "component",
            "auction",
            control::to_bytes(auction)?,
            within,
            None,
        )
        .await
    }

    /// Which hosts can run this provider? Silence is their no, so this always takes the whole time (D11).
    ///
    /// # Errors
    /// [`ClientError::Body`], [`ClientError::Connection`].
    pub async fn auction_provider(
        &self,
        auction: &ProviderAuction,
        within: Duration,
    ) -> Result<Vec<ProviderAuctionAck>, ClientError> {
        self.gather(
            "provider",
            "auction",
            control::to_bytes(auction)?,
            within,
            None,
        )
        .await
    }

    async fn gather<T: DeserializeOwned>(
        &self,
        noun: &str,
        verb: &str,
        body: Vec<u8>,
        within: Duration,
        quiet: Option<Duration>,
    ) -> Result<Vec<T>, ClientError> {
        let deadline = Instant::now() + within;
        let failed = |reason: String| ClientError::Connection {
            request: format!("{noun} {verb}"),
            reason,
        };
        let subject = self.subjects.control(noun, verb);
        let headers = self.headers(noun, verb, &subject, &body)?;
        let asking = ask(&self.nats, subject, headers, body);
        let mut replies = match timeout_at(deadline, asking).await {
            Ok(asked) => asked.map_err(failed)?,
            Err(_) => return Err(failed("not connected".to_owned())),
        };
        let mut answers = Vec::new();
        let mut until = deadline;
        while answers.len() < ANSWERS_MAX {
            let Ok(Some(reply)) = timeout_at(until, replies.next()).await else {
                break;
            };
            if reply.status == Some(StatusCode::NO_RESPONDERS) {
                break;
            }
            // One host's nonsense must not hide the others.
            match control::parse_reply::<T>(&reply.payload) {
                Ok(envelope) => answers.extend(envelope.response),
                Err(error) => tracing::debug!(noun, verb, %error, "an answer cannot be read"),
            }
            if let Some(quiet) = quiet {
                until = deadline.min(Instant::now() + quiet);
            }
        }
        Ok(answers)
    }
}

pub(super) async fn ask(
    nats: &Client,
    subject: String,
    headers: Option<async_nats::HeaderMap>,
    body: Vec<u8>,
) -> Result<async_nats::Subscriber, String> {
    let inbox = nats.new_inbox();
    let replies = nats
        .subscribe(inbox.clone())
        .await
        .map_err(|error| error.to_string())?;
    let sent = match headers {
        Some(headers) => {
            nats.publish_with_reply_and_headers(subject, inbox, headers, body.into())
                .await
        }
        None => nats.publish_with_reply(subject, inbox, body.into()).await,
    };
    sent.map_err(|error| error.to_string())?;
    Ok(replies)
}
