//! Interfaces that the host does not know: each function becomes an invocation, its values encoded by their WIT types.
//!
//! A refusal has no place in a type that somebody else made, so it stops the guest, and the guest's own caller is told.

use std::sync::Arc;

use bytes::Bytes;
use trellis_claims::InterfaceName;
use trellis_protocol::Operation;
use trellis_protocol::shape::FunctionShape;
use wasmtime::StoreContextMut;
use wasmtime::component::{LinkerInstance, Val};

use crate::actor::instance::State;
use crate::value::{decode_result, encode_params};

/// What a function of a custom interface is bound to.
struct Import {
    operation: Operation,
    /// The interface without its version, by which links are chosen.
    interface: String,
    shape: FunctionShape,
    type_hash: u64,
}

/// Defines one function of a custom interface.
pub(crate) fn link(
    linker: &mut LinkerInstance<'_, State>,
    import_name: &str,
    interface: &InterfaceName,
    function: &str,
    shape: FunctionShape,
) -> wasmtime::Result<()> {
    let import = Arc::new(Import {
        operation: Operation::new(import_name, function),
        interface: interface.without_version().to_string(),
        type_hash: shape.type_hash(),
        shape,
    });
    linker.func_new_async(function, move |store, _, params, results| {
        let import = Arc::clone(&import);
        Box::new(async move { call(store, &import, params, results).await })
    })
}

async fn call(
    mut store: StoreContextMut<'_, State>,
    import: &Import,
    params: &[Val],
    results: &mut [Val],
) -> wasmtime::Result<()> {
    let payload = Bytes::from(encode_params(&import.shape, params)?);
    let state = store.data_mut();
    state.clock.let_go();
    let caller = &state.caller;
    let link = caller.link_for(&import.interface);
    let target = caller
        .router
        .target(&caller.actor.id, &link, &import.operation.interface)?;
    let invocation = caller.invocation(
        target,
        import.operation.clone(),
        link,
        import.type_hash,
        payload,
    );
    let (result, _) = caller.router.invoke(invocation).await?;
    match (results, decode_result(&import.shape, &result)?) {
        ([slot], Some(value)) => *slot = value,
        ([], None) => {}
        _ => return Err(wasmtime::Error::msg("the number of results differs")),
    }
    Ok(())
}
