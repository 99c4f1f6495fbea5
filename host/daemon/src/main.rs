//! `trellis-host`: reads its arguments, starts a host, drains it when it is told to stop.
//!
//! The first SIGINT or SIGTERM drains, the second ends at once. Exit codes: 0 drained, 1 did not start, 2 usage, 3 something
//! was cut off.

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use trellis_host::args::HostArgs;
use trellis_host::logging::{self, LogFormat};
use trellis_host::{Drained, HostOptions, Shutdown, TelemetryOptions, runtime, serve};

const DID_NOT_START: u8 = 1;
const USAGE: u8 = 2;
const CUT_OFF: u8 = 3;

/// How long the process waits for threads that still compile or write.
const THREADS_END_MAX: Duration = Duration::from_secs(1);

fn main() -> ExitCode {
    trellis_host::install_crypto();
    let (args, notes) = HostArgs::of_process();
    for note in notes {
        eprintln!("{note}");
    }
    logging::init(
        args.telemetry
            .log_format
            .unwrap_or_else(LogFormat::of_stderr),
    );
    let mut mistakes = Vec::new();
    let telemetry = args
        .telemetry
        .options(&mut |mistake| mistakes.push(mistake));
    let options = args.into_options().map_err(|more| mistakes.extend(more.0));
    match options {
        Ok(options) if mistakes.is_empty() => run(options, &telemetry),
        _ => {
            for mistake in mistakes {
                eprintln!("error: {mistake}");
            }
            ExitCode::from(USAGE)
        }
    }
}

fn run(options: HostOptions, telemetry: &TelemetryOptions) -> ExitCode {
    if options.trust.is_empty() {
        tracing::warn!(
            "no trust root is given, so no actor will start: name one with --trust or TRELLIS_TRUST"
        );
    }
    let runtime = match runtime::build() {
        Ok(runtime) => runtime,
        Err(error) => {
            eprintln!("error: cannot start the host's threads: {error}");
            return ExitCode::from(DID_NOT_START);
        }
    };
    let served =
        runtime.block_on(async { serve(options, telemetry, Shutdown::on_signals(), |_| ()).await });
    runtime.shutdown_timeout(THREADS_END_MAX);
    match served {
        Ok(Drained::InTime) => ExitCode::SUCCESS,
        Ok(Drained::Late) => ExitCode::from(CUT_OFF),
        Err(error) => {
            eprintln!("error: the host did not start: {}", with_causes(&error));
            ExitCode::from(DID_NOT_START)
        }
    }
}

/// An error with what caused it, in one line.
fn with_causes(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let part = cause.to_string();
        if !text.contains(&part) {
            text = format!("{text}: {part}");
        }
        source = cause.source();
    }
    text
}
