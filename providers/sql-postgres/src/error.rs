//! What can go wrong, and how the actor is told.
//!
//! `invalid-params` is for parameters that do not fit the statement, `invalid-query` for what the server refused, with
//! its SQLSTATE, and `unexpected` for everything that is neither: a server out of reach or out of room, limits,
//! deadlines.

use std::error::Error as StdError;
use std::time::Duration;

use tokio_postgres::error::SqlState;

use crate::value::decode::DecodeError;
use crate::value::encode::EncodeError;
use crate::wit::types::{PreparedStatementExecError, QueryError, StatementPrepareError};

/// Longest text of the server's that an actor is told, in bytes.
const TEXT_BYTES_MAX: usize = 1024;

/// Why a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Failure {
    /// Too few or too many parameters.
    #[error("the statement has {wanted} parameters, {given} were given")]
    Count { wanted: usize, given: usize },
    /// A parameter that is not what the statement wants.
    #[error("parameter ${position}: {error}")]
    Parameter { position: usize, error: EncodeError },
    /// The server's own words.
    #[error("{message} (SQLSTATE {code})")]
    Server { code: String, message: String },
    /// A column that the interface cannot express.
    #[error("column `{name}` of type {ty}: {reason}")]
    Column {
        name: String,
        ty: String,
        reason: &'static str,
    },
    /// The statement began a transaction and did not end it.
    #[error(
        "the statement left a transaction open, which was rolled back: calls share connections, so a transaction begins \
         and ends within one `query-batch`"
    )]
    OpenTransaction,
    /// `COPY` needs a stream of its own.
    #[error(
        "the statement wants to exchange data beside its parameters and rows, as `COPY` does, which is not served"
    )]
    Copy,
    /// A statement longer than is sent.
    #[error("a statement has at most {limit} bytes, this one has {bytes}")]
    Statement { bytes: usize, limit: usize },
    /// A result of more rows than allowed.
    #[error(
        "the result has more than {limit} rows: ask for pages with LIMIT; a statement that also writes may have been undone"
    )]
    Rows { limit: usize },
    /// A result of more bytes than allowed.
    #[error(
        "the result has more than {limit} bytes: ask for pages with LIMIT, or for fewer columns; a statement that also \
         writes may have been undone"
    )]
    Bytes { limit: usize },
    /// The call's time is over.
    #[error("no answer within the call's {} ms: {at}", within.as_millis())]
    Deadline { within: Duration, at: &'static str },
    /// Everything is in use and so many wait already that one more would wait in vain.
    #[error("all {size} connections are in use and {waiting} calls wait for one")]
    Overloaded { size: usize, waiting: usize },
    /// There is no connection to be had.
    #[error("connecting to PostgreSQL at {address}: {reason}")]
    Connect { address: String, reason: String },
    /// The connection broke while a statement ran.
    #[error(
        "the connection to PostgreSQL broke before the answer came: the statement may have taken effect"
    )]
    Lost,
    /// What the client library says of itself.
    #[error("{0}")]
    Client(String),
    /// No such token.
    #[error("no statement was prepared under this token by this instance")]
    UnknownToken,
}

impl Failure {
    /// What the client library reports of a statement.
    pub(crate) fn of_statement(error: &tokio_postgres::Error) -> Self {
        if let Some(server) = Self::of_server(error) {
            return server;
        }
        match error.is_closed() || is_io(error) {
            true => Self::Lost,
            // The library has no name for it: it is what it says when the server turns to COPY.
            false if error.to_string() == UNEXPECTED_MESSAGE => Self::Copy,
            false => Self::Client(with_causes(error)),
        }
    }

    /// What the client library reports of a connection that did not come up.
    pub(crate) fn of_connect(address: &str, error: &tokio_postgres::Error) -> Self {
        let reason = match Self::of_server(error) {
            Some(server) => server.to_string(),
            None => with_causes(error),
        };
        Self::Connect {
            address: address.to_owned(),
            reason,
        }
    }

    fn of_server(error: &tokio_postgres::Error) -> Option<Self> {
        let server = error.as_db_error()?;
        let mut message = server.message().to_owned();
        if let Some(detail) = server.detail() {
            message.push_str("; ");
            message.push_str(detail);
        }
        shorten(&mut message);
        Some(Self::Server {
            code: server.code().code().to_owned(),
            message,
        })
    }

    /// Whether the server may know a prepared statement by another form, or no more: its tables have changed.
    pub(crate) fn is_stale_statement(&self) -> bool {
        self.code().is_some_and(|code| {
            code.starts_with("42")
                || code == SqlState::INVALID_SQL_STATEMENT_NAME.code()
                || code == SqlState::FEATURE_NOT_SUPPORTED.code()
        })
    }

