//! Fetching and pushing as hosts and `wash` do it: files, real registries, misbehaving ones, the lattice's store, a full
//! disk.
#![expect(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

mod disk;
mod faults;
mod files;
mod fixture;
mod providers;
mod pushing;
mod registries;
mod store;
