//! `wash` as its users meet it: the whole output of the binary, its exit code, and what it leaves on disk. No network but
//! this machine's own: ports that nobody listens on, and a NATS server with a peer that answers as it is told.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod command_line;
mod coverage;
mod fake_lattice;
mod lattice;
mod observe;
mod shell;
mod signing;
mod terminal;
