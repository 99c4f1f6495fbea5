//! The first instance of an actor, made before anybody calls it.
//!
//! A component can verify, compile and link, and still never start: what it does while it is instantiated may trap, take
//! more memory than it may have, or not end. That is found here, while the version before it still serves. It also
//! brings the pages of its code and its slot of the pool into memory, so that the first caller waits for none of that.

use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;
use trellis_protocol::limits::DEPTH_MAX;
use trellis_protocol::{InvocationId, LinkName, Operation, Refusal, RefusalCode};

use super::Actor;
use super::instance::{Deadline, State};
use super::stop::refusal_of;
use crate::invocation::Invocation;
use crate::limits::WARM_MAX;
use crate::router::Router;

impl Actor {
    /// Makes an instance and lets go of it. It is the innermost of calls, so that it calls nobody else.
    ///
    /// # Errors
    /// `trapped`, `out-of-memory` and `deadline-exceeded`: no instance would ever be better off. Where the host has no
    /// room for it, it is not made, which is no error.
    pub(crate) async fn warm(self: &Arc<Self>, router: &Arc<Router>) -> Result<(), Refusal> {
        let cancel = CancellationToken::new();
        let until = Instant::now() + WARM_MAX;
        let Ok(_admitted) = self.admission.enter(DEPTH_MAX, until, &cancel).await else {
            tracing::debug!(actor_id = %self.id, "there was no room for a first instance");
            return Ok(());
        };
        let invocation = Invocation {
            id: InvocationId::random(),
            source: self.id.clone(),
            target: self.id.clone(),
            operation: Operation::new("trellis:host/actor", "instantiate"),
            link: LinkName::default(),
            deadline: until,
            depth: DEPTH_MAX,
            type_hash: 0,
            idempotent: true,
            lease: router.new_lease(),
            chain: Arc::default(),
            traceparent: None,
            cancel,
            payload: bytes::Bytes::new(),
        };
        let deadline = Deadline::of(self, until);
        let mut store = State::store(self, router, &invocation, deadline.clone());
        let made = tokio::select! {
            biased;
            made = self.prepared.pre.instantiate_async(&mut store) => made.map(drop),
            () = tokio::time::sleep_until(deadline.get().into()) => return Err(deadline.exceeded()),
        };
        let Err(error) = made else {
            return Ok(());
        };
        let refusal = refusal_of(&self.id, error, store.data());
        match refusal.code {
            RefusalCode::Trapped | RefusalCode::OutOfMemory | RefusalCode::DeadlineExceeded => {
                Err(refusal)
            }
            // What it met was refused to it for now, as a link that is not there yet.
            _ => {
                tracing::debug!(actor_id = %self.id, %refusal, "a first instance was not made");
                Ok(())
            }
        }
    }
}
