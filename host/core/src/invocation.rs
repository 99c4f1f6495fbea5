//! One call inside a host: the head that travels, with its times as instants, and its payload.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::limits::{DEADLINE_MAX, DEPTH_MAX};
use trellis_protocol::{
    EntityId, Hop, InvocationHead, InvocationId, Lease, LinkName, Operation, Refusal, RefusalCode,
};

/// One call on its way through the router.
#[derive(Debug, Clone)]
pub struct Invocation {
    /// Unique for each call.
    pub id: InvocationId,
    /// The immediate caller.
    pub source: EntityId,
    /// The callee.
    pub target: EntityId,
    /// What is called.
    pub operation: Operation,
    /// The link by which it is called.
    pub link: LinkName,
    /// When the caller stops waiting.
    pub deadline: Instant,
    /// How many calls this one is nested in.
    pub depth: u8,
    /// Structural hash of the function's type; zero for HTTP.
    pub type_hash: u64,
    /// Whether the call may be repeated without harm.
    pub idempotent: bool,
    /// Who holds the handles that come back.
    pub lease: Lease,
    /// The callers before the immediate one, oldest first.
    pub chain: Arc<[Hop]>,
    /// W3C trace context of the caller's span.
    pub traceparent: Option<Arc<str>>,
    /// Cancelled when the caller has gone.
    pub cancel: CancellationToken,
    /// The encoded parameters; empty for HTTP.
    pub payload: Bytes,
}

impl Invocation {
    /// Time left until the deadline; zero once it has passed.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// The head as it travels to another host.
    ///
    /// # Errors
    /// `deadline-exceeded` where nothing is left of the time.
    pub(crate) fn head(&self, state_sequence: u64) -> Result<InvocationHead, Refusal> {
        let left = self.time_left().min(DEADLINE_MAX);
        if left.is_zero() {
            return Err(deadline_exceeded());
        }
        Ok(InvocationHead {
            id: self.id,
            source: self.source.clone(),
            target: self.target.clone(),
            operation: self.operation.clone(),
            link: self.link.clone(),
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            depth: self.depth,
            type_hash: self.type_hash,
            idempotent: self.idempotent,
            lease: self.lease.clone(),
            chain: self.chain.to_vec(),
            traceparent: self.traceparent.as_deref().map(str::to_owned),
            state_sequence,
        })
    }

    /// A call that arrived from another host.
    pub(crate) fn arrived(
        head: InvocationHead,
        payload: Bytes,
        deadline: Instant,
        cancel: CancellationToken,
    ) -> Self {
        Self {
            id: head.id,
            source: head.source,
            target: head.target,
            operation: head.operation,
            link: head.link,
            deadline,
            depth: head.depth,
            type_hash: head.type_hash,
            idempotent: head.idempotent,
            lease: head.lease,
            chain: head.chain.into(),
            traceparent: head.traceparent.map(Arc::from),
            cancel,
            payload,
        }
    }

    /// Refuses a chain that is too deep, before anything is spent on it.
    pub(crate) fn check_depth(&self) -> Result<(), Refusal> {
        if self.depth > DEPTH_MAX {
            return Err(Refusal::new(
                RefusalCode::TooDeep,
                format!("calls are nested more than {DEPTH_MAX} deep"),
            ));
        }
        Ok(())
    }
}

/// The refusal for a deadline that has passed.
pub(crate) fn deadline_exceeded() -> Refusal {
    Refusal::new(
        RefusalCode::DeadlineExceeded,
        "the deadline passed before there was an answer",
    )
}
