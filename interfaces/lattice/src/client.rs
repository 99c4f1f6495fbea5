//! Asking hosts over the control interface, as `wash` and the tests do.
//!
//! A request to one host, or to whichever host of the lattice answers first, is a [`ControlClient`] method each. Questions
//! to all hosts gather answers until a deadline, or until it has become quiet. Hosts acknowledge a command before its work
//! is done; the outcome is among the [`Events`], so subscribe first.
//!
//! Whoever can subscribe control subjects can answer: replies are believed as far as NATS permissions reach.

mod error;
mod events;
mod gather;
mod series;
mod signing;

pub use error::ClientError;
pub use events::{EVENTS_BUFFERED, Events};
pub use gather::{ANSWERS_MAX, QUIET};
pub use series::Series;

use std::time::Duration;

use async_nats::client::RequestErrorKind;
use async_nats::{Client, Request};
use serde::Serialize;
use serde::de::DeserializeOwned;
use trellis_claims::CommandSigner;
use trellis_protocol::control::{
    self, Ack, CallComponent, CallReply, Configuration, ControlError, DeleteLabel, Envelope,
    HostInventory, HostStats, LinkEnd, Map, PutLabel, RegistryCredentials, ScaleComponent,
    StartProvider, StopHost, StopProvider, UpdateComponent,
};
use trellis_protocol::limits::{DEADLINE_DEFAULT, TRACEPARENT_BYTES_MAX};
use trellis_protocol::subject::Subjects;
use trellis_protocol::{EntityId, Link};

/// Time for an answer where nobody chose another.
pub const TIMEOUT_DEFAULT: Duration = Duration::from_secs(5);

/// Time beyond the deadline of a call or the drain of a stop, for the answer to arrive.
const ANSWER_MARGIN: Duration = Duration::from_secs(2);

/// The header that carries W3C trace context.
const TRACEPARENT: &str = "traceparent";

/// A client of the control interface. Cloning shares the connection.
#[derive(Debug, Clone)]
pub struct ControlClient {
    nats: Client,
    subjects: Subjects,
    timeout: Duration,
    traceparent: Option<String>,
    signer: Option<CommandSigner>,
}

impl ControlClient {
    /// Speaks over a connection to the lattice of these subjects.
    pub fn new(nats: Client, subjects: Subjects) -> Self {
        Self {
            nats,
            subjects,
            timeout: TIMEOUT_DEFAULT,
            traceparent: None,
            signer: None,
        }
    }

    /// Waits this long for an answer.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sends W3C trace context with each request. What is not one is not sent.
    #[must_use]
    pub fn with_traceparent(mut self, traceparent: impl Into<String>) -> Self {
        let traceparent = traceparent.into();
        let plain = traceparent
            .bytes()
            .all(|b| b.is_ascii_hexdigit() || b == b'-');
        self.traceparent =
            (plain && traceparent.len() <= TRACEPARENT_BYTES_MAX).then_some(traceparent);
        self
    }

    /// What a host runs.
    ///
    /// # Errors
    /// [`ClientError`], as of every request.
    pub async fn inventory(&self, host: &str) -> Result<HostInventory, ClientError> {
        self.answer(To::Host(host), "host", "get", Vec::new()).await
    }

