//! `wasmcloud:bus/lattice`: the guest chooses by which link its following calls go.

use wasmtime::StoreContextMut;
use wasmtime::component::{Linker, Resource, ResourceType};

use trellis_protocol::LinkName;

use crate::actor::instance::State;

/// What a guest names with `call-target-interface`.
struct CallTarget {
    interface: String,
}

/// Most link names that one instance can choose.
const CHOICES_MAX: usize = 256;

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in ["wasmcloud:bus/lattice@1.0.0", "wasmcloud:bus/lattice@2.0.1"] {
        let mut instance = linker.instance(name)?;
        instance.resource(
            "call-target-interface",
            ResourceType::host::<CallTarget>(),
            |mut store, rep| {
                store
                    .data_mut()
                    .table
                    .delete(Resource::<CallTarget>::new_own(rep))?;
                Ok(())
            },
        )?;
        instance.func_wrap("[constructor]call-target-interface", new_target)?;
        if name.ends_with("@1.0.0") {
            // This version has no way to say no, so a name that nobody linked stops the guest.
            instance.func_wrap(
                "set-link-name",
                |store: StoreContextMut<'_, State>, params| {
                    choose(store, params)?.map_err(wasmtime::Error::msg)
                },
            )?;
        } else {
            instance.func_wrap(
                "set-link-name",
                |store: StoreContextMut<'_, State>, params| Ok((choose(store, params)?,)),
            )?;
        }
    }
    Ok(())
}

fn new_target(
    mut store: StoreContextMut<'_, State>,
    (namespace, package, interface): (String, String, String),
) -> wasmtime::Result<(Resource<CallTarget>,)> {
    let target = CallTarget {
        interface: format!("{namespace}:{package}/{interface}"),
    };
    Ok((store.data_mut().table.push(target)?,))
}

/// Checks every choice before it makes one.
fn choose(
    mut store: StoreContextMut<'_, State>,
    (name, targets): (String, Vec<Resource<CallTarget>>),
) -> wasmtime::Result<Result<(), String>> {
    let mut interfaces = Vec::with_capacity(targets.len().min(CHOICES_MAX));
    for target in targets {
        interfaces.push(store.data_mut().table.delete(target)?.interface);
    }
    let caller = &mut store.data_mut().caller;
    let name = match LinkName::new(&name) {
        Ok(name) => name,
        Err(error) => return Ok(Err(error.to_string())),
    };
    for interface in &interfaces {
        if let Err(refusal) =
            caller
                .router
                .target(&caller.actor.id, &name, &interface.as_str().into())
        {
            return Ok(Err(refusal.to_string()));
        }
    }
    if caller.links.len() + interfaces.len() > CHOICES_MAX {
        return Ok(Err(format!("an instance can choose {CHOICES_MAX} links")));
    }
    caller
        .links
        .extend(interfaces.into_iter().map(|i| (i, name.clone())));
    Ok(Ok(()))
}
