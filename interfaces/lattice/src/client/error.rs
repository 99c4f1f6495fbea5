//! Why a request has no good answer, and what to do next.

use std::time::Duration;

use trellis_protocol::control::ControlError;

/// Why a request has no good answer.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Nobody listens.
    #[error("{}; `wash get hosts` lists those that run", nobody(.lattice, .host.as_deref()))]
    NoHost {
        /// The lattice.
        lattice: String,
        /// The host that was asked, where one was.
        host: Option<String>,
    },
    /// Somebody listens, but did not answer in time.
    #[error("no answer to `{request}` within {} s; the host is there but busy or stuck, and the command may still take effect", after.as_secs_f32())]
    TimedOut {
        /// Noun and verb of the request.
        request: String,
        /// How long was waited.
        after: Duration,
    },
    /// The host says no.
    #[error("{message}")]
    Refused {
        /// Noun and verb of the request.
        request: String,
        /// The host's reason.
        message: String,
    },
    /// The request cannot be sent as it is, or the answer cannot be read.
    #[error(transparent)]
    Body(#[from] ControlError),
    /// The argument cannot be part of a subject.
    #[error("`{argument}` cannot be asked for: it is no {what}")]
    Argument {
        /// What it should be.
        what: &'static str,
        /// What it is.
        argument: String,
    },
    /// The command cannot be signed.
    #[error("cannot sign `{request}`")]
    Signing {
        /// Noun and verb of the request.
        request: String,
        /// Why not.
        #[source]
        source: trellis_claims::SignError,
    },
    /// The connection failed.
    #[error("cannot send `{request}`: {reason}; is NATS still reachable?")]
    Connection {
        /// Noun and verb of the request.
        request: String,
        /// What the connection said.
        reason: String,
    },
}

fn nobody(lattice: &str, host: Option<&str>) -> String {
    match host {
        Some(host) => format!("host `{host}` does not answer in lattice `{lattice}`"),
        None => format!("no host answers in lattice `{lattice}`"),
    }
}
