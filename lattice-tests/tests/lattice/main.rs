//! The end-to-end tests: each module is a chapter of what the lattice promises, shown with real servers.

mod admission;
mod attack;
mod crash;
mod doors;
mod faults;
mod guide;
mod hello;
mod limits;
mod load;
mod messaging;
mod outage;
mod outgoing;
mod placement;
mod postgres;
mod refusals;
mod setting;
mod shortlink;
mod shutdown;
mod sizes;
mod state;
mod streams;
mod wash;
