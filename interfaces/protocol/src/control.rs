//! What clients ask of hosts over the control subjects, and what hosts answer.
//!
//! The interface is `wasmbus.ctl.v1` of wasmCloud 1.x, so that its tools keep working: JSON with snake-case keys, an
//! optional key absent where there is nothing to say, unknown keys ignored. One module per noun:
//!
//! | module | subjects (`C` is the control prefix, see [`crate::subject`]) |
//! | --- | --- |
//! | [`host`] | `C.host.{ping,get,stop}`, `C.label.{put,del}` |
//! | [`component`] | `C.component.{auction,scale,update}` |
//! | [`provider`] | `C.provider.{auction,start,stop}` |
//! | [`lattice`] | `C.link.{put,del,get}`, `C.config.{put,get,del}`, `C.claims.get`, `C.registry.put` |
//! | [`delivery`] | `C.host.links.<host>`, of this project alone |
//! | [`call`] | `C.component.call.<host>`, of this project alone |
//! | [`observe`] | `C.component.{spy,logs}.<host>`, `C.host.stats.<host>`, of this project alone |
//! | [`proof`] | the signatures of commands and links |
//!
//! A host reads what it was sent with [`parse`], which checks sizes before and contents after decoding. Every answer is
//! an [`Envelope`]; a client reads it with [`parse_reply`].
//!
//! The types say what may be written, not what is true: whether a host exists or a link is allowed is for others.

pub mod call;
pub mod component;
pub mod delivery;
pub mod host;
pub mod lattice;
pub mod observe;
pub mod proof;
pub mod provider;

pub use call::{CallComponent, CallOperation, CallReply, FunctionCall, HttpCall, HttpReply};
pub use component::{
    ComponentAuction, ComponentAuctionAck, ComponentDescription, ScaleComponent, UpdateComponent,
};
pub use delivery::LinkEnd;
pub use host::{DeleteLabel, HostDescription, HostInventory, PutLabel, StopHost};
pub use lattice::{
    Configuration, DeleteLink, PublicClaims, RegistryCredential, RegistryCredentials,
};
pub use observe::{
    CallStats, ComponentStats, HostStats, Latency, LogRecord, ProviderStats, ReadLogs,
    SpyComponent, SpyRecord, Watched,
};
pub use proof::{LinkProof, ListedLink, SignedDeletion, SignedLink};
pub use provider::{
    ProviderAuction, ProviderAuctionAck, ProviderDescription, ProviderHealth, ProviderState,
    StartProvider, StopProvider,
};

use std::collections::BTreeMap;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// Largest body of a control request, in bytes.
///
/// Far above any real command, and below the 1 MiB that a NATS server lets pass unless configured otherwise.
pub const REQUEST_BYTES_MAX: usize = 256 * 1024;

/// Largest body of a control reply that a client reads, in bytes: a whole message at the server's usual ceiling.
pub const REPLY_BYTES_MAX: usize = 1024 * 1024;

/// Most entries of one map (annotations, constraints, labels, limits) in a request.
pub const MAP_ENTRIES_MAX: usize = 128;

/// Most names in one list (configurations) of a request.
pub const LIST_ENTRIES_MAX: usize = 64;

/// Longest key of a map in a request, in bytes.
pub const MAP_KEY_BYTES_MAX: usize = 256;

/// Longest value of a map other than a configuration, in bytes.
pub const MAP_VALUE_BYTES_MAX: usize = 4 * 1024;

/// Longest reference to a component or provider, in bytes.
pub const REFERENCE_BYTES_MAX: usize = 2 * 1024;

/// String to string, as annotations, labels, constraints and limits are.
pub type Map = BTreeMap<String, String>;

/// Why the body of a control message was not understood. One sentence, fit to be sent back as it is.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ControlError {
    /// The body is larger than its limit.
    #[error("cannot read the body: it has {bytes} bytes, at most {limit} are accepted")]
    TooLarge {
        /// Length of the body in bytes.
        bytes: usize,
        /// The limit in bytes.
        limit: usize,
    },
    /// The body is not JSON of the expected shape.
    #[error("cannot read the body: {reason}")]
    Malformed {
        /// What is missing or wrong, and where.
        reason: String,
    },
    /// The body has the right shape, but a value in it is not acceptable.
    #[error("`{field}` {reason}")]
    Invalid {
        /// The key at fault.
        field: &'static str,
        /// What is wrong with its value.
        reason: String,
    },
}

impl ControlError {
    pub(crate) fn invalid(field: &'static str, reason: impl Into<String>) -> Self {
        Self::Invalid {
            field,
            reason: reason.into(),
        }
    }
}

/// A body that a host accepts: decoded, then checked.
pub trait Request: DeserializeOwned {
    /// Checks what decoding alone does not: lengths and counts.
    ///
    /// # Errors
    /// [`ControlError::Invalid`] names the first key at fault.
    fn check(&self) -> Result<(), ControlError>;

    /// What an empty body means, where it means anything.
    fn of_empty_body() -> Option<Self> {
        None
    }
}

/// Reads the body of a request.
///
/// # Errors
/// [`ControlError`], whose text can be the message of the reply.
pub fn parse<T: Request>(body: &[u8]) -> Result<T, ControlError> {
    if body.len() > REQUEST_BYTES_MAX {
        return Err(ControlError::TooLarge {
            bytes: body.len(),
            limit: REQUEST_BYTES_MAX,
        });
    }
    if body.is_empty() {
        return T::of_empty_body().ok_or_else(|| ControlError::Malformed {
            reason: "it is empty".into(),
        });
    }
    let request: T = decode(body)?;
    request.check()?;
    Ok(request)
}

