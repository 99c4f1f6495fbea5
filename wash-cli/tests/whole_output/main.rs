//! `wash` as its users meet it: the whole output of the binary, its exit code, and what it leaves on disk. No network but
//! ports of this machine that nobody listens on.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod command_line;
mod shell;
mod signing;
