//! `wasi:http/outgoing-handler`: an actor's requests go over its link to a provider, like any other call.
//!
//! The runtime's own implementation keeps the guest to the rules of HTTP (forbidden fields, one length and as many bytes).
//! This module adds who may send at all (claims and link, decided by the router), the guest's own time limits within the
//! deadline of its call, a bound on what one instance has under way, and the end: a guest that has ended wants nothing any
//! more. Bodies are streams in both directions, and whoever reads one sets its pace: [`body`].
//!
//! A guest meets every failure as an error code of `wasi:http`; [`fault`] says which one. The reason goes to the log, since
//! few of those codes can carry one, at the cost of what the invocation may log.

mod body;
mod fault;

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use trellis_protocol::Operation;
use trellis_protocol::frame::{METHOD_BYTES_MAX, URI_BYTES_MAX};
use trellis_protocol::limits::{HEAD_BYTES_MAX, HTTP_FIELDS_MAX};
use trellis_provider_sdk::outgoing::OUTGOING_HANDLER;
use trellis_provider_sdk::{OutgoingError, OutgoingTimeouts};
use wasmtime_wasi_http::{Error, RequestOptions, WasiBody, WasiHttpHooks};

use crate::actor::instance::Caller;
use crate::actor::output::GuestLog;
use crate::engine::GiveUp;
use crate::invocation::Invocation;
use crate::limits::{BODY_IDLE_MAX, OUTGOING_MARGIN, OUTGOING_REQUESTS_MAX};
use crate::router::Router;
use body::{GuestFault, RequestBody, ResponseBody};
use fault::{Fault, Stage};

/// What an instance's requests have in common.
///
/// It must be dropped before the instance's resources are. A body whose guest is gone looks like one that the guest has
/// finished, and a server would take half an upload for the whole.
pub(crate) struct OutgoingRequests {
    under_way: Arc<Semaphore>,
    /// Cancelled by the drop, and before it where the caller of the guest has gone.
    gone: CancellationToken,
    slice: GiveUp,
    log: GuestLog,
}

impl OutgoingRequests {
    /// For a new instance, whose own calls end with `cancel`.
    pub(crate) fn new(cancel: &CancellationToken, slice: GiveUp, log: GuestLog) -> Self {
        Self {
            under_way: Arc::new(Semaphore::new(OUTGOING_REQUESTS_MAX)),
            gone: cancel.child_token(),
            slice,
            log,
        }
    }
}

impl Drop for OutgoingRequests {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}

type Transfer = Box<dyn Future<Output = Result<(), Error>> + Send>;
type Sent = Result<(http::Response<WasiBody>, Transfer), Error>;

impl WasiHttpHooks for Caller {
    fn send_request(
        &mut self,
        request: http::Request<WasiBody>,
        options: Option<RequestOptions>,
        // What becomes of a response's body is told by the body itself.
        _transfer: Transfer,
    ) -> Box<dyn Future<Output = Sent> + Send> {
        // The guest will wait for the response, if not at once.
        self.outgoing.slice.let_go();
        let exchange = match self.exchange(options.unwrap_or_default()) {
            Ok(exchange) => exchange,
            Err(fault) => {
                log(&self.outgoing.log, &fault);
                return Box::new(std::future::ready(Err(fault.error)));
            }
        };
        Box::new(async move {
            exchange.run(request).await.map(|response| {
                let done: Transfer = Box::new(std::future::ready(Ok(())));
                (response, done)
            })
        })
    }
}

impl Caller {
    /// Decides whether the guest may send, and by which link.
    fn exchange(&self, options: RequestOptions) -> Result<Exchange, Fault> {
        let permit = Arc::clone(&self.outgoing.under_way)
            .try_acquire_owned()
            .map_err(|_| {
                Fault::new(
                    Error::ConnectionLimitReached,
                    format!(
                        "an instance can have {OUTGOING_REQUESTS_MAX} outgoing requests at once"
                    ),
                )
            })?;
        let operation = Operation::new(OUTGOING_HANDLER, "handle");
        let link = self.link_for(OUTGOING_HANDLER);
        let target = self
            .router
            .target(&self.actor.id, &link, &operation.interface)
            .map_err(|refusal| Fault::of_refusal(refusal, Stage::Head))?;
        let mut invocation = self.invocation(target, operation, link, 0, Bytes::new());
        invocation.cancel = self.outgoing.gone.child_token();
        let now = Instant::now();
        if let Some(sooner) = invocation.deadline.checked_sub(OUTGOING_MARGIN)
            && sooner > now
        {
            invocation.deadline = sooner;
        }
        // A time that no clock can count to is no limit.
        if let (Some(connect), Some(first_byte)) =
            (options.connect_timeout, options.first_byte_timeout)
            && let Some(both) = connect.checked_add(first_byte)
            && let Some(at) = now.checked_add(both)
        {
            invocation.deadline = invocation.deadline.min(at.max(now + OUTGOING_MARGIN));
        }
        Ok(Exchange {
            router: Arc::clone(&self.router),
            invocation,
            options,
            gone: self.outgoing.gone.clone(),
            log: self.outgoing.log.clone(),
            permit,
        })
    }
}

