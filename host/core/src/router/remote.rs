//! Calls that leave this host: whether they do, to which peer, and what to do when it refuses.

use std::sync::Arc;

use bytes::Bytes;
use http_body::Body as _;
use http_body_util::BodyExt;
use trellis_lattice::routes::Route;
use trellis_protocol::{EntityId, Refusal, RefusalCode};
use trellis_provider_sdk::{Body, BodyError, HttpRequest, HttpResponse, http as sdk_http};

use super::{Remote, Router, ServedBy};
use crate::invocation::{Invocation, deadline_exceeded};
use crate::limits::{ROUTE_ATTEMPTS_MAX, STATE_AGE_MAX};

impl Router {
    /// Whether a call that begins here stays here. One for a provider that this host has given up leaves it, if another
    /// host runs one: nothing of the call has begun, and hosts do not tell of providers that they have given up.
    pub(super) fn serves(&self, id: &EntityId) -> bool {
        if self.actor(id).is_some() {
            return true;
        }
        self.provider(id)
            .is_some_and(|provider| !provider.has_failed() || !self.has_route(id))
    }

    fn has_route(&self, id: &EntityId) -> bool {
        self.remote(id).is_ok_and(|remote| {
            let routes = remote.routes.routes_to(id);
            routes.iter().any(|route| !route.draining)
        })
    }

    pub(super) async fn invoke_remote(
        self: &Arc<Self>,
        invocation: Invocation,
    ) -> Result<(Bytes, ServedBy), Refusal> {
        let remote = self.remote(&invocation.target)?;
        let mut routes = remote.routes.routes_to(&invocation.target);
        let mut last = None;
        for _ in 0..ROUTE_ATTEMPTS_MAX {
            let Some(route) = self.in_flight.choose(&mut routes) else {
                break;
            };
            let _flight = self.in_flight.begin(&route.host);
            let head = invocation.head(self.state.view().sequence())?;
            let sent = remote.peers.invoke(
                &route.host,
                head,
                invocation.payload.clone(),
                invocation.deadline,
                &invocation.cancel,
            );
            match within(&invocation, sent).await {
                Ok(result) => {
                    let served_by = ServedBy::Peer {
                        host: route.host,
                        incarnation: route.incarnation,
                    };
                    return Ok((result, served_by));
                }
                Err(refusal) if may_go_on(&invocation, &refusal) => last = Some(refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        Err(last.unwrap_or_else(|| no_route(&invocation.target)))
    }

    pub(super) async fn invoke_at(
        self: &Arc<Self>,
        invocation: Invocation,
        host: &Arc<str>,
        incarnation: u64,
    ) -> Result<Bytes, Refusal> {
        let remote = self.remote(&invocation.target)?;
        let _flight = self.in_flight.begin(host);
        let head = invocation.head(self.state.view().sequence())?;
        let sent = remote.peers.invoke_run(
            host,
            incarnation,
            head,
            invocation.payload.clone(),
            invocation.deadline,
            &invocation.cancel,
        );
        within(&invocation, sent).await
    }

    pub(super) async fn http_remote(
        self: &Arc<Self>,
        invocation: Invocation,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        let remote = self.remote(&invocation.target)?;
        let mut routes = remote.routes.routes_to(&invocation.target);
        let (parts, body) = request.into_parts();
        // A body can be sent once. A request without one can be sent again, to the next route.
        let repeatable = body.is_end_stream();
        let mut body = Some(body);
        let mut last = None;
        for _ in 0..ROUTE_ATTEMPTS_MAX {
            let Some(route) = self.in_flight.choose(&mut routes) else {
                break;
            };
            let Some(body) = body.take().or_else(|| repeatable.then(sdk_http::empty)) else {
                break;
            };
            let request = http::Request::from_parts(parts.clone(), body);
            match self.http_at(remote, &route, &invocation, request).await {
                Ok(response) => return Ok(response),
                Err(refusal) if may_go_on(&invocation, &refusal) => last = Some(refusal),
                Err(refusal) => return Err(refusal),
            }
        }
        Err(last.unwrap_or_else(|| no_route(&invocation.target)))
    }

    async fn http_at(
        &self,
        remote: &Remote,
        route: &Route,
        invocation: &Invocation,
        request: HttpRequest,
    ) -> Result<HttpResponse, Refusal> {
        let flight = self.in_flight.begin(&route.host);
        let head = invocation.head(self.state.view().sequence())?;
        let request = request.map(|body| body.map_err(to_refusal).boxed_unsync());
        let sent = remote.peers.http(
            &route.host,
            head,
            invocation.deadline,
            &invocation.cancel,
            request,
        );
        let response = within(invocation, sent).await?;
        Ok(response.map(|body| {
            Body::new(body.map_err(move |refusal| {
                // The call is in flight for as long as its body is.
                let _ = &flight;
                BodyError::Refused(refusal)
            }))
        }))
    }

    fn remote(&self, target: &EntityId) -> Result<&Remote, Refusal> {
        let remote = self.peers.get().ok_or_else(|| no_route(target))?;
        if self.state.age().is_none_or(|age| age > STATE_AGE_MAX) {
            return Err(Refusal::new(
                RefusalCode::StaleState,
                "this host's copy of the lattice's state is too old to call other hosts by",
            )
            .with_remedy("it is brought up to date as soon as NATS and JetStream answer again"));
        }
        Ok(remote)
    }
}

/// The peer layer keeps the deadline as well; this is what holds if it does not.
async fn within<T>(
    invocation: &Invocation,
    call: impl Future<Output = Result<T, Refusal>>,
) -> Result<T, Refusal> {
    tokio::select! {
        biased;
        result = call => result,
        () = invocation.cancel.cancelled() => {
            Err(Refusal::new(RefusalCode::Cancelled, "the caller has gone"))
        }
        () = tokio::time::sleep_until(invocation.deadline.into()) => Err(deadline_exceeded()),
    }
}

/// Whether a refused call may be sent to the next route (D5).
fn may_go_on(invocation: &Invocation, refusal: &Refusal) -> bool {
    refusal.code.is_retryable()
        || (invocation.idempotent && refusal.code == RefusalCode::OutcomeUnknown)
}

pub(super) fn to_refusal(error: BodyError) -> Refusal {
    match error {
        BodyError::Refused(refusal) => refusal,
        BodyError::TooLarge { .. } => Refusal::new(RefusalCode::TooLarge, error.to_string()),
        BodyError::IdleTimeout => Refusal::new(RefusalCode::DeadlineExceeded, error.to_string()),
        other => Refusal::new(RefusalCode::Cancelled, other.to_string()),
    }
}

fn no_route(target: &EntityId) -> Refusal {
    Refusal::new(
        RefusalCode::NoRoute,
        format!("no host of the lattice runs `{target}`"),
    )
    .with_remedy(format!(
        "`wash get inventory` shows what runs; `wash start component <ref> {target}` starts it"
    ))
}
