//! What actors import, and how each import is served.
//!
//! WASI's sealed world comes from `wasmtime-wasi`. Logging, configuration and the choice of links are the host's own.
//! Capabilities known at build time are bound with typed functions; every other interface is served by [`custom`], which
//! knows its types only at run time.

mod bus;
mod config;
pub(crate) mod custom;
mod keyvalue;
mod logging;
pub(crate) mod messaging;
pub(crate) mod outgoing_http;
mod postgres;
mod way;

use wasmtime::component::Linker;

use crate::actor::instance::State;

/// A linker with everything that does not depend on the component.
pub(crate) fn linker(engine: &wasmtime::Engine) -> wasmtime::Result<Linker<State>> {
    let mut linker = Linker::new(engine);
    wasmtime_wasi::p2::add_to_linker_async(&mut linker)?;
    wasmtime_wasi_http::p2::add_only_http_to_linker_async(&mut linker)?;
    logging::link(&mut linker)?;
    config::link(&mut linker)?;
    bus::link(&mut linker)?;
    keyvalue::link(&mut linker)?;
    messaging::link(&mut linker)?;
    postgres::link(&mut linker)?;
    Ok(linker)
}
