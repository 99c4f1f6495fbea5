//! Where the log goes: standard error, readable on a terminal, one JSON object a line otherwise.
//!
//! Each line carries the ids of what it is about: `host_id`, `actor_id`, `invocation_id` and `trace_id`, whether they stand
//! on the event itself or on a span around it. In JSON all fields are flat, beside `time`, `level`, `target` and `message`;
//! on a terminal they follow the message. What a field says can never begin another line nor order a terminal about.

mod fields;
mod human;
mod json;

use std::io::IsTerminal;
use std::sync::OnceLock;

use tracing_subscriber::EnvFilter;

use fields::StoreFields;

/// What is logged where neither `TRELLIS_LOG` nor `RUST_LOG` says otherwise.
pub const FILTER_DEFAULT: &str = "info,async_nats=warn,wasmtime=warn,cranelift_codegen=warn";

/// The host of this process, for lines that name none.
static HOST_ID: OnceLock<Box<str>> = OnceLock::new();

/// How a line of the log is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogFormat {
    /// For people.
    Human,
    /// For programs: one JSON object a line.
    Json,
}

/// How much is logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
pub enum LogLevel {
    /// What failed.
    Error,
    /// What may become a failure, too.
    Warn,
    /// What happens, too.
    Info,
    /// How it happens, too.
    Debug,
    /// Everything.
    Trace,
}

impl LogLevel {
    const fn word(self) -> &'static str {
        match self {
            Self::Error => "error",
            Self::Warn => "warn",
            Self::Info => "info",
            Self::Debug => "debug",
            Self::Trace => "trace",
        }
    }
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
    init_at(format, None);
}

/// As [`init`], but what a level lets through wins over the environment. Libraries are as quiet as by [`FILTER_DEFAULT`].
pub fn init_at(format: LogFormat, level: Option<LogLevel>) {
    let from = |name: &str| {
        std::env::var(name)
            .ok()
            .filter(|text| !text.trim().is_empty())
    };
    let asked = level
        .map(|level| FILTER_DEFAULT.replacen("info", level.word(), 1))
        .or_else(|| from("TRELLIS_LOG"))
        .or_else(|| from("RUST_LOG"));
    let (filter, mistake) = match asked.as_deref().map(EnvFilter::try_new) {
        Some(Ok(filter)) => (filter, None),
        Some(Err(error)) => (EnvFilter::new(FILTER_DEFAULT), Some(error)),
        None => (EnvFilter::new(FILTER_DEFAULT), None),
    };
    let lines = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .fmt_fields(StoreFields);
    // An error says that somebody logs already, whose choice counts.
    let _ = match format {
        LogFormat::Human => lines
            .with_ansi(std::io::stderr().is_terminal())
            .event_format(human::Human)
            .try_init(),
        LogFormat::Json => lines
            .with_ansi(false)
            .event_format(json::Json::of_process())
            .try_init(),
    };
    if let Some(error) = mistake {
        tracing::warn!(%error, "the log filter cannot be read, the default is taken");
    }
}

/// Says which host this process runs, for the lines that do not say it themselves. The first one counts.
pub fn set_host(id: &str) {
    let _ = HOST_ID.set(id.into());
}
