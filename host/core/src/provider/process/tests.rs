//! Real processes: this test program, started again as a provider, and programs of the system that are none.

mod confinement;
mod endings;
mod fixture;
mod lives;
mod provider;
mod python;