/// Reads a reply.
///
/// # Errors
/// [`ControlError::TooLarge`] beyond [`REPLY_BYTES_MAX`], [`ControlError::Malformed`] where it is no envelope of a `T`.
pub fn parse_reply<T: DeserializeOwned>(body: &[u8]) -> Result<Envelope<T>, ControlError> {
    if body.len() > REPLY_BYTES_MAX {
        return Err(ControlError::TooLarge {
            bytes: body.len(),
            limit: REPLY_BYTES_MAX,
        });
    }
    decode(body)
}

fn decode<T: DeserializeOwned>(body: &[u8]) -> Result<T, ControlError> {
    serde_json::from_slice(body).map_err(|error| ControlError::Malformed {
        reason: error.to_string(),
    })
}

/// What every reply is wrapped in.
///
/// A command is acknowledged before its work is done; the outcome is an event.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Envelope<T> {
    /// Whether the request was taken, or answered.
    pub success: bool,
    /// For people: why not, or what is worth knowing although it was.
    #[serde(default)]
    pub message: String,
    /// The answer. Its key is absent where there is none.
    #[serde(default = "none", skip_serializing_if = "Option::is_none")]
    pub response: Option<T>,
}

// `#[serde(default)]` alone would ask for `T: Default`, which an answer need not be.
fn none<T>() -> Option<T> {
    None
}

/// A reply without an answer: acknowledgements and refusals.
pub type Ack = Envelope<serde_json::Value>;

impl<T> Envelope<T> {
    /// The request is answered.
    pub fn answer(response: T) -> Self {
        Self {
            success: true,
            message: String::new(),
            response: Some(response),
        }
    }

    /// The request is accepted; the message may be empty, or hold what is worth knowing.
    pub fn accepted(message: impl Into<String>) -> Self {
        Self {
            success: true,
            message: message.into(),
            response: None,
        }
    }

    /// The request is refused, with the reason.
    pub fn refused(message: impl Into<String>) -> Self {
        Self {
            success: false,
            message: message.into(),
            response: None,
        }
    }

    /// The message's bytes.
    ///
    /// An answer that cannot be written as JSON (a map whose keys are no strings) becomes a refusal that says so; none
    /// of this module's types is one.
    pub fn to_bytes(&self) -> Vec<u8>
    where
        T: Serialize,
    {
        serde_json::to_vec(self).unwrap_or_else(|error| {
            let refusal = Ack::refused(format!("cannot write the answer: {error}"));
            serde_json::to_vec(&refusal).unwrap_or_default()
        })
    }
}

/// Writes a request's body.
///
/// # Errors
/// [`ControlError::Malformed`] where the value cannot be written as JSON, [`ControlError::TooLarge`] beyond
/// [`REQUEST_BYTES_MAX`]: a host would refuse it, so it is not sent.
pub fn to_bytes<T: Serialize>(request: &T) -> Result<Vec<u8>, ControlError> {
    let body = serde_json::to_vec(request).map_err(|error| ControlError::Malformed {
        reason: error.to_string(),
    })?;
    if body.len() > REQUEST_BYTES_MAX {
        return Err(ControlError::TooLarge {
            bytes: body.len(),
            limit: REQUEST_BYTES_MAX,
        });
    }
    Ok(body)
}

/// Checks a map: its count, and the length of its keys and values.
pub(crate) fn check_map(field: &'static str, map: &Map) -> Result<(), ControlError> {
    if map.len() > MAP_ENTRIES_MAX {
        let reason = format!(
            "has {} entries, at most {MAP_ENTRIES_MAX} are accepted",
            map.len()
        );
        return Err(ControlError::invalid(field, reason));
    }
    for (key, value) in map {
        if key.is_empty() || key.len() > MAP_KEY_BYTES_MAX {
            let reason = format!(
                "has a key of {} bytes, 1 to {MAP_KEY_BYTES_MAX} are accepted",
                key.len()
            );
            return Err(ControlError::invalid(field, reason));
        }
        if value.len() > MAP_VALUE_BYTES_MAX {
            let reason = format!(
                "has a value of {} bytes, at most {MAP_VALUE_BYTES_MAX} are accepted",
                value.len()
            );
            return Err(ControlError::invalid(field, reason));
        }
    }
    Ok(())
}

/// Checks a list of configuration names.
pub(crate) fn check_config_names(
    field: &'static str,
    names: &[String],
) -> Result<(), ControlError> {
    if names.len() > LIST_ENTRIES_MAX {
        let reason = format!(
            "has {} names, at most {LIST_ENTRIES_MAX} are accepted",
            names.len()
        );
        return Err(ControlError::invalid(field, reason));
    }
    names.iter().try_for_each(|name| {
        lattice::check_config_name(name).map_err(|reason| ControlError::invalid(field, reason))
    })
}

/// Checks a reference to a component or provider: one line of text that is not empty.
pub(crate) fn check_reference(field: &'static str, reference: &str) -> Result<(), ControlError> {
    if reference.is_empty() || reference.len() > REFERENCE_BYTES_MAX {
        let reason = format!(
            "has {} bytes, 1 to {REFERENCE_BYTES_MAX} are accepted",
            reference.len()
        );
        return Err(ControlError::invalid(field, reason));
    }
    if reference.chars().any(char::is_control) {
        return Err(ControlError::invalid(field, "holds a control character"));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
