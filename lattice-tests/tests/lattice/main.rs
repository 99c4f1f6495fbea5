//! The end-to-end tests: each module is a chapter of what the lattice promises, shown with real servers.

mod admission;
mod attack;
mod crash;
mod hello;
mod limits;
mod load;
mod outage;
mod peer;
mod placement;
mod refusals;
mod shortlink;
mod shutdown;
mod state;
mod wash;