/// One request on its way out.
struct Exchange {
    router: Arc<Router>,
    invocation: Invocation,
    options: RequestOptions,
    gone: CancellationToken,
    log: GuestLog,
    permit: tokio::sync::OwnedSemaphorePermit,
}

impl Exchange {
    async fn run(
        self,
        request: http::Request<WasiBody>,
    ) -> Result<http::Response<WasiBody>, Error> {
        let guest_fault = GuestFault::default();
        let sent = self.send(request, &guest_fault).await;
        sent.map_err(|fault| {
            log(&self.log, &fault);
            // What the guest did wrong itself explains whatever the other side made of it.
            guest_fault.take().unwrap_or(fault.error)
        })
        .map(|response| {
            let idle = self.options.between_bytes_timeout.unwrap_or(BODY_IDLE_MAX);
            response.map(|body| WasiBody::new(ResponseBody::new(body, idle, self.permit)))
        })
    }

    async fn send(
        &self,
        mut request: http::Request<WasiBody>,
        guest_fault: &GuestFault,
    ) -> Result<http::Response<trellis_provider_sdk::Body>, Fault> {
        OutgoingTimeouts {
            connect: self.options.connect_timeout,
            first_byte: self.options.first_byte_timeout,
        }
        .write(&mut request);
        check_head(&request)?;
        let request = request.map(|body| {
            let body = RequestBody::new(body, self.gone.clone(), guest_fault.clone());
            trellis_provider_sdk::Body::new(body)
        });
        let response = self
            .router
            .http(self.invocation.clone(), request)
            .await
            .map_err(|refusal| Fault::of_refusal(refusal, Stage::Head))?;
        OutgoingError::check(response).map_err(Fault::of_error)
    }
}

/// Holds a request's head to what a frame can carry, so that it makes no difference where the provider runs.
fn check_head(request: &http::Request<WasiBody>) -> Result<(), Fault> {
    let too_large = |error, what: &str, limit: usize| {
        Err(Fault::new(
            error,
            format!("{what} exceeds the limit of {limit}"),
        ))
    };
    if request.method().as_str().len() > METHOD_BYTES_MAX {
        return too_large(
            Error::HttpRequestMethodInvalid,
            "a method",
            METHOD_BYTES_MAX,
        );
    }
    // The parts with what stands between them; the URI was made of these alone.
    let uri = request.uri();
    let uri_bytes = uri.scheme_str().map_or(0, |scheme| scheme.len() + 3)
        + uri
            .authority()
            .map_or(0, |authority| authority.as_str().len())
        + uri.path_and_query().map_or(0, |path| path.as_str().len());
    if uri_bytes > URI_BYTES_MAX {
        return too_large(Error::HttpRequestUriTooLong, "a URI", URI_BYTES_MAX);
    }
    let fields = request.headers();
    if fields.len() > HTTP_FIELDS_MAX {
        let error = Error::HttpRequestHeaderSectionSize(None);
        return too_large(error, "a count of fields", HTTP_FIELDS_MAX);
    }
    // Method, URI and fields share the head's bytes.
    let bytes = fields
        .iter()
        .fold(uri_bytes + METHOD_BYTES_MAX, |bytes, (name, value)| {
            bytes + field_bytes(name.as_str(), value.as_bytes())
        });
    if bytes > HEAD_BYTES_MAX {
        let limit = u32::try_from(HEAD_BYTES_MAX).unwrap_or(u32::MAX);
        let error = Error::HttpRequestHeaderSectionSize(Some(limit));
        return too_large(error, "a head", HEAD_BYTES_MAX);
    }
    Ok(())
}

/// What a field takes in a frame, at most.
fn field_bytes(name: &str, value: &[u8]) -> usize {
    const FRAMING_BYTES: usize = 8;
    name.len() + value.len() + FRAMING_BYTES
}

fn log(log: &GuestLog, fault: &Fault) {
    log.remark("an outgoing request got no response", &fault.reason);
}

#[cfg(test)]
mod tests;
