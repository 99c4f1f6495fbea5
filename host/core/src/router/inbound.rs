//! Calls that arrive from other hosts. The peer layer has checked who sends; here it is decided again, from this host's
//! own copy of the state, whether the call may be made.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Instant;

use async_trait::async_trait;
use bytes::Bytes;
use http_body_util::BodyExt;
use tokio::runtime::Handle;
use tokio_util::sync::CancellationToken;
use trellis_lattice::peer::{PeerBody, PeerHandler, PeerHost};
use trellis_protocol::{InvocationHead, Lease, Refusal, RefusalCode};
use trellis_provider_sdk::{Body, BodyError};

use super::door::HttpDoor;
use super::journey;
use super::remote::to_refusal;
use super::{Router, not_here};
use crate::host::{OPERATOR_ID, on};
use crate::invocation::Invocation;
use crate::limits::{STATE_AGE_MAX, STATE_WAIT_MAX, STATE_WAITERS_MAX};
use crate::observe::span::SpanKind;

/// Where calls of other hosts come in.
#[derive(Debug)]
pub(crate) struct PeerGate {
    /// Not held: the router holds the peers, and these their gate, so that none of the three would ever be dropped.
    router: Weak<Router>,
    /// Where guests and providers run. The peer layer's own tasks are on the runtime that no guest may keep busy (D14).
    guests: Handle,
    waiting: AtomicUsize,
}

impl PeerGate {
    pub(crate) fn new(router: &Arc<Router>, guests: Handle) -> Self {
        Self {
            router: Arc::downgrade(router),
            guests,
            waiting: AtomicUsize::new(0),
        }
    }

    fn router(&self) -> Result<Arc<Router>, Refusal> {
        self.router.upgrade().ok_or_else(draining)
    }

