//! The provider against a real nats-server: called as actors call it, and calling closures that stand for actors.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod faults;
mod fixture;
mod hostile;
mod links;
mod receiving;
mod sending;
mod streams;