    /// How far each end of a link is that is with a host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn link_ends(&self, host: &str) -> Result<Vec<LinkEnd>, ClientError> {
        self.answer(To::Host(host), "host", "links", Vec::new())
            .await
    }

    /// Has a host run an actor with so many permits, or stop it. The outcome is an event.
    ///
    /// # Errors
    /// [`ClientError`]. The answer is what the host wants known although it accepts, often nothing.
    pub async fn scale(&self, host: &str, command: &ScaleComponent) -> Result<String, ClientError> {
        self.command(To::Host(host), "component", "scale", command)
            .await
    }

    /// Has a host replace the version of a running actor. The outcome is an event.
    ///
    /// # Errors
    /// [`ClientError`]. The answer is what the host wants known although it accepts.
    pub async fn update(
        &self,
        host: &str,
        command: &UpdateComponent,
    ) -> Result<String, ClientError> {
        self.command(To::Host(host), "component", "update", command)
            .await
    }

    /// Has a host start a provider. The outcome is an event.
    ///
    /// # Errors
    /// [`ClientError`]. The answer is what the host wants known although it accepts.
    pub async fn start_provider(
        &self,
        host: &str,
        command: &StartProvider,
    ) -> Result<String, ClientError> {
        self.command(To::Host(host), "provider", "start", command)
            .await
    }

    /// Has a host stop a provider; the answer comes after its shutdown.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop_provider(
        &self,
        host: &str,
        provider: &EntityId,
    ) -> Result<String, ClientError> {
        let command = StopProvider {
            host_id: host.to_owned(),
            provider_id: provider.clone(),
        };
        self.command(To::Host(host), "provider", "stop", &command)
            .await
    }

    /// Has a host drain and exit.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stop_host(
        &self,
        host: &str,
        within: Option<Duration>,
    ) -> Result<String, ClientError> {
        let timeout = within.map(|within| u64::try_from(within.as_millis()).unwrap_or(u64::MAX));
        let command = StopHost {
            host_id: Some(host.to_owned()),
            timeout,
        };
        self.command(To::Host(host), "host", "stop", &command).await
    }

    /// Puts a label on a host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_label(
        &self,
        host: &str,
        key: &str,
        value: &str,
    ) -> Result<String, ClientError> {
        let command = PutLabel {
            key: key.to_owned(),
            value: value.to_owned(),
        };
        self.command(To::Host(host), "label", "put", &command).await
    }

    /// Takes a label from a host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn del_label(&self, host: &str, key: &str) -> Result<String, ClientError> {
        let command = DeleteLabel {
            key: key.to_owned(),
        };
        self.command(To::Host(host), "label", "del", &command).await
    }

    /// The lattice's links.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn links(&self) -> Result<Vec<Link>, ClientError> {
        self.answer(To::Any, "link", "get", Vec::new()).await
    }

    /// Puts a named configuration.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn put_config(
        &self,
        name: &str,
        config: &Configuration,
    ) -> Result<String, ClientError> {
        self.command(To::Name(name), "config", "put", config).await
    }

    /// A named configuration; none where there is none of that name.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn get_config(&self, name: &str) -> Result<Option<Configuration>, ClientError> {
        Ok(self
            .request(To::Name(name), "config", "get", Vec::new(), self.timeout)
            .await?
            .response)
    }

    /// Deletes a named configuration. Deleting one that is not there succeeds.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn del_config(&self, name: &str) -> Result<String, ClientError> {
        let reply: Ack = self
            .request(To::Name(name), "config", "del", Vec::new(), self.timeout)
            .await?;
        Ok(reply.message)
    }

    /// The public claims of everything signed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn claims(&self) -> Result<Vec<Map>, ClientError> {
        self.answer(To::Any, "claims", "get", Vec::new()).await
    }

    /// Calls an actor through the host that runs it, and waits for as long as the call's deadline.
    ///
    /// # Errors
    /// [`ClientError`]. A refusal of the call is [`ClientError::Refused`]; an HTTP error status is an answer.
    pub async fn call(&self, host: &str, call: &CallComponent) -> Result<CallReply, ClientError> {
        let deadline = call
            .deadline_ms
            .map_or(DEADLINE_DEFAULT, |ms| Duration::from_millis(u64::from(ms)));
        let body = control::to_bytes(call)?;
        let timeout = deadline + ANSWER_MARGIN;
        let reply = self
            .request(To::Host(host), "component", "call", body, timeout)
            .await?;
        required(reply)
    }

    /// The numbers of a host.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn stats(&self, host: &str) -> Result<HostStats, ClientError> {
        self.answer(To::Host(host), "host", "stats", Vec::new())
            .await
    }

    /// Hands registry credentials to every host. There is no answer.
    ///
    /// # Errors
    /// [`ClientError::Body`], [`ClientError::Connection`].
    pub async fn put_registries(
        &self,
        registries: &RegistryCredentials,
    ) -> Result<(), ClientError> {
        let body = control::to_bytes(registries)?;
        let subject = self.subjects.control("registry", "put");
        let failed = |reason: String| ClientError::Connection {
            request: "registry put".to_owned(),
            reason,
        };
        let headers = self.headers("registry", "put", &subject, &body)?;
        self.nats
            .publish_with_headers(subject, headers.unwrap_or_default(), body.into())
            .await
            .map_err(|error| failed(error.to_string()))?;
        self.nats
            .flush()
            .await
            .map_err(|error| failed(error.to_string()))
    }

    async fn command<T: Serialize>(
        &self,
        to: To<'_>,
        noun: &str,
        verb: &str,
        command: &T,
    ) -> Result<String, ClientError> {
        let body = control::to_bytes(command)?;
        let reply: Ack = self.request(to, noun, verb, body, self.timeout).await?;
        Ok(reply.message)
    }

    async fn answer<T: DeserializeOwned>(
        &self,
        to: To<'_>,
        noun: &str,
        verb: &str,
        body: Vec<u8>,
    ) -> Result<T, ClientError> {
        required(self.request(to, noun, verb, body, self.timeout).await?)
    }

    async fn request<T: DeserializeOwned>(
        &self,
        to: To<'_>,
        noun: &str,
        verb: &str,
        body: Vec<u8>,
        timeout: Duration,
    ) -> Result<Envelope<T>, ClientError> {
        let subject = to.subject(&self.subjects, noun, verb)?;
        let named = || format!("{noun} {verb}");
        let headers = self.headers(noun, verb, &subject, &body)?;
        let mut request = Request::new().payload(body.into()).timeout(Some(timeout));
        if let Some(headers) = headers {
            request = request.headers(headers);
        }
        // The client bounds the wait for an answer alone, not the wait for a connection that is down.
        let sending = self.nats.send_request(subject, request);
        let sent = tokio::time::timeout(timeout + ANSWER_MARGIN, sending).await;
        let timed_out = || ClientError::TimedOut {
            request: named(),
            after: timeout,
        };
        let message = match sent {
            Err(_) => return Err(timed_out()),
            Ok(Err(error)) => {
                return Err(match error.kind() {
                    RequestErrorKind::NoResponders => ClientError::NoHost {
                        lattice: self.subjects.lattice().to_string(),
                        host: to.host().map(str::to_owned),
                    },
                    RequestErrorKind::TimedOut => timed_out(),
                    _ => ClientError::Connection {
                        request: named(),
                        reason: error.to_string(),
                    },
                });
            }
            Ok(Ok(message)) => message,
        };
        let reply: Envelope<T> = control::parse_reply(&message.payload)?;
        if reply.success {
            Ok(reply)
        } else {
            Err(ClientError::Refused {
                request: named(),
                message: reply.message,
            })
        }
    }
}

