//! The provider against a real PostgreSQL, called as actors call it.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod cost;
mod faults;
mod fixture;
mod sessions;
mod statements;
mod tap;
mod types;
