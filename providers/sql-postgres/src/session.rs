//! One connection to the server, and the statements that run on it.
//!
//! A session runs one statement at a time. It remembers what it has told the server, so that a statement that was seen
//! before costs one round trip: the server's own statement timeout is sent ahead in the same flight, and only when it
//! changes.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{StreamExt as _, TryStreamExt as _};
use tokio::net::TcpStream;
use tokio_postgres::config::SslMode;
use tokio_postgres::tls::NoTls;
use tokio_postgres::types::{FromSql, Type};
use tokio_postgres::{CancelToken, Client, Row, Statement};
use tokio_postgres_rustls::MakeRustlsConnect;
use trellis_provider_sdk::EntityId;

use crate::budget::Allowed;
use crate::config::Server;
use crate::connection::{ConnectError, Driver, connect_tls, dial, drive};
use crate::error::{self, Failure};
use crate::statement::Trace;
use crate::value::decode::{self, DecodeError, Room};
use crate::value::encode::{self, Parameter};
use crate::watch::{Watch, Watched, Watching};
use crate::wit::types::{PgValue, ResultRow, ResultRowEntry};

/// Statements that a session keeps prepared; the least recently used goes first.
const STATEMENTS_MAX: usize = 128;

/// Longest statement that is kept, in bytes: with [`STATEMENTS_MAX`], a mebibyte for each session at most.
const KEPT_STATEMENT_BYTES_MAX: usize = 8 * 1024;

/// Time for a request to cancel to be delivered, and for a session to take its leave.
const FAREWELL_WITHIN: Duration = Duration::from_secs(2);

/// Makes a session as good as new for another actor, but for the statements that are prepared.
const WIPE: &str = "ROLLBACK; SET SESSION AUTHORIZATION DEFAULT; RESET ALL; CLOSE ALL; UNLISTEN *; \
                    SELECT pg_advisory_unlock_all(); DISCARD TEMP; DISCARD SEQUENCES";

/// A connection, signed in.
pub(crate) struct Session {
    client: Client,
    /// Moves bytes between client and socket.
    driver: Driver,
    watch: Arc<Watch>,
    cancel: CancelToken,
    /// The server that answered: a request to cancel must go to the same one.
    peer: SocketAddr,
    host: String,
    tls: Option<MakeRustlsConnect>,
    /// The actor that used it last.
    pub(crate) owner: Option<EntityId>,
    /// The statement timeout that the server was told.
    timeout: Option<Duration>,
    statements: HashMap<Arc<str>, (Statement, u64)>,
    uses: u64,
    pub(crate) idle_since: Instant,
}

/// Bounds of one result.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ResultLimits {
    pub(crate) rows: usize,
    pub(crate) bytes: usize,
}

impl std::fmt::Debug for Session {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("peer", &self.peer)
            .field("owner", &self.owner)
            .finish_non_exhaustive()
    }
}

