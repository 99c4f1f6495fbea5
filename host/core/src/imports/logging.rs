//! `wasi:logging/logging`: into the host's log, with the actor's id.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::actor::instance::State;
use crate::limits::OUTPUT_LINE_BYTES_MAX;

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
    let actor = &store.data().caller.actor.id;
    let (context, message) = (cut(&context), cut(&message));
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

fn cut(text: &str) -> &str {
    &text[..text.floor_char_boundary(OUTPUT_LINE_BYTES_MAX)]
}
