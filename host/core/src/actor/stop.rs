//! Why a guest stopped, as a refusal.

use trellis_protocol::{EntityId, Refusal, RefusalCode};
use wasmtime::{PoolConcurrencyLimitError, Trap};
use wasmtime_wasi::I32Exit;

use super::instance::State;
use super::output::printable;
use crate::limits::HOST_CALL_FUEL;

/// What wasmtime says where the values of one call take more than [`HOST_CALL_FUEL`]. Its type for that is private; an
/// end-to-end test of long lists notices when the words change.
const FUEL_EXHAUSTED: &str = "fuel allocated for hostcalls has been exhausted";

/// Turns what wasmtime says into what a caller is told.
///
/// The caller learns the kind of trap; the host's log has the whole chain of causes with the guest's frames.
pub(crate) fn refusal_of(actor: &EntityId, error: wasmtime::Error, state: &State) -> Refusal {
    if let Some(refusal) = error.downcast_ref::<Refusal>() {
        return passed_on(actor, refusal);
    }
    if error.is::<PoolConcurrencyLimitError>() {
        return Refusal::new(
            RefusalCode::Overloaded,
            "the host's pool of instances is full",
        );
    }
    let trap = error.downcast_ref::<Trap>();
    if state.limits.exceeded() {
        let error = format!("{error:#}");
        state
            .log
            .verdict("the actor reached its memory limit", &error);
        return Refusal::new(
            RefusalCode::OutOfMemory,
            format!(
                "`{actor}` reached its memory limit of {} bytes, or the host's budget for all actors",
                state.caller.actor.memory_bytes_max()
            ),
        )
        .with_remedy("start it with a larger `max_memory_limit`");
    }
    let chain = format!("{error:#}");
    state.log.verdict("the actor trapped", &chain);
    let what = match (trap, error.downcast_ref::<I32Exit>()) {
        (Some(trap), _) => trap.to_string(),
        (None, Some(exit)) => format!("it exited with {} before it had answered", exit.0),
        // What the host says of its own calls (a full table, fields beyond their limit) is the last link of the chain.
        (None, None) => error.root_cause().to_string(),
    };
    if what.contains(FUEL_EXHAUSTED) {
        return Refusal::new(
            RefusalCode::TooLarge,
            format!(
                "the values of one call of `{actor}` take more than {HOST_CALL_FUEL} bytes here"
            ),
        );
    }
    let what = printable(&what);
    Refusal::new(RefusalCode::Trapped, format!("`{actor}` stopped: {what}"))
}

/// A refusal that a guest met in a call of its own, and that stopped it.
///
/// A retryable code says that nothing has begun. That is true of the inner call and not of this one, so it must not be
/// passed on as it is.
fn passed_on(actor: &EntityId, refusal: &Refusal) -> Refusal {
    if !refusal.code.is_retryable() && refusal.code != RefusalCode::NoRoute {
        return refusal.clone();
    }
    Refusal {
        code: RefusalCode::CalleeUnavailable,
        message: format!(
            "a call of `{actor}` was refused ({}): {}",
            refusal.code, refusal.message
        ),
        remedy: refusal.remedy.clone(),
    }
}
