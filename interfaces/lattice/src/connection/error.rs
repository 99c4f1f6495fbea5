//! Why a lattice cannot be reached.

use std::path::PathBuf;
use std::time::Duration;

use super::SERVER_VERSION_MIN;

/// Why a lattice cannot be reached. Each message says what was tried and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// No server was named.
    #[error("no NATS server is named; give at least one, such as `nats://127.0.0.1:4222`")]
    NoServer,
    /// A file named in the options cannot be read, or is not what it should be.
    #[error("cannot use {what} `{}`: {reason}", path.display())]
    File {
        /// What it should be.
        what: &'static str,
        /// Where it was looked for.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// The nkey seed is not one.
    #[error("cannot use the nkey seed: {reason}; it begins with `SU`")]
    Seed {
        /// What is wrong. Never the seed.
        reason: String,
    },
    /// No server answered in time.
    #[error("cannot reach NATS at {tried} within {:.1} s: {reason}; is a nats-server running there?", waited.as_secs_f32())]
    Unreachable {
        /// The servers, without passwords.
        tried: String,
        /// How long it was tried.
        waited: Duration,
        /// The last attempt's failure.
        reason: String,
    },
    /// A server answered and refused.
    #[error(
        "NATS at {tried} refuses this identity: {source}; check the credentials file, nkey or password"
    )]
    Refused {
        /// The servers, without passwords.
        tried: String,
        /// What the server or the signer said.
        source: async_nats::ConnectError,
    },
    /// A server answered, but not with TLS that is believed.
    #[error(
        "cannot speak TLS to NATS at {tried}: {source}; check the CA, the client's certificate and key, and whether the server wants TLS first"
    )]
    Tls {
        /// The servers, without passwords.
        tried: String,
        /// What failed.
        source: async_nats::ConnectError,
    },
    /// The server is too old.
    #[error("the nats-server at {tried} has version {found}, at least {}.{} is needed; upgrade it", SERVER_VERSION_MIN.0, SERVER_VERSION_MIN.1)]
    TooOld {
        /// The servers, without passwords.
        tried: String,
        /// The version it states.
        found: String,
    },
    /// The server, or the account on it, has no JetStream.
    #[error("the nats-server at {tried} has no JetStream{}: {reason}; start it with `-js`, or enable JetStream for the account", domain.as_ref().map(|d| format!(" in domain `{d}`")).unwrap_or_default())]
    NoJetStream {
        /// The servers, without passwords.
        tried: String,
        /// The JetStream domain that was asked.
        domain: Option<String>,
        /// What the server said.
        reason: String,
    },
}
