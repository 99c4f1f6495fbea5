//! HTTP out of actors: `wasi:http/outgoing-handler`.
//!
//! A link gives an actor the hosts, methods and paths that its configuration names, and nothing else. How a request flows:
//! `provider` finds the client of the link, `exchange` reads the `target` from the URI, holds the request to the `rule`s,
//! takes a connection from the link's `pool` or makes one with `connect`, which `resolve`s the name and checks every
//! `address` before it connects to it, and streams the bodies (`body`). What goes wrong becomes a code of `wasi:http`
//! (`fault`).
//!
//! Redirects are not followed, requests are not repeated, nothing is cached or decompressed, and the proxies of the
//! environment are ignored: what an actor sends is what a server gets, once.
//!
//! What it does not know: claims, where actors run, NATS. The host authorises each call.

mod address;
mod body;
pub mod config;
mod connect;
mod exchange;
mod fault;
mod fields;
mod hold;
mod pool;
mod provider;
mod resolve;
mod rule;
mod target;
mod tls;

#[cfg(test)]
#[expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]
mod tests;

pub use provider::Factory;
