//! What the provider and its links can be configured with.
//!
//! | key | where | default | meaning |
//! | --- | --- | --- | --- |
//! | `cluster_uris` | provider, link | none: one of both must name it | URLs of the NATS servers, separated by commas |
//! | `credentials` | provider, link | none | contents of a creds file |
//! | `client_jwt`, `client_seed` | provider, link | none | the same in two values; a seed alone is an nkey |
//! | `tls_ca_file` | provider, link | the system's | further root certificates, a PEM file |
//! | `js_domain` | provider, link | none | JetStream domain |
//! | `publish_subjects` | link of a sender | all but reserved ones | the subjects it may publish to, separated by commas |
//! | `publish_ack` | link of a sender | `server` | who confirms a published message: `server`, or the `stream` that keeps it |
//! | `subscriptions` | link to a receiver | | subjects, separated by commas, each `subject` or `subject\|queue` |
//! | `stream`, `consumer` | link to a receiver | | a JetStream pull consumer, instead of or beside `subscriptions` |
//! | `max_in_flight` | link to a receiver | 16 | messages that the actor handles at once, for each subscription |
//! | `timeout_ms` | link to a receiver | 30000 | time that the actor has for one message |
//!
//! `cluster_uri` is read as `cluster_uris`. A link that names servers of its own brings credentials of its own: the
//! provider's are never sent to a server that a link names. An empty value counts as none.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use trellis_nats_connection::{SERVER_KEYS, Server};
use trellis_protocol::limits::{DEADLINE_DEFAULT, DEADLINE_MAX};
use trellis_provider_sdk::settings::{given, known};

use crate::subject::Pattern;

pub use trellis_provider_sdk::ConfigError;

/// Most subjects in one list.
pub const SUBJECTS_MAX: usize = 64;

/// Messages that an actor handles at once, where a link says nothing.
pub const IN_FLIGHT_DEFAULT: usize = 16;

/// Most messages that an actor handles at once for one subscription.
pub const IN_FLIGHT_MAX: usize = 256;

/// Longest name of a queue group, stream or consumer, in bytes.
pub const NAME_BYTES_MAX: usize = 128;

const SHARED_KEYS: &[&str] = &["js_domain"];
const SENDER_KEYS: &[&str] = &["publish_subjects", "publish_ack"];
const RECEIVER_KEYS: &[&str] = &[
    "subscriptions",
    "stream",
    "consumer",
    "max_in_flight",
    "timeout_ms",
];

/// What the provider's configuration gives to links that do not say otherwise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Defaults {
    server: Option<Server>,
    js_domain: Option<String>,
}

/// Who confirms that a message was published.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PublishAck {
    /// The server has read it, and handed it to whoever listens at that moment.
    Server,
    /// A JetStream stream has kept it.
    Stream,
}

/// What an actor that sends may do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SenderConfig {
    /// Where its messages go.
    pub server: Server,
    /// The subjects it may publish to; `None` for all that are not reserved.
    pub subjects: Option<Vec<Pattern>>,
    /// Who confirms.
    pub ack: PublishAck,
}

/// Where messages come from.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Source {
    /// A subject of core NATS.
    Subject {
        /// The subject, which may have wildcards.
        subject: Pattern,
        /// The queue group whose members share the messages.
        queue: Option<String>,
    },
    /// A pull consumer of JetStream.
    Consumer {
        /// In which JetStream domain.
        js_domain: Option<String>,
        /// The stream.
        stream: String,
        /// The consumer.
        consumer: String,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Subject {
                subject,
                queue: None,
            } => f.write_str(subject.as_str()),
            Self::Subject {
                subject,
                queue: Some(queue),
            } => write!(f, "{}|{queue}", subject.as_str()),
            Self::Consumer {
                stream, consumer, ..
            } => write!(f, "stream {stream}, consumer {consumer}"),
        }
    }
}

/// What reaches an actor that receives.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiverConfig {
    /// Where the messages come from.
    pub server: Server,
    /// Which ones.
    pub sources: Vec<Source>,
    /// Messages that it handles at once, for each source.
    pub max_in_flight: usize,
    /// Time that it has for one message.
    pub timeout: Duration,
}

impl Defaults {
    /// Reads the provider's configuration.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is unknown or malformed.
    pub fn read(config: &BTreeMap<String, String>) -> Result<Self, ConfigError> {
        known(config, &[SERVER_KEYS, SHARED_KEYS])?;
        Ok(Self {
            server: Server::read(config)?,
            js_domain: name(config, "js_domain")?,
        })
    }

    fn server(&self, config: &BTreeMap<String, String>) -> Result<Server, ConfigError> {
        match Server::read(config)?.or_else(|| self.server.clone()) {
            Some(server) => Ok(server),
            None => Err(ConfigError::new(
                "cluster_uris",
                "neither the link nor the provider names the servers",
            )),
        }
    }
}