impl Session {
    /// Connects and signs in.
    pub(crate) async fn connect(
        server: &Server,
        tls: Option<MakeRustlsConnect>,
    ) -> Result<Self, ConnectError> {
        let (stream, peer) = dial(&server.host, server.port)
            .await
            .map_err(ConnectError::Network)?;
        let mut config = tokio_postgres::Config::new();
        config
            .user(&server.username)
            .dbname(&server.database)
            .application_name("trellis");
        if let Some(password) = &server.password {
            config.password(password.reveal());
        }
        let watch = Watch::new();
        let (client, driver) = match &tls {
            None => {
                config.ssl_mode(SslMode::Disable);
                let stream = Watched::new(stream, watch.clone());
                let (client, connection) = config
                    .connect_raw(stream, NoTls)
                    .await
                    .map_err(ConnectError::Server)?;
                (client, drive(connection))
            }
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                let connect = Watching {
                    tls: connect_tls(tls, &server.host),
                    watch: watch.clone(),
                };
                let (client, connection) = config
                    .connect_raw(stream, connect)
                    .await
                    .map_err(ConnectError::Server)?;
                (client, drive(connection))
            }
        };
        Ok(Self {
            cancel: client.cancel_token(),
            client,
            driver,
            watch,
            peer,
            host: server.host.clone(),
            tls,
            owner: None,
            timeout: None,
            statements: HashMap::new(),
            uses: 0,
            idle_since: Instant::now(),
        })
    }

    /// Whether the connection is known to be broken.
    pub(crate) fn is_closed(&self) -> bool {
        self.client.is_closed() || self.driver.is_finished()
    }

    /// Runs a statement and reads its rows.
    pub(crate) async fn query(
        &mut self,
        sql: &str,
        trace: Trace,
        params: &[PgValue],
        limits: ResultLimits,
        allowed: Allowed,
    ) -> Result<Vec<ResultRow>, Failure> {
        let again = self.statements.contains_key(sql);
        let first = self.query_once(sql, trace, params, limits, allowed).await;
        match first {
            // Tables may have changed since the statement was prepared. Nothing was done under its old form.
            Err(failure) if again && failure.is_stale_statement() => {
                self.statements.remove(sql);
                self.query_once(sql, trace, params, limits, allowed).await
            }
            first => first,
        }
    }

    async fn query_once(
        &mut self,
        sql: &str,
        trace: Trace,
        params: &[PgValue],
        limits: ResultLimits,
        allowed: Allowed,
    ) -> Result<Vec<ResultRow>, Failure> {
        self.timed(allowed, async |session| {
            let statement = session.prepare(sql, trace).await?;
            check_columns(&statement, limits.bytes)?;
            let parameters = parameters(&statement, params)?;
            let stream = session
                .client
                .query_raw(&statement, parameters)
                .await
                .map_err(|error| session.failure(&error, limits.bytes))?;
            let mut stream = std::pin::pin!(stream);
            let mut room = Room::of(limits.bytes);
            let mut rows = Vec::new();
            while let Some(row) = stream.next().await {
                let row = row.map_err(|error| session.failure(&error, limits.bytes))?;
                if rows.len() == limits.rows {
                    return Err(Failure::Rows { limit: limits.rows });
                }
                rows.push(entries(&row, &mut room, limits.bytes)?);
            }
            session.check_transaction()?;
            Ok(rows)
        })
        .await
    }

    /// Runs a statement and counts the rows that it affected; those that it returns are passed over.
    pub(crate) async fn execute(
        &mut self,
        sql: &str,
        trace: Trace,
        params: &[PgValue],
        bytes_max: usize,
        allowed: Allowed,
    ) -> Result<u64, Failure> {
        let again = self.statements.contains_key(sql);
        let first = self
            .execute_once(sql, trace, params, bytes_max, allowed)
            .await;
        match first {
            Err(failure) if again && failure.is_stale_statement() => {
                self.statements.remove(sql);
                self.execute_once(sql, trace, params, bytes_max, allowed)
                    .await
            }
            first => first,
        }
    }

    async fn execute_once(
        &mut self,
        sql: &str,
        trace: Trace,
        params: &[PgValue],
        bytes_max: usize,
        allowed: Allowed,
    ) -> Result<u64, Failure> {
        self.timed(allowed, async |session| {
            let statement = session.prepare(sql, trace).await?;
            let parameters = parameters(&statement, params)?;
            let affected = session
                .client
                .execute_raw(&statement, parameters)
                .await
                .map_err(|error| session.failure(&error, bytes_max))?;
            session.check_transaction()?;
            Ok(affected)
        })
        .await
    }

    /// Has the server check a statement.
    pub(crate) async fn check(
        &mut self,
        sql: &str,
        trace: Trace,
        allowed: Allowed,
    ) -> Result<(), Failure> {
        self.timed(allowed, async |session| {
            session.prepare(sql, trace).await.map(drop)
        })
        .await
    }

    /// Runs any number of statements, whose rows are passed over.
    pub(crate) async fn batch(
        &mut self,
        sql: &str,
        bytes_max: usize,
        allowed: Allowed,
    ) -> Result<(), Failure> {
        self.timed(allowed, async |session| {
            session
                .client
                .batch_execute(sql)
                .await
                .map_err(|error| session.failure(&error, bytes_max))?;
            session.check_transaction()
        })
        .await
    }

    /// Makes the session as good as new, for another actor.
    pub(crate) async fn wipe(&mut self) -> Result<(), Failure> {
        self.timeout = None;
        self.client
            .batch_execute(WIPE)
            .await
            .map_err(|error| Failure::of_statement(&error))
    }

    /// Asks the server to stop what runs on this session, and ends it.
    pub(crate) async fn abandon(self) {
        let cancelled = tokio::time::timeout(FAREWELL_WITHIN, self.request_cancel()).await;
        if let Ok(Err(reason)) = cancelled {
            tracing::debug!(peer = %self.peer, reason, "a statement could not be cancelled");
        }
    }

    /// Takes leave of the server.
    pub(crate) async fn close(self) {
        let Self {
            client,
            statements,
            mut driver,
            ..
        } = self;
        // Without a client the driver says goodbye and ends.
        drop((statements, client));
        if tokio::time::timeout(FAREWELL_WITHIN, driver.ended())
            .await
            .is_err()
        {
            tracing::debug!("a session was cut off while it took its leave");
        }
    }

    async fn request_cancel(&self) -> Result<(), String> {
        let stream = TcpStream::connect(self.peer)
            .await
            .map_err(|error| error.to_string())?;
        match &self.tls {
            None => self.cancel.cancel_query_raw(stream, NoTls).await,
            Some(tls) => {
                let connect = connect_tls(tls, &self.host);
                self.cancel.cancel_query_raw(stream, connect).await
            }
        }
        .map_err(|error| error::with_causes(&error))
    }

    /// Runs something under the server's statement timeout, which is sent ahead without waiting.
    async fn timed<T>(
        &mut self,
        allowed: Allowed,
        work: impl AsyncFnOnce(&mut Self) -> Result<T, Failure>,
    ) -> Result<T, Failure> {
        if self.timeout.is_some_and(|told| allowed.is_served_by(told)) {
            return work(self).await;
        }
        let timeout = allowed.timeout();
        let setting = format!("SET statement_timeout = {}", timeout.as_millis());
        let set = self.client.simple_query_raw(&setting);
        // The request is on its way before the work begins; the answer is read before anything of the work's.
        let set = set
            .await
            .map_err(|error| Failure::of_statement(&error))?
            .try_for_each(|_| futures::future::ready(Ok(())));
        self.timeout = None;
        let (set, outcome) = futures::future::join(set, work(self)).await;
        set.map_err(|error| Failure::of_statement(&error))?;
        self.timeout = Some(timeout);
        outcome
    }

    async fn prepare(&mut self, sql: &str, trace: Trace) -> Result<Statement, Failure> {
        self.uses += 1;
        if let Some((statement, used)) = self.statements.get_mut(sql) {
            *used = self.uses;
            return Ok(statement.clone());
        }
        let statement = self
            .client
            .prepare(sql)
            .await
            .map_err(|error| self.failure(&error, 0))?;
        // A session with a trace is not used again, so nothing is kept for it.
        if trace == Trace::None && sql.len() <= KEPT_STATEMENT_BYTES_MAX {
            if self.statements.len() >= STATEMENTS_MAX {
                self.forget_oldest();
            }
            let kept = (statement.clone(), self.uses);
            self.statements.insert(sql.into(), kept);
        }
        Ok(statement)
    }

    fn forget_oldest(&mut self) {
        let oldest = self
            .statements
            .iter()
            .min_by_key(|(_, (_, used))| *used)
            .map(|(sql, _)| sql.clone());
        if let Some(sql) = oldest {
            self.statements.remove(&sql);
        }
    }

    fn failure(&self, error: &tokio_postgres::Error, bytes_max: usize) -> Failure {
        match self.watch.overrun() {
            true => Failure::Bytes { limit: bytes_max },
            false => Failure::of_statement(error),
        }
    }

    fn check_transaction(&self) -> Result<(), Failure> {
        match self.watch.in_transaction() {
            true => Err(Failure::OpenTransaction),
            false => Ok(()),
        }
    }
}

