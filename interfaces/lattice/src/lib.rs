//! A lattice over NATS: how to reach it, what is true in it, who is there, and how to ask it for something.
//!
//! [`connection`] opens the two NATS connections and checks the server; [`state`] keeps a watched copy of links, claims
//! and configurations and writes them by compare-and-swap; [`client`] speaks the control interface to hosts.
//!
//! [`presence`] beats and listens, [`routes`] is the table that comes of it, and [`peer`] carries calls between hosts.
//!
//! The crate decides nothing: authorisation, placement and what runs are the host's. It knows NATS, and no guest code.

pub mod client;
pub mod connection;
pub mod ledger;
pub mod peer;
pub mod presence;
pub mod routes;
pub mod state;
