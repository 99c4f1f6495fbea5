//! `wasmcloud:postgres`, bound with typed values: rows and parameters are read from a component, and written to the
//! lattice, as one and the same type (D16).
//!
//! A refusal reaches the guest as the interface's own error, with the reason, so that an actor can answer for a database
//! that it may not use; only a caller that has gone, or a deadline that has passed, stops it.
//!
//! A prepared statement is kept by the provider that checked it, for as long as the instance lives: that one is asked
//! again, wherever it runs, and told when the instance ends.

use std::sync::{Arc, Mutex, PoisonError};

use bytes::Bytes;
use trellis_protocol::{EntityId, InvocationId, Operation, Refusal, RefusalCode};
use trellis_provider_sdk::interface::Caller as LatticeCaller;
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use crate::actor::instance::{Caller, State};
use crate::invocation::Invocation;
use crate::router::{Router, ServedBy};

use types::{PgValue, PreparedStatementExecError, QueryError, ResultRow, StatementPrepareError};

trellis_provider_sdk::interfaces!({
    path: ["../../interfaces/wit/wasmcloud-postgres"],
    interfaces: [
        "wasmcloud:postgres/query@0.1.1-draft",
        "wasmcloud:postgres/prepared@0.1.1-draft",
    ],
    component: true,
});

/// The interfaces' names, first as links and choices of links have them.
const QUERY: (&str, &str) = ("wasmcloud:postgres/query", query::INTERFACE);
const PREPARED: (&str, &str) = ("wasmcloud:postgres/prepared", prepared::INTERFACE);

type Answer<T, E> = wasmtime::Result<(Result<T, E>,)>;

/// What a call over the lattice came to, as the guest sees it.
fn answer<T, E>(
    outcome: Result<Result<T, E>, Refusal>,
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

fn unexpected_query(refusal: &Refusal) -> QueryError {
    QueryError::Unexpected(refusal.to_string())
}

/// The way over a guest's link, for the generated client.
struct Way {
    router: Arc<Router>,
    template: Invocation,
    /// Whom to ask; the router chooses where it is nobody in particular.
    lender: Option<ServedBy>,
    served_by: Mutex<Option<ServedBy>>,
}

impl Way {
    /// The way by which the guest reaches an interface, which its choices of links know by `name`. `lender` finds out
    /// whom to ask in particular.
    fn new(
        state: &mut State,
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
        let operation = Operation::new(interface, "");
        Ok(Self {
            router: Arc::clone(&caller.router),
            template: caller.invocation(target, operation, link, 0, Bytes::new()),
            lender,
            served_by: Mutex::new(None),
        })
    }

    fn served_by(self) -> Option<ServedBy> {
        self.served_by
            .into_inner()
            .unwrap_or_else(PoisonError::into_inner)
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
        *self
            .served_by
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = Some(served_by);
        Ok(result)
    }
}

/// Nobody in particular.
fn anybody(_: &Caller, _: &EntityId) -> Option<ServedBy> {
    None
}

/// Who keeps what this instance has prepared last.
fn keeper(caller: &Caller, target: &EntityId) -> Option<ServedBy> {
    let lenders = caller.lenders.iter().rev();
    lenders
        .filter(|(id, _)| id == target)
        .find_map(|(_, served_by)| served_by.clone())
}

async fn query(
    mut store: StoreContextMut<'_, State>,
    (sql, params): (String, Vec<PgValue>),
) -> Answer<Vec<ResultRow>, QueryError> {
    let outcome = match Way::new(store.data_mut(), QUERY, anybody) {
        Ok(way) => query::Client(way).query(&sql, &params).await,
        Err(refusal) => Err(refusal),
    };
    answer(outcome, unexpected_query)
}

async fn query_batch(
    mut store: StoreContextMut<'_, State>,
    (sql,): (String,),
) -> Answer<(), QueryError> {
    let outcome = match Way::new(store.data_mut(), QUERY, anybody) {
        Ok(way) => query::Client(way).query_batch(&sql).await,
        Err(refusal) => Err(refusal),
    };
    answer(outcome, unexpected_query)
}

async fn prepare(
    mut store: StoreContextMut<'_, State>,
    (statement,): (String,),
) -> Answer<String, StatementPrepareError> {
    let outcome = match prepare_at(&mut store, &statement, keeper).await {
        // Whoever kept the statements before has gone, and they with it.
        Err(refusal) if refusal.code == RefusalCode::BadHandle => {
            prepare_at(&mut store, &statement, anybody).await
        }
        outcome => outcome,
    };
    answer(outcome, |refusal| {
        StatementPrepareError::Unexpected(refusal.to_string())
    })
}

async fn prepare_at(
    store: &mut StoreContextMut<'_, State>,
    statement: &str,
    lender: impl FnOnce(&Caller, &EntityId) -> Option<ServedBy>,
) -> Result<Result<String, StatementPrepareError>, Refusal> {
    let way = Way::new(store.data_mut(), PREPARED, lender)?;
    let target = way.template.target.clone();
    let is_news = store.data_mut().caller.asks(&target);
    let client = prepared::Client(way);
    let outcome = client.prepare(statement).await;
    let caller = &mut store.data_mut().caller;
    // With these refusals the statement may have been kept all the same.
    let may_be_kept = matches!(
        &outcome,
        Err(refusal) if matches!(
            refusal.code,
            RefusalCode::Cancelled | RefusalCode::DeadlineExceeded | RefusalCode::OutcomeUnknown
        )
    );
    if is_news && !may_be_kept {
        caller.answered(&target);
    }
    if let (Ok(Ok(_)), Some(keeper)) = (&outcome, client.0.served_by()) {
        caller.borrowed_from(target, keeper);
    }
    outcome
}

async fn exec(
    mut store: StoreContextMut<'_, State>,
    (token, params): (String, Vec<PgValue>),
) -> Answer<u64, PreparedStatementExecError> {
    let outcome = match Way::new(store.data_mut(), PREPARED, keeper) {
        Ok(way) => prepared::Client(way).exec(&token, &params).await,
        Err(refusal) => Err(refusal),
    };
    answer(outcome, |refusal| match refusal.code {
        RefusalCode::BadHandle => PreparedStatementExecError::UnknownPreparedQuery,
        _ => PreparedStatementExecError::Unexpected(refusal.to_string()),
    })
}

/// Binds both interfaces under the names that components import.
pub(super) fn link(linker: &mut Linker<State>) -> wasmtime::Result<()> {
    let mut instance = linker.instance(query::INTERFACE)?;
    instance.func_wrap_async("query", |store, p| Box::new(query(store, p)))?;
    instance.func_wrap_async("query-batch", |store, p| Box::new(query_batch(store, p)))?;
    let mut instance = linker.instance(prepared::INTERFACE)?;
    instance.func_wrap_async("prepare", |store, p| Box::new(prepare(store, p)))?;
    instance.func_wrap_async("exec", |store, p| Box::new(exec(store, p)))
}

#[cfg(test)]
mod tests;