    async fn admit(
        &self,
        from: &PeerHost,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Invocation, Refusal> {
        let admitted = self.judge(from, head, payload, deadline, cancel).await;
        if let (Err(refusal), Some(router)) = (&admitted, self.router.upgrade()) {
            router.observe.turned_away(refusal);
        }
        admitted
    }

    async fn judge(
        &self,
        from: &PeerHost,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Invocation, Refusal> {
        head.check()?;
        let router = self.router()?;
        if router.is_draining() {
            return Err(draining());
        }
        if !router.runs(&head.target) {
            return Err(not_here(&head.target));
        }
        if router.state.age().is_none_or(|age| age > STATE_AGE_MAX) {
            return Err(Refusal::new(
                RefusalCode::StaleState,
                "this host's copy of the lattice's state is too old to decide by",
            ));
        }
        let sequence = head.state_sequence;
        let invocation = Invocation::arrived(head, payload, deadline, cancel);
        match router.authorise(&invocation) {
            Ok(()) => {}
            Err(refusal) if sequence > router.state.view().sequence() => {
                // The sender has seen more of the state than this host. That can delay a refusal, and never grant
                // anything: what is decided is decided here, a moment later (D8).
                self.catch_up(&router, sequence, deadline, refusal).await?;
                router.authorise(&invocation)?;
            }
            Err(refusal) => return Err(refusal),
        }
        self.check_source(&router, from, &invocation).await?;
        Ok(invocation)
    }

    /// A source without claims is a provider, or an operator. It must be one that the sending host itself says it runs:
    /// otherwise an actor whose token is missing from the state would pass for something that needs no grant.
    async fn check_source(
        &self,
        router: &Router,
        from: &PeerHost,
        invocation: &Invocation,
    ) -> Result<(), Refusal> {
        let source = &invocation.source;
        if source.as_str() == OPERATOR_ID || router.state.view().token(source).is_some() {
            return Ok(());
        }
        let Some(remote) = router.peers.get() else {
            return Err(not_here(&invocation.target));
        };
        let runs_it = || {
            remote.routes.host(&from.key).is_some_and(|peer| {
                peer.roster
                    .providers
                    .iter()
                    .any(|provider| provider.id == *source)
            })
        };
        let mut changed = remote.routes.changed();
        let until = tokio::time::Instant::now() + invocation.time_left().min(STATE_WAIT_MAX);
        // A provider may call before its host's new roster has arrived here.
        while !runs_it() {
            let heard = tokio::time::timeout_at(until, changed.changed()).await;
            if !matches!(heard, Ok(Ok(()))) {
                return Err(Refusal::new(
                    RefusalCode::NotGranted,
                    format!(
                        "`{source}` has no claims, and the host that calls for it runs no such provider"
                    ),
                ));
            }
        }
        Ok(())
    }

    async fn catch_up(
        &self,
        router: &Router,
        sequence: u64,
        deadline: Instant,
        refusal: Refusal,
    ) -> Result<(), Refusal> {
        let waiting = Waiting::begin(&self.waiting);
        if waiting.before >= STATE_WAITERS_MAX {
            return Err(refusal);
        }
        let within = deadline
            .saturating_duration_since(Instant::now())
            .min(STATE_WAIT_MAX);
        if router.state.reached(sequence, within).await {
            Ok(())
        } else {
            Err(refusal)
        }
    }
}

/// One call that waits for the state. It counts until it is dropped, however its wait ends.
struct Waiting<'a> {
    count: &'a AtomicUsize,
    before: usize,
}

impl<'a> Waiting<'a> {
    fn begin(count: &'a AtomicUsize) -> Self {
        let before = count.fetch_add(1, Ordering::AcqRel);
        Self { count, before }
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.count.fetch_sub(1, Ordering::AcqRel);
    }
}

#[async_trait]
impl PeerHandler for PeerGate {
    async fn invoke(
        &self,
        from: &PeerHost,
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Result<Bytes, Refusal> {
        let mut invocation = self.admit(from, head, payload, deadline, cancel).await?;
        let router = self.router()?;
        let work = on(&self.guests, async move {
            let mut span = router.span(SpanKind::Served, &mut invocation, None);
            let result = router.invoke_here(invocation).await;
            journey::end(&mut span, &result);
            result
        });
        work.await.map_err(|error| interrupted(&error))?
    }

    async fn http(
        &self,
        from: &PeerHost,
        head: InvocationHead,
        deadline: Instant,
        cancel: CancellationToken,
        request: http::Request<PeerBody>,
    ) -> Result<http::Response<PeerBody>, Refusal> {
        // The frame says that this is HTTP. The head must say so as well, or a link for another interface would do.
        let door = HttpDoor::of(&head.operation)?;
        let mut invocation = self
            .admit(from, head, Bytes::new(), deadline, cancel)
            .await?;
        let router = self.router()?;
        let request = request.map(|body| Body::new(body.map_err(BodyError::Refused)));
        let work = on(&self.guests, async move {
            let mut span = router.span(SpanKind::Served, &mut invocation, Some(&request));
            let response = router.http_here(door, invocation, request).await;
            journey::end(&mut span, &response);
            response
        });
        let response = work.await.map_err(|error| interrupted(&error))??;
        Ok(response.map(|body| body.map_err(to_refusal).boxed_unsync()))
    }

    async fn release(&self, _from: &PeerHost, lease: Lease) {
        if let Some(router) = self.router.upgrade() {
            router.release_lease(&lease).await;
        }
    }
}

fn draining() -> Refusal {
    Refusal::new(RefusalCode::Draining, "the host is shutting down")
}

/// What a caller is told where the task of its call did not end by itself.
fn interrupted(error: &tokio::task::JoinError) -> Refusal {
    if error.is_panic() {
        return Refusal::new(
            RefusalCode::Internal,
            "the host panicked while it served the call",
        );
    }
    Refusal::new(
        RefusalCode::OutcomeUnknown,
        "the host was shut down during the call",
    )
}
