//! What travels between the parts of a lattice, and the rules for its bytes.
//!
//! Hosts, providers and the command line meet in these types and nowhere else. The crate does no I/O: every function
//! here takes bytes or values and returns bytes or values, so each rule can be tested byte by byte and fuzzed.
//! `PROTOCOL.md` at the top of the repository is the normative text; the two change in the same commit.

pub mod control;
pub mod envelope;
pub mod event;
pub mod frame;
pub mod id;
pub mod invocation;
pub mod limits;
pub mod link;
pub mod pipe;
pub mod presence;
pub mod refusal;
pub mod shape;
pub mod subject;
pub mod value;

pub use id::{EntityId, IdError, LatticeName, LinkName};
pub use invocation::{Hop, InvocationHead, InvocationId, Lease, Operation};
pub use link::Link;
pub use refusal::{Refusal, RefusalCode};
