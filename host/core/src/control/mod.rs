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
mod logs;
mod proof;
mod provider;
mod registry;
mod server;
mod spy;
mod stats;
mod watch;

use std::pin::Pin;
use std::sync::Arc;

use futures::stream::BoxStream;
use serde::Serialize;
use trellis_protocol::control::{Ack, Envelope, Map, Request, parse};

use crate::host::HostInner;
use crate::limits::ANNOTATIONS_BYTES_MAX;

pub(crate) use proof::Signatures;
pub(crate) use server::{Server, SubscribeError};

/// The answer to a request.
enum Answer {
    /// Ready to be sent.
    Now(Vec<u8>),
    /// To be worked out beside other requests.
    Later(Pin<Box<dyn Future<Output = Vec<u8>> + Send>>),
    /// One after the other, each an envelope of its own. They end when the host leaves, with a farewell.
    Many { records: Records, farewell: Vec<u8> },
    /// An auction that this host does not take part in.
    Silence,
}

/// Answers that come one after the other.
type Records = BoxStream<'static, Vec<u8>>;

/// A request to this host.
struct Asked<'a> {
    shared: &'a Arc<HostInner>,
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

    /// The annotations that a command gives, which are shown in the inventory and in events.
    fn annotations(annotations: Option<Map>) -> Result<Map, Answer> {
        let annotations = annotations.unwrap_or_default();
        check_annotations(&annotations).map_err(refused)?;
        Ok(annotations)
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

/// What a host that leaves still answers: questions, and what is the lattice's and not its own. Commands for itself it
/// refuses, so that nobody waits for an outcome that never comes.
fn leaving(noun: &str, verb: &str, asked: &Asked<'_>) -> Answer {
    match (noun, verb) {
        ("component" | "provider", "auction") => Answer::Silence,
        ("link" | "config" | "claims", _)
        | ("host", "ping" | "get" | "stop" | "links" | "stats") => route(noun, verb, asked),
        _ => refused(format!(
            "the host `{}` is leaving the lattice and takes no more commands",
            asked.shared.id
        )),
    }
}

/// Routes a request to its module.
fn route(noun: &str, verb: &str, asked: &Asked<'_>) -> Answer {
    if let Err(refusal) = check_argument(noun, verb, asked.argument) {
        return refusal;
    }
    let answered = match (noun, verb) {
        ("host", "ping") => Ok(host::ping(asked)),
        ("host", "get") => Ok(host::inventory(asked)),
        ("host", "links") => Ok(host::links(asked)),
        ("host", "stats") => Ok(stats::stats(asked)),
        ("host", "stop") => host::stop(asked),
        ("registry", "put") => registry::put(asked),
        ("component", "auction") => component::auction(asked),
        ("component", "scale") => component::scale(asked),
        ("component", "update") => component::update(asked),
        ("component", "call") => call::call(asked),
        ("component", "spy") => spy::spy(asked),
        ("component", "logs") => logs::logs(asked),
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
        _ => Err(unknown(noun, verb)),
    };
    answered.unwrap_or_else(|refusal| refusal)
}

fn check_annotations(annotations: &Map) -> Result<(), String> {
    let texts = annotations.iter().flat_map(|(key, value)| [key, value]);
    match texts.map(String::len).sum() {
        0..=ANNOTATIONS_BYTES_MAX => Ok(()),
        bytes => Err(format!(
            "`annotations` has {bytes} bytes in all, at most {ANNOTATIONS_BYTES_MAX} are accepted"
        )),
    }
}

fn unknown(noun: &str, verb: &str) -> Answer {
    refused(format!(
        "this host knows no control request `{noun}.{verb}` on this subject"
    ))
}

/// Refuses what is asked of everybody on a subject of one host: an auction that a host is silent about would look lost.
fn check_argument(noun: &str, verb: &str, argument: Option<&str>) -> Result<(), Answer> {
    let is_for_all = matches!(
        (noun, verb),
        ("host", "ping") | ("component" | "provider", "auction")
    ) || matches!(noun, "link" | "claims" | "registry");
    if is_for_all == argument.is_none() {
        return Ok(());
    }
    Err(unknown(noun, verb))
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;

    #[test]
    fn annotations_fill_their_bytes_and_one_more_is_refused() {
        let whole = Map::from([("k".to_owned(), "v".repeat(ANNOTATIONS_BYTES_MAX - 1))]);
        assert_eq!(check_annotations(&whole), Ok(()));
        let mut more = whole;
        more.insert("l".to_owned(), String::new());
        let refused = check_annotations(&more).unwrap_err();
        assert_eq!(
            refused,
            "`annotations` has 16385 bytes in all, at most 16384 are accepted"
        );
    }
}
