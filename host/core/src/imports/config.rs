//! `wasi:config`: the actor's named configurations, read live from this host's copy of the lattice's state.

use wasmtime::StoreContextMut;
use wasmtime::component::{ComponentType, Lift, Linker, Lower};

use crate::actor::instance::State;

/// The error of both interfaces; they differ in its name alone.
#[derive(Debug, Clone, ComponentType, Lift, Lower)]
#[component(variant)]
enum ConfigError {
    #[component(name = "upstream")]
    Upstream(String),
    /// Part of the interface; reading memory does not fail so.
    #[component(name = "io")]
    Io(String),
}

const NAMES: [&str; 2] = [
    "wasi:config/store@0.2.0-draft",
    "wasi:config/runtime@0.2.0-draft",
];

pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    for name in NAMES {
        let mut instance = linker.instance(name)?;
        instance.func_wrap("get", get)?;
        instance.func_wrap("get-all", get_all)?;
    }
    Ok(())
}

type Pairs = Vec<(String, String)>;

#[expect(clippy::unnecessary_wraps, reason = "the shape that the linker takes")]
fn get(
    store: StoreContextMut<'_, State>,
    (key,): (String,),
) -> wasmtime::Result<(Result<Option<String>, ConfigError>,)> {
    Ok((merged(&store).map(|pairs| pairs.get(&key).cloned()),))
}

#[expect(clippy::unnecessary_wraps, reason = "the shape that the linker takes")]
fn get_all(
    store: StoreContextMut<'_, State>,
    (): (),
) -> wasmtime::Result<(Result<Pairs, ConfigError>,)> {
    Ok((merged(&store).map(|pairs| pairs.into_iter().collect()),))
}

fn merged(
    store: &StoreContextMut<'_, State>,
) -> Result<std::collections::BTreeMap<String, String>, ConfigError> {
    let caller = &store.data().caller;
    caller
        .router
        .state()
        .view()
        .merged_config(&caller.actor.config())
        .map_err(|missing| ConfigError::Upstream(missing.to_string()))
}
