//! Looking at what a host does: `C.component.spy.<host>`, `C.component.logs.<host>` and `C.host.stats.<host>`, which this
//! project adds to the interface.
//!
//! *Spy* and *logs* are answered by a series of messages to the request's reply subject. The first is the acknowledgement
//! or the refusal, each further one an envelope whose `response` is a [`Watched`]: a record, or the end with its reason.
//! A host sends for at most [`WITHIN_MAX`]; whoever wants to go on asks again. It never waits for a reader: what exceeds
//! its queue or its rate is dropped, counted, and said in the next record or the end. Every few seconds it sends an envelope
//! without `response`, by which each side knows whether the other is still there.
//!
//! Both show what callers and actors say to each other, so both need a link from `wash` to the id that is watched, for
//! `trellis:observe` with the interface `spy` or `logs` ([`OBSERVE_NAMESPACE`], [`OBSERVE_PACKAGE`]). *Stats* are numbers
//! and need none, as the inventory.
//!
//! ```text
//! C.component.spy.<host>   {"component_id":"hello","within_ms":10000}
//!   → {"success":true,"message":"…"}
//!   → {"success":true,"message":"","response":{"time":"2026-11-22T14:00:00.123Z","invocation_id":"…","direction":"in",
//!      "source":"http","target":"hello","operation":"wasi:http/incoming-handler#handle","link":"default","host":"N…",
//!      "depth":0,"outcome":"ok","micros":412,"request":{"http":{…}},"response":{"http":{…}}}}
//!   → {"success":true,"message":"","response":{"end":"time","dropped":0}}
//! ```

mod stats;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use stats::{
    CallStats, ComponentStats, HostStats, LATENCY_BOUNDS_MICROS, Latency, ProcessStats,
    ProviderStats,
};

use super::{ControlError, Request};
use crate::id::EntityId;

/// Namespace of the interfaces that stand for leave to watch.
pub const OBSERVE_NAMESPACE: &str = "trellis";

/// Package of the interfaces that stand for leave to watch.
pub const OBSERVE_PACKAGE: &str = "observe";

/// The interface that a link names to let `wash` spy on its target.
pub const SPY_INTERFACE: &str = "spy";

/// The interface that a link names to let `wash` read the log of its target.
pub const LOGS_INTERFACE: &str = "logs";

/// Longest time for which one request is answered.
pub const WITHIN_MAX: Duration = Duration::from_secs(60);

/// How often a host says that it is still there, where it has nothing else to say: by an envelope without `response`. Where
/// nobody listens any more the series ends.
pub const BEAT_INTERVAL: Duration = Duration::from_secs(3);

/// Lines that a host keeps of each actor's log, for the first answer.
pub const RECENT_LINES_MAX: u32 = 256;

/// Largest arguments or result shown in a spy's record, in bytes of JSON. What is longer is cut there.
pub const SHOWN_BYTES_MAX: usize = 4 * 1024;

/// What stands in the place of a value that is nobody's business.
pub const HIDDEN: &str = "(hidden)";

/// Watch the invocations of an actor or a provider.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SpyComponent {
    /// The actor or provider, on the host that is asked.
    pub component_id: EntityId,
    /// Milliseconds for which records are sent, at most [`WITHIN_MAX`], which is taken where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u32>,
    /// Only calls of this direction; both where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub direction: Option<Direction>,
    /// Whether arguments and results are left out.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub heads_only: bool,
}

/// Read the log of an actor.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReadLogs {
    /// The actor, on the host that is asked.
    pub component_id: EntityId,
    /// Milliseconds for which further lines are sent, at most [`WITHIN_MAX`]. Zero, or absent: only the lines that are kept.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub within_ms: Option<u32>,
    /// How many of the kept lines are wanted, the latest; all [`RECENT_LINES_MAX`] where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<u32>,
    /// Only lines after this one: the [`LogRecord::sequence`] of the last one that was read, to go on without a gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
}

impl Request for SpyComponent {
    fn check(&self) -> Result<(), ControlError> {
        check_within(self.within_ms)
    }
}

impl Request for ReadLogs {
    fn check(&self) -> Result<(), ControlError> {
        check_within(self.within_ms)
    }
}

fn check_within(within_ms: Option<u32>) -> Result<(), ControlError> {
    let most = WITHIN_MAX.as_millis();
    match within_ms {
        Some(within_ms) if u128::from(within_ms) > most => Err(ControlError::invalid(
            "within_ms",
            format!("is {within_ms}, at most {most} are accepted; ask again to go on"),
        )),
        _ => Ok(()),
    }
}

/// Which way a call went, seen from the one who is watched.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Somebody called it.
    In,
    /// It called somebody.
    Out,
}

/// One message of a series.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Watched<T> {
    /// The last one.
    End(End),
    /// What was seen.
    Record(T),
}

/// The end of a series.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Why.
    pub end: EndReason,
    /// Records that were dropped since the last one that was sent.
    #[serde(default)]
    pub dropped: u64,
}

/// Why a series ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EndReason {
    /// The time that was asked for is over; nothing more was asked for.
    Time,
    /// The host is shutting down.
    HostStopping,
    /// For a reason that this version does not know.
    #[serde(other)]
    Other,
}

