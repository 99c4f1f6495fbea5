//! `wasi:http/outgoing-handler` without a provider: every request is denied.
//!
//! A component that imports it needs a grant to start at all. With the grant, its requests still have nowhere to go until
//! a provider for outgoing HTTP is linked.

use std::future::Future;

use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

/// Denies each outgoing request.
#[derive(Debug)]
pub(crate) struct DeniedHttp;

type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;

impl WasiHttpHooks for DeniedHttp {
    fn send_request(
        &mut self,
        _request: http::Request<WasiBody>,
        _options: Option<RequestOptions>,
        _transfer: Transfer,
    ) -> Box<dyn Future<Output = Result<(http::Response<WasiBody>, Transfer), Error>> + Send> {
        Box::new(std::future::ready(Err(Error::HttpRequestDenied)))
    }
}
