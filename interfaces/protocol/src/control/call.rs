//! Calling an actor from outside the lattice: `C.component.call.<host>`, which this project adds to the interface.
//!
//! The host that is asked calls its own actor in the caller's name, refuses without a grant, and audits both. Arguments
//! and result of a function are JSON, which the host maps by the function's WIT type; this crate does not look inside.
//!
//! ```text
//! {"component_id":"hello","operation":{"http":{"method":"GET","path":"/","headers":[],"body":""}}}
//!   → {"success":true,"message":"","response":{"http":{"status":200,"headers":[["content-type","text/plain"]],"body":"aGk="}}}
//! {"component_id":"codes","operation":{"function":{"interface":"demo:codes/maker","function":"make","args":[6]}}}
//!   → {"success":true,"message":"","response":{"result":"k3j9x2"}}
//! ```

use std::fmt;

use bytes::Bytes;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::{ControlError, Request};
use crate::id::EntityId;
use crate::limits::{FUNCTION_BYTES_MAX, HTTP_FIELDS_MAX, INTERFACE_BYTES_MAX};

/// Longest method of an HTTP call, in bytes.
pub const METHOD_BYTES_MAX: usize = 32;

/// Longest path with query of an HTTP call, in bytes.
pub const PATH_BYTES_MAX: usize = 8 * 1024;

/// Most arguments of a function call.
pub const ARGUMENTS_MAX: usize = 64;

/// Largest body of an HTTP reply that fits a control reply, in bytes: base64 makes three bytes four, and the head needs
/// room too.
pub const REPLY_BODY_BYTES_MAX: usize = super::REPLY_BYTES_MAX / 4 * 3 - 64 * 1024;

/// Call an actor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CallComponent {
    /// The actor to call.
    pub component_id: EntityId,
    /// What to call on it.
    pub operation: CallOperation,
    /// Milliseconds that the caller waits; the usual deadline where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deadline_ms: Option<u32>,
}

/// What to call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallOperation {
    /// Its HTTP handler.
    Http(HttpCall),
    /// A function that it exports.
    Function(FunctionCall),
}

/// An HTTP request with its whole body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpCall {
    /// `GET`, `POST` …
    pub method: String,
    /// Path and query, beginning with `/`.
    pub path: String,
    /// The authority (`Host`) it is addressed to; the host chooses one where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Fields in order, names as often as they occur.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Base64,
}

/// A function with its arguments.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FunctionCall {
    /// `namespace:package/interface`, with or without `@version`.
    pub interface: String,
    /// The function's name as WIT spells it.
    pub function: String,
    /// The arguments in order, as JSON.
    #[serde(default)]
    pub args: Vec<serde_json::Value>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CallReply {
    /// The HTTP response.
    Http(HttpReply),
    /// The function's result as JSON; `null` where it has none.
    Result(serde_json::Value),
}

/// An HTTP response with its whole body.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpReply {
    /// The status.
    pub status: u16,
    /// Fields in order, names as often as they occur.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
    /// The body.
    #[serde(default)]
    pub body: Base64,
}

impl Request for CallComponent {
    fn check(&self) -> Result<(), ControlError> {
        match &self.operation {
            CallOperation::Http(call) => {
                check_length("method", &call.method, METHOD_BYTES_MAX)?;
                check_length("path", &call.path, PATH_BYTES_MAX)?;
                if !call.path.starts_with('/') {
                    return Err(ControlError::invalid("path", "must begin with `/`"));
                }
                if call.headers.len() > HTTP_FIELDS_MAX {
                    let reason = format!(
                        "has {} fields, at most {HTTP_FIELDS_MAX} are accepted",
                        call.headers.len()
                    );
                    return Err(ControlError::invalid("headers", reason));
                }
                Ok(())
            }
            CallOperation::Function(call) => {
                check_length("interface", &call.interface, INTERFACE_BYTES_MAX)?;
                check_length("function", &call.function, FUNCTION_BYTES_MAX)?;
                if call.args.len() > ARGUMENTS_MAX {
                    let reason = format!(
                        "has {} values, at most {ARGUMENTS_MAX} are accepted",
                        call.args.len()
                    );
                    return Err(ControlError::invalid("args", reason));
                }
                Ok(())
            }
        }
    }
}

fn check_length(field: &'static str, text: &str, limit: usize) -> Result<(), ControlError> {
    if text.is_empty() || text.len() > limit {
        let reason = format!("has {} bytes, 1 to {limit} are accepted", text.len());
        return Err(ControlError::invalid(field, reason));
    }
    Ok(())
}

/// Bytes that travel in JSON: base64 with padding (RFC 4648, section 4).
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Base64(pub Bytes);

impl fmt::Debug for Base64 {
    /// Shows the length: a body may be long, and private.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

impl Serialize for Base64 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&data_encoding::BASE64.encode(&self.0))
    }
}

impl<'de> Deserialize<'de> for Base64 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        data_encoding::BASE64
            .decode(text.as_bytes())
            .map(|bytes| Self(Bytes::from(bytes)))
            .map_err(|error| serde::de::Error::custom(format!("not base64: {error}")))
    }
}