/// One invocation, as a spy sees it once it has ended.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SpyRecord {
    /// When it ended, in RFC 3339.
    pub time: String,
    /// Its id, 32 hex digits.
    pub invocation_id: String,
    /// The trace that it belongs to, 32 hex digits, where it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// Which way it went, seen from the one who is watched.
    pub direction: Direction,
    /// The caller.
    pub source: String,
    /// The callee.
    pub target: String,
    /// `namespace:package/interface#function`.
    pub operation: String,
    /// The link's name.
    pub link: String,
    /// Public key of the host that saw it.
    pub host: String,
    /// How many calls it is nested in.
    pub depth: u8,
    /// `ok`, or the code of the refusal.
    pub outcome: String,
    /// What the refusal says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub refusal: Option<String>,
    /// Microseconds from its beginning to its result; with HTTP, to the head of the response.
    pub micros: u64,
    /// What was asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<Shown>,
    /// What was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub response: Option<Shown>,
    /// Records that were dropped between the last one that was sent and this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// Arguments or a result, made readable.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shown {
    /// Arguments (an array) or a result, as JSON by the function's WIT type.
    Value(serde_json::Value),
    /// As JSON without names, because this host does not know the type.
    Untyped(serde_json::Value),
    /// The head of an HTTP request or response.
    Http(ShownHttp),
    /// Longer than [`SHOWN_BYTES_MAX`]: the beginning of its JSON.
    Cut {
        /// The beginning.
        text: String,
        /// Bytes of the whole.
        bytes: u64,
    },
    /// Not looked into: too large, or not readable.
    Opaque {
        /// Its bytes.
        bytes: u64,
    },
}

/// The head of an HTTP message. Values of fields that carry credentials are [`HIDDEN`].
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShownHttp {
    /// Of a request: the method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Of a request: the authority, where it names one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<String>,
    /// Of a request: path and query.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
    /// Of a response: the status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// Fields in order.
    #[serde(default)]
    pub headers: Vec<(String, String)>,
}

/// One line of an actor's log.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogRecord {
    /// When it was written, in RFC 3339.
    pub time: String,
    /// Counts the lines of this actor on this host. A gap says how many were dropped.
    pub sequence: u64,
    /// `trace`, `debug`, `info`, `warn`, `error` or `critical`; of standard output `info`, of standard error `warn`.
    pub level: String,
    /// The actor.
    pub actor: String,
    /// Public key of the host.
    pub host: String,
    /// The invocation during which it was written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invocation_id: Option<String>,
    /// The trace that the invocation belongs to, where it belongs to one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace_id: Option<String>,
    /// How it was written.
    pub stream: LogStream,
    /// With `wasi:logging`: its context, where it is not empty.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub context: Option<String>,
    /// The line.
    pub message: String,
    /// Records that were dropped between the last one that was sent and this one.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub dropped: u64,
}

/// On which way a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
    /// `wasi:logging`.
    Log,
    /// The host, about the actor: that it trapped, or reached a limit.
    Host,
}

#[expect(
    clippy::trivially_copy_pass_by_ref,
    reason = "the shape that serde asks for"
)]
fn is_zero(number: &u64) -> bool {
    *number == 0
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests {
    use super::*;
    use crate::control::{Envelope, parse, parse_reply};

    #[test]
    fn a_spy_is_asked_for_by_an_id_alone() {
        let asked: SpyComponent = parse(br#"{"component_id":"hello"}"#).unwrap();
        assert_eq!(asked.component_id.as_str(), "hello");
        assert_eq!(
            (asked.within_ms, asked.direction, asked.heads_only),
            (None, None, false)
        );
        let text = serde_json::to_string(&asked).unwrap();
        assert_eq!(text, r#"{"component_id":"hello"}"#);
    }

    #[test]
    fn a_minute_is_accepted_and_a_millisecond_more_is_not() {
        assert!(parse::<SpyComponent>(br#"{"component_id":"a","within_ms":60000}"#).is_ok());
        let refused = parse::<ReadLogs>(br#"{"component_id":"a","within_ms":60001}"#).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "`within_ms` is 60001, at most 60000 are accepted; ask again to go on"
        );
    }

    #[test]
    fn the_end_of_a_series_is_told_from_a_record() {
        let end = br#"{"success":true,"message":"","response":{"end":"time","dropped":3}}"#;
        let reply: Envelope<Watched<LogRecord>> = parse_reply(end).unwrap();
        let end = End {
            end: EndReason::Time,
            dropped: 3,
        };
        assert_eq!(reply.response, Some(Watched::End(end)));

        let line = br#"{"success":true,"response":{"time":"t","sequence":7,"level":"info","actor":"a","host":"N","stream":"stdout","message":"hi"}}"#;
        let reply: Envelope<Watched<LogRecord>> = parse_reply(line).unwrap();
        assert!(matches!(reply.response, Some(Watched::Record(line)) if line.sequence == 7));
    }

    #[test]
    fn a_reason_of_a_later_version_is_an_end_all_the_same() {
        let end: End = serde_json::from_str(r#"{"end":"evicted"}"#).unwrap();
        assert_eq!(
            end,
            End {
                end: EndReason::Other,
                dropped: 0
            }
        );
    }
}
