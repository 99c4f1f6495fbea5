//! `wasi:logging/logging`: into the host's log, with the actor's id.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::actor::instance::State;
use crate::actor::output::printable;

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
    let state = store.data();
    let actor = &state.caller.actor.id;
    let (context, message) = (printable(&context), printable(&message));
    if !state
        .log_allowance
        .take(actor, context.len() + message.len())
    {
        return Ok(());
    }
    let context = &*context;
    match level {
        Level::Trace => tracing::trace!(target: "actor", actor_id = %actor, context, "{message}"),
        Level::Debug => tracing::debug!(target: "actor", actor_id = %actor, context, "{message}"),
        Level::Info => tracing::info!(target: "actor", actor_id = %actor, context, "{message}"),
        Level::Warn => tracing::warn!(target: "actor", actor_id = %actor, context, "{message}"),
        Level::Error => tracing::error!(target: "actor", actor_id = %actor, context, "{message}"),
        Level::Critical => {
            tracing::error!(target: "actor", actor_id = %actor, context, critical = true, "{message}");
        }
    }
    Ok(())
}
