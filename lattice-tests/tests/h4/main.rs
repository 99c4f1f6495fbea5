//! Temporary.
#[path = "../lattice/admission.rs"]
mod admission;
#[path = "../lattice/hello.rs"]
mod hello;
#[path = "../lattice/placement.rs"]
mod placement;
#[path = "../lattice/setting.rs"]
mod setting;
#[path = "../lattice/outgoing.rs"]
mod outgoing;
#[path = "../lattice/streams.rs"]
mod streams;
#[path = "../lattice/shutdown.rs"]
mod shutdown;
#[path = "../lattice/shortlink.rs"]
mod shortlink;
#[path = "../lattice/spying.rs"]
mod spying;
