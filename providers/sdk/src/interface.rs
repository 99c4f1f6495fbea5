//! What the code that [`interfaces!`](crate::interfaces) generates stands on: names of interfaces, tables of functions,
//! and whoever carries a client's calls.

use std::future::Future;
use std::time::Instant;

use bytes::Bytes;
use tokio_util::sync::CancellationToken;
use trellis_protocol::{EntityId, LinkName, Operation, Refusal};

use crate::outbound::{Outbound, OutboundCall};

/// A function of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Function {
    /// As operations name it: `open`, `[method]bucket.get`, `[resource-drop]bucket`.
    pub name: &'static str,
    /// Structural hash of its type.
    pub type_hash: u64,
}

/// Carries encoded calls for a generated client: a host for an actor's imports, a provider towards an actor, a test.
pub trait Caller: Send + Sync {
    /// Calls a function and gives back its encoded result.
    ///
    /// Dropping the future gives up the call.
    ///
    /// # Errors
    /// A [`Refusal`] where the call was not carried out.
    fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send;
}

impl<C: Caller + ?Sized> Caller for &C {
    fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> impl Future<Output = Result<Bytes, Refusal>> + Send {
        (**self).call(operation, type_hash, payload)
    }
}

/// Calls one actor over one link, for a provider.
#[derive(Clone)]
pub struct ActorCaller<'a> {
    /// The provider's way out.
    pub outbound: &'a dyn Outbound,
    /// The actor.
    pub target: EntityId,
    /// The link to call it by.
    pub link: LinkName,
    /// When the provider stops waiting.
    pub deadline: Instant,
    /// Cancelling it stops the actor's work.
    pub cancel: CancellationToken,
    /// W3C trace context of what the provider calls for.
    pub traceparent: Option<String>,
}

impl Caller for ActorCaller<'_> {
    async fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let call = OutboundCall {
            target: self.target.clone(),
            link: self.link.clone(),
            operation: operation.clone(),
            type_hash,
            payload,
            deadline: self.deadline,
            cancel: self.cancel.clone(),
            idempotent: false,
            traceparent: self.traceparent.clone(),
        };
        self.outbound.invoke(call).await
    }
}

/// Whether `asked` is the interface `known`: the same name, and the same major and minor version where both state one.
///
/// Patch versions and pre-releases are left out of the comparison: a component built against `0.2.3` is served by
/// `0.2.0-draft`, and the type hash of each call decides whether its function is the same.
pub fn is_compatible(known: &str, asked: &str) -> bool {
    if known == asked {
        return true;
    }
    let split = |name| match str::split_once(name, '@') {
        Some((name, version)) => (name, Some(version)),
        None => (name, None),
    };
    let ((known, known_version), (asked, asked_version)) = (split(known), split(asked));
    known == asked
        && match (known_version, asked_version) {
            (Some(known), Some(asked)) => minor(known) == minor(asked),
            _ => true,
        }
}

/// The first two numbers of a version: `0.2` of `0.2.0-draft`.
fn minor(version: &str) -> (&str, Option<&str>) {
    let release = version.split(['-', '+']).next().unwrap_or(version);
    let mut numbers = release.split('.');
    (numbers.next().unwrap_or_default(), numbers.next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_is_known_by_its_name_and_minor_version() {
        let known = "wasi:keyvalue/store@0.2.0-draft";
        for asked in [
            known,
            "wasi:keyvalue/store",
            "wasi:keyvalue/store@0.2",
            "wasi:keyvalue/store@0.2.0-draft2",
            "wasi:keyvalue/store@0.2.9",
        ] {
            assert!(is_compatible(known, asked), "{asked}");
        }
        for asked in [
            "",
            "@",
            "wasi:keyvalue/atomics@0.2.0-draft",
            "wasi:keyvalue/store@0.3.0",
            "wasi:keyvalue/store@1.2.0",
            "wasi:keyvalue/store@0",
            "wasi:keyvalue/stores",
        ] {
            assert!(!is_compatible(known, asked), "{asked}");
        }
        assert!(is_compatible(
            "wasi:logging/logging",
            "wasi:logging/logging@0.1.0"
        ));
    }
}
