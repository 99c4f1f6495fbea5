//! `wasmcloud:postgres/query` and the way of every statement from a call to a session and back.

use async_trait::async_trait;
use trellis_provider_sdk::{Call, Refusal};

use crate::Sql;
use crate::budget::{Allowed, Budget};
use crate::error::Failure;
use crate::link::Served;
use crate::session::{ResultLimits, Session};
use crate::statement::{self, STATEMENT_BYTES_MAX, Trace};
use crate::wit::query::Query;
use crate::wit::types::{PgValue, QueryError, ResultRow};

#[async_trait]
impl Query for Sql {
    async fn query(
        &self,
        call: &Call,
        query: String,
        params: Vec<PgValue>,
    ) -> Result<Result<Vec<ResultRow>, QueryError>, Refusal> {
        let link = self.links.of(call)?;
        let limits = ResultLimits {
            rows: link.config.rows_max,
            bytes: link.config.bytes_max,
        };
        let trace = statement::trace(&query);
        let rows = run(&link, call, &query, trace, async |session, allowed| {
            session.query(&query, trace, &params, limits, allowed).await
        });
        Ok(rows.await.map_err(QueryError::from))
    }

    /// Any number of statements, which are one transaction unless they say otherwise.
    async fn query_batch(
        &self,
        call: &Call,
        query: String,
    ) -> Result<Result<(), QueryError>, Refusal> {
        let link = self.links.of(call)?;
        let bytes_max = link.config.bytes_max;
        let done = run(
            &link,
            call,
            &query,
            Trace::Possible,
            async |session, allowed| session.batch(&query, bytes_max, allowed).await,
        );
        Ok(done.await.map_err(QueryError::from))
    }
}

/// Runs something on a session of the link's pool, within the call's time.
pub(crate) async fn run<T>(
    link: &Served,
    call: &Call,
    sql: &str,
    trace: Trace,
    work: impl AsyncFnOnce(&mut Session, Allowed) -> Result<T, Failure>,
) -> Result<T, Failure> {
    if sql.len() > STATEMENT_BYTES_MAX {
        return Err(Failure::Statement {
            bytes: sql.len(),
            limit: STATEMENT_BYTES_MAX,
        });
    }
    let budget = Budget::of(call);
    let late = |at| Failure::Deadline {
        within: budget.within,
        at,
    };
    let until = tokio::time::Instant::from_std(budget.until);
    let outcome = async {
        let borrowed = tokio::time::timeout_at(until, link.pool.borrow(&call.source)).await;
        let mut borrowed = borrowed.map_err(|_| late("there was no connection to be had"))??;
        // Dropped before it is finished, the session cancels what runs on it.
        let work = work(borrowed.session(), budget.server());
        match tokio::time::timeout_at(until, work).await {
            Ok(outcome) => {
                borrowed.finish(&outcome, trace);
                outcome
            }
            Err(_) => Err(late("the statement was cancelled")),
        }
    };
    let outcome = outcome.await;
    if let Err(failure) = &outcome
        && failure.is_backend()
    {
        tracing::warn!(source = %call.source, error = %failure, "a statement failed");
    }
    outcome
}
