//! Requests that are answered by a series of messages: what a host sees and logs, as it happens.

use std::marker::PhantomData;
use std::time::Duration;

use async_nats::{StatusCode, Subscriber};
use futures::StreamExt as _;
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::error::Elapsed;
use tokio::time::{Instant, timeout, timeout_at};
use trellis_protocol::control::observe::{BEAT_INTERVAL, WITHIN_MAX};
use trellis_protocol::control::{self, Ack, LogRecord, ReadLogs, SpyComponent, SpyRecord, Watched};

use super::{ANSWER_MARGIN, ClientError, ControlClient, To};

/// Longest silence of a host that is there: several times [`BEAT_INTERVAL`].
const SILENCE_MAX: Duration = BEAT_INTERVAL.saturating_mul(5);

type Read<T> = Result<Watched<T>, ClientError>;

/// A host's answers to one request, in order. Dropping it stops listening, which the host notices
/// within a few seconds.
#[derive(Debug)]
pub struct Series<T> {
    messages: Subscriber,
    request: String,
    within: Duration,
    /// When the host has certainly ended.
    until: Instant,
    ended: bool,
    records: PhantomData<fn() -> T>,
}

impl ControlClient {
    /// The invocations of an actor or provider on a host, as they end.
    ///
    /// # Errors
    /// [`ClientError`]. Without a link that allows it, [`ClientError::Refused`] says the command that makes one.
    pub async fn spy(
        &self,
        host: &str,
        request: &SpyComponent,
    ) -> Result<Series<SpyRecord>, ClientError> {
        let within = within(request.within_ms, WITHIN_MAX);
        self.series(host, "spy", request, within).await
    }

    /// The log of an actor on a host: the lines that are kept, then further ones as they are written.
    ///
    /// # Errors
    /// [`ClientError`]. Without a link that allows it, [`ClientError::Refused`] says the command that makes one.
    pub async fn logs(
        &self,
        host: &str,
        request: &ReadLogs,
    ) -> Result<Series<LogRecord>, ClientError> {
        let within = within(request.within_ms, Duration::ZERO);
        self.series(host, "logs", request, within).await
    }

    async fn series<T>(
        &self,
        host: &str,
        verb: &str,
        request: &impl Serialize,
        within: Duration,
    ) -> Result<Series<T>, ClientError> {
        let subject = To::Host(host).subject(&self.subjects, "component", verb)?;
        let body = control::to_bytes(request)?;
        let named = format!("component {verb}");
        let headers = self.headers("component", verb, &subject, &body)?;
        let asking = super::gather::ask(&self.nats, subject, headers, body);
        let deadline = Instant::now() + self.timeout;
        let timed_out = || ClientError::TimedOut {
            request: named.clone(),
            after: self.timeout,
        };
        let failed = |reason: String| ClientError::Connection {
            request: named.clone(),
            reason,
        };
        let mut messages = timeout_at(deadline, asking)
            .await
            .map_err(|_| timed_out())?
            .map_err(failed)?;
        let first = timeout_at(deadline, messages.next())
            .await
            .map_err(|_| timed_out())?
            .ok_or_else(|| failed("the connection was closed".to_owned()))?;
        if first.status == Some(StatusCode::NO_RESPONDERS) {
            return Err(ClientError::NoHost {
                lattice: self.subjects.lattice().to_string(),
                host: Some(host.to_owned()),
            });
        }
        let ack: Ack = control::parse_reply(&first.payload)?;
        if !ack.success {
            return Err(ClientError::Refused {
                request: named,
                message: ack.message,
            });
        }
        Ok(Series {
            messages,
            request: named,
            within,
            until: Instant::now() + within + ANSWER_MARGIN,
            ended: false,
            records: PhantomData,
        })
    }
}

impl<T: DeserializeOwned> Series<T> {
    /// The next record, or the end, after which there is nothing more. Cancel-safe.
    ///
    /// # Errors
    /// [`ClientError::Body`] for a message that cannot be read; the next one can be asked for all the same.
    /// [`ClientError::TimedOut`] where the host is silent, even about being there, and
    /// [`ClientError::Connection`] where the connection was closed; nothing more comes after these.
    pub async fn next(&mut self) -> Option<Result<Watched<T>, ClientError>> {
        if self.ended {
            return None;
        }
        match self.message().await {
            Ok(Some(read)) => {
                self.ended = matches!(read, Ok(Watched::End(_)));
                Some(read)
            }
            Ok(None) => Some(Err(self.end(|request| ClientError::Connection {
                request,
                reason: "the connection was closed".to_owned(),
            }))),
            Err(_) => {
                let after = self.within;
                Some(Err(
                    self.end(|request| ClientError::TimedOut { request, after })
                ))
            }
        }
    }

    /// The next message that says something; none where the connection was closed.
    async fn message(&mut self) -> Result<Option<Read<T>>, Elapsed> {
        loop {
            let until = self.until.min(Instant::now() + SILENCE_MAX);
            let Some(message) = timeout_at(until, self.messages.next()).await? else {
                return Ok(None);
            };
            match control::parse_reply::<Watched<T>>(&message.payload) {
                Ok(envelope) => {
                    // Without a record the host only says that it is still there.
                    if let Some(watched) = envelope.response {
                        return Ok(Some(Ok(watched)));
                    }
                }
                Err(error) => return Ok(Some(Err(error.into()))),
            }
        }
    }

    fn end(&mut self, why: impl FnOnce(String) -> ClientError) -> ClientError {
        self.ended = true;
        why(self.request.clone())
    }

    /// Stops listening before the end.
    pub async fn close(mut self) {
        // Bounded, because a connection that is down takes no command.
        let _ = timeout(ANSWER_MARGIN, self.messages.unsubscribe()).await;
    }
}

fn within(asked_ms: Option<u32>, default: Duration) -> Duration {
    asked_ms.map_or(default, |ms| Duration::from_millis(u64::from(ms)))
}
