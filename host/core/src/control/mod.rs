//! What operators ask of this host: the control interface, one module for each noun.
//!
//! [`server`] subscribes and answers; each other module takes the body of a request and gives back an [`Answer`]. Reading
//! a request, checking it and putting a command into its queue happen in the order in which requests arrive; what takes
//! time happens beside that. Whatever is asked gets one answer, an auction that this host loses excepted.

mod call;
mod claims;
mod component;
mod config;
mod host;
mod json;
mod label;
mod link;
mod provider;
mod server;

use std::pin::Pin;
use std::sync::Arc;

use serde::Serialize;
use trellis_protocol::control::{Ack, Envelope, Map, Request, parse};

use crate::host::Shared;

pub(crate) use server::{Server, SubscribeError};

/// The answer to a request.
enum Answer {
    /// Ready to be sent.
    Now(Vec<u8>),
    /// To be worked out beside other requests.
    Later(Pin<Box<dyn Future<Output = Vec<u8>> + Send>>),
    /// An auction that this host does not take part in.
    Silence,
}

/// A request to this host.
struct Asked<'a> {
    shared: &'a Arc<Shared>,
    /// What stands behind noun and verb: this host's id, or a configuration's name.
    argument: Option<&'a str>,
    body: &'a [u8],
    /// W3C trace context of whoever asks.
    traceparent: Option<Arc<str>>,
}

impl Asked<'_> {
    /// Reads the body, or says in one sentence why it cannot be read.
    fn parse<T: Request>(&self) -> Result<T, Answer> {
        parse(self.body).map_err(|error| refused(error.to_string()))
    }

    /// Refuses a body that means another host. Some clients leave the field empty.
    fn check_host(&self, host_id: &str) -> Result<(), Answer> {
        if host_id.is_empty() || host_id == &*self.shared.id {
            return Ok(());
        }
        Err(refused(format!(
            "the command is for the host `{host_id}`, this is `{}`",
            self.shared.id
        )))
    }

    /// Whether every constraint equals a label of this host.
    fn is_eligible(&self, constraints: &Map) -> bool {
        let labels = self.shared.labels();
        constraints
            .iter()
            .all(|(key, value)| labels.get(key) == Some(value))
    }
}

fn answer<T: Serialize>(response: T) -> Answer {
    Answer::Now(Envelope::answer(response).to_bytes())
}

fn accepted(message: impl Into<String>) -> Answer {
    Answer::Now(Ack::accepted(message).to_bytes())
}

fn refused(message: impl Into<String>) -> Answer {
    Answer::Now(Ack::refused(message).to_bytes())
}

/// An answer that is worked out beside other requests: what it is accepted or refused with.
fn later<F>(work: F) -> Answer
where
    F: Future<Output = Result<String, String>> + Send + 'static,
{
    Answer::Later(Box::pin(async move {
        match work.await {
            Ok(message) => Ack::accepted(message).to_bytes(),
            Err(reason) => Ack::refused(reason).to_bytes(),
        }
    }))
}

/// Routes a request to its module.
fn route(noun: &str, verb: &str, asked: &Asked<'_>) -> Answer {
    let answered = match (noun, verb) {
        ("host", "ping") => Ok(host::ping(asked)),
        ("host", "get") => Ok(host::inventory(asked)),
        ("host", "stop") => host::stop(asked),
        ("component", "auction") => component::auction(asked),
        ("component", "scale") => component::scale(asked),
        ("component", "update") => component::update(asked),
        ("component", "call") => call::call(asked),
        ("provider", "auction") => provider::auction(asked),
        ("provider", "start") => provider::start(asked),
        ("provider", "stop") => provider::stop(asked),
        ("link", "put") => link::put(asked),
        ("link", "del") => link::delete(asked),
        ("link", "get") => Ok(link::list(asked)),
        ("config", "put") => config::put(asked),
        ("config", "get") => config::get(asked),
        ("config", "del") => config::delete(asked),
        ("claims", "get") => Ok(claims::list(asked)),
        ("label", "put") => label::put(asked),
        ("label", "del") => label::delete(asked),
        _ => Err(refused(format!(
            "this host knows no control request `{noun}.{verb}`"
        ))),
    };
    answered.unwrap_or_else(|refusal| refusal)
}
