//! Why a server is not there.

use std::io;
use std::process::ExitStatus;
use std::time::Duration;

/// Why a server could not be started, or did not do as it was told.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BackendError {
    /// No program to start.
    #[error("{program} is not installed: {remedy}")]
    NotInstalled {
        /// The program.
        program: &'static str,
        /// How to get it, one sentence.
        remedy: String,
    },
    /// The operating system refused something.
    #[error("{attempted}")]
    System {
        /// What was attempted, and on what.
        attempted: String,
        /// What it said.
        #[source]
        source: io::Error,
    },
    /// The server ended before it served.
    #[error("{program} ended with {status}; its last words:\n{log}")]
    Ended {
        /// The program.
        program: &'static str,
        /// How it ended.
        status: ExitStatus,
        /// The end of its log.
        log: String,
    },
    /// The server runs and does not serve.
    #[error("{program} was not ready within {} s; its last words:\n{log}", within.as_secs())]
    NotReady {
        /// The program.
        program: &'static str,
        /// How long it was waited for.
        within: Duration,
        /// The end of its log.
        log: String,
    },
    /// The certificates could not be made.
    #[error("certificates for a test could not be made")]
    Certificates(#[from] rcgen::Error),
}

impl BackendError {
    /// Wraps what the operating system said. For use with `map_err`.
    pub(crate) fn system(attempted: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let attempted = attempted.into();
        move |source| Self::System { attempted, source }
    }

    /// Whether another attempt on another port may help.
    pub(crate) fn is_port_taken(&self) -> bool {
        matches!(self, Self::Ended { log, .. } if log.to_lowercase().contains("address already in use"))
    }
}
