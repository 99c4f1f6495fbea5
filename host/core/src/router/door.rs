//! Which of the two ways an HTTP request goes. Its interface says so, and nothing else does: a request for one of them never
//! arrives at what serves the other.

use trellis_protocol::{Operation, Refusal, RefusalCode};
use trellis_provider_sdk::http::INCOMING_HANDLER;
use trellis_provider_sdk::outgoing::OUTGOING_HANDLER;

use crate::invocation::Invocation;

/// What an HTTP request may be handed to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum HttpDoor {
    /// An actor serves it.
    Actor,
    /// A provider sends it out of the lattice.
    Provider,
}

impl HttpDoor {
    /// The door that an operation names, whatever version of the interface.
    ///
    /// # Errors
    /// `unknown-operation` for every other interface: a link for it would otherwise do for HTTP.
    pub(super) fn of(operation: &Operation) -> Result<Self, Refusal> {
        match operation.interface.split('@').next() {
            Some(INCOMING_HANDLER) => Ok(Self::Actor),
            Some(OUTGOING_HANDLER) => Ok(Self::Provider),
            _ => Err(Refusal::new(
                RefusalCode::UnknownOperation,
                format!("`{operation}` is not called by HTTP"),
            )),
        }
    }

    /// The refusal where the target is of the other kind.
    pub(super) fn refuses(self, invocation: &Invocation) -> Refusal {
        let (is, remedy) = match self {
            Self::Actor => ("a provider", "link to an actor that exports it"),
            Self::Provider => ("an actor", "link to a provider for outgoing HTTP"),
        };
        Refusal::new(
            RefusalCode::UnknownOperation,
            format!(
                "`{}` is {is}, which does not serve `{}`",
                invocation.target, invocation.operation
            ),
        )
        .with_remedy(remedy)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_interface_alone_decides_whatever_its_version() {
        let door = |interface: &str| HttpDoor::of(&Operation::new(interface, "handle")).ok();
        assert_eq!(door("wasi:http/incoming-handler"), Some(HttpDoor::Actor));
        assert_eq!(
            door("wasi:http/outgoing-handler@0.2.9"),
            Some(HttpDoor::Provider)
        );
        for other in [
            "wasi:http/types",
            "wasi:keyvalue/store",
            "wasi:http/outgoing-handlers",
        ] {
            assert_eq!(door(other), None, "{other}");
        }
    }
}
