//! The other door: a provider as a process of its own.
//!
//! The program of a provider is one line. The same factory that a host can be assembled with is handed to [`main`]:
//!
//! ```text
//! fn main() -> std::process::ExitCode {
//!     trellis_provider_sdk::process::main(trellis_keyvalue_redis::Factory)
//! }
//! ```
//!
//! A host starts it with one end of a socket pair as descriptor 3 and nothing else. The process says hello, is told to
//! start, hears of links, and serves calls until it is told to shut down or the socket ends; what goes over the socket is
//! in PROTOCOL.md. It logs to standard error, from where its host takes the lines into its own log; `RUST_LOG` chooses which
//! ([`FILTER_DEFAULT`] without it).
//!
//! ```text
//! host ── socket ──► pipe ──► answers ──► the provider ──► way_out ──► pipe ── socket ──► host ──► actors
//! ```
//!
//! A panic in one of the provider's methods ends that call, with `internal`, and not the process.

mod answers;
mod guard;
mod socket;
mod way_out;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::runtime::Builder;
use tokio::signal::unix::{SignalKind, signal};
use trellis_pipe::{Hello, Pipe, PipeEnd, PipeError, PipeLimits};
use trellis_protocol::pipe::PIPE_VERSION;

pub use socket::NoHost;

use crate::provider::ProviderFactory;
use answers::Answers;

/// What is logged where `RUST_LOG` says nothing.
pub const FILTER_DEFAULT: &str = "info";

/// Calls that a provider process serves at once. Its host refuses more, so that they can go to another one.
pub const CALLS_MAX: u32 = 1024;

/// Exit code of a process that was not started by a host.
pub const EXIT_NO_HOST: u8 = 64;

/// Exit code of a process whose socket ended in disorder, or that could not begin.
pub const EXIT_FAILED: u8 = 1;

/// Time for the provider to shut down where nobody asked it to: its host is gone, or it was sent a signal.
const SHUTDOWN_MAX: Duration = Duration::from_secs(5);

/// How long the process then waits for threads that still work.
const THREADS_END_MAX: Duration = Duration::from_millis(500);

/// Runs a provider as the process at hand, from its host's first word to the last.
///
/// The exit code is 0 where it was told to end, or its host has gone; [`EXIT_NO_HOST`] where no host started it;
/// [`EXIT_FAILED`] otherwise.
pub fn main(factory: impl ProviderFactory) -> ExitCode {
    let socket = match socket::from_host() {
        Ok(socket) => socket,
        Err(error) => {
            eprintln!("{}: {error}", factory.name());
            return ExitCode::from(EXIT_NO_HOST);
        }
    };
    log_to_stderr();
    // Other processes of the same user must not trace this one for its backend's credentials.
    let _ = rustix::process::set_dumpable_behavior(rustix::process::DumpableBehavior::NotDumpable);
    let runtime = match Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => {
            tracing::error!(%error, "the provider's threads cannot be started");
            return ExitCode::from(EXIT_FAILED);
        }
    };
    let ended = runtime.block_on(async {
        let socket = UnixStream::from_std(socket).map_err(|error| PipeEnd::Io {
            reason: error.to_string(),
        })?;
        serve(socket, Arc::new(factory), terminated()).await
    });
    runtime.shutdown_timeout(THREADS_END_MAX);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(%error, "the provider ends: it cannot speak with its host");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

/// Serves a host over a socket until that ends, or `stop` does. [`main`] without a process, for tests.
///
/// # Errors
/// [`PipeError`] where the socket did not end in order.
pub async fn serve(
    socket: UnixStream,
    factory: Arc<dyn ProviderFactory>,
    stop: impl Future<Output = ()>,
) -> Result<(), PipeError> {
    let hello = Hello {
        version: PIPE_VERSION,
        name: factory.name().to_owned(),
        serves: owned(factory.serves()),
        calls: owned(factory.calls()),
        calls_max: CALLS_MAX,
    };
    let answers = Arc::new(Answers::new(factory));
    let handler = Arc::clone(&answers);
    let pipe = Pipe::provider_end(socket, hello, PipeLimits::default(), handler).await?;
    answers.connect(pipe.clone());
    let end = tokio::select! {
        end = pipe.ended() => end,
        () = stop => PipeEnd::Eof,
    };
    answers.shut_down(SHUTDOWN_MAX).await;
    pipe.close("the provider has shut down");
    match end {
        PipeEnd::Eof => Ok(()),
        end => Err(end.into()),
    }
}

/// Ends with the first signal that asks the process to end.
async fn terminated() {
    match signal(SignalKind::terminate()) {
        Ok(mut terminate) => {
            terminate.recv().await;
        }
        Err(error) => {
            tracing::warn!(%error, "SIGTERM cannot be waited for: it will end the provider at once");
            std::future::pending().await
        }
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

/// One line for each event, its level first: the host that reads it adds the time.
fn log_to_stderr() {
    use tracing_subscriber::EnvFilter;
    let filter = std::env::var("RUST_LOG")
        .ok()
        .and_then(|text| EnvFilter::try_new(text).ok())
        .unwrap_or_else(|| EnvFilter::new(FILTER_DEFAULT));
    // An error says that somebody logs already, whose choice counts.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(false)
        .without_time()
        .try_init();
}
