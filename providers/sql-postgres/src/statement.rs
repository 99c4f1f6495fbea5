//! What a statement may do to the session it runs in, judged by its text.

/// Longest statement, in bytes.
pub(crate) const STATEMENT_BYTES_MAX: usize = 1024 * 1024;

/// What becomes of a session after a statement.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Trace {
    /// The statement reads or writes rows and leaves nothing behind: the session goes on.
    None,
    /// It may have changed the session: settings, roles, transactions, temporary tables, locks. The session is closed,
    /// because a new one is the only thing that certainly has nothing of the old.
    Possible,
}

/// How statements begin that only read or write rows.
const ROWS: &[&str] = &[
    "select", "insert", "update", "delete", "with", "values", "table", "merge",
];

/// What makes even those change the session, whatever it stands in: names of functions, and of temporary tables.
const SUSPICIOUS: &[&str] = &["set_config", "advisory", "temp", "dblink", "lo_", "setseed"];

/// Judges a statement. In doubt it leaves a trace.
///
/// A function of the database's own can do what its caller does not see here. What it leaves is seen by the same actor
/// alone: a session is wiped before it serves another one.
pub(crate) fn trace(sql: &str) -> Trace {
    let lower = sql.trim_start().to_ascii_lowercase();
    let first: &str = lower
        .split(|c: char| !c.is_ascii_alphanumeric() && c != '_')
        .next()
        .unwrap_or_default();
    let rows = ROWS.contains(&first) && !SUSPICIOUS.iter().any(|word| lower.contains(word));
    if rows { Trace::None } else { Trace::Possible }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_on_rows_leave_no_trace() {
        for sql in [
            "SELECT 1",
            "  select * from orders where id = $1",
            "INSERT INTO t VALUES ($1)",
            "with taken as (update stock set n = n - 1 returning n) select * from taken",
            "VALUES (1)",
            "Delete from t",
        ] {
            assert_eq!(trace(sql), Trace::None, "{sql}");
        }
    }

    #[test]
    fn everything_else_may() {
        for sql in [
            "",
            "BEGIN",
            "SET ROLE other",
            "set search_path = x",
            "LISTEN c",
            "PREPARE p AS SELECT 1",
            "DEALLOCATE ALL",
            "CREATE TABLE t ()",
            "SELECT set_config('a.b', 'c', false)",
            "SELECT pg_advisory_lock(1)",
            "SELECT 1 INTO TEMP t",
            "/* comment */ SELECT 1",
            "(SELECT 1)",
            "selected",
            "DO $$ BEGIN END $$",
            "EXPLAIN SELECT 1",
        ] {
            assert_eq!(trace(sql), Trace::Possible, "{sql}");
        }
    }
}
