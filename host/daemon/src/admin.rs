//! The admin endpoint: what a supervisor of processes and a collector of metrics ask a host by HTTP.
//!
//! | path | answer |
//! | --- | --- |
//! | `/livez` | 200 while the process works: its threads take up new work |
//! | `/readyz` | 200 while the host can serve: NATS is there, the state is synchronised, a round trip was done lately; 503 otherwise, with what is missing |
//! | `/metrics` | the host's numbers, in Prometheus's text format |
//!
//! It answers GET and HEAD, without asking who asks: it is off unless an address is given, and that should be a loopback
//! address or one that only a collector reaches. Connections, heads and times are bounded, and it has a thread of its own, so
//! that nobody who asks takes anything from the host.

mod answer;
mod listener;
mod subject;

pub(crate) use listener::{Listening, bind, listen};
pub(crate) use subject::Subject;

pub use listener::AdminError;