    /// Whether nothing of the statement is under way any more and its session can serve the next.
    pub(crate) fn leaves_session_usable(&self) -> bool {
        match self {
            Self::Count { .. } | Self::Parameter { .. } | Self::Statement { .. } => true,
            Self::Server { code, .. } => !is_session_ending(code),
            _ => false,
        }
    }

    fn code(&self) -> Option<&str> {
        match self {
            Self::Server { code, .. } => Some(code),
            _ => None,
        }
    }

    /// Whether the fault lies with the provider or the server rather than with the statement.
    pub(crate) fn is_backend(&self) -> bool {
        match self {
            Self::Connect { .. } | Self::Lost | Self::Client(_) | Self::Overloaded { .. } => true,
            Self::Server { code, .. } => is_server_trouble(code) && code != QUERY_CANCELED,
            _ => false,
        }
    }
}

/// What the client library says when the server answers in a way that it does not know here.
const UNEXPECTED_MESSAGE: &str = "unexpected message from server";

/// The server stopped a statement, by its timeout or on somebody's request.
const QUERY_CANCELED: &str = "57014";

/// Classes of SQLSTATE that speak of the server and not of the statement: connection, resources, operator, system,
/// internal.
fn is_server_trouble(code: &str) -> bool {
    ["08", "28", "53", "57", "58", "F0", "XX"]
        .iter()
        .any(|class| code.starts_with(class))
}

fn is_session_ending(code: &str) -> bool {
    is_server_trouble(code) && code != QUERY_CANCELED && !code.starts_with("28")
}

fn is_io(error: &tokio_postgres::Error) -> bool {
    error
        .source()
        .is_some_and(|cause| cause.is::<std::io::Error>())
}

/// An error with its causes, none of which holds a secret: neither the library nor the server repeats a password.
pub(crate) fn with_causes(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let next_text = next.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&next_text) {
            text.push_str(": ");
            text.push_str(&next_text);
        }
        cause = next.source();
    }
    shorten(&mut text);
    text
}

fn shorten(text: &mut String) {
    text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
}

/// Why a column cannot be given back, in words.
pub(crate) fn column(name: &str, ty: &str, error: DecodeError, bytes_max: usize) -> Failure {
    let reason = match error {
        DecodeError::TooLarge => return Failure::Bytes { limit: bytes_max },
        DecodeError::Unsupported => {
            "there is no value for this type; cast it to text in the statement"
        }
        DecodeError::NullElement => {
            "an array that holds nulls cannot be expressed; use array_remove or cast it"
        }
        DecodeError::Dimensions => "an array of several dimensions cannot be expressed",
        DecodeError::Malformed => "its bytes are not of its type",
    };
    Failure::Column {
        name: name.to_owned(),
        ty: ty.to_owned(),
        reason,
    }
}

impl From<Failure> for QueryError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        match failure {
            Failure::Count { .. } | Failure::Parameter { .. } => Self::InvalidParams(text),
            Failure::Server { code, .. } if !is_server_trouble(&code) => Self::InvalidQuery(text),
            Failure::OpenTransaction | Failure::Copy | Failure::Statement { .. } => {
                Self::InvalidQuery(text)
            }
            _ => Self::Unexpected(text),
        }
    }
}

impl From<Failure> for StatementPrepareError {
    fn from(failure: Failure) -> Self {
        Self::Unexpected(failure.to_string())
    }
}

impl From<Failure> for PreparedStatementExecError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::UnknownToken => Self::UnknownPreparedQuery,
            failure => Self::QueryError(failure.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(code: &str) -> Failure {
        Failure::Server {
            code: code.to_owned(),
            message: "words".to_owned(),
        }
    }

    #[test]
    fn what_the_server_says_of_a_statement_is_an_invalid_query_with_its_code() {
        for code in [
            "42P01", "23505", "22012", "42601", "40001", "P0001", "0A000",
        ] {
            let text = format!("words (SQLSTATE {code})");
            assert_eq!(
                QueryError::from(server(code)),
                QueryError::InvalidQuery(text)
            );
        }
        for code in ["57014", "53300", "57P01", "08006", "XX000", "28P01"] {
            let text = format!("words (SQLSTATE {code})");
            assert_eq!(QueryError::from(server(code)), QueryError::Unexpected(text));
        }
    }

    #[test]
    fn a_session_outlives_errors_of_statements_and_not_those_of_the_server() {
        for code in ["42P01", "23505", "57014"] {
            assert!(server(code).leaves_session_usable(), "{code}");
        }
        for code in ["57P01", "53100", "XX000", "08P01"] {
            assert!(!server(code).leaves_session_usable(), "{code}");
        }
        assert!(!Failure::Lost.leaves_session_usable());
        assert!(!Failure::Rows { limit: 1 }.leaves_session_usable());
    }
}
