//! One call: who, whom, what, until when, and on whose behalf.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};
use trellis_claims::InterfaceName;

use crate::id::{EntityId, LinkName};
use crate::limits::{
    DEADLINE_MAX, DEPTH_MAX, FUNCTION_BYTES_MAX, INTERFACE_BYTES_MAX, TRACEPARENT_BYTES_MAX,
};
use crate::refusal::{Refusal, RefusalCode};

/// Identifies one invocation: 16 random bytes, printed as hex.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct InvocationId(pub u128);

impl InvocationId {
    /// A fresh id.
    pub fn random() -> Self {
        Self(uuid::Uuid::new_v4().as_u128())
    }
}

impl fmt::Display for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", self.0)
    }
}

impl fmt::Debug for InvocationId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is called: a function of an interface.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Operation {
    /// `namespace:package/interface` with or without `@version`.
    pub interface: Arc<str>,
    /// The function's name as WIT spells it: `get`, or `[method]bucket.get` for a method of a resource.
    pub function: Arc<str>,
}

impl Operation {
    /// Names a function of an interface.
    pub fn new(interface: &str, function: &str) -> Self {
        Self {
            interface: Arc::from(interface),
            function: Arc::from(function),
        }
    }

    /// The parsed interface name.
    ///
    /// # Errors
    /// [`RefusalCode::UnknownOperation`] where the text names no interface.
    pub fn interface_name(&self) -> Result<InterfaceName, Refusal> {
        self.interface.parse().map_err(|error| {
            Refusal::new(
                RefusalCode::UnknownOperation,
                format!("`{}` names no interface: {error}", self.interface),
            )
        })
    }
}

impl fmt::Display for Operation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}#{}", self.interface, self.function)
    }
}

/// Who holds the resource handles that a callee gives out: one running instance on one host.
///
/// A handle is good for the lease it was given to and no other, and everything under a lease is released when its
/// instance ends or its host disappears (D18).
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Lease {
    /// Public key of the host that runs the holder.
    pub host: Arc<str>,
    /// The instance on that host, counted from its start.
    pub instance: u64,
}

/// One step of the chain of callers that led to an invocation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hop {
    /// The caller's id in the lattice.
    pub id: EntityId,
    /// Public key of the host that spoke for it.
    pub host: Arc<str>,
}

/// Everything about an invocation but its payload. Encoded as an array in the order of the fields.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct InvocationHead {
    /// Unique for each invocation; audit lines carry it.
    pub id: InvocationId,
    /// The immediate caller, whose grants decide (D6).
    pub source: EntityId,
    /// The callee.
    pub target: EntityId,
    /// What is called.
    pub operation: Operation,
    /// The link by which it is called.
    pub link: LinkName,
    /// Milliseconds left when it was sent. Zero is already too late.
    pub deadline_ms: u32,
    /// How many invocations this one is nested in.
    pub depth: u8,
    /// Structural hash of the function's type (see [`crate::shape`]); zero for HTTP, whose type is fixed.
    pub type_hash: u64,
    /// Whether the call may be repeated without harm.
    pub idempotent: bool,
    /// Who holds the handles that come back.
    pub lease: Lease,
    /// The callers before the immediate one, oldest first.
    pub chain: Vec<Hop>,
    /// W3C trace context of the caller's span.
    pub traceparent: Option<String>,
    /// The sequence of the lattice's state that the sender had applied (D8).
    pub state_sequence: u64,
}

impl InvocationHead {
    /// Checks what decoding alone does not: lengths, depth and deadline.
    ///
    /// # Errors
    /// `too-deep` beyond [`DEPTH_MAX`]; `too-large` where a text or the chain exceeds its limit, or the deadline exceeds
    /// [`DEADLINE_MAX`].
    pub fn check(&self) -> Result<(), Refusal> {
        if self.depth > DEPTH_MAX || self.chain.len() > usize::from(DEPTH_MAX) {
            return Err(Refusal::new(
                RefusalCode::TooDeep,
                format!("the chain of calls is deeper than {DEPTH_MAX}"),
            ));
        }
        let longest_text = self.operation.interface.len() <= INTERFACE_BYTES_MAX
            && self.operation.function.len() <= FUNCTION_BYTES_MAX
            && self
                .traceparent
                .as_ref()
                .is_none_or(|t| t.len() <= TRACEPARENT_BYTES_MAX);
        if !longest_text {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                "a name in the invocation's head exceeds its limit",
            ));
        }
        if u128::from(self.deadline_ms) > DEADLINE_MAX.as_millis() {
            return Err(Refusal::new(
                RefusalCode::TooLarge,
                format!(
                    "the deadline of {} ms exceeds {} s",
                    self.deadline_ms,
                    DEADLINE_MAX.as_secs()
                ),
            ));
        }
        Ok(())
    }
}
