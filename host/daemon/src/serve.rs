//! From the start of a host to its end: it serves until a signal or an operator stops it, then drains.

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use trellis_host_core::{Host, HostError, HostOptions};

use crate::logging;
use crate::telemetry::{Telemetry, TelemetryError, TelemetryOptions};

/// How a host is asked to stop.
#[derive(Debug, Clone, Default)]
pub struct Shutdown {
    /// Finish what has begun, then end.
    pub drain: CancellationToken,
    /// End now, whatever is under way.
    pub at_once: CancellationToken,
}

/// How a host ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Drained {
    /// Everything that had begun was finished.
    InTime,
    /// Something was cut off.
    Late,
}

impl Shutdown {
    /// Drains at the first SIGINT or SIGTERM, ends at once at the second. Call it on a runtime.
    pub fn on_signals() -> Self {
        let shutdown = Self::default();
        let signals = (
            signal(SignalKind::interrupt()),
            signal(SignalKind::terminate()),
        );
        let (mut interrupt, mut terminate) = match signals {
            (Ok(interrupt), Ok(terminate)) => (interrupt, terminate),
            (Err(error), _) | (_, Err(error)) => {
                tracing::error!(%error, "signals cannot be waited for: they will end the host at once");
                return shutdown;
            }
        };
        let asked = shutdown.clone();
        // Ends with the runtime: there may never be a signal.
        tokio::spawn(async move {
            for token in [&asked.drain, &asked.at_once] {
                tokio::select! {
                    _ = interrupt.recv() => {}
                    _ = terminate.recv() => {}
                }
                token.cancel();
            }
        });
        shutdown
    }
}

/// Why a host did not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServeError {
    /// The host itself.
    #[error(transparent)]
    Host(#[from] HostError),
    /// What it was to tell of itself, and to whom.
    #[error(transparent)]
    Telemetry(#[from] TelemetryError),
}

/// Runs a host on the runtime at hand until it is asked to stop. `ready` is called once it serves. What the process tells of
/// itself is told from before the host's start until after its end.
///
/// # Errors
/// [`ServeError`] where it does not start.
pub async fn serve(
    mut options: HostOptions,
    telemetry: &TelemetryOptions,
    shutdown: Shutdown,
    ready: impl FnOnce(&Host),
) -> Result<Drained, ServeError> {
    let id = options.host_key.public().to_string();
    logging::set_host(&id);
    let telemetry = Telemetry::start(telemetry, &id, options.nats.lattice.as_str()).await?;
    options.tracer = telemetry.tracer();
    let served = run(options, &telemetry, shutdown, ready).await;
    telemetry.stop().await;
    Ok(served?)
}

async fn run(
    options: HostOptions,
    telemetry: &Telemetry,
    shutdown: Shutdown,
    ready: impl FnOnce(&Host),
) -> Result<Drained, HostError> {
    let default = options.shutdown_timeout;
    let host = tokio::select! {
        biased;
        () = shutdown.drain.cancelled() => return Ok(Drained::InTime),
        () = shutdown.at_once.cancelled() => return Ok(Drained::InTime),
        started = Host::start(options) => started?,
    };
    telemetry.watch(&host);
    ready(&host);
    let within = tokio::select! {
        () = shutdown.drain.cancelled() => default,
        () = shutdown.at_once.cancelled() => return Ok(Drained::Late),
        request = host.stop_requested() => request.within.unwrap_or(default),
    };
    telemetry.stopping();
    tokio::select! {
        in_time = host.stop(within) => Ok(if in_time { Drained::InTime } else { Drained::Late }),
        () = shutdown.at_once.cancelled() => Ok(Drained::Late),
    }
}