fn required<T>(reply: Envelope<T>) -> Result<T, ClientError> {
    reply.response.ok_or_else(|| {
        let reason = "the answer has no `response`".to_owned();
        ClientError::Body(ControlError::Malformed { reason })
    })
}

/// Whom a request is for.
#[derive(Clone, Copy)]
enum To<'a> {
    /// Whichever host takes it.
    Any,
    /// One host.
    Host(&'a str),
    /// Whichever host takes it, about one configuration.
    Name(&'a str),
}

impl<'a> To<'a> {
    fn subject(self, subjects: &Subjects, noun: &str, verb: &str) -> Result<String, ClientError> {
        match self {
            Self::Any => Ok(subjects.control(noun, verb)),
            Self::Host(host) if EntityId::new(host).is_ok() => {
                Ok(subjects.control_with(noun, verb, host))
            }
            Self::Host(host) => Err(ClientError::Argument {
                what: "host's id",
                argument: host.to_owned(),
            }),
            Self::Name(name) if control::lattice::check_config_name(name).is_ok() => {
                Ok(subjects.control_with(noun, verb, name))
            }
            Self::Name(name) => Err(ClientError::Argument {
                what: "configuration's name",
                argument: name.to_owned(),
            }),
        }
    }

    fn host(self) -> Option<&'a str> {
        match self {
            Self::Host(host) => Some(host),
            Self::Any | Self::Name(_) => None,
        }
    }
}

#[cfg(test)]
mod tests;
