//! What hosts tell a lattice about itself: CloudEvents 1.0 in structured JSON, one message each, no reply.
//!
//! [`Subjects::event`](crate::subject::Subjects::event) says where an event is published; its `type` is
//! `com.wasmcloud.lattice.<event>` and its `source` the public key of the host it is about. [`encode`] writes one,
//! [`Event::parse`] reads any, known or not: other hosts and later versions publish events that a reader passes over.
//!
//! Anyone may publish on these subjects, so an event is news, never proof.

mod data;

pub use data::{
    ComponentClaims, ComponentProgress, ComponentScaleFailed, ComponentScaled, ConfigChanged,
    EventData, Fetched, HealthCheck, HostStarted, HostStopped, LabelsChanged, LinkDeleted,
    LinkSetFailed, ProviderClaims, ProviderProgress, ProviderStartFailed, ProviderStarted,
    ProviderStopped,
};

use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;
use uuid::Uuid;

/// What the `type` of each event begins with.
pub const TYPE_PREFIX: &str = "com.wasmcloud.lattice.";

/// Largest event that a reader takes, in bytes: a whole message at a NATS server's usual ceiling.
pub const EVENT_BYTES_MAX: usize = 1024 * 1024;

/// Longest `source`, `id` or name of an event that a reader takes, in bytes.
pub const ATTRIBUTE_BYTES_MAX: usize = 256;

/// Why a message is no event.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EventError {
    /// It is larger than [`EVENT_BYTES_MAX`], or an attribute than [`ATTRIBUTE_BYTES_MAX`].
    #[error("cannot read the event: {what} has {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// What is too large.
        what: &'static str,
        /// Its length in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// It is not a CloudEvent in JSON.
    #[error("cannot read the event: {reason}")]
    Malformed {
        /// What is missing or wrong.
        reason: String,
    },
    /// It is a CloudEvent of something else than a lattice.
    #[error("`{found}` is not an event of a lattice")]
    ForeignType {
        /// The `type` it has.
        found: String,
    },
    /// It is a lattice's event, but its data is not what its name promises.
    #[error("cannot read the data of `{name}`: {reason}")]
    Data {
        /// The event's name.
        name: String,
        /// What is missing or wrong.
        reason: String,
    },
}

/// The structured form, attribute by attribute.
#[derive(Serialize, Deserialize)]
struct CloudEvent<'a> {
    specversion: std::borrow::Cow<'a, str>,
    id: std::borrow::Cow<'a, str>,
    #[serde(rename = "type")]
    kind: std::borrow::Cow<'a, str>,
    source: std::borrow::Cow<'a, str>,
    #[serde(default)]
    time: std::borrow::Cow<'a, str>,
    #[serde(default = "json_type")]
    datacontenttype: std::borrow::Cow<'a, str>,
    #[serde(default)]
    data: serde_json::Value,
}

fn json_type() -> std::borrow::Cow<'static, str> {
    "application/json".into()
}

/// Writes an event: what happened, the public key of the host it is about, when, and a unique id.
pub fn encode(data: &EventData, source: &str, time: SystemTime, id: Uuid) -> Vec<u8> {
    let event = CloudEvent {
        specversion: "1.0".into(),
        id: id.to_string().into(),
        kind: format!("{TYPE_PREFIX}{}", data.name()).into(),
        source: source.into(),
        // A clock beyond the year 9999 has no RFC 3339 form; the attribute is then empty rather than invented.
        time: OffsetDateTime::from(time)
            .format(&Rfc3339)
            .unwrap_or_default()
            .into(),
        datacontenttype: json_type(),
        data: data.to_json(),
    };
    serde_json::to_vec(&event).expect("maps with string keys and finite numbers are always JSON")
}

/// An event as it was read.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// What happened: `host_started`, `component_scaled` …, the end of the `type`.
    pub name: String,
    /// Public key of the host it is about, by its publisher's word.
    pub source: String,
    /// Unique id.
    pub id: String,
    /// When, in RFC 3339; empty where the publisher did not say.
    pub time: String,
    /// The data as it came.
    pub data: serde_json::Value,
}

impl Event {
    /// Reads a message of the event subjects.
    ///
    /// # Errors
    /// [`EventError`] where it is too large, no CloudEvent, or not of a lattice. An unknown name is no error.
    pub fn parse(message: &[u8]) -> Result<Self, EventError> {
        check("the message", message.len(), EVENT_BYTES_MAX)?;
        let event: CloudEvent<'_> =
            serde_json::from_slice(message).map_err(|error| EventError::Malformed {
                reason: error.to_string(),
            })?;
        for (what, text) in [
            ("`type`", &event.kind),
            ("`source`", &event.source),
            ("`id`", &event.id),
            ("`time`", &event.time),
        ] {
            check(what, text.len(), ATTRIBUTE_BYTES_MAX)?;
        }
        let Some(name) = event.kind.strip_prefix(TYPE_PREFIX) else {
            return Err(EventError::ForeignType {
                found: event.kind.into_owned(),
            });
        };
        Ok(Self {
            name: name.to_owned(),
            source: event.source.into_owned(),
            id: event.id.into_owned(),
            time: event.time.into_owned(),
            data: event.data,
        })
    }

    /// The data by its type; `None` where the name is not one of ours.
    ///
    /// # Errors
    /// [`EventError::Data`] where the name is known and the data does not fit it.
    pub fn typed(&self) -> Result<Option<EventData>, EventError> {
        EventData::from_json(&self.name, &self.data)
    }
}

fn check(what: &'static str, bytes: usize, limit: usize) -> Result<(), EventError> {
    if bytes > limit {
        return Err(EventError::TooLarge { what, bytes, limit });
    }
    Ok(())
}

#[cfg(test)]
mod tests;
