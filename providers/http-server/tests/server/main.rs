//! The HTTP server over real sockets, with actors that are closures.

#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod access_log;
mod actors;
mod answers;
mod http2;
mod lifecycle;
mod limits;
mod process;
mod requests;
mod routing;
mod streaming;
mod tls;
mod wire;
