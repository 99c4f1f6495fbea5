//! `wasmcloud:postgres/prepared`: statements that are checked once and run many times.

use async_trait::async_trait;
use trellis_provider_sdk::{Call, Refusal};

use crate::Sql;
use crate::error::Failure;
use crate::query::run;
use crate::statement;
use crate::wit::prepared::Prepared;
use crate::wit::types::{PgValue, PreparedStatementExecError, StatementPrepareError};

#[async_trait]
impl Prepared for Sql {
    async fn prepare(
        &self,
        call: &Call,
        statement: String,
    ) -> Result<Result<String, StatementPrepareError>, Refusal> {
        let link = self.links.of(call)?;
        let trace = statement::trace(&statement);
        let checked = run(&link, call, &statement, trace, async |session, allowed| {
            session.check(&statement, trace, allowed).await
        });
        Ok(match checked.await {
            Ok(()) => Ok(link.tokens.keep(&call.lease, &statement)),
            Err(failure) => Err(failure.into()),
        })
    }

    async fn exec(
        &self,
        call: &Call,
        stmt_token: String,
        params: Vec<PgValue>,
    ) -> Result<Result<u64, PreparedStatementExecError>, Refusal> {
        let link = self.links.of(call)?;
        let Some(sql) = link.tokens.statement(&call.lease, &stmt_token) else {
            return Ok(Err(Failure::UnknownToken.into()));
        };
        let bytes_max = link.config.bytes_max;
        let trace = statement::trace(&sql);
        let affected = run(&link, call, &sql, trace, async |session, allowed| {
            session
                .execute(&sql, trace, &params, bytes_max, allowed)
                .await
        });
        Ok(affected.await.map_err(Into::into))
    }
}