/// The parameters as the server wants them, all checked before any is sent.
fn parameters(statement: &Statement, values: &[PgValue]) -> Result<Vec<Parameter>, Failure> {
    let types = statement.params();
    if types.len() != values.len() {
        return Err(Failure::Count {
            wanted: types.len(),
            given: values.len(),
        });
    }
    let encode = |(at, (value, ty))| {
        encode::encode(value, ty).map_err(|error| Failure::Parameter {
            position: at + 1,
            error,
        })
    };
    values.iter().zip(types).enumerate().map(encode).collect()
}

/// Refuses a result that cannot be given back before the statement has done anything.
fn check_columns(statement: &Statement, bytes_max: usize) -> Result<(), Failure> {
    for column in statement.columns() {
        // No type's bytes are empty but those that are served, so nothing is decoded here.
        let mut room = Room::of(usize::MAX);
        if let Err(DecodeError::Unsupported) = decode::decode(column.type_(), Some(&[]), &mut room)
        {
            return Err(error::column(
                column.name(),
                column.type_().name(),
                DecodeError::Unsupported,
                bytes_max,
            ));
        }
    }
    Ok(())
}

fn entries(row: &Row, room: &mut Room, bytes_max: usize) -> Result<ResultRow, Failure> {
    row.columns()
        .iter()
        .enumerate()
        .map(|(at, column)| {
            let failure =
                |error| error::column(column.name(), column.type_().name(), error, bytes_max);
            let raw = row
                .try_get::<_, Raw<'_>>(at)
                .map_err(|_| failure(DecodeError::Malformed))?;
            room.take(column.name().len()).map_err(failure)?;
            Ok(ResultRowEntry {
                column_name: column.name().to_owned(),
                value: decode::decode(column.type_(), raw.0, room).map_err(failure)?,
            })
        })
        .collect()
}

/// A column's bytes as they came.
struct Raw<'a>(Option<&'a [u8]>);

impl<'a> FromSql<'a> for Raw<'a> {
    fn from_sql(_: &Type, raw: &'a [u8]) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(Some(raw)))
    }

    fn from_sql_null(_: &Type) -> Result<Self, Box<dyn std::error::Error + Sync + Send>> {
        Ok(Self(None))
    }

    fn accepts(_: &Type) -> bool {
        true
    }
}
