//! `wasi:logging/logging`: into the actor's log and the host's.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::actor::instance::State;
use crate::actor::output::Severity;

/// The levels of `wasi:logging`.
#[expect(dead_code, reason = "the derived `Lift` makes them from their numbers")]
#[derive(Debug, Clone, Copy, PartialEq, Eq, ComponentType, Lift, Lower)]
#[component(enum)]
#[repr(u8)]
enum Level {
    #[component(name = "trace")]
    Trace,
    #[component(name = "debug")]
    Debug,
    #[component(name = "info")]
    Info,
    #[component(name = "warn")]
    Warn,
    #[component(name = "error")]
    Error,
    #[component(name = "critical")]
    Critical,
}

/// The two names under which components import it.
const NAMES: [&str; 2] = ["wasi:logging/logging", "wasi:logging/logging@0.1.0-draft"];

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in NAMES {
        linker.instance(name)?.func_wrap("log", log)?;
    }
    Ok(())
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that the linker takes")]
fn log(
    store: StoreContextMut<'_, State>,
    (level, context, message): (Level, String, String),
) -> wasmtime::Result<()> {
    let severity = match level {
        Level::Trace => Severity::Trace,
        Level::Debug => Severity::Debug,
        Level::Info => Severity::Info,
        Level::Warn => Severity::Warn,
        Level::Error => Severity::Error,
        Level::Critical => Severity::Critical,
    };
    store.data().log.write(severity, &context, &message);
    Ok(())
}
