//! `wasmcloud:postgres`, bound with typed values: rows and parameters are read from a component, and written to the
//! lattice, as one and the same type (D16).
//!
//! A refusal reaches the guest as the interface's own error, with the reason, so that an actor can answer for a database
//! that it may not use; only a caller that has gone, or a deadline that has passed, stops it.
//!
//! A prepared statement is kept by the provider that checked it, for as long as the instance lives: that one is asked
//! again, wherever it runs, and told when the instance ends.

use trellis_protocol::{EntityId, Refusal, RefusalCode};
use wasmtime::StoreContextMut;
use wasmtime::component::Linker;

use super::way::{Answer, Outcome, Way, answer, anybody};
use crate::actor::instance::{Caller, State};
use crate::router::ServedBy;

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

fn unexpected_query(refusal: &Refusal) -> QueryError {
    QueryError::Unexpected(refusal.to_string())
}

/// Who keeps what this instance has prepared last.
fn keeper(caller: &Caller, target: &EntityId) -> Option<ServedBy> {
    let lenders = caller.lenders.iter().rev();
    lenders
        .filter(|(id, _)| id == target)
        .find_map(|(_, served_by)| served_by.clone())
}

async fn query(
    store: StoreContextMut<'_, State>,
    (sql, params): (String, Vec<PgValue>),
) -> Answer<Vec<ResultRow>, QueryError> {
    let outcome = match Way::by_link(store.data(), QUERY, anybody) {
        Ok(way) => query::Client(&way).query(&sql, &params).await,
        Err(refusal) => Err(refusal),
    };
    answer(outcome, unexpected_query)
}

async fn query_batch(
    store: StoreContextMut<'_, State>,
    (sql,): (String,),
) -> Answer<(), QueryError> {
    let outcome = match Way::by_link(store.data(), QUERY, anybody) {
        Ok(way) => query::Client(&way).query_batch(&sql).await,
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
) -> Outcome<String, StatementPrepareError> {
    let way = Way::by_link(store.data(), PREPARED, lender)?;
    let prepared = prepared::Client(&way);
    way.borrow(store, prepared.prepare(statement)).await
}

async fn exec(
    store: StoreContextMut<'_, State>,
    (token, params): (String, Vec<PgValue>),
) -> Answer<u64, PreparedStatementExecError> {
    let outcome = match Way::by_link(store.data(), PREPARED, keeper) {
        Ok(way) => prepared::Client(&way).exec(&token, &params).await,
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
