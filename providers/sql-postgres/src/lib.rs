//! `wasmcloud:postgres` on PostgreSQL.