impl SenderConfig {
    /// Reads the configuration of a link by which an actor sends, over the provider's.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is unknown or malformed.
    pub fn read(
        config: &BTreeMap<String, String>,
        defaults: &Defaults,
    ) -> Result<Self, ConfigError> {
        known(config, &[SERVER_KEYS, SHARED_KEYS, SENDER_KEYS])?;
        // Taken so that both ends can share a configuration; publishing needs none.
        name(config, "js_domain")?;
        Ok(Self {
            server: defaults.server(config)?,
            subjects: list(config, "publish_subjects")?
                .map(|subjects| {
                    subjects
                        .into_iter()
                        .map(|subject| pattern("publish_subjects", subject))
                        .collect()
                })
                .transpose()?,
            ack: match given(config, "publish_ack") {
                None | Some("server") => PublishAck::Server,
                Some("stream") => PublishAck::Stream,
                Some(_) => {
                    return Err(ConfigError::new(
                        "publish_ack",
                        "neither `server` nor `stream`",
                    ));
                }
            },
        })
    }

    /// Whether the actor may publish to a subject by this configuration alone.
    pub(crate) fn allows(&self, subject: &str) -> bool {
        match &self.subjects {
            None => !crate::subject::is_reserved(subject),
            Some(patterns) => patterns.iter().any(|pattern| pattern.names(subject)),
        }
    }
}

impl ReceiverConfig {
    /// Reads the configuration of a link to an actor that receives, over the provider's.
    ///
    /// # Errors
    /// [`ConfigError`] for the first key that is unknown, malformed or missing.
    pub fn read(
        config: &BTreeMap<String, String>,
        defaults: &Defaults,
    ) -> Result<Self, ConfigError> {
        known(config, &[SERVER_KEYS, SHARED_KEYS, RECEIVER_KEYS])?;
        let js_domain = name(config, "js_domain")?;
        let mut sources = Vec::new();
        for text in list(config, "subscriptions")?.unwrap_or_default() {
            let source = subscription(text)?;
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        match (name(config, "stream")?, name(config, "consumer")?) {
            (Some(stream), Some(consumer)) => sources.push(Source::Consumer {
                js_domain: js_domain.or_else(|| defaults.js_domain.clone()),
                stream,
                consumer,
            }),
            (None, None) => {}
            (Some(_), None) => {
                return Err(ConfigError::new("consumer", "missing beside `stream`"));
            }
            (None, Some(_)) => {
                return Err(ConfigError::new("stream", "missing beside `consumer`"));
            }
        }
        if sources.is_empty() {
            return Err(ConfigError::new(
                "subscriptions",
                "without subjects, and without `stream` and `consumer`, no message would ever come",
            ));
        }
        let in_flight = number(config, "max_in_flight", 1..=IN_FLIGHT_MAX as u64)?;
        let timeout_ms = DEADLINE_MAX.as_millis().try_into().unwrap_or(u64::MAX);
        let timeout = number(config, "timeout_ms", 1..=timeout_ms)?;
        Ok(Self {
            server: defaults.server(config)?,
            sources,
            max_in_flight: in_flight
                .and_then(|number| usize::try_from(number).ok())
                .unwrap_or(IN_FLIGHT_DEFAULT),
            timeout: timeout.map_or(DEADLINE_DEFAULT, Duration::from_millis),
        })
    }
}

fn list<'a>(
    config: &'a BTreeMap<String, String>,
    key: &str,
) -> Result<Option<Vec<&'a str>>, ConfigError> {
    let Some(text) = given(config, key) else {
        return Ok(None);
    };
    let items: Vec<_> = text.split(',').map(str::trim).collect();
    match items.len() <= SUBJECTS_MAX {
        true => Ok(Some(items)),
        false => Err(ConfigError::new(
            key,
            format!("at most {SUBJECTS_MAX} subjects"),
        )),
    }
}

fn pattern(key: &str, text: &str) -> Result<Pattern, ConfigError> {
    Pattern::new(text).map_err(|error| ConfigError::new(key, error.to_string()))
}

fn subscription(text: &str) -> Result<Source, ConfigError> {
    let (subject, queue) = match text.split_once('|') {
        Some((subject, queue)) => (subject.trim(), Some(queue.trim())),
        None => (text, None),
    };
    if queue.is_some_and(|queue| !is_name(queue)) {
        return Err(ConfigError::new(
            "subscriptions",
            format!(
                "a queue group's name has 1 to {NAME_BYTES_MAX} letters, digits, `-`, `_` and `.`"
            ),
        ));
    }
    Ok(Source::Subject {
        subject: pattern("subscriptions", subject)?,
        queue: queue.map(str::to_owned),
    })
}

fn name(config: &BTreeMap<String, String>, key: &str) -> Result<Option<String>, ConfigError> {
    match given(config, key) {
        None => Ok(None),
        // Dots are for queue groups alone.
        Some(text) if is_name(text) && !text.contains('.') => Ok(Some(text.to_owned())),
        Some(_) => Err(ConfigError::new(
            key,
            format!("a name has 1 to {NAME_BYTES_MAX} letters, digits, `-` and `_`"),
        )),
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= NAME_BYTES_MAX
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.'))
}

fn number(
    config: &BTreeMap<String, String>,
    key: &str,
    range: std::ops::RangeInclusive<u64>,
) -> Result<Option<u64>, ConfigError> {
    let Some(text) = given(config, key) else {
        return Ok(None);
    };
    match text.parse() {
        Ok(number) if range.contains(&number) => Ok(Some(number)),
        _ => Err(ConfigError::new(
            key,
            format!(
                "not a whole number from {} to {}",
                range.start(),
                range.end()
            ),
        )),
    }
}

#[cfg(test)]
mod tests;
