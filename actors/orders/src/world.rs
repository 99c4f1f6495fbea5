//! Everything this actor imports, as a trait: the lattice when it runs, a fake in tests.

/// What surrounds the actor.
pub(crate) trait World {
    /// Runs one statement (`wasmcloud:postgres/query`).
    fn query(&self, sql: &str, params: &[Param<'_>]) -> Result<Vec<Vec<Field>>, DatabaseError>;

    /// Runs several statements without parameters, as one transaction.
    fn batch(&self, sql: &str) -> Result<(), DatabaseError>;

    /// Writes a line to the log (`wasi:logging`): a request failed for a reason that is not the client's.
    fn log_error(&self, message: &str);
}

/// A parameter of a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Param<'a> {
    /// `text`
    Text(&'a str),
    /// `bigint`
    Number(i64),
    /// A null of any type.
    Null,
}

/// A column of a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Field {
    /// `text`
    Text(String),
    /// `bigint`
    Number(i64),
    /// A null.
    Null,
    /// Anything else, which no statement here asks for.
    Other,
}

/// The database did not do what it was asked.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub(crate) struct DatabaseError {
    /// Why not, in the words of the host, the provider or the database.
    pub(crate) reason: String,
}

impl DatabaseError {
    /// The database's code for the reason, where the reason is its own: the provider ends its words with it.
    pub(crate) fn sqlstate(&self) -> Option<&str> {
        let (_, code) = self.reason.rsplit_once("(SQLSTATE ")?;
        code.strip_suffix(')')
    }
}
