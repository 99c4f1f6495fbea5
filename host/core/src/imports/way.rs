//! The way of a guest's typed call: the caller that generated clients speak to, and what becomes of a refusal.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use trellis_protocol::{EntityId, InvocationId, LinkName, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::interface::Caller as LatticeCaller;
use wasmtime::StoreContextMut;

use crate::actor::instance::{Caller, State};
use crate::invocation::Invocation;
use crate::router::{Router, ServedBy};

/// What a typed import gives back to the guest.
pub(super) type Answer<T, E> = wasmtime::Result<(Result<T, E>,)>;

/// What a call over the lattice came to: the interface's own answer, or none.
pub(super) type Outcome<T, E> = Result<Result<T, E>, Refusal>;

/// What a call over the lattice came to, as the guest sees it. A refusal becomes the interface's own error; only a caller
/// that has gone, or a deadline that has passed, stops the guest.
pub(super) fn answer<T, E>(
    outcome: Outcome<T, E>,
    error: impl FnOnce(&Refusal) -> E,
) -> Answer<T, E> {
    match outcome {
        Ok(answer) => Ok((answer,)),
        Err(refusal)
            if matches!(
                refusal.code,
                RefusalCode::Cancelled | RefusalCode::DeadlineExceeded
            ) =>
        {
            Err(refusal.into())
        }
        Err(refusal) => Ok((Err(error(&refusal)),)),
    }
}

/// The way to one target over one link of a guest, for a generated client.
pub(super) struct Way {
    router: Arc<Router>,
    template: Invocation,
    /// Whom to ask; the router chooses where it is nobody in particular.
    lender: Option<ServedBy>,
    served_by: Mutex<Option<ServedBy>>,
}

impl Way {
    /// The way by which the guest reaches an interface, which its choices of links know by `name`. `lender` finds out
    /// whom to ask in particular.
    ///
    /// # Errors
    /// `no-link` and `not-granted`, with what would allow the call.
    pub(super) fn by_link(
        state: &State,
        (name, interface): (&str, &str),
        lender: impl FnOnce(&Caller, &EntityId) -> Option<ServedBy>,
    ) -> Result<Self, Refusal> {
        state.clock.let_go();
        let caller = &state.caller;
        let link = caller.link_for(name);
        let target = caller
            .router
            .target(&caller.actor.id, &link, &interface.into())?;
        let lender = lender(caller, &target);
        Ok(Self::new(caller, target, link, lender))
    }

    /// The way back to whoever gave the guest a handle.
    pub(super) fn to_lender(
        state: &State,
        target: EntityId,
        link: LinkName,
        lender: ServedBy,
    ) -> Self {
        state.clock.let_go();
        Self::new(&state.caller, target, link, Some(lender))
    }

    fn new(caller: &Caller, target: EntityId, link: LinkName, lender: Option<ServedBy>) -> Self {
        // The client says at each call which function it is, and of which interface.
        let operation = Operation {
            interface: Arc::default(),
            function: Arc::default(),
        };
        Self {
            router: Arc::clone(&caller.router),
            template: caller.invocation(target, operation, link, 0, Bytes::new()),
            lender,
            served_by: Mutex::new(None),
        }
    }

    /// Whom it leads to.
    pub(super) fn target(&self) -> &EntityId {
        &self.template.target
    }

    /// The link that it goes by.
    pub(super) fn link(&self) -> &LinkName {
        &self.template.link
    }

    /// Who served the last call that was answered.
    pub(super) fn served_by(&self) -> Option<ServedBy> {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Option<ServedBy>> {
        self.served_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }

    /// Makes a call of this way by which something is kept for the guest. Who keeps it is noted, and told when the
    /// instance ends, even if the guest is stopped before it hears the answer.
    pub(super) async fn borrow<T, E>(
        &self,
        store: &mut StoreContextMut<'_, State>,
        call: impl Future<Output = Outcome<T, E>>,
    ) -> Outcome<T, E> {
        let target = self.target();
        let is_news = store.data_mut().caller.asks(target);
        let outcome = call.await;
        let caller = &mut store.data_mut().caller;
        // With these refusals it may have been lent all the same.
        let may_be_lent = matches!(
            &outcome,
            Err(refusal) if matches!(
                refusal.code,
                RefusalCode::Cancelled | RefusalCode::DeadlineExceeded | RefusalCode::OutcomeUnknown
            )
        );
        if is_news && !may_be_lent {
            caller.answered(target);
        }
        if let (Ok(Ok(_)), Some(lender)) = (&outcome, self.served_by()) {
            caller.borrowed_from(target.clone(), lender);
        }
        outcome
    }
}

impl LatticeCaller for Way {
    async fn call(
        &self,
        operation: &Operation,
        type_hash: u64,
        payload: Bytes,
    ) -> Result<Bytes, Refusal> {
        let invocation = Invocation {
            id: InvocationId::random(),
            operation: operation.clone(),
            type_hash,
            payload,
            ..self.template.clone()
        };
        let (result, served_by) = match &self.lender {
            Some(lender) => {
                let result = self.router.invoke_lender(invocation, lender).await?;
                (result, lender.clone())
            }
            None => self.router.invoke(invocation).await?,
        };
        *self.lock() = Some(served_by);
        Ok(result)
    }
}

/// Nobody in particular.
pub(super) fn anybody(_: &Caller, _: &EntityId) -> Option<ServedBy> {
    None
}
