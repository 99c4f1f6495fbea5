//! Archives of providers.

mod build;
mod error;
mod format;
mod read;

pub use build::ArchiveBuilder;
pub use error::ArchiveError;
pub use read::{Archive, Executable};
