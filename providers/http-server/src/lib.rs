//! The HTTP server: turns requests on TCP connections into calls of actors' `wasi:http/incoming-handler`.
//!
//! It serves no interface; it is the source of links, each of which gives one actor an address, a path or a host name.
//!
//! How a request flows: `listener` accepts the connection, `connection` speaks HTTP/1.1 or 2 on it and watches its
//! time limits, `exchange` takes one request through `route` (who answers), `request` (what is handed on) and the
//! [`Outbound`](trellis_provider_sdk::Outbound) of the host, and streams the response back. What cannot be answered by an
//! actor is answered by a `problem`.
//!
//! What it does not know: where actors run, claims, NATS. The host authorises each call.
//!
//! **Limits.** Every one has a default in [`config`]; a client that exceeds one gets the status that says so (400, 405,
//! 408, 413, 431), and nothing a client sends makes the server buffer more than the limits add up to.

mod access_log;
pub mod config;
mod connection;
mod cors;
mod exchange;
mod link_config;
mod listener;
mod pace;
mod problem;
mod request;
mod request_body;
mod response;
mod response_body;
mod route;
mod server;
mod stall;
mod tls;

pub use config::{Config, Limits, RoutingMode};
pub use server::{HttpServer, HttpServerFactory};
