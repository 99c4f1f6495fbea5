//! Both ends over a real socket pair, and one end against bytes written by hand.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod calls;
mod endings;
mod fixture;
mod handler;
mod hostile;
mod limits;
mod questions;
mod streams;
