//! One invocation as it reaches a provider.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::{EntityId, Hop, InvocationId, Lease, LinkName, Operation};

/// An authorised invocation: the host has checked the caller's claims and the link before a provider sees it.
#[derive(Debug, Clone)]
pub struct Call {
    /// Unique for each invocation; log lines about it should carry it.
    pub id: InvocationId,
    /// The actor that calls.
    pub source: EntityId,
    /// The link by which it calls: with the source, this chooses the configuration.
    pub link: LinkName,
    /// What is called.
    pub operation: Operation,
    /// Structural hash of the function's type as the caller knows it.
    pub type_hash: u64,
    /// The encoded parameters.
    pub payload: Bytes,
    /// When the caller stops waiting. Work for the caller's sake alone should stop then, too.
    pub deadline: Instant,
    /// Cancelled when the caller has gone or the deadline has passed.
    pub cancel: CancellationToken,
    /// Who holds the handles that this call gives out.
    pub lease: Lease,
    /// How deeply the call is nested.
    pub depth: u8,
    /// The callers before the immediate one, oldest first.
    pub chain: Arc<[Hop]>,
    /// W3C trace context of the caller's span.
    pub traceparent: Option<Arc<str>>,
}

impl Call {
    /// Time left until the deadline; zero once it has passed.
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
impl Call {
    /// A call of an actor's first instance over its default link, for tests of what looks at calls.
    pub(crate) fn for_tests(actor: &str, within: Duration) -> Self {
        Self {
            id: InvocationId::random(),
            source: actor.parse().unwrap(),
            link: LinkName::default(),
            operation: Operation::new("test:calls/one", "run"),
            type_hash: 0,
            payload: Bytes::new(),
            deadline: Instant::now() + within,
            cancel: CancellationToken::new(),
            lease: crate::harness::lease(1),
            depth: 0,
            chain: Arc::default(),
            traceparent: None,
        }
    }
}
