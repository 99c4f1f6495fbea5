//! Where the log goes: standard error, readable on a terminal, one JSON object a line otherwise.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;

/// What is logged where neither `TRELLIS_LOG` nor `RUST_LOG` says otherwise.
pub const FILTER_DEFAULT: &str = "info,async_nats=warn,wasmtime=warn,cranelift_codegen=warn";

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// For programs: one JSON object a line.
    Json,
}

impl LogFormat {
    /// For people where they look at it, for programs otherwise.
    pub fn of_stderr() -> Self {
        if std::io::stderr().is_terminal() {
            Self::Human
        } else {
            Self::Json
        }
    }
}

/// Starts logging, unless this process has begun to already. The filter comes from `TRELLIS_LOG`, else `RUST_LOG`, else
/// [`FILTER_DEFAULT`]; a filter that cannot be read is named, and the default taken.
pub fn init(format: LogFormat) {
    let from = |name: &str| {
        std::env::var(name)
            .ok()
            .filter(|text| !text.trim().is_empty())
    };
    let asked = from("TRELLIS_LOG").or_else(|| from("RUST_LOG"));
    let (filter, mistake) = match asked.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(FILTER_DEFAULT), Some(error)),
        None => (EnvFilter::new(FILTER_DEFAULT), None),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    // An error says that somebody logs already, whose choice counts.
    let _ = match format {
        LogFormat::Human => lines.with_ansi(std::io::stderr().is_terminal()).try_init(),
        LogFormat::Json => lines.json().flatten_event(true).try_init(),
    };
    if let Some(error) = mistake {
        tracing::warn!(%error, "the log filter cannot be read, the default is taken");
    }
}
