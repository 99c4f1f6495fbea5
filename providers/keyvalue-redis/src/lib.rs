//! `wasi:keyvalue` on Redis.
