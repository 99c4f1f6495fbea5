//! Temporary.
#[path = "../lattice/doctor.rs"]
mod doctor;
#[path = "../lattice/import.rs"]
mod import;
#[path = "../lattice/terminal.rs"]
mod terminal;
#[path = "../lattice/wash_artifacts.rs"]
mod wash_artifacts;
